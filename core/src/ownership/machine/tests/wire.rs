//! What the machine makes of the wire: who is heard out, what is asked, who is heeded.

use super::*;
use crate::ownership::choices::Periods;

/// How often address `n` was asked of everybody.
fn asked(speaker: &Speaker, n: u8) -> usize {
    speaker.count(|o| matches!(o, Output::Ask(q) if q.address == address(n) && q.to.is_none()))
}

fn elsewhere(node: &str) -> Session {
    let prefixes = vec!["203.0.113.1/24".parse().unwrap()];
    let far = Link { prefixes, ..link(node) };
    Session { links: vec![far], ..session(node, "1", 1) }
}

/// Lets time pass while this speaker and `others` renew their sessions; whether it closes that of `b`.
fn closes_b(speaker: &mut Speaker, millis: u64, others: &[Session]) -> bool {
    let own = LeaseKey::Session(name("a"));
    for tick in 0..millis / 100 {
        speaker.pass(100);
        if speaker.count(|o| matches!(o, Output::Write(k, _) if *k == own)) > 0 {
            speaker.store_session(true);
        }
        for other in others.iter().filter(|_| tick % 20 == 0) {
            let renewed = Session { renewal: 10 + tick, ..other.clone() };
            let version = speaker.next_version();
            speaker.feed(Input::Leases(LeaseEvent::Session(version, renewed)));
        }
        if speaker.take_write(&LeaseKey::Session(name("b"))).is_some() {
            return true;
        }
    }
    false
}

#[test]
fn an_expired_owner_out_of_earshot_is_left_to_those_who_hear_it() {
    let nodes = [("a", 0), ("b", 0), ("c", 0)];
    let there = [elsewhere("b"), elsewhere("c")];
    let claims = [claim(1, "b", "1")];
    let mut speaker = Speaker::sure(plan("a", 1, &nodes), &there, &claims);
    assert!(!closes_b(&mut speaker, 60_000, &there[1..]), "c hears whether it lives");
    assert!(closes_b(&mut speaker, 7_000, &there[1..]), "but not for ever");

    let mut speaker = Speaker::sure(plan("a", 1, &nodes), &there[..1], &claims);
    assert!(closes_b(&mut speaker, 8_000, &[]), "nobody hears it");
    let deaf = Link { deaf: true, ..elsewhere("c").links[0].clone() };
    let deaf = [elsewhere("b"), Session { links: vec![deaf], ..elsewhere("c") }];
    let mut speaker = Speaker::sure(plan("a", 1, &nodes), &deaf, &claims);
    assert!(closes_b(&mut speaker, 8_000, &deaf[1..]), "c hears nobody");
}

#[test]
fn an_expired_owner_that_may_answer_nowhere_is_not_heard_out() {
    let others = [session("b", "1", 1), session("c", "1", 1)];
    let excluded = plan("a", 1, &[("a", 0), ("c", 0)]);
    let mut speaker = Speaker::sure(excluded, &others, &[claim(1, "b", "1")]);
    assert!(closes_b(&mut speaker, 8_000, &others[1..]));
}

#[test]
fn an_address_that_is_held_is_asked_for_at_once_and_every_two_seconds() {
    let mut speaker = owner(1, &[("a", 0)], &[]);
    speaker.pass(2_800);
    speaker.outputs.clear();
    speaker.pass(200);
    assert_eq!((speaker.state(1), asked(&speaker, 1)), ("Holding", 1));
    speaker.pass(10_000);
    assert_eq!(asked(&speaker, 1), 6);
    speaker.feed(Input::Heard(Voice { answer: true, ..voice(1, mac("b")) }));
    assert_eq!(speaker.state(1), "Holding", "a stranger");
}

#[test]
fn many_that_are_held_are_asked_for_a_hundred_times_a_second_at_most() {
    let mut speaker = owner(250, &[("a", 0)], &[]);
    speaker.pass(3_000);
    speaker.outputs.clear();
    speaker.pass(10_000);
    let asked = speaker.count(|o| matches!(o, Output::Ask(question) if question.to.is_none()));
    assert!((900..=1_001).contains(&asked), "{asked}");
    // On two links they are no more.
    let second = Link { name: "lan1".into(), ..link("a") };
    speaker.feed(Input::Links(vec![link("a"), second]));
    speaker.pass(10_000);
    speaker.outputs.clear();
    speaker.pass(10_000);
    let asked = speaker.count(|o| matches!(o, Output::Ask(question) if question.to.is_none()));
    assert!((900..=1_020).contains(&asked), "{asked}");
}

#[test]
fn who_took_a_held_address_answers_and_is_heeded() {
    let nodes = [("a", 0), ("b", 0)];
    let mut speaker = owner(1, &nodes, &[session("b", "b1", 1)]);
    speaker.pass(3_000);
    assert_eq!(speaker.state(1), "Holding");
    speaker.feed(Input::Heard(Voice { answer: true, ..voice(1, mac("b")) }));
    assert_eq!(speaker.state(1), "Yielded");
    speaker.outputs.clear();
    speaker.pass(10_000);
    assert_eq!(asked(&speaker, 1), 0);
}

#[test]
fn a_list_that_began_before_the_rival_was_heard_does_not_settle_it() {
    let b = session("b", "b1", 1);
    let mut speaker = owner(2, &[("a", 0), ("b", 0)], std::slice::from_ref(&b));
    speaker.feed(Input::Heard(voice(2, mac("b"))));
    speaker.pass(100);
    speaker.feed(Input::Heard(voice(1, mac("b"))));
    assert_eq!(speaker.lists(), 1, "they are a second apart");
    let own = session("a", &life_of(&speaker).0, 1);
    let claims = [1, 2].map(|n| speaker.machine.view().claim(address(n)).unwrap().clone());
    let sessions = vec![(version(8_000), own), (version(8_001), b)];
    let claims = claims.map(|claim| (version(8_002), claim)).to_vec();
    speaker.feed(Input::Leases(LeaseEvent::Listed(sessions, claims)));
    speaker.pass(600);
    assert_eq!(speaker.state(1), "Owner", "none has been asked for because of it");
    speaker.pass(300);
    assert_eq!(speaker.lists(), 2);
    speaker.pass(499);
    assert_eq!((speaker.state(1), speaker.state(2)), ("Owner", "Owner"));
    speaker.pass(1);
    assert_eq!((speaker.state(1), speaker.state(2)), ("Holding", "Owner"));
}

#[test]
fn who_stands_still_again_while_it_asks_asks_again() {
    let mut speaker = owner(1, &[("a", 0), ("b", 0)], &[session("b", "b1", 1)]);
    for _ in 0..3 {
        speaker.now = speaker.now + Span(450);
        speaker.outputs.clear();
        speaker.machine.handle_deadline(speaker.now);
        speaker.drain();
        assert_eq!((speaker.state(1), asked(&speaker, 1)), ("Asking", 1), "at {:?}", speaker.now);
    }
    speaker.pass(99);
    assert_eq!(speaker.state(1), "Asking");
    speaker.pass(1);
    assert_eq!(speaker.state(1), "Owner");
}

#[test]
fn who_stood_still_while_it_took_an_address_asks_before_it_answers() {
    let nodes = [("a", 0), ("b", 0)];
    let mut speaker =
        Speaker::sure(plan("a", 1, &nodes), &[session("b", "2", 1)], &[claim(1, "b", "1")]);
    speaker.pass(250);
    assert_eq!(speaker.state(1), "Taking");
    speaker.now = speaker.now + Span(1_000);
    speaker.store_claim(1);
    assert_eq!(speaker.state(1), "Asking");
    speaker.pass(100);
    assert_eq!(speaker.state(1), "Owner");
}

#[test]
fn a_claim_says_so_while_a_stranger_has_its_address_and_its_next_holder_asks_first() {
    let stranger = || Input::Heard(Voice { answer: true, ..voice(1, Mac([9; 6])) });
    let mut speaker = Speaker::sure(plan("a", 1, &[("a", 0)]), &[], &[]);
    assert!(!speaker.store_claim(1).contested);
    speaker.feed(stranger());
    assert!(speaker.store_claim(1).contested);
    speaker.pass(2_499);
    assert_eq!(speaker.state(1), "Asking");
    speaker.pass(1);
    assert_eq!(speaker.state(1), "Owner");
    assert!(!speaker.store_claim(1).contested);

    let contested = Claim { contested: true, ..claim(1, "b", "1") };
    let nodes = [("a", 0), ("b", 0)];
    let mut speaker = Speaker::sure(plan("a", 1, &nodes), &[session("b", "2", 1)], &[contested]);
    speaker.pass(250);
    assert!(speaker.store_claim(1).contested, "nobody knows better yet");
    assert_eq!(speaker.state(1), "Asking");
    speaker.feed(stranger());
    speaker.pass(100);
    assert_eq!(speaker.state(1), "Asking");
    speaker.pass(2_400);
    assert_eq!(speaker.state(1), "Owner");
    assert!(!speaker.store_claim(1).contested);
    assert!(speaker.take_write(&LeaseKey::Claim(address(1))).is_none());
}

#[test]
fn an_inquiry_whose_questions_do_not_leave_is_not_over() {
    let mut speaker = Speaker::sure(plan("a", 1, &[("a", 0)]), &[], &[]);
    speaker.store_claim(1);
    for _ in 0..5 {
        speaker.pass(50);
        speaker.feed(Input::Unsent("lan0".into()));
        assert_eq!(speaker.state(1), "Asking");
    }
    // For a while only: who can never ask must answer all the same.
    speaker.pass(50);
    speaker.feed(Input::Unsent("lan0".into()));
    speaker.pass(50);
    assert_eq!(speaker.state(1), "Owner");
}

/// Its kernel answers for it whatever speakers agree upon, and who announced it would take it away from its node.
#[test]
fn an_address_that_is_a_nodes_own_is_a_strangers() {
    let n = match host("b") {
        std::net::IpAddr::V4(host) => host.octets()[3],
        std::net::IpAddr::V6(_) => panic!("an IPv4 address"),
    };
    let mut speaker = Speaker::sure(plan("a", n, &[("a", 0)]), &[session("b", "b1", 1)], &[]);
    speaker.store_claim(n);
    speaker.feed(Input::Heard(Voice { answer: true, ..voice(n, mac("b")) }));
    speaker.pass(2_000);
    assert_eq!(speaker.state(n), "Asking");
    let told = |o: &Output| matches!(o, Output::Report(Report::Stranger { barred: true, .. }));
    assert_eq!(speaker.count(told), 1);
}

#[test]
fn a_stranger_on_a_network_where_the_address_is_not_answered_for_is_none() {
    let mut speaker = owner(1, &[("a", 0)], &[]);
    let away = Voice { link: "mgmt0".into(), ..voice(1, Mac([9; 6])) };
    speaker.feed(Input::Heard(away));
    assert_eq!(speaker.count(|o| matches!(o, Output::Report(Report::Stranger { .. }))), 0);
}

#[test]
fn a_drain_without_a_successor_that_takes_ends_though_the_node_takes_no_part_any_more() {
    let nodes = [("a", 0), ("b", 0)];
    let mut speaker = owner(1, &nodes, &[session("b", "b1", 1)]);
    let excluded =
        Plan { takes_part: false, node_unfit: Some(Unfit::Excluded), ..plan("a", 1, &nodes[1..]) };
    speaker.feed(Input::Plan(Arc::new(excluded)));
    assert_eq!(speaker.state(1), "HandingOver");
    let own = LeaseKey::Session(name("a"));
    let mut closed = false;
    for _ in 0..120 {
        speaker.pass(100);
        if speaker.count(|o| matches!(o, Output::Write(k, _) if *k == own)) > 0 {
            closed |= speaker.store_session(true).open_for.is_none();
        }
    }
    assert!(closed && !speaker.machine.state(address(1)).answers());
}

/// A lone speaker that has just taken address 1, which nobody had.
fn taken(choices: Choices) -> Speaker {
    let machine = Machine::new(name("a"), "s".into()).choosing(choices);
    let (now, outputs, stored) = (Moment(1_000), Vec::new(), 1_000);
    let mut speaker = Speaker { machine, now, outputs, stored };
    speaker.feed(Input::Links(vec![link("a")]));
    speaker.feed(Input::Plan(Arc::new(plan("a", 1, &[("a", 0)]))));
    speaker.feed(Input::Leases(LeaseEvent::Listed(vec![], vec![])));
    speaker.store_session(true);
    speaker.store_claim(1);
    speaker
}

#[test]
fn who_is_to_ignore_conflicts_answers_at_once_and_beside_a_stranger() {
    let stranger = || Input::Heard(Voice { answer: true, ..voice(1, Mac([9; 6])) });
    for ignore_conflicts in [false, true] {
        let mut speaker = taken(Choices { ignore_conflicts, ..Choices::default() });
        let at_once = if ignore_conflicts { "Owner" } else { "Asking" };
        assert_eq!(speaker.state(1), at_once);
        assert_eq!(asked(&speaker, 1) > 0, !ignore_conflicts);
        speaker.feed(stranger());
        speaker.pass(1_000);
        assert_eq!(speaker.state(1), at_once);
        let told = |o: &Output| matches!(o, Output::Report(Report::Stranger { .. }));
        assert_eq!(speaker.count(told), 1, "it is told all the same");
    }
}

#[test]
fn at_another_pace_an_inquiry_takes_as_long_as_was_chosen() {
    let periods = Periods { ask: Span::millis(400), ..Periods::default() };
    let mut speaker = taken(Choices { periods, ..Choices::default() });
    speaker.pass(399);
    assert_eq!(speaker.state(1), "Asking");
    speaker.pass(1);
    assert_eq!(speaker.state(1), "Owner");
}
