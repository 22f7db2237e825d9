mod by_hand;
mod lists;
mod turns;
mod wire;

use super::*;
use crate::ownership::fixtures::{address, claim, host, link, mac, name, plan, session, version};
use crate::ownership::record::{Claim, Incarnation, Session, Version};
use crate::why::announcement::Unfit;
use crate::wire::Mac;

fn voice(n: u8, mac: Mac) -> Voice {
    Voice { address: address(n), mac, link: "lan0".into(), answer: false }
}

/// A speaker on node `a`, and what it has asked for.
struct Speaker {
    machine: Machine,
    now: Moment,
    outputs: Vec<Output>,
    stored: u32,
}

impl Speaker {
    fn new(plan: Plan) -> Self {
        let machine = Machine::new(name("a"), "s".into());
        let mut speaker = Self { machine, now: Moment(1_000), outputs: Vec::new(), stored: 1_000 };
        speaker.feed(Input::Links(vec![link("a")]));
        speaker.feed(Input::Plan(Arc::new(plan)));
        speaker
    }

    /// One whose session is open and who is sure; the others' sessions are `others`.
    fn sure(plan: Plan, others: &[Session], claims: &[Claim]) -> Self {
        let mut speaker = Self::new(plan);
        let sessions = others.iter().map(|s| (version(1), s.clone())).collect();
        let claims = claims.iter().map(|c| (version(1), c.clone())).collect();
        speaker.feed(Input::Leases(LeaseEvent::Listed(sessions, claims)));
        speaker.store_session(true);
        assert!(speaker.machine.is_sure() && speaker.machine.is_open());
        speaker
    }

    fn feed(&mut self, input: Input) {
        self.machine.handle(input, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            self.outputs.push(output);
        }
    }

    fn pass(&mut self, millis: u64) {
        let until = self.now + Span(millis);
        while let Some(at) = self.machine.next_deadline().filter(|at| *at <= until) {
            assert!(at > self.now || self.now == Moment(1_000), "a deadline lies ahead");
            self.now = at.max(self.now);
            self.machine.handle_deadline(self.now);
            self.drain();
        }
        self.now = until;
        self.machine.handle_deadline(self.now);
        self.drain();
    }

    /// Stores and shows the renewal of its session, if one is asked for.
    fn renew(&mut self) {
        let key = LeaseKey::Session(name("a"));
        if self.count(|output| matches!(output, Output::Write(of, _) if *of == key)) > 0 {
            self.store_session(true);
        }
    }

    /// Passes so many seconds, with an API server that stores and shows each renewal.
    fn live(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.pass(100);
            self.renew();
        }
    }

    /// The one write of `key` that is asked for, taken out.
    fn take_write(&mut self, key: &LeaseKey) -> Option<LeaseWrite> {
        let at = self.outputs.iter().position(|o| matches!(o, Output::Write(k, _) if k == key))?;
        match self.outputs.remove(at) {
            Output::Write(_, write) => Some(write),
            _ => None,
        }
    }

    fn next_version(&mut self) -> Version {
        self.stored += 1;
        version(self.stored)
    }

    /// Stores the speaker's own session as it asked, and lets the watch show it, or not.
    fn store_session(&mut self, shown: bool) -> Session {
        let key = LeaseKey::Session(name("a"));
        let Some(LeaseWrite::Session(_, session)) = self.take_write(&key) else {
            panic!("no session is written: {:?}", self.outputs)
        };
        let version = self.next_version();
        let outcome = WriteOutcome::Stored(Some(version.clone()));
        self.feed(Input::Written(key, outcome, Span(5)));
        if shown {
            self.feed(Input::Leases(LeaseEvent::Session(version, session.clone())));
        }
        session
    }

    fn settle_claim(&mut self, n: u8, outcome: WriteOutcome) {
        self.feed(Input::Written(LeaseKey::Claim(address(n)), outcome, Span(5)));
    }

    /// Stores the claim as asked; the watch does not show it yet.
    fn store_claim(&mut self, n: u8) -> Claim {
        let Some(LeaseWrite::Claim(_, claim)) = self.take_write(&LeaseKey::Claim(address(n)))
        else {
            panic!("no claim is written: {:?}", self.outputs)
        };
        let version = self.next_version();
        self.settle_claim(n, WriteOutcome::Stored(Some(version)));
        claim
    }

    fn state(&self, n: u8) -> &'static str {
        self.machine.state(address(n)).name()
    }

    fn count(&self, wanted: impl Fn(&Output) -> bool) -> usize {
        self.outputs.iter().filter(|output| wanted(output)).count()
    }

    fn lists(&self) -> usize {
        self.count(|output| *output == Output::ListAnew)
    }
}

/// A speaker that owns addresses 1 to `vips`, the watch having shown it.
fn owner(vips: u8, nodes: &[(&str, u64)], others: &[Session]) -> Speaker {
    owner_choosing(Choices::default(), vips, nodes, others)
}

fn owner_choosing(
    choices: Choices,
    vips: u8,
    nodes: &[(&str, u64)],
    others: &[Session],
) -> Speaker {
    let mut speaker = Speaker::sure(plan("a", vips, &nodes[..1]), others, &[]);
    speaker.machine = speaker.machine.choosing(choices);
    for n in 1..=vips {
        let claim = speaker.store_claim(n);
        let version = version(speaker.stored);
        speaker.feed(Input::Leases(LeaseEvent::Claim(version, claim)));
    }
    // The wire was asked meanwhile (R9).
    speaker.pass(100);
    assert!((1..=vips).all(|n| speaker.state(n) == "Owner"));
    speaker.feed(Input::Plan(Arc::new(plan("a", vips, nodes))));
    speaker.outputs.clear();
    speaker
}

fn life_of(speaker: &Speaker) -> Incarnation {
    speaker.machine.view().open_for(&name("a")).unwrap().clone()
}

#[test]
fn a_free_address_is_taken_answered_and_announced() {
    let mut speaker = Speaker::sure(plan("a", 1, &[("a", 0)]), &[], &[]);
    assert_eq!(speaker.state(1), "Taking");
    assert_eq!(speaker.count(|o| matches!(o, Output::Answer(..))), 0);
    speaker.store_claim(1);
    assert_eq!(speaker.state(1), "Asking");
    assert_eq!(speaker.count(|o| matches!(o, Output::Answer(..))), 0);
    speaker.pass(100);
    assert_eq!(speaker.state(1), "Owner");
    assert!(speaker.outputs.contains(&Output::Answer(address(1), Interfaces::Any)));
    assert!(speaker.outputs.contains(&Output::Announce { address: address(1), first: true }));
}

#[test]
fn who_takes_an_address_tells_how_long_nobody_owned_it() {
    let told = |speaker: &Speaker| {
        speaker.outputs.iter().find_map(|output| match output {
            Output::Report(Report::Moved { answers: (false, true), vacant, .. }) => Some(*vacant),
            _ => None,
        })
    };
    let claims = [claim(1, "b", "b1")];
    let nodes = [("a", 0), ("b", 0)];
    let mut speaker = Speaker::sure(plan("a", 1, &nodes), &[session("b", "b1", 1)], &claims);
    assert_eq!(speaker.state(1), "Idle");
    let closed = Session { open_for: None, ..session("b", "b1", 1) };
    speaker.feed(Input::Leases(LeaseEvent::Session(version(2), closed)));
    speaker.now = speaker.now + Span(40);
    speaker.store_claim(1);
    assert_eq!(told(&speaker), Some(Some(Span(40))));

    let leaving = Session { leaving: true, ..session("b", "b1", 1) };
    let mut speaker = Speaker::sure(plan("a", 1, &nodes), &[leaving], &claims);
    speaker.store_claim(1);
    assert_eq!(told(&speaker), Some(None), "who hands over still answers");
}

#[test]
fn an_owner_whose_cable_is_pulled_hands_over_though_it_has_another_network() {
    let other = || Link {
        name: "mgmt0".into(),
        mac: mac("other"),
        prefixes: vec!["198.51.100.0/24".parse().unwrap()],
        carrier: true,
        deaf: false,
    };
    let pulled = || vec![Link { carrier: false, ..link("a") }, other()];
    let nodes = [("a", 0), ("b", 0)];
    let mut speaker = owner(1, &nodes, &[session("b", "b1", 1)]);
    speaker.feed(Input::Links(vec![link("a"), other()]));
    assert_eq!(speaker.state(1), "Owner");
    speaker.feed(Input::Links(pulled()));
    assert_eq!(speaker.state(1), "HandingOver");
    assert_eq!(speaker.machine.why_not(address(1)), Some(Unfit::OffLink));
    let Some(LeaseWrite::Claim(_, marked)) = speaker.take_write(&LeaseKey::Claim(address(1)))
    else {
        panic!("the claim is marked: {:?}", speaker.outputs)
    };
    assert_eq!(marked.handing_over_to, Some(name("b")));

    // Where no node has the address on-link, as behind a router, none is better than another.
    let away = Session { links: vec![other()], ..session("b", "b1", 1) };
    let mut speaker = owner(1, &nodes, &[away]);
    speaker.feed(Input::Links(pulled()));
    assert_eq!(speaker.state(1), "Owner");
}

#[test]
fn without_a_renewal_shown_nothing_is_taken() {
    let mut speaker = Speaker::new(plan("a", 1, &[("a", 0)]));
    speaker.feed(Input::Leases(LeaseEvent::Listed(vec![], vec![])));
    speaker.store_session(false);
    assert!(speaker.machine.is_open() && !speaker.machine.is_sure());
    assert!(speaker.take_write(&LeaseKey::Claim(address(1))).is_none());
}

#[test]
fn a_speaker_whose_opening_failed_opens_again_though_nothing_else_happens() {
    let mut speaker = Speaker::new(plan("a", 0, &[]));
    speaker.feed(Input::Leases(LeaseEvent::Listed(vec![], vec![])));
    let key = LeaseKey::Session(name("a"));
    assert!(speaker.take_write(&key).is_some());
    speaker.feed(Input::Written(key.clone(), WriteOutcome::Unknown, Span(5)));
    assert_eq!(speaker.lists(), 1);
    speaker.feed(Input::Leases(LeaseEvent::Listed(vec![], vec![])));
    assert!(speaker.take_write(&key).is_some());
}

#[test]
fn an_owner_that_hears_another_speaker_lists_anew_announces_itself_and_goes_on_answering() {
    let announced = |rival: bool| {
        let mut speaker = owner(1, &[("a", 0), ("b", 0)], &[session("b", "b1", 1)]);
        // The burst is over.
        speaker.live(5);
        assert_eq!(speaker.state(1), "Owner");
        speaker.outputs.clear();
        if rival {
            speaker.feed(Input::Heard(voice(1, mac("b"))));
        }
        assert_eq!((speaker.state(1), speaker.lists()), ("Owner", usize::from(rival)));
        speaker.live(6);
        speaker.count(|output| matches!(output, Output::Announce { first: false, .. }))
    };
    assert_eq!((announced(false), announced(true)), (0, 5));
}

#[test]
fn an_address_is_announced_now_and_then_while_it_is_owned_and_not_while_it_is_handed_over() {
    let choices = Choices { refresh: Some(Span::secs(10)), ..Choices::default() };
    let announced = |leaves: bool| {
        let mut speaker =
            owner_choosing(choices, 1, &[("a", 0), ("b", 0)], &[session("b", "b1", 1)]);
        speaker.live(5);
        if leaves {
            speaker.feed(Input::Stop);
            assert_eq!(speaker.state(1), "HandingOver");
        }
        speaker.outputs.clear();
        speaker.live(9);
        speaker.pass(900);
        assert!(speaker.machine.state(address(1)).answers());
        speaker.count(|output| matches!(output, Output::Announce { .. }))
    };
    assert_eq!((announced(false), announced(true)), (1, 0));
}

/// Another load balancer beside this one, on the same nodes.
#[test]
fn a_node_that_goes_on_using_an_address_that_a_list_has_shown_to_be_mine_is_told_of() {
    let b = session("b", "b1", 1);
    let mut speaker = owner(1, &[("a", 0), ("b", 0)], std::slice::from_ref(&b));
    let told = |o: &Output| {
        let of_b = Some(name("b"));
        matches!(o, Output::Report(Report::Stranger { node, barred: false, .. }) if *node == of_b)
    };
    speaker.feed(Input::Heard(voice(1, mac("b"))));
    speaker.pass(20);
    speaker.feed(Input::Heard(voice(1, mac("b"))));
    assert_eq!((speaker.count(told), speaker.lists()), (0, 1), "it may be the successor");
    let view = speaker.machine.view();
    let mine = view.session(&name("a")).unwrap().clone();
    let claimed = view.claim(address(1)).unwrap().clone();
    let version = version(speaker.stored);
    let sessions = vec![(version.clone(), mine), (version.clone(), b)];
    let list = LeaseEvent::Listed(sessions, vec![(version, claimed)]);
    speaker.feed(Input::Leases(list));
    speaker.feed(Input::Heard(voice(1, mac("b"))));
    assert_eq!((speaker.count(told), speaker.state(1)), (1, "Owner"));
}

#[test]
fn a_flood_of_strangers_frames_is_told_every_ten_seconds() {
    let mut speaker = owner(1, &[("a", 0)], &[]);
    for _ in 0..1_000 {
        speaker.feed(Input::Heard(voice(1, Mac([9; 6]))));
    }
    let told = |o: &Output| matches!(o, Output::Report(Report::Stranger { .. }));
    assert_eq!(speaker.count(told), 1);
    speaker.pass(9_999);
    speaker.feed(Input::Heard(voice(1, Mac([9; 6]))));
    assert_eq!(speaker.count(told), 1);
    speaker.pass(1);
    speaker.feed(Input::Heard(voice(1, Mac([9; 6]))));
    assert_eq!(speaker.count(told), 2);
    assert!(speaker.machine.state(address(1)).answers());
}

#[test]
fn a_claim_that_became_mine_when_i_may_not_answer_any_more_is_deleted_in_silence() {
    let mut speaker = Speaker::sure(plan("a", 1, &[("a", 0)]), &[session("b", "b1", 1)], &[]);
    speaker.feed(Input::Plan(Arc::new(plan("a", 1, &[("b", 0)]))));
    speaker.store_claim(1);
    let write = speaker.take_write(&LeaseKey::Claim(address(1)));
    assert!(matches!(write, Some(LeaseWrite::DeleteClaim(..))), "{write:?}");
    assert_eq!(speaker.count(|o| matches!(o, Output::Answer(..))), 0);
}

#[test]
fn a_session_seen_closed_silences_every_address_at_once() {
    let mut speaker = owner(3, &[("a", 0)], &[]);
    let open = session("a", &life_of(&speaker).0, 1);
    let closed = Session { open_for: None, ..open };
    speaker.feed(Input::Leases(LeaseEvent::Session(version(9_000), closed)));
    assert_eq!(speaker.count(|o| matches!(o, Output::Silence(_))), 3);
    let Some(LeaseWrite::Session(_, reopened)) = speaker.take_write(&LeaseKey::Session(name("a")))
    else {
        panic!("not opened again")
    };
    assert_ne!(reopened.open_for, Some(Incarnation("s-1".into())));
}

#[test]
fn a_renewal_steps_no_address_and_writes_no_claim() {
    let mut speaker = owner(3, &[("a", 0)], &[]);
    speaker.pass(10_000);
    speaker.outputs.clear();
    let key = LeaseKey::Session(name("a"));
    let outcome = WriteOutcome::Stored(Some(version(7_000)));
    assert!(speaker.machine.view.settle(&key, &outcome).is_some());
    speaker.machine.settle(key, &outcome, Span(5), speaker.now);
    assert!(speaker.machine.dirty.is_empty() && !speaker.machine.all_dirty);
}

#[test]
fn links_that_vanish_hand_the_addresses_over_and_bring_them_back_announced() {
    let mut speaker = owner(1, &[("a", 0), ("b", 0)], &[session("b", "b1", 1)]);
    speaker.feed(Input::Links(vec![]));
    assert_eq!(speaker.state(1), "HandingOver");
    let Some(LeaseWrite::Claim(_, marked)) = speaker.take_write(&LeaseKey::Claim(address(1)))
    else {
        panic!("no mark")
    };
    assert_eq!(marked.handing_over_to, Some(name("b")));
    let mut alone = owner(1, &[("a", 0)], &[]);
    alone.feed(Input::Links(vec![]));
    assert_eq!(alone.state(1), "Idle");
    assert!(alone.outputs.contains(&Output::Silence(address(1))));
}

#[test]
fn a_link_that_comes_back_is_told_of_every_address_again() {
    let mut speaker = owner(1, &[("a", 0)], &[]);
    speaker.pass(1_200);
    speaker.outputs.clear();
    let mut second = link("a");
    second.name = "lan1".into();
    speaker.feed(Input::Links(vec![link("a"), second]));
    speaker.pass(1_100);
    assert!(speaker.outputs.contains(&Output::Announce { address: address(1), first: true }));
}

#[test]
fn an_expired_peer_is_closed_and_after_a_failure_closed_again() {
    let mut speaker = Speaker::sure(plan("a", 0, &[]), &[session("b", "b1", 1)], &[]);
    let peer = LeaseKey::Session(name("b"));
    let mut closings = Vec::new();
    for _ in 0..100 {
        speaker.pass(100);
        let own = LeaseKey::Session(name("a"));
        if speaker.count(|o| matches!(o, Output::Write(k, _) if *k == own)) > 0 {
            speaker.store_session(true);
        }
        if speaker.take_write(&peer).is_some() {
            closings.push(speaker.now.0);
            speaker.feed(Input::Written(peer.clone(), WriteOutcome::Unknown, Span(5)));
            let a = (version(speaker.stored), session("a", &life_of(&speaker).0, 0));
            let b = (version(1), session("b", "b1", 1));
            speaker.feed(Input::Leases(LeaseEvent::Listed(vec![a, b], vec![])));
        }
    }
    assert!(closings.len() >= 2, "{closings:?}");
    assert!(closings[0] >= 7_000 && closings[1] - closings[0] <= 1_000, "{closings:?}");
}

#[test]
fn an_owner_that_slept_judges_what_waited_by_what_it_is_now() {
    let mut speaker = owner(1, &[("a", 0), ("b", 0)], &[session("b", "b1", 1)]);
    speaker.pass(100);
    speaker.outputs.clear();
    speaker.now = speaker.now + Span::secs(60);
    speaker.feed(Input::Heard(voice(1, mac("b"))));
    assert_eq!(speaker.state(1), "Yielded");
    assert_eq!(speaker.count(|o| matches!(o, Output::Announce { .. })), 0);
}

#[test]
fn what_was_counted_against_a_peer_while_sure_counts_when_sure_again() {
    let mut speaker = Speaker::sure(plan("a", 0, &[]), &[session("b", "b1", 1)], &[]);
    let own = LeaseKey::Session(name("a"));
    let peer = LeaseKey::Session(name("b"));
    speaker.pass(2_000);
    speaker.store_session(true);
    // The next renewal stays unanswered for a minute: five seconds were counted, one is left.
    speaker.pass(60_000);
    assert!(!speaker.machine.is_sure());
    assert!(speaker.take_write(&peer).is_none());
    speaker.store_session(true);
    if speaker.count(|o| matches!(o, Output::Write(k, _) if *k == own)) > 0 {
        speaker.store_session(true);
    }
    assert!(speaker.machine.is_sure());
    assert!(speaker.take_write(&peer).is_none());
    speaker.pass(999);
    assert!(speaker.take_write(&peer).is_none());
    speaker.pass(1);
    assert!(speaker.take_write(&peer).is_some());
}

#[test]
fn a_stopping_speaker_without_answers_leaves_at_once_and_tells_of_what_it_drops() {
    let mut speaker = owner(1, &[("a", 0)], &[]);
    speaker.feed(Input::Stop);
    speaker.store_session(false);
    assert!(speaker.outputs.contains(&Output::Left));
    assert_eq!(speaker.machine.next_deadline(), None);
    let told =
        |o: &Output| matches!(o, Output::Report(Report::Moved { answers: (true, false), .. }));
    assert_eq!((speaker.count(told), speaker.state(1)), (1, "Idle"));
}

#[test]
fn a_stopping_speaker_that_reaches_no_api_leaves_after_eleven_seconds() {
    let mut speaker = owner(1, &[("a", 0), ("b", 0)], &[session("b", "b1", 1)]);
    speaker.feed(Input::Stop);
    assert_eq!(speaker.state(1), "HandingOver");
    speaker.pass(10_999);
    assert!(!speaker.outputs.contains(&Output::Left));
    speaker.pass(1);
    assert!(speaker.outputs.contains(&Output::Silence(address(1))));
    assert!(speaker.outputs.contains(&Output::Left));
}

#[test]
fn a_claim_that_was_deleted_is_forgotten_whatever_order_its_ends_come_in() {
    for shown_first in [true, false] {
        let mut speaker = owner(1, &[("a", 0)], &[]);
        speaker.feed(Input::Plan(Arc::new(plan("a", 0, &[]))));
        let write = speaker.take_write(&LeaseKey::Claim(address(1)));
        assert!(matches!(write, Some(LeaseWrite::DeleteClaim(..))));
        if shown_first {
            speaker.feed(Input::Leases(LeaseEvent::ClaimGone(address(1))));
        }
        speaker.settle_claim(1, WriteOutcome::Stored(None));
        speaker.feed(Input::Leases(LeaseEvent::ClaimGone(address(1))));
        assert_eq!(speaker.machine.view().claimed().count(), 0);
    }
}

#[test]
fn a_suspended_process_does_not_count_its_sleep_against_its_peers() {
    let mut speaker = Speaker::sure(plan("a", 0, &[]), &[session("b", "b1", 1)], &[]);
    speaker.now = speaker.now + Span::secs(600);
    speaker.machine.handle_deadline(speaker.now);
    speaker.drain();
    assert!(!speaker.machine.is_sure());
    assert!(speaker.take_write(&LeaseKey::Session(name("b"))).is_none());
    speaker.store_session(true);
    assert!(speaker.machine.is_sure());
    assert!(speaker.take_write(&LeaseKey::Session(name("b"))).is_none());
}

#[test]
fn it_tells_why_it_may_not_answer() {
    let why = |speaker: &Speaker| speaker.machine.why_not(address(1));
    let mut speaker = Speaker::new(plan("a", 1, &[("a", 0)]));
    assert_eq!(why(&speaker), Some(Unfit::NoSession));
    speaker.feed(Input::Leases(LeaseEvent::Listed(vec![], vec![])));
    speaker.store_session(true);
    assert_eq!(why(&speaker), None);
    speaker.feed(Input::Links(vec![]));
    assert_eq!(why(&speaker), Some(Unfit::NoInterface));
    speaker.feed(Input::Plan(Arc::new(plan("a", 1, &[("b", 0)]))));
    assert_eq!(why(&speaker), Some(Unfit::NoLocalEndpoint));
    assert_eq!(speaker.machine.why_not(address(2)), None, "no Service has it");
    speaker.feed(Input::Links(vec![link("a")]));
    speaker.feed(Input::Plan(Arc::new(plan("a", 1, &[("a", 0)]))));
    speaker.feed(Input::Stop);
    assert_eq!(why(&speaker), Some(Unfit::Leaving));
}

#[test]
fn a_claim_whose_writes_are_refused_is_written_ever_more_rarely_until_it_changes() {
    let mut speaker = Speaker::sure(plan("a", 1, &[("a", 0)]), &[], &[]);
    let key = LeaseKey::Claim(address(1));
    let mut own = speaker.machine.view().sessions().next().expect("its own").clone();
    let mut written = Vec::new();
    while written.len() < 8 {
        speaker.pass(50);
        if speaker.outputs.iter().any(|o| matches!(o, Output::Write(LeaseKey::Session(_), _))) {
            own = speaker.store_session(true);
        }
        if speaker.take_write(&key).is_some() {
            written.push(speaker.now);
            speaker.settle_claim(1, WriteOutcome::Refused);
        }
        // A list that shows what was known is no news.
        let listed = vec![(version(speaker.stored), own.clone())];
        speaker.feed(Input::Leases(LeaseEvent::Listed(listed, Vec::new())));
    }
    let waits = written.windows(2).map(|pair| pair[1].since(pair[0]).0 / 1000);
    assert_eq!(waits.collect::<Vec<_>>(), [1, 2, 4, 8, 16, 30, 30]);
    let other = speaker.next_version();
    speaker.feed(Input::Leases(LeaseEvent::Claim(other, claim(1, "b", "gone"))));
    speaker.pass(50);
    assert!(speaker.take_write(&key).is_some(), "another claim is another matter");
}
