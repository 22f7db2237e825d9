use super::*;
use crate::ownership::fixtures::{DURATION, name, session, version};
use crate::ownership::record::LeaseEvent;

/// Node `a` and peers, all shown at moment 0, with `a` sure from then on.
fn watched(nodes: &[&str]) -> (Peers, View) {
    let mut view = View::default();
    let mut peers = Peers::default();
    peers.thaw(Moment(0));
    let sessions = nodes.iter().map(|node| (version(1), session(node, "1", 1))).collect();
    view.show(LeaseEvent::Listed(sessions, vec![]));
    peers.listed(&BTreeMap::new(), &view, Moment(0));
    (peers, view)
}

/// The moment at which `a` closes a session, looking only when a deadline comes.
fn closed_at(peers: &mut Peers, view: &View, until: u64) -> Option<(NodeName, u64)> {
    while let Some(at) = peers.next_deadline().filter(|at| at.0 <= until) {
        if let Some((node, _)) = peers.pop_expired(&name("a"), view, at) {
            return Some((node, at.0));
        }
    }
    None
}

fn renew(peers: &mut Peers, view: &mut View, node: &str, renewal: u64, now: u64) {
    view.show(LeaseEvent::Session(
        version(10 + u32::try_from(renewal).unwrap()),
        session(node, "1", renewal),
    ));
    peers.changed(&name(node), view, Moment(now));
}

#[test]
fn a_session_is_closed_when_it_has_not_changed_for_its_duration_and_not_before() {
    let (mut peers, view) = watched(&["a", "b"]);
    assert_eq!(peers.pop_expired(&name("a"), &view, Moment(DURATION.0 - 1)), None);
    let expired = peers.pop_expired(&name("a"), &view, Moment(DURATION.0));
    assert_eq!(expired, Some((name("b"), Span::ZERO)));
    let again = peers.next_deadline().unwrap();
    let still = peers.pop_expired(&name("a"), &view, again);
    assert_eq!(still, Some((name("b"), again.since(Moment(DURATION.0)))));
    peers.postpone(&name("b"), Moment(9_000));
    assert_eq!(peers.next_deadline(), Some(Moment(9_000)));
}

#[test]
fn a_renewal_begins_the_count_anew() {
    let (mut peers, mut view) = watched(&["a", "b"]);
    renew(&mut peers, &mut view, "b", 2, 5_000);
    assert_eq!(closed_at(&mut peers, &view, 60_000), Some((name("b"), 11_000)));
}

#[test]
fn only_the_time_in_which_the_speaker_was_sure_counts() {
    let (mut peers, view) = watched(&["a", "b"]);
    peers.freeze(Moment(4_000));
    assert_eq!(peers.next_deadline(), None);
    peers.freeze(Moment(50_000));
    peers.thaw(Moment(100_000));
    assert_eq!(closed_at(&mut peers, &view, 200_000), Some((name("b"), 102_000)));
}

#[test]
fn a_moment_of_doubt_does_not_begin_anew_what_is_counted_after_expiry() {
    let (mut peers, view) = watched(&["a", "b"]);
    peers.freeze(Moment(40_000));
    peers.thaw(Moment(50_000));
    let expired = peers.pop_expired(&name("a"), &view, Moment(50_000));
    assert_eq!(expired, Some((name("b"), Span::secs(34))));
}

#[test]
fn what_changed_while_the_speaker_was_not_sure_is_counted_from_when_it_is() {
    let (mut peers, mut view) = watched(&["a", "b"]);
    peers.freeze(Moment(4_000));
    renew(&mut peers, &mut view, "b", 2, 5_000);
    assert_eq!(peers.next_deadline(), None);
    peers.thaw(Moment(50_000));
    assert_eq!(closed_at(&mut peers, &view, 200_000), Some((name("b"), 56_000)));
}

#[test]
fn a_list_that_shows_a_session_unchanged_goes_on_counting_and_forgets_what_is_gone() {
    let (mut peers, mut view) = watched(&["a", "b", "c"]);
    let before = view.sessions().map(|s| (s.node.clone(), s.clone())).collect();
    let b = (version(1), session("b", "1", 1));
    view.show(LeaseEvent::Listed(vec![b], vec![]));
    peers.listed(&before, &view, Moment(3_000));
    assert_eq!(closed_at(&mut peers, &view, 6_000), Some((name("b"), 6_000)));
    assert!(!peers.silence.contains_key(&name("c")));
}

#[test]
fn a_closed_session_and_ones_own_are_not_closed() {
    let (mut peers, mut view) = watched(&["a", "b"]);
    let closed = Session { open_for: None, ..session("b", "1", 1) };
    view.show(LeaseEvent::Session(version(2), closed));
    peers.changed(&name("b"), &view, Moment(10));
    assert_eq!(closed_at(&mut peers, &view, 60_000), None);
}

#[test]
fn living_speakers_take_turns_and_each_is_first_for_some() {
    let mut turns = Vec::new();
    for n in 0..40 {
        let dead = format!("dead{n}");
        let (mut peers, mut view) = watched(&["a", "b", "c", &dead]);
        for node in ["a", "b", "c"] {
            renew(&mut peers, &mut view, node, 2, 5_900);
        }
        let (node, at) = closed_at(&mut peers, &view, 8_000).unwrap();
        assert_eq!(node, name(&dead));
        turns.push(at - DURATION.0);
    }
    turns.sort_unstable();
    turns.dedup();
    assert_eq!(turns, [0, 250, 500]);
}

#[test]
fn dead_speakers_have_no_turn() {
    for n in 0..20 {
        let (mut peers, view) = watched(&["a", &format!("x{n}"), &format!("y{n}")]);
        assert_eq!(closed_at(&mut peers, &view, 60_000).unwrap().1, DURATION.0);
        assert_eq!(closed_at(&mut peers, &view, 60_000).unwrap().1, DURATION.0);
    }
}

#[test]
fn a_closing_that_is_not_shown_is_tried_again() {
    let (mut peers, view) = watched(&["a", "b"]);
    assert_eq!(closed_at(&mut peers, &view, 60_000), Some((name("b"), 6_000)));
    assert_eq!(closed_at(&mut peers, &view, 60_000), Some((name("b"), 6_250)));
}

#[test]
fn a_closing_under_way_is_awaited() {
    let (mut peers, mut view) = watched(&["a", "b"]);
    let closing = peers.pop_expired(&name("a"), &view, Moment(6_000)).unwrap();
    let session = view.session(&closing.0).cloned();
    view.session_register(&name("b")).send(session);
    assert_eq!(closed_at(&mut peers, &view, 8_000), None);
    assert!(peers.next_deadline().is_some());
}
