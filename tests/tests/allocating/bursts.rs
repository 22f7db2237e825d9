//! What befalls the leader while users create and delete Services as fast as they can.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, ensure};
use futures::future::{try_join, try_join_all};
use herald_tests::lab::network::Segment;
use herald_tests::lab::process::Process;
use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;
use tokio::time::Instant;

use crate::history::{doubled, times};
use crate::replicas::{lead, leader, stands_by};
use crate::stage::{SETTLE, Stage, addresses, of};

/// Users of the API server at a time, each by a connection of its own.
const USERS: usize = 4;

/// What befalls the leader in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is killed.
    Death,
    /// It is asked to end.
    Word,
    /// It is stopped, with all that it was about to write, and goes on when another has long led.
    Pause,
    /// Nothing comes through between it and the API server, until another has long led.
    Cut,
}

/// A client of its own connection.
async fn user(stage: &Stage<'_>) -> anyhow::Result<Api<Service>> {
    let file = Kubeconfig::read_from(stage.lab.kubeconfig()).context("read the kubeconfig")?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Api::default_namespaced(Client::try_from(config)?))
}

/// Creates `each` Services, and deletes each third again, which frees addresses for others.
async fn use_it(
    services: Api<Service>,
    user: usize,
    each: usize,
    created: &AtomicUsize,
) -> anyhow::Result<Vec<String>> {
    let mut left = Vec::new();
    for number in 0..each {
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

/// The host of replica `replica` at the lab's switches.
fn host(replica: u8) -> String {
    format!("ctl{replica}")
}

/// A burst in whose middle `fate` befalls replica `old`, which leads. Returns the Services that were not deleted again.
async fn burst(
    stage: &Stage<'_>,
    old: u8,
    leader: &Process,
    (fate, services): (Fate, usize),
) -> anyhow::Result<Vec<String>> {
    let created = AtomicUsize::new(0);
    let each = services / USERS;
    let users = try_join_all(
        (0..USERS).map(async |number| use_it(user(stage).await?, number, each, &created).await),
    );
    let strike = async {
        stage
            .lab
            .await_condition("half of them are created", SETTLE, async || {
                let created = created.load(Ordering::Relaxed);
                ensure!(created >= services / 2, "{created}");
                Ok(())
            })
            .await?;
        match fate {
            Fate::Death => leader.kill(),
            Fate::Word => leader.sigterm(),
            Fate::Pause => leader.stop(),
            Fate::Cut => stage.lab.network().cut(Segment::Management, &host(old)),
        }
    };
    let (left, ()) = try_join(users, strike).await?;
    Ok(left.into_iter().flatten().collect())
}

async fn all_are_served(stage: &Stage<'_>) -> anyhow::Result<()> {
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
        .await
}

/// Nobody has an address twice or is without one, and none was written to but once: what the old leader had in mind came
/// to nothing, also where it came to itself again.
async fn survives(stage: &Stage<'_>, fate: Fate, services: usize) -> anyhow::Result<()> {
    let history = stage.history().await?;
    let old = leader(stage).await?;
    let process = stage.running(old)?;
    let left = burst(stage, old, &process, (fate, services)).await?;
    let began = Instant::now();
    all_are_served(stage).await?;
    eprintln!(
        "{fate:?}: {} Services, all served {:.2?} after the last",
        left.len(),
        began.elapsed()
    );
    ensure!(leader(stage).await? != old, "replica {old} leads");
    match fate {
        Fate::Death | Fate::Word => {
            process.exited(SETTLE).await?;
            stands_by(stage, old).await?;
        }
        Fate::Pause => process.cont()?,
        Fate::Cut => stage.lab.network().heal(Segment::Management, &host(old))?,
    }
    lead(stage, 1).await?;
    stage.ask("last", json!({})).await?;
    stage.has_any("last").await?;
    ensure!(leader(stage).await? != old, "replica {old} leads");
    let versions = history.since(0).await?;
    let doubled = doubled(&versions);
    ensure!(doubled.is_empty(), "{doubled:#?}");
    for name in &left {
        let times = times(&versions, name);
        ensure!(times == 2, "{name} was stored {times} times");
    }
    stage.clear().await
}

/// So many bursts of so many Services, each with one of these fates in its middle, in turn.
pub(crate) async fn are_survived(
    stage: &Stage<'_>,
    fates: &[Fate],
    rounds: usize,
    services: usize,
) -> anyhow::Result<()> {
    stage.configure(&[("lan", of(&["192.168.112.0/24"]))]).await?;
    for (round, fate) in fates.iter().cycle().take(rounds).enumerate() {
        let told = || format!("round {round}: {fate:?}");
        survives(stage, *fate, services).await.with_context(told)?;
    }
    Ok(())
}
