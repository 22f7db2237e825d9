//! Two controllers: one works, and the other takes over.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::{try_join, try_join_all};
use herald_tests::lab::process::Process;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;
use tokio::time::Instant;

use crate::history::{doubled, times};
use crate::stage::{METRICS, READY, SETTLE, SYSTEM, Stage, addresses, of};

/// From the death of the leader to an address from the other.
const AFTER_A_CRASH: Duration = Duration::from_secs(5);
/// The same when the leader is asked to end.
const AFTER_A_WORD: Duration = Duration::from_secs(1);
/// Users of the API server at a time, each by a connection of its own.
const USERS: usize = 4;
/// Services that each of them creates.
const SERVICES_EACH: usize = 50;

/// Which replica leads, by the Lease.
async fn leader(stage: &Stage<'_>) -> anyhow::Result<u8> {
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
async fn stands_by(stage: &Stage<'_>, replica: u8) -> anyhow::Result<()> {
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
    let crash = succeeded(stage, "after-a-crash", Process::kill).await?;
    ensure!(crash <= AFTER_A_CRASH, "{crash:?} after a crash");
    let word = succeeded(stage, "after-a-word", Process::sigterm).await?;
    ensure!(word <= AFTER_A_WORD, "{word:?} after a word");
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

/// A client of its own connection.
async fn user(stage: &Stage<'_>) -> anyhow::Result<Api<Service>> {
    let file = Kubeconfig::read_from(stage.lab.kubeconfig()).context("read the kubeconfig")?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Api::default_namespaced(Client::try_from(config)?))
}

/// Creates Services, and deletes each third again, which frees addresses for others.
async fn use_it(
    services: Api<Service>,
    user: usize,
    created: &AtomicUsize,
) -> anyhow::Result<Vec<String>> {
    let mut left = Vec::new();
    for number in 0..SERVICES_EACH {
        let name = format!("u{user}-{number}");
        let service = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
        }))?;
        let told = || format!("create {name}");
        services.create(&PostParams::default(), &service).await.with_context(told)?;
        created.fetch_add(1, Ordering::Relaxed);
        left.push(name);
        if number % 3 == 2 {
            let oldest = left.remove(0);
            services.delete(&oldest, &DeleteParams::default()).await?;
        }
    }
    Ok(left)
}

async fn burst(
    stage: &Stage<'_>,
    end: impl FnOnce(&Process) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let history = stage.history().await?;
    let old = leader(stage).await?;
    let process = stage.running(old)?;
    let created = AtomicUsize::new(0);
    let users = try_join_all(
        (0..USERS).map(async |number| use_it(user(stage).await?, number, &created).await),
    );
    let death = async {
        stage
            .lab
            .await_condition("half of them are created", SETTLE, async || {
                let created = created.load(Ordering::Relaxed);
                ensure!(created >= USERS * SERVICES_EACH / 2, "{created}");
                Ok(())
            })
            .await?;
        end(&process)
    };
    let (left, ()) = try_join(users, death).await?;
    let began = Instant::now();
    stage
        .lab
        .await_condition("all have addresses", SETTLE, async || {
            let all = stage.services.list(&ListParams::default()).await?.items;
            let without = all
                .iter()
                .filter(|one| one.name_any() != "kubernetes" && addresses(one).is_empty());
            let without = without.count();
            ensure!(without == 0, "{without} of {} have none", all.len());
            Ok(())
        })
        .await?;
    let left: Vec<String> = left.into_iter().flatten().collect();
    eprintln!("{} Services, all served {:.2?} after the last", left.len(), began.elapsed());
    let versions = history.since(0).await?;
    let doubled = doubled(&versions);
    ensure!(doubled.is_empty(), "{doubled:#?}");
    for name in &left {
        let times = times(&versions, name);
        ensure!(times == 2, "{name} was stored {times} times");
    }
    process.exited(SETTLE).await?;
    stands_by(stage, old).await?;
    stage.clear().await
}

pub(crate) async fn bursts_survive_a_death_in_their_middle(
    stage: &Stage<'_>,
) -> anyhow::Result<()> {
    stage.configure(&[("lan", of(&["192.168.112.0/24"]))]).await?;
    burst(stage, Process::kill).await?;
    burst(stage, Process::sigterm).await?;
    burst(stage, Process::kill).await
}
