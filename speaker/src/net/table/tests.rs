use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::count::Counts;
use super::*;

const NODE: Mac = Mac([2, 0, 0, 0, 0, 1]);
const SECOND_LINK: Mac = Mac([2, 0, 0, 0, 0, 2]);
const ASKER: Mac = Mac([2, 0, 0, 0, 0, 9]);
const ASKER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const ASKER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
const VIP4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 240);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x240);
const ELSEWHERE4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 241);
const UNKNOWN4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 242);
const UNKNOWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x242);
const HOST4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const SPEAKER: Mac = Mac([2, 0, 0, 0, 0, 3]);

/// A node with two links that answers for the VIPs everywhere and for one address on the second link only.
fn table() -> Table {
    let counts = Counts::default();
    let answer = |address: IpAddr, reach| (address, Answer { reach, counters: counts.of(address) });
    let second = Reach::Only(Arc::new(BTreeSet::from(["lan1".into()])));
    let answers = HashMap::from([
        answer(VIP4.into(), Reach::Every),
        answer(VIP6.into(), Reach::Every),
        answer(ELSEWHERE4.into(), second),
    ]);
    let interesting = HashSet::from([VIP4.into(), VIP6.into()]);
    Table {
        answers,
        interesting,
        hosts: BTreeSet::from([HOST4.into()]),
        speakers: BTreeSet::from([SPEAKER]),
        vouched: HashSet::from([UNKNOWN4.into(), UNKNOWN6.into()]),
        own: BTreeSet::from([NODE, SECOND_LINK]),
    }
}

fn place() -> Place {
    Place { link: "lan0".into(), mac: NODE }
}

fn judge_arp(message: arp::Message) -> Judgement {
    table().judge(Protocol::Arp, &place(), &message.to_frame())
}

fn judge_ndp(message: ndp::Message) -> Judgement {
    table().judge(Protocol::Ndp, &place(), &message.to_frame())
}

fn refusal(judgement: Judgement) -> Option<Dropped> {
    judgement.reply.err()
}

#[test]
fn a_question_for_an_address_of_ours_is_answered_and_claims_nothing() {
    let judgement = judge_arp(arp::Message::ask(VIP4, ASKER4, ASKER));
    assert_eq!(judgement.claim, None);
    let reply = judgement.reply.ok().unwrap();
    let view = arp::View::parse(&reply.frame).unwrap();
    assert_eq!((view.operation(), view.destination()), (arp::Operation::Reply, ASKER));
    assert_eq!((view.sender(), view.sender_mac()), (VIP4, NODE));

    let judgement = judge_ndp(ndp::Message::ask(VIP6, ASKER6, ASKER));
    assert_eq!(judgement.claim, None);
    let reply = judgement.reply.ok().unwrap();
    let view = ndp::View::parse(&reply.frame).unwrap();
    assert_eq!((view.target(), view.link_layer()), (VIP6, Some(NODE)));
}

#[test]
fn a_probe_is_a_question_too() {
    let arp = judge_arp(arp::Message::probe(VIP4, ASKER, Mac::BROADCAST));
    assert!(arp.claim.is_none() && arp.reply.is_ok());
    let to_us = judge_arp(arp::Message::probe(VIP4, ASKER, NODE));
    assert!(to_us.claim.is_none() && to_us.reply.is_ok());
    let ndp = judge_ndp(ndp::Message::probe(VIP6, Ipv6Addr::UNSPECIFIED, ASKER, None));
    assert!(ndp.claim.is_none() && ndp.reply.is_ok());
}

#[test]
fn each_frame_that_is_not_answered_has_its_reason() {
    let ask = |target| arp::Message::ask(target, ASKER4, ASKER);
    let another_host = Mac([2, 0, 0, 0, 0, 8]);
    let gratuitous = arp::Message::gratuitous(arp::Operation::Request, VIP4, ASKER);
    let reply = arp::Message::gratuitous(arp::Operation::Reply, VIP4, ASKER);
    let cases = [
        (ask(UNKNOWN4), Dropped::NotAnswered),
        (ask(ELSEWHERE4), Dropped::NotOnLink),
        (arp::Message { destination: another_host, ..ask(VIP4) }, Dropped::NotForUs),
        (gratuitous, Dropped::NoQuestion),
        (reply, Dropped::NoQuestion),
        (arp::Message { sender_mac: Mac::BROADCAST, ..ask(VIP4) }, Dropped::Malformed),
    ];
    for (message, why) in cases {
        assert_eq!(refusal(judge_arp(message)), Some(why), "{message:?}");
    }
    let ask = ndp::Message::ask(VIP6, ASKER6, ASKER);
    let cases = [
        (ndp::Message { target: ASKER6, source: VIP6, ..ask }, Dropped::NotAnswered),
        (ndp::Message { source: VIP6, ..ask }, Dropped::NoQuestion),
        (ndp::Message { ethernet_destination: another_host, ..ask }, Dropped::NotForUs),
        (ndp::Message::announcement(VIP6, ASKER), Dropped::NoQuestion),
        (ndp::Message { link_layer: Some(Mac::BROADCAST), ..ask }, Dropped::Malformed),
    ];
    for (message, why) in cases {
        assert_eq!(refusal(judge_ndp(message)), Some(why), "{message:?}");
    }
}

#[test]
fn a_claim_says_how_it_was_made() {
    let told_one = |message| arp::Message { destination: NODE, ..message };
    let reply = arp::Message::gratuitous(arp::Operation::Reply, VIP4, ASKER);
    let request = arp::Message::gratuitous(arp::Operation::Request, VIP4, ASKER);
    let cases = [
        (request, How::Announced),
        (reply, How::Announced),
        (told_one(reply), How::Answered),
        (arp::Message::ask(UNKNOWN4, VIP4, ASKER), How::Announced),
    ];
    for (message, how) in cases {
        assert_eq!(judge_arp(message).claim, Some((VIP4.into(), ASKER, how)), "{message:?}");
    }
    let announcement = ndp::Message::announcement(VIP6, ASKER);
    let question = ndp::Message::ask(VIP6, ASKER6, NODE).to_frame();
    let answer = ndp::Message::answer(&ndp::View::parse(&question).unwrap(), ASKER);
    let question = ndp::Message::probe(VIP6, Ipv6Addr::UNSPECIFIED, NODE, None).to_frame();
    let answer_to_all = ndp::Message::answer(&ndp::View::parse(&question).unwrap(), ASKER);
    let cases = [
        (announcement, How::Announced),
        (answer, How::Answered),
        (answer_to_all, How::Answered),
        (ndp::Message::ask(ASKER6, VIP6, ASKER), How::Announced),
    ];
    for (message, how) in cases {
        assert_eq!(judge_ndp(message).claim, Some((VIP6.into(), ASKER, how)), "{message:?}");
    }
}

#[test]
fn our_own_claims_are_not_heard_on_whichever_link_they_return() {
    for mac in [NODE, SECOND_LINK] {
        let operation = arp::Operation::Request;
        assert_eq!(judge_arp(arp::Message::gratuitous(operation, VIP4, mac)).claim, None);
        assert_eq!(judge_ndp(ndp::Message::announcement(VIP6, mac)).claim, None);
    }
}

#[test]
fn only_questions_that_can_be_answered_are_counted_for_their_address() {
    let table = table();
    let frame = |target| arp::Message::ask(target, ASKER4, ASKER).to_frame();
    for target in [VIP4, VIP4, ELSEWHERE4, UNKNOWN4] {
        table.judge(Protocol::Arp, &place(), &frame(target));
    }
    let received = |address: Ipv4Addr| {
        let counters = &table.answers[&IpAddr::V4(address)].counters;
        counters.requests_received.load(std::sync::atomic::Ordering::Relaxed)
    };
    assert_eq!([VIP4, ELSEWHERE4].map(received), [2, 0]);
}

#[test]
fn another_speakers_probe_is_answered_for_what_is_vouched_for_and_nobody_elses_question() {
    let arp = |asker, to| arp::Message::probe(UNKNOWN4, asker, to);
    assert!(judge_arp(arp(SPEAKER, NODE)).reply.is_ok());
    assert_eq!(refusal(judge_arp(arp(SPEAKER, Mac::BROADCAST))), Some(Dropped::NotAnswered));
    assert_eq!(refusal(judge_arp(arp(ASKER, NODE))), Some(Dropped::NotAnswered));
    let question =
        arp::Message { destination: NODE, ..arp::Message::ask(UNKNOWN4, ASKER4, SPEAKER) };
    assert_eq!(refusal(judge_arp(question)), Some(Dropped::NotAnswered), "it would be cached");
    let never = arp::Message::probe(Ipv4Addr::new(192, 0, 2, 99), SPEAKER, NODE);
    assert_eq!(refusal(judge_arp(never)), Some(Dropped::NotAnswered));

    let ndp = |asker, to| ndp::Message::probe(UNKNOWN6, ASKER6, asker, to);
    assert!(judge_ndp(ndp(SPEAKER, Some(NODE))).reply.is_ok());
    assert_eq!(refusal(judge_ndp(ndp(SPEAKER, None))), Some(Dropped::NotAnswered));
    assert_eq!(refusal(judge_ndp(ndp(ASKER, Some(NODE)))), Some(Dropped::NotAnswered));
}

#[test]
fn a_probe_is_no_question_of_a_neighbours() {
    let table = table();
    let judge = |message: arp::Message| {
        table.judge(Protocol::Arp, &place(), &message.to_frame()).reply.ok().unwrap().counters
    };
    assert!(judge(arp::Message::probe(VIP4, SPEAKER, NODE)).is_none());
    assert!(judge(arp::Message::ask(VIP4, ASKER4, SPEAKER)).is_some());
    let counters = judge(arp::Message::probe(VIP4, ASKER, NODE)).unwrap();
    assert_eq!(counters.requests_received.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[test]
fn the_answer_of_a_known_host_is_reported() {
    let asked = arp::Message::probe(HOST4, NODE, ASKER).to_frame();
    let answer = arp::Message::answer(&arp::View::parse(&asked).unwrap(), ASKER);
    let claim = judge_arp(answer).claim;
    assert_eq!(claim, Some((HOST4.into(), ASKER, How::Answered)));
}
