//! Leases that somebody deletes or edits.

use super::*;

#[test]
fn a_session_lease_deleted_by_hand_is_created_again_and_its_addresses_taken_again() {
    let mut speaker = owner(2, &[("a", 0)], &[]);
    speaker.feed(Input::Leases(LeaseEvent::SessionGone(name("a"))));
    assert!(!speaker.machine.state(address(1)).answers());
    speaker.store_session(true);
    assert_eq!((speaker.state(1), speaker.state(2)), ("Taking", "Taking"));
}

#[test]
fn a_claim_that_was_deleted_by_hand_moves_and_says_so() {
    let mut speaker = owner(1, &[("a", 0)], &[]);
    speaker.feed(Input::Leases(LeaseEvent::ClaimGone(address(1))));
    let why = speaker.outputs.iter().find_map(|output| match output {
        Output::Report(Report::Moved { answers: (true, false), cause, .. }) => Some(cause.clone()),
        _ => None,
    });
    assert_eq!(why, Some(Cause::ClaimGone));
}

#[test]
fn a_claim_edited_by_hand_to_nonsense_is_taken_back() {
    let mut speaker = owner(1, &[("a", 0)], &[]);
    speaker.feed(Input::Leases(LeaseEvent::Claim(version(9_000), claim(1, "", ""))));
    assert!(!speaker.machine.state(address(1)).answers());
    assert_eq!(speaker.store_claim(1).holder.node, name("a"));
}

#[test]
fn a_claim_deleted_unseen_between_two_watches_is_given_up_when_the_next_renewal_is_shown() {
    let mut speaker = Speaker::sure(plan("a", 1, &[("a", 0)]), &[], &[]);
    speaker.store_claim(1);
    let session = (version(1_001), session("a", &life_of(&speaker).0, 1));
    // Both the claim and its deletion fell between two watches.
    speaker.feed(Input::Leases(LeaseEvent::Listed(vec![session], vec![])));
    assert_eq!(speaker.state(1), "Asking", "the list may be older than the claim");
    speaker.pass(2_100);
    assert_eq!(speaker.state(1), "Owner");
    speaker.store_session(true);
    assert!(!speaker.machine.state(address(1)).answers());
    assert!(speaker.take_write(&LeaseKey::Claim(address(1))).is_some(), "and taken anew");
}

#[test]
fn an_own_session_deleted_unseen_is_opened_again() {
    let mut speaker = Speaker::new(plan("a", 0, &[]));
    speaker.feed(Input::Leases(LeaseEvent::Listed(vec![], vec![])));
    let first = speaker.store_session(false).open_for;
    speaker.feed(Input::Leases(LeaseEvent::Listed(vec![], vec![])));
    let key = LeaseKey::Session(name("a"));
    for _ in 0..4 {
        speaker.pass(2_000);
        if let Some(LeaseWrite::Session(base, session)) = speaker.take_write(&key) {
            if base.is_none() {
                assert_ne!(session.open_for, first);
                return;
            }
            speaker.feed(Input::Written(key.clone(), WriteOutcome::Conflict, Span(5)));
        }
        speaker.feed(Input::Leases(LeaseEvent::Listed(vec![], vec![])));
    }
    panic!("renewed what does not exist any more: {:?}", speaker.outputs);
}
