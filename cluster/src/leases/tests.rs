//! Against the in-process server, in virtual time.

use std::net::SocketAddr;

use herald_core::name::NodeName;
use herald_core::ownership::record::{Incarnation, PROTOCOL};
use herald_core::time::Span;
use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::fake::{Fake, Fault};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/herald/leases";

fn session(node: &str, renewal: u64) -> Session {
    Session {
        node: node.into(),
        node_uid: "node-uid".into(),
        open_for: Some(Incarnation("i1".into())),
        renewal,
        duration: Span::secs(6),
        protocol: PROTOCOL,
        links: vec![],
        leaving: false,
        doubted: false,
        closed: None,
    }
}

fn claim(node: &str, transitions: u32) -> Claim {
    Claim {
        address: "192.0.2.1".parse().expect("an address"),
        holder: Holder { node: node.into(), incarnation: Incarnation("i1".into()) },
        transitions,
        handing_over_to: None,
        contested: false,
    }
}

fn servers() -> Vec<SocketAddr> {
    ["192.0.2.1:6443", "192.0.2.2:6443"].map(|text| text.parse().expect("an address")).to_vec()
}

fn writer(fake: &Fake) -> LeaseWriter {
    LeaseWriter::new(fake.door(), "herald")
}

async fn stored(writer: &LeaseWriter, write: LeaseWrite) -> Version {
    match writer.write(&write).await.outcome {
        WriteOutcome::Stored(Some(version)) => version,
        other => panic!("{write:?} should have been stored: {other:?}"),
    }
}

async fn next(watch: &mut LeaseWatch) -> LeaseEvent {
    let event = timeout(Duration::from_secs(60), watch.events.recv()).await;
    event.expect("an event within a minute").expect("the watch goes on")
}

#[tokio::test(start_paused = true)]
async fn the_watch_begins_with_all_there_is_and_then_shows_each_change_in_its_order() {
    let fake = Fake::new();
    let writer = writer(&fake);
    let first = stored(&writer, LeaseWrite::Session(None, session("n1", 1))).await;
    fake.put(LEASES, json!({ "metadata": { "name": "herald-controller" }, "spec": {} }));
    let (mut watch, task) = watch_leases(&fake.door(), "herald");
    tokio::spawn(task);
    let all = LeaseEvent::Listed(vec![(first.clone(), session("n1", 1))], vec![]);
    assert_eq!(next(&mut watch).await, all);
    let claimed = stored(&writer, LeaseWrite::Claim(None, claim("n1", 0))).await;
    let second = stored(&writer, LeaseWrite::Session(Some(first), session("n1", 2))).await;
    let delete = LeaseWrite::DeleteClaim(claimed.clone(), claim("n1", 0).address);
    assert_eq!(writer.write(&delete).await.outcome, WriteOutcome::Stored(None));
    fake.delete(&format!("{LEASES}/speaker-n1"));
    let expected = [
        LeaseEvent::Claim(claimed, claim("n1", 0)),
        LeaseEvent::Session(second, session("n1", 2)),
        LeaseEvent::ClaimGone(claim("n1", 0).address),
        LeaseEvent::SessionGone(NodeName::from("n1")),
    ];
    for event in expected {
        assert_eq!(next(&mut watch).await, event);
    }
}

#[tokio::test(start_paused = true)]
async fn a_relist_shows_within_the_resend_time_what_a_silent_server_kept_back() {
    let fake = Fake::new();
    let (mut watch, task) = watch_leases(&fake.door(), "herald");
    tokio::spawn(task);
    assert_eq!(next(&mut watch).await, LeaseEvent::Listed(vec![], vec![]));
    tokio::time::sleep(Duration::from_secs(2)).await;
    fake.cut_connections();
    let version = stored(&writer(&fake), LeaseWrite::Session(None, session("n1", 1))).await;
    watch.relist.ask();
    let begun = Instant::now();
    let all = LeaseEvent::Listed(vec![(version.clone(), session("n1", 1))], vec![]);
    assert_eq!(next(&mut watch).await, all);
    assert!(begun.elapsed() <= RESEND + Duration::from_millis(2), "{:?}", begun.elapsed());
    let second = stored(&writer(&fake), LeaseWrite::Session(Some(version), session("n1", 2))).await;
    assert_eq!(next(&mut watch).await, LeaseEvent::Session(second, session("n1", 2)));
}

#[tokio::test(start_paused = true)]
async fn a_relist_goes_at_once_to_where_a_write_was_answered() {
    let fake = Fake::new();
    let door = fake.door();
    let (mut watch, task) = watch_leases(&door, "herald");
    tokio::spawn(task);
    assert_eq!(next(&mut watch).await, LeaseEvent::Listed(vec![], vec![]));
    tokio::time::sleep(Duration::from_secs(2)).await;
    fake.cut_connections();
    let writer = LeaseWriter::new(door, "herald");
    let version = stored(&writer, LeaseWrite::Session(None, session("n1", 1))).await;
    let begun = Instant::now();
    watch.relist.ask();
    let all = LeaseEvent::Listed(vec![(version, session("n1", 1))], vec![]);
    assert_eq!(next(&mut watch).await, all);
    assert!(begun.elapsed() <= Duration::from_millis(2), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_ask_during_a_list_is_kept_and_answered_by_another() {
    let fake = Fake::new();
    let (mut watch, task) = watch_leases(&fake.door(), "herald");
    // Before the task has run at all, its first list is yet to come.
    watch.relist.ask();
    tokio::spawn(task);
    assert_eq!(next(&mut watch).await, LeaseEvent::Listed(vec![], vec![]));
    assert_eq!(next(&mut watch).await, LeaseEvent::Listed(vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_way_of_a_write_is_told_apart() {
    let fake = Fake::new();
    let writer = writer(&fake);
    let created = stored(&writer, LeaseWrite::Session(None, session("n1", 1))).await;
    let replaced =
        stored(&writer, LeaseWrite::Session(Some(created.clone()), session("n1", 2))).await;
    let address = claim("n1", 0).address;
    let elsewhere = Version { uid: "another".into(), ..replaced.clone() };
    let cases = [
        ("exists already", LeaseWrite::Session(None, session("n1", 3))),
        ("an older version", LeaseWrite::Session(Some(created.clone()), session("n1", 3))),
        ("another object", LeaseWrite::Session(Some(elsewhere), session("n1", 3))),
        ("gone", LeaseWrite::Claim(Some(created.clone()), claim("n1", 1))),
        ("gone already", LeaseWrite::DeleteClaim(created, address)),
    ];
    for (case, write) in cases {
        assert_eq!(writer.write(&write).await.outcome, WriteOutcome::Conflict, "{case}");
    }
    for (code, outcome) in [
        (403, WriteOutcome::Refused),
        (429, WriteOutcome::Refused),
        (422, WriteOutcome::Refused),
        (409, WriteOutcome::Conflict),
    ] {
        fake.fault_next_writes([Fault::Code(code)]);
        let write = LeaseWrite::Session(Some(replaced.clone()), session("n1", 3));
        assert_eq!(writer.write(&write).await.outcome, outcome, "{code}");
    }
    let object = fake.object(&format!("{LEASES}/speaker-n1")).expect("it is there");
    assert_eq!(object["metadata"]["annotations"]["heraldlb.io/renewal"], "2");
}

/// A write over nothing under these faults, on connections that are 2 s old: its outcome and how long it took.
async fn under(faults: &[Fault]) -> (Fake, Written) {
    let fake = Fake::new();
    let writer = writer(&fake);
    tokio::time::sleep(Duration::from_secs(2)).await;
    fake.fault_next_writes(faults.iter().copied());
    let written = writer.write(&LeaseWrite::Session(None, session("n1", 1))).await;
    (fake, written)
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_lost_is_sent_again_over_a_fresh_connection() {
    let (fake, written) = under(&[Fault::Lost]).await;
    assert!(matches!(written.outcome, WriteOutcome::Stored(Some(_))), "{written:?}");
    let late = written.took.saturating_sub(RESEND);
    assert!(written.took >= RESEND && late <= Duration::from_millis(2), "{written:?}");
    let clients: Vec<u64> = fake.asked().iter().map(|asked| asked.client).collect();
    assert_eq!(clients, [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_fresh_connection_led_to_a_dead_machine_too_is_sent_to_yet_another_server() {
    let fake = Fake::new();
    let door = fake.door();
    door.know_servers(servers());
    fake.fault_next_writes([Fault::Lost, Fault::Lost]);
    let writer = LeaseWriter::new(door, "herald");
    let written = writer.write(&LeaseWrite::Session(None, session("n1", 1))).await;
    assert!(matches!(written.outcome, WriteOutcome::Stored(Some(_))), "{written:?}");
    let late = written.took.saturating_sub(2 * RESEND);
    assert!(written.took >= 2 * RESEND && late <= Duration::from_millis(4), "{written:?}");
    let clients: Vec<u64> = fake.asked().iter().map(|asked| asked.client).collect();
    assert_eq!(clients, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_list_whose_fresh_connection_led_to_a_dead_machine_too_comes_from_yet_another_server() {
    let (dead, alive) = (Fake::new(), Fake::new());
    let living = alive.clone();
    let open = move |to| match to {
        Some(server) if server == servers()[1] => Ok(living.client()),
        _ => {
            let client = dead.client();
            dead.cut_connections();
            Ok(client)
        }
    };
    let door = Door::opened_by(None, open, || 0).expect("it makes a client");
    door.know_servers(servers());
    let (mut watch, task) = watch_leases(&door, "herald");
    tokio::spawn(task);
    let began = Instant::now();
    assert_eq!(next(&mut watch).await, LeaseEvent::Listed(vec![], vec![]));
    assert!(began.elapsed() < 3 * RESEND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_is_lost_is_unknown_although_the_second_attempt_meets_a_conflict() {
    let (_, written) = under(&[Fault::AnswerLost]).await;
    assert_eq!(written.outcome, WriteOutcome::Unknown);
    assert!(written.took < DEADLINE, "nothing more can be learned by waiting: {written:?}");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_answered_late_is_stored_or_unknown_but_never_a_conflict() {
    let (_, written) = under(&[Fault::AnswerSlow(Duration::from_millis(310))]).await;
    assert!(
        matches!(written.outcome, WriteOutcome::Stored(Some(_)) | WriteOutcome::Unknown),
        "{written:?}"
    );
    // A second attempt that is lost leaves the first one's answer to wait for.
    let slow = Duration::from_millis(800);
    let (_, written) = under(&[Fault::AnswerSlow(slow), Fault::Lost]).await;
    assert!(matches!(written.outcome, WriteOutcome::Stored(Some(_))), "{written:?}");
    assert!(written.took >= slow);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_nobody_answers_is_unknown_at_its_deadline() {
    let (_, written) = under(&[Fault::Lost, Fault::Lost]).await;
    assert_eq!(written.outcome, WriteOutcome::Unknown);
    assert!(written.took >= DEADLINE && written.took < DEADLINE + Duration::from_millis(5));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_leaves_things_open_is_tried_once_more_at_once() {
    let (fake, written) = under(&[Fault::Code(500)]).await;
    assert!(matches!(written.outcome, WriteOutcome::Stored(Some(_))), "{written:?}");
    assert!(written.took < RESEND);
    assert_eq!(fake.asked().len(), 2);
    let (_, written) = under(&[Fault::Code(504), Fault::Code(503)]).await;
    assert_eq!(written.outcome, WriteOutcome::Unknown);
    // A conflict after an open question may be with ourselves.
    let (_, written) = under(&[Fault::Code(500), Fault::Code(409)]).await;
    assert_eq!(written.outcome, WriteOutcome::Unknown);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_sixteen_writes_are_under_way() {
    let fake = Fake::new();
    let writer = writer(&fake);
    let slow = Fault::AnswerSlow(Duration::from_millis(100));
    fake.fault_next_writes(vec![slow; 40]);
    let mut writes = tokio::task::JoinSet::new();
    for n in 0..40 {
        let writer = writer.clone();
        writes.spawn(async move {
            writer.write(&LeaseWrite::Session(None, session(&format!("n{n}"), 1))).await
        });
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(fake.asked().len(), WRITES_IN_FLIGHT);
    while let Some(written) = writes.join_next().await {
        let took = written.expect("no panic").took;
        assert!(took < Duration::from_millis(110), "the wait for others does not count: {took:?}");
    }
    assert_eq!(fake.objects().len(), 40);
}

#[tokio::test(start_paused = true)]
async fn marking_a_claim_for_a_hand_over_keeps_the_time_it_was_taken() {
    let fake = Fake::new();
    let writer = writer(&fake);
    let time = || {
        fake.object(&format!("{LEASES}/vip-192-0-2-1")).expect("it is there")["spec"]["acquireTime"]
            .clone()
    };
    let first = stored(&writer, LeaseWrite::Claim(None, claim("n1", 0))).await;
    let taken = time();
    let marked = Claim { handing_over_to: Some("n2".into()), ..claim("n1", 0) };
    let second = stored(&writer, LeaseWrite::Claim(Some(first), marked)).await;
    assert_eq!(time(), taken);
    stored(&writer, LeaseWrite::Claim(Some(second), claim("n1", 1))).await;
    assert_ne!(time(), taken, "taken anew");
}
