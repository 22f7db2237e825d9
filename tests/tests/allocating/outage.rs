//! Writers who are faster, and an API server that is away.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;

use crate::history::{doubled, times};
use crate::stage::{HEALTHY, SETTLE, Stage, addresses, of};

/// The most that somebody's edits may delay an address.
const ALL_THE_SAME: Duration = Duration::from_secs(10);
/// The most that it may take after the API server is back: the longest wait between two attempts, and then the Lease's.
const BACK_TO_WORK: Duration = Duration::from_secs(15);
/// Services that wait when a controller starts: more than are written at a time.
const BURST: usize = 150;

/// Edits the Service as fast as the API server takes it, and counts.
async fn edit(services: Api<Service>, name: &str) -> anyhow::Result<()> {
    for edits in 0_u64.. {
        let patch =
            json!({ "metadata": { "annotations": { "example.com/edits": edits.to_string() } } });
        services.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    Ok(())
}

fn edits(service: &Service) -> u64 {
    let annotations = service.metadata.annotations.as_ref();
    let edits = annotations.and_then(|all| all.get("example.com/edits")?.parse().ok());
    edits.unwrap_or_default()
}

pub(crate) async fn a_service_that_is_edited_all_the_time(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("lan", of(&["192.168.112.7/32"]))]).await?;
    stage.ask("has-it", json!({})).await?;
    stage.has("has-it", &["192.168.112.7"]).await?;
    stage.ask("edited", json!({})).await?;
    let story = async {
        let many = |service: &Service| edits(service) > 20;
        let before = stage.sees("it is edited", SETTLE, "edited", many).await?;
        stage.delete("has-it").await?;
        let began = Instant::now();
        let served = stage.has_within("edited", &["192.168.112.7"], ALL_THE_SAME).await?;
        let (took, between) = (began.elapsed(), edits(&served) - edits(&before));
        eprintln!("an address after {took:.2?} and {between} edits");
        ensure!(between > 0, "nobody edited it meanwhile");
        anyhow::Ok(())
    };
    tokio::select! {
        ended = edit(stage.services.clone(), "edited") => ended.context("the editor"),
        told = story => told,
    }
}

/// Waits until the controller has given up its Lease, as its renewals have no answer; it is not sick.
async fn stands_down(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage
        .lab
        .await_condition("it leads no more", SETTLE, async || {
            let leading = stage.series(0, "herald_controller_leading").await?;
            ensure!(leading < 0.5, "it leads");
            Ok(())
        })
        .await?;
    let (status, text) = stage.reads(0, HEALTHY).await?;
    ensure!(status == 200, "an outage is no sickness: {text}");
    Ok(())
}

/// The store stands still in the middle of a burst: writes are under way whose end nobody tells.
pub(crate) async fn writes_whose_answers_are_lost(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("lan", of(&["192.168.112.0/24"]))]).await?;
    let history = stage.history().await?;
    let names: Vec<String> = (0..BURST).map(|number| format!("s{number}")).collect();
    stage.end(0).await?;
    try_join_all(names.iter().map(|name| stage.ask(name, json!({})))).await?;
    stage.controller(0)?;
    stage
        .lab
        .await_condition("some have addresses", SETTLE, async || {
            let served =
                history.seen().iter().filter(|version| !version.addresses.is_empty()).count();
            ensure!(served > 0, "none");
            Ok(())
        })
        .await?;
    let etcd = stage.lab.control_plane().etcd();
    etcd.stop()?;
    let served = history.seen().iter().filter(|version| !version.addresses.is_empty()).count();
    let down = stands_down(stage).await;
    etcd.cont()?;
    down?;
    try_join_all(names.iter().map(|name| stage.has_any(name))).await?;
    eprintln!("{served} of {BURST} were served when the store stood still");
    ensure!(served < BURST, "the burst was over before");
    let versions = history.since(0).await?;
    let doubled = doubled(&versions);
    ensure!(doubled.is_empty(), "{doubled:#?}");
    for name in &names {
        ensure!(times(&versions, name) == 2, "{name} was stored {} times", times(&versions, name));
    }
    Ok(())
}

pub(crate) async fn an_absent_api_server_is_outlived(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("lan", of(&["192.168.112.0/28"]))]).await?;
    stage.ask("before", json!({})).await?;
    let before = stage.has("before", &["192.168.112.0"]).await?;
    let process = stage.running(0)?;

    stage.ask("at-the-pause", json!({})).await?;
    stage.lab.pause_api()?;
    stands_down(stage).await?;
    stage.lab.resume_api()?;
    let began = Instant::now();
    stage.has_within("at-the-pause", &["192.168.112.1"], BACK_TO_WORK).await?;
    stage.ask("after-the-pause", json!({})).await?;
    stage.has_within("after-the-pause", &["192.168.112.2"], BACK_TO_WORK).await?;
    eprintln!("served {:.2?} after the pause", began.elapsed());

    stage.ask("at-the-stop", json!({})).await?;
    stage.lab.stop_api()?;
    stands_down(stage).await?;
    stage.lab.start_api().await?;
    let began = Instant::now();
    stage.has_within("at-the-stop", &["192.168.112.3"], BACK_TO_WORK).await?;
    stage.ask("after-the-stop", json!({})).await?;
    stage.has_within("after-the-stop", &["192.168.112.4"], BACK_TO_WORK).await?;
    eprintln!("served {:.2?} after the start", began.elapsed());

    ensure!(process.status()?.is_none(), "it is the process of before");
    let after = stage.services.get("before").await?;
    ensure!(addresses(&after) == addresses(&before), "{before:?} became {after:?}");
    stage.stays(&after).await
}
