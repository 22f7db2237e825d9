//! R4: whose turn it is, and when an address moves though its owner could keep it.

use super::*;

/// An owner that hears nobody where it answers, while another node does.
#[test]
fn a_deaf_owner_hands_over_after_a_settling_time() {
    let mut speaker = owner(1, &[("a", 0), ("b", 0)], &[session("b", "b1", 1)]);
    speaker.machine.deafen(&"lan0".into(), true);
    let key = LeaseKey::Claim(address(1));
    let mut marked = None;
    for tenths in 1..=60_u64 {
        speaker.pass(100);
        speaker.renew();
        let write = speaker.take_write(&key);
        marked = marked.or(write.map(|write| (tenths * 100, write)));
    }
    let Some((after, LeaseWrite::Claim(_, claim))) = marked else { panic!("{marked:?}") };
    assert!((5_000..5_200).contains(&after), "{after}");
    assert_eq!((claim.handing_over_to, speaker.state(1)), (Some(name("b")), "HandingOver"));
}

/// How long after the death of its owner node `a` writes the claim, once `change` was done to it.
fn taken_after(change: impl FnOnce(&mut Speaker)) -> u64 {
    let nodes = ["a", "b", "c", "d"].map(|node| (node, 0));
    let others = ["b", "c", "d"].map(|node| session(node, "1", 1));
    let mut speaker = Speaker::sure(plan("a", 1, &nodes), &others, &[claim(1, "b", "1")]);
    change(&mut speaker);
    speaker.outputs.clear();
    let closed = Session { open_for: None, ..session("b", "1", 1) };
    speaker.feed(Input::Leases(LeaseEvent::Session(version(2), closed)));
    let key = LeaseKey::Claim(address(1));
    (0..2_000)
        .step_by(10)
        .find(|_| {
            let taken = speaker.take_write(&key).is_some();
            speaker.pass(10);
            taken
        })
        .expect("it is taken")
}

#[test]
fn the_second_takes_after_one_delay_and_one_that_hears_nobody_after_all_others() {
    assert_eq!(taken_after(|_| {}), 250);
    assert_eq!(taken_after(|speaker| speaker.machine.deafen(&"lan0".into(), true)), 500);
}

#[test]
fn where_writes_are_slow_a_delay_is_twice_as_long_as_one_takes() {
    let slow = |speaker: &mut Speaker| {
        for _ in 0..40 {
            let outcome = WriteOutcome::Stored(None);
            speaker.feed(Input::Written(LeaseKey::Claim(address(9)), outcome, Span(200)));
        }
    };
    let after = taken_after(slow);
    assert!((380..=400).contains(&after), "{after}");
}

#[test]
fn a_session_lease_that_is_gone_is_given_time_to_come_back_and_a_node_that_is_gone_is_not() {
    let taken_after = |nodes: &[(&str, u64)]| {
        let mut speaker = Speaker::sure(plan("a", 1, nodes), &[], &[claim(1, "b", "1")]);
        let key = LeaseKey::Claim(address(1));
        (0..1_000).step_by(10).find(|_| {
            let taken = speaker.take_write(&key).is_some();
            speaker.pass(10);
            taken
        })
    };
    assert_eq!(taken_after(&[("a", 0), ("b", 0)]), Some(250));
    assert_eq!(taken_after(&[("a", 0)]), Some(0));
}

#[test]
fn two_nodes_that_are_equally_better_do_not_make_the_mark_go_to_and_fro() {
    let others = [session("b", "b1", 1), session("c", "c1", 1)];
    let mut speaker = owner(1, &[("a", 0), ("b", 10), ("c", 10)], &others);
    let mut marks = 0;
    for _ in 0..60 {
        speaker.pass(100);
        speaker.renew();
        if let Some(LeaseWrite::Claim(_, claim)) = speaker.take_write(&LeaseKey::Claim(address(1)))
        {
            marks += 1;
            let version = speaker.next_version();
            speaker.settle_claim(1, WriteOutcome::Stored(Some(version.clone())));
            speaker.feed(Input::Leases(LeaseEvent::Claim(version, claim)));
        }
    }
    assert_eq!((marks, speaker.state(1)), (1, "HandingOver"));
}
