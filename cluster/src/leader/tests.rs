//! Several candidates in one process, against the in-process server, in virtual time.

use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::*;
use crate::fake::{Fake, Fault};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/herald/leases/herald-controller";

struct Replica {
    leadership: Leadership,
    task: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

fn replica(fake: &Fake, identity: &str) -> Replica {
    let candidacy = Candidacy {
        namespace: "herald".to_owned(),
        name: "herald-controller".to_owned(),
        identity: identity.to_owned(),
        timing: Timing::default(),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let (leadership, task) = elect(fake.door(), candidacy, async {
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    Replica { leadership, task: tokio::spawn(task), stop: Some(stop) }
}

impl Replica {
    async fn leads_within(&self, time: Duration) -> Duration {
        let begun = Instant::now();
        timeout(time, self.leadership.gained()).await.expect("it should lead by now");
        assert!(self.leadership.held_now());
        begun.elapsed()
    }
}

fn leaders(replicas: &[Replica]) -> usize {
    replicas.iter().filter(|replica| replica.leadership.held_now()).count()
}

#[tokio::test(start_paused = true)]
async fn of_eight_that_begin_at_once_one_leads_and_the_others_know_who() {
    let fake = Fake::new();
    let replicas: Vec<Replica> = (0..8).map(|n| replica(&fake, &format!("r{n}"))).collect();
    for _ in 0..500 {
        sleep(Duration::from_millis(20)).await;
        assert!(leaders(&replicas) <= 1);
    }
    assert_eq!(leaders(&replicas), 1);
    let holder = fake.object(LEASE).expect("the Lease")["spec"]["holderIdentity"].clone();
    for replica in replicas {
        if let Standing::Standby(leader) = replica.leadership.standing() {
            assert_eq!(json!(leader), holder);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_crashes_is_replaced_within_five_seconds_by_one() {
    let fake = Fake::new();
    let mut replicas: Vec<Replica> = (0..8).map(|n| replica(&fake, &format!("r{n}"))).collect();
    for round in 0..7 {
        sleep(Duration::from_secs(10)).await;
        let leader = replicas.iter().position(|replica| replica.leadership.held_now());
        let leader = replicas.swap_remove(leader.expect("one leads"));
        leader.task.abort();
        let crashed = Instant::now();
        while leaders(&replicas) == 0 {
            assert!(crashed.elapsed() < Duration::from_secs(5), "round {round}");
            sleep(Duration::from_millis(10)).await;
        }
        assert!(!leader.leadership.held_now(), "it led on beside another");
        assert_eq!(leaders(&replicas), 1, "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_hands_over_at_once() {
    let fake = Fake::new();
    let mut first = replica(&fake, "a");
    first.leads_within(Duration::from_secs(1)).await;
    let second = replica(&fake, "b");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(second.leadership.standing(), Standing::Standby(Some("a".to_owned())));
    first.stop.take().expect("not stopped yet").send(()).expect("it runs");
    let took = second.leads_within(Duration::from_secs(1)).await;
    assert!(took < Duration::from_millis(50), "{took:?}");
    timeout(Duration::from_secs(1), first.task).await.expect("it ends").expect("no panic");
    assert!(!first.leadership.held_now());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_has_stopped_before_another_begins() {
    let fake = Fake::new();
    let first = replica(&fake, "a");
    first.leads_within(Duration::from_secs(1)).await;
    let second = replica(&fake, "b");
    sleep(Duration::from_millis(4500)).await;
    // Everything that the first one sends from now on is lost; the second has not written yet.
    let lost = Instant::now();
    fake.fault_next_writes([Fault::Lost; 12]);
    timeout(Duration::from_secs(4), first.leadership.lost()).await.expect("it stops");
    assert!(lost.elapsed() <= Duration::from_millis(3100), "{:?}", lost.elapsed());
    assert!(!second.leadership.held_now() && !first.leadership.held_now());
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_does_not_interrupt_a_leader() {
    let fake = Fake::new();
    let first = replica(&fake, "a");
    first.leads_within(Duration::from_secs(1)).await;
    for _ in 0..5 {
        fake.fault_next_writes([Fault::AnswerLost]);
        for _ in 0..100 {
            sleep(Duration::from_millis(20)).await;
            assert!(first.leadership.held_now());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_deletes_is_made_again() {
    let fake = Fake::new();
    let first = replica(&fake, "a");
    first.leads_within(Duration::from_secs(1)).await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(first.leadership.standing(), Standing::Leading(1));
    fake.delete(LEASE);
    timeout(Duration::from_secs(1), first.leadership.lost()).await.expect("its Lease is gone");
    first.leads_within(Duration::from_secs(1)).await;
    assert_eq!(first.leadership.standing(), Standing::Leading(2));
    assert!(fake.object(LEASE).is_some());
}

/// Waits until the Lease is renewed.
async fn renewed(fake: &Fake) {
    let version = || fake.object(LEASE).expect("the Lease")["metadata"]["resourceVersion"].clone();
    let before = version();
    while version() == before {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_standby_whose_watch_is_dead_replaces_a_crashed_leader_hardly_later() {
    let fake = Fake::new();
    let first = replica(&fake, "a");
    first.leads_within(Duration::from_secs(1)).await;
    let second = replica(&fake, "b");
    sleep(Duration::from_millis(4500)).await;
    renewed(&fake).await;
    sleep(Duration::from_millis(10)).await;
    // The standby has seen this renewal; the next it does not see, and it is the last.
    fake.hang_watches();
    renewed(&fake).await;
    first.task.abort();
    let took = second.leads_within(Duration::from_secs(20)).await;
    assert!(took < Duration::from_millis(4600), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_as_an_outage_ends_is_replaced_as_at_any_other_time() {
    // Some of them end just after an attempt of the standby.
    for tenths in 10..30 {
        let fake = Fake::new();
        let first = replica(&fake, "a");
        first.leads_within(Duration::from_secs(1)).await;
        let second = replica(&fake, "b");
        sleep(Duration::from_millis(4500)).await;
        fake.answer_reads(Some(503));
        fake.compact();
        sleep(Duration::from_millis(100 * tenths)).await;
        first.task.abort();
        fake.answer_reads(None);
        let took = second.leads_within(Duration::from_secs(20)).await;
        assert!(took < Duration::from_millis(4300), "{took:?} after {tenths} tenths of a second");
    }
}
