//! Writers who are faster, and an API server that is away.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;

use crate::stage::{HEALTHY, SETTLE, Stage, addresses, of};

/// The most that somebody's edits may delay an address.
const ALL_THE_SAME: Duration = Duration::from_secs(10);
/// The most that it may take after the API server is back: the longest wait between two attempts, and then the Lease's.
const BACK_TO_WORK: Duration = Duration::from_secs(15);

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
