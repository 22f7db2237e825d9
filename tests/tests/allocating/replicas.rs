//! Two controllers: one works, and the other takes over.

use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use herald_tests::lab::process::Process;
use herald_tests::lab::relay::Fault;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::time::Instant;

use crate::history::doubled;
use crate::stage::{METRICS, READY, SETTLE, SYSTEM, Stage, annotated, of, said};

/// From the death of the leader to an address from the other.
const AFTER_A_CRASH: Duration = Duration::from_secs(5);
/// The same soon after the API server was away, when what it answers is slow to come and is waited for with patience.
const AFTER_AN_OUTAGE: Duration = Duration::from_secs(8);
/// The same when the leader is asked to end.
const AFTER_A_WORD: Duration = Duration::from_secs(1);

/// Which replica leads, by the Lease.
pub(crate) async fn leader(stage: &Stage<'_>) -> anyhow::Result<u8> {
    let leases: Api<Lease> = Api::namespaced(stage.lab.client(), SYSTEM);
    stage
        .lab
        .await_condition("a replica leads", SETTLE, async || {
            let lease = leases.get("herald-controller").await?;
            let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
            let number = holder.strip_prefix("controller-").and_then(|rest| rest.split('_').next());
            let number = number.with_context(|| format!("held by {holder:?}"))?;
            Ok(number.parse()?)
        })
        .await
}

/// Starts a replica, which stands by: another leads.
pub(crate) async fn stands_by(stage: &Stage<'_>, replica: u8) -> anyhow::Result<()> {
    stage.controller(replica)?;
    stage
        .lab
        .await_condition("the standby is ready", SETTLE, async || {
            let (status, text) = stage.reads(replica, READY).await?;
            ensure!(status == 200, "{text}");
            Ok(())
        })
        .await
}

/// Ends the leader so: the other gives an address to a new Service within `limit`, at the second attempt if not at the
/// first. A write that the machine delays has it wait, rightly.
async fn succeeds(
    stage: &Stage<'_>,
    name: &str,
    limit: Duration,
    end: impl Fn(&Process) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let took = succeeded(stage, name, &end).await?;
    if took > limit {
        let again = succeeded(stage, &format!("{name}-again"), &end).await?;
        ensure!(again <= limit, "{name}: {took:?}, then {again:?}");
    }
    Ok(())
}

/// Ends the leader so, and tells after how long the other has given an address to a new Service.
async fn succeeded(
    stage: &Stage<'_>,
    name: &str,
    end: impl FnOnce(&Process) -> anyhow::Result<()>,
) -> anyhow::Result<Duration> {
    let old = leader(stage).await?;
    let process = stage.running(old)?;
    let began = Instant::now();
    end(&process)?;
    stage.ask(name, json!({})).await?;
    stage.has_any(name).await?;
    let took = began.elapsed();
    ensure!(leader(stage).await? != old, "replica {old} is gone");
    let status = process.exited(SETTLE).await?;
    eprintln!("{name}: an address {took:.2?} after, the leader ended with {status}");
    stands_by(stage, old).await?;
    Ok(took)
}

pub(crate) async fn the_other_takes_over(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.controller(0)?;
    stage.leads(0).await?;
    stands_by(stage, 1).await?;
    stage.configure(&[("lan", of(&["192.168.112.0/28"]))]).await?;
    let history = stage.history().await?;
    stage.ask("before", json!({})).await?;
    let before = stage.has("before", &["192.168.112.0"]).await?;
    let (_, text) = stage.reads(1, METRICS).await?;
    ensure!(text.contains("herald_controller_leading 0") && !text.contains("\"lan\""), "{text}");
    succeeds(stage, "after-a-crash", AFTER_A_CRASH, Process::kill).await?;
    succeeds(stage, "after-a-word", AFTER_A_WORD, Process::sigterm).await?;
    let after = stage.services.get("before").await?;
    ensure!(after == before, "{before:#?} became {after:#?}");
    let versions = history.since(0).await?;
    ensure!(doubled(&versions).is_empty(), "{versions:#?}");
    Ok(())
}

/// A pool that broke while both ran serves on, whoever leads; only a new process knows no good version of it.
pub(crate) async fn a_standby_knows_the_last_good_version(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("lan", of(&["192.168.112.0/30"]))]).await?;
    stage.ask("before", json!({})).await?;
    let before = stage.has("before", &["192.168.112.0"]).await?;
    stage.pool("lan", of(&["192.168.112.9-192.168.112.1"])).await?;
    let judged = stage.judged_as("lan", "False", "InvalidAddresses").await?;
    let old = leader(stage).await?;
    stage.end(old).await?;
    stage.ask("after", json!({})).await?;
    stage.has("after", &["192.168.112.1"]).await?;
    let now = stage.judged("lan").await?;
    ensure!(now == judged, "{judged:?} became {now:?}");
    let kept = stage.services.get("before").await?;
    ensure!(kept == before, "{before:?} became {kept:?}");
    stands_by(stage, old).await
}

/// The leader dies soon after the API server was away: the standby may have been the last to find it again.
pub(crate) async fn a_crash_soon_after_an_outage(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("lan", of(&["192.168.112.0/28"]))]).await?;
    let old = leader(stage).await?;
    stage.lab.stop_api()?;
    lead(stage, 0).await?;
    stage.lab.start_api().await?;
    lead(stage, 1).await?;
    let took = succeeded(stage, "after-an-outage", Process::kill).await?;
    ensure!(took <= AFTER_AN_OUTAGE, "{took:?} after a crash; replica {old} led before the outage");
    Ok(())
}

/// Waits until so many replicas lead, as they say themselves.
pub(crate) async fn lead(stage: &Stage<'_>, number: usize) -> anyhow::Result<()> {
    let what = format!("{number} of the replicas lead");
    stage
        .lab
        .await_condition(&what, SETTLE, async || {
            let mut leading = Vec::new();
            for replica in [0, 1] {
                if stage.series(replica, "herald_controller_leading").await? > 0.5 {
                    leading.push(replica);
                }
            }
            ensure!(leading.len() == number, "{leading:?}");
            Ok(())
        })
        .await
}

/// A standby does not know what the leader gave last, because its watch hangs. As leader it asks before it gives.
pub(crate) async fn what_a_hanging_watch_hides_is_not_given_again(
    stage: &Stage<'_>,
) -> anyhow::Result<()> {
    let reserved = |auto| json!({ "addresses": ["192.168.112.7/32"], "autoAssign": auto });
    stage.end(1).await?;
    stage.leads(0).await?;
    stage.configure(&[("lan", reserved(false))]).await?;
    let relay = stage.lab.relay().await?;
    stands_by(stage, 1).await?;
    let history = stage.history().await?;
    stage.ask("waits", json!({})).await?;
    let told = |service: &Service| said(service).is_some();
    stage.sees("it is told that there is nothing", SETTLE, "waits", told).await?;
    let silence = relay.inflict(Fault::Silence, |asked| asked.watch && asked.is_about("services"));
    stage
        .lab
        .await_condition("the standby's watch hangs", SETTLE, async || {
            ensure!(silence.hits() > 0, "it does not");
            Ok(())
        })
        .await?;
    // What it opens anew is as ever; the watch that runs stays silent for good.
    drop(silence);
    stage.ask("granted", annotated("metallb.io/address-pool", "lan")).await?;
    stage.has("granted", &["192.168.112.7"]).await?;
    stage.running(0)?.kill()?;
    // As far as the standby's watches tell, this address is free now, and somebody waits for one.
    stage.pool("lan", reserved(true)).await?;
    stage.leads(1).await?;
    stage.pool("more", of(&["192.168.113.0/32"])).await?;
    stage.has("waits", &["192.168.113.0"]).await?;
    let doubled = doubled(&history.since(0).await?);
    ensure!(doubled.is_empty(), "{doubled:#?}");
    stands_by(stage, 0).await
}

/// What no leader does, a hand can do while none leads.
pub(crate) async fn a_double_is_healed_by_the_next_leader(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("lan", of(&["192.168.112.0/28"]))]).await?;
    stage.ask("older", json!({})).await?;
    let older = stage.has("older", &["192.168.112.0"]).await?;
    // Ages are told apart by the second.
    let created = older.creation_timestamp().context("no time of creation")?.0.as_second();
    stage
        .lab
        .await_condition("another second has begun", SETTLE, async || {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
            ensure!(i64::try_from(now)? > created, "{now}");
            Ok(())
        })
        .await?;
    stage.ask("younger", json!({})).await?;
    stage.has("younger", &["192.168.112.1"]).await?;
    let old = leader(stage).await?;
    stage.end(1 - old).await?;
    stage.end(old).await?;
    let same = json!({ "loadBalancer": { "ingress": [{ "ip": "192.168.112.0" }] } });
    stage.change_status("younger", same).await?;
    stage.controller(0)?;
    stage.has("younger", &["192.168.112.1"]).await?;
    let now = stage.services.get("older").await?;
    ensure!(now == older, "{older:#?} became {now:#?}");
    stage
        .lab
        .await_condition("it is told why", SETTLE, async || {
            let told = stage.told_in("default", "younger").await?;
            let why = told.iter().find(|told| told.reason == "ClearAssignment");
            let why = why.with_context(|| format!("{told:#?}"))?;
            ensure!(why.message.contains("default/older"), "{why:?}");
            Ok(())
        })
        .await?;
    let healed = stage.series(0, "herald_controller_doubles_healed_total").await?;
    ensure!(healed.to_string() == "1", "{healed} doubles are counted as healed");
    stands_by(stage, 1).await
}
