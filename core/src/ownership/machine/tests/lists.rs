//! When the machine lists anew, and how often.

use super::*;

#[test]
fn a_renewal_that_is_not_shown_within_a_second_makes_it_list_though_others_are_shown() {
    let b = session("b", "b1", 1);
    let mut speaker = Speaker::sure(plan("a", 0, &[]), std::slice::from_ref(&b), &[]);
    speaker.pass(2_000);
    speaker.store_session(false);
    speaker.feed(Input::Leases(LeaseEvent::Session(version(50), session("b", "b1", 2))));
    speaker.pass(999);
    assert_eq!(speaker.lists(), 0);
    speaker.pass(1);
    assert_eq!(speaker.lists(), 1);
}

#[test]
fn lists_are_a_second_apart_however_much_fails() {
    let mut speaker = Speaker::sure(plan("a", 3, &[("a", 0)]), &[], &[]);
    for n in 1..=3 {
        speaker.settle_claim(n, WriteOutcome::Unknown);
    }
    assert_eq!(speaker.lists(), 1);
    speaker.pass(999);
    assert_eq!(speaker.lists(), 1);
    speaker.pass(1);
    assert_eq!(speaker.lists(), 2, "the first list never came");
}

#[test]
fn lists_that_come_and_show_no_renewal_are_asked_for_ever_more_rarely() {
    let mut speaker = Speaker::sure(plan("a", 1, &[("a", 0)]), &[], &[]);
    let own = speaker.machine.view().sessions().next().expect("its own").clone();
    let stored = version(speaker.stored);
    let mut listed = Vec::new();
    for _ in 0..4_000 {
        speaker.pass(10);
        // The API server stores nothing, and says so after the fact or not at all.
        let key = LeaseKey::Session(name("a"));
        if speaker.take_write(&key).is_some() {
            speaker.feed(Input::Written(key, WriteOutcome::Unknown, Span(5)));
        }
        let asked = std::mem::take(&mut speaker.outputs).contains(&Output::ListAnew);
        if asked {
            listed.push(speaker.now);
            let all = LeaseEvent::Listed(vec![(stored.clone(), own.clone())], Vec::new());
            speaker.feed(Input::Leases(all));
        }
    }
    let apart: Vec<u64> = listed.windows(2).map(|pair| pair[1].since(pair[0]).0).collect();
    assert!(apart[0] <= 2_000 && *apart.last().unwrap() >= 4_000, "{apart:?}");
    assert!(apart.is_sorted() && apart.iter().all(|span| *span <= 5_000), "{apart:?}");
    // A rival is another matter.
    let before = speaker.now;
    speaker.machine.rivals.hear(address(1));
    speaker.machine.relisting.want(before);
    assert!(speaker.machine.relist_due().is_some_and(|at| at <= before + Span::secs(1)));
}
