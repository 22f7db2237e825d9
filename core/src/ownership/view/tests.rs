use super::*;
use crate::ownership::fixtures::{address, claim, link, mac, name, session, version};

fn listed(sessions: &[Session], claims: &[Claim]) -> View {
    let mut view = View::default();
    let sessions = sessions.iter().map(|s| (version(1), s.clone())).collect();
    let claims = claims.iter().map(|c| (version(1), c.clone())).collect();
    view.show(LeaseEvent::Listed(sessions, claims));
    view
}

#[test]
fn a_renewal_is_told_from_what_others_decide_on() {
    let known = session("b", "b1", 1);
    let renewed = Session { renewal: 2, duration: known.duration.times(2), ..known.clone() };
    let cases = [
        (renewed, Change::Renewal(name("b"))),
        (Session { leaving: true, ..known.clone() }, Change::Candidates(name("b"))),
        (Session { open_for: None, ..known.clone() }, Change::Candidates(name("b"))),
        (Session { links: vec![], ..known.clone() }, Change::Candidates(name("b"))),
        (session("b", "b2", 1), Change::Candidates(name("b"))),
        (session("c", "c1", 1), Change::Candidates(name("c"))),
    ];
    for (shown, expected) in cases {
        let mut view = listed(std::slice::from_ref(&known), &[]);
        assert_eq!(
            view.show(LeaseEvent::Session(version(2), shown.clone())),
            expected,
            "{shown:?}"
        );
    }
}

#[test]
fn a_list_is_all_there_is() {
    let mut view = listed(&[session("b", "b1", 1)], &[claim(1, "b", "b1")]);
    assert!(view.is_complete());
    view.show(LeaseEvent::Listed(vec![(version(3), session("c", "c1", 1))], vec![]));
    assert_eq!((view.session(&name("b")), view.claim(address(1))), (None, None));
    assert!(view.session(&name("c")).is_some());
    assert_eq!(view.claimed().count(), 0);
}

#[test]
fn a_list_keeps_a_write_in_flight() {
    let mut view = View::default();
    view.claim_register(address(1)).send(Some(claim(1, "a", "a1")));
    view.show(LeaseEvent::Listed(vec![], vec![]));
    assert!(!view.is_claim_writable(address(1)));
    let outcome = WriteOutcome::Stored(Some(version(2)));
    assert_eq!(
        view.settle(&LeaseKey::Claim(address(1)), &outcome),
        Some(Change::Claim(address(1)))
    );
    assert!(view.claim(address(1)).is_some() && view.is_claim_writable(address(1)));
}

#[test]
fn a_holder_is_open_for_its_very_incarnation_only() {
    let view = listed(&[session("b", "b2", 1)], &[]);
    assert!(view.is_open_for(&claim(1, "b", "b2").holder));
    assert!(!view.is_open_for(&claim(1, "b", "b1").holder));
    assert!(!view.is_open_for(&claim(1, "c", "b2").holder));
    let closed = listed(&[Session { open_for: None, ..session("b", "b2", 1) }], &[]);
    assert!(!closed.is_open_for(&claim(1, "b", "b2").holder));
}

#[test]
fn a_closed_speaker_is_still_known_by_its_hardware_address() {
    let view = listed(&[Session { open_for: None, ..session("b", "b2", 1) }], &[]);
    assert_eq!(view.speaker_with(mac("b")), Some(&name("b")));
    assert_eq!(view.speaker_with(mac("c")), None);
    assert_eq!(view.open_sessions().count(), 0);
}

#[test]
fn settling_says_what_it_changed() {
    let key = LeaseKey::Session(name("b"));
    let stored = WriteOutcome::Stored(Some(version(2)));
    let known = session("b", "b1", 1);
    let renewed = Session { renewal: 2, ..known.clone() };
    let relinked = Session { links: vec![link("x")], ..known.clone() };
    let cases = [
        (renewed, &stored, Some(Change::Renewal(name("b")))),
        (relinked.clone(), &stored, Some(Change::Candidates(name("b")))),
        (relinked.clone(), &WriteOutcome::Conflict, None),
        (relinked, &WriteOutcome::Unknown, None),
    ];
    for (value, outcome, expected) in cases {
        let mut view = listed(std::slice::from_ref(&known), &[]);
        view.session_register(&name("b")).send(Some(value));
        assert_eq!(view.settle(&key, outcome), expected);
    }
}

#[test]
fn nothing_is_kept_of_a_lease_that_is_gone() {
    let mut view = listed(&[session("b", "b1", 1)], &[claim(1, "b", "b1")]);
    view.claim_register(address(1)).send(None);
    view.show(LeaseEvent::ClaimGone(address(1)));
    assert_eq!(view.claimed().count(), 1, "its deletion is under way");
    view.settle(&LeaseKey::Claim(address(1)), &WriteOutcome::Stored(None));
    view.show(LeaseEvent::SessionGone(name("b")));
    assert_eq!((view.claimed().count(), view.sessions().count()), (0, 0));
    assert_eq!(view, View { complete: true, ..View::default() });
}

#[test]
fn a_failed_write_blocks_until_something_is_shown() {
    let mut view = listed(&[], &[claim(1, "b", "b1")]);
    view.claim_register(address(1)).send(Some(claim(1, "a", "a1")));
    view.settle(&LeaseKey::Claim(address(1)), &WriteOutcome::Unknown);
    assert!(view.is_blocked() && !view.is_claim_writable(address(1)));
    view.show(LeaseEvent::Claim(version(2), claim(1, "a", "a1")));
    assert!(!view.is_blocked() && view.is_claim_writable(address(1)));
}
