//! A controller that begins before what it needs is there.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use herald_tests::lab::http;
use herald_tests::lab::node::Node;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use serde_json::json;

use crate::stage::{FROM_POOL, HEALTHY, READY, SETTLE, SYSTEM, Stage, addresses, of, pool};

/// What is said of a kind that is not there.
const UNKNOWN: &str = "not listed yet: \
                       the API server does not know the kind: is its CRD installed?";

/// The controller waits for its pools, and goes on by itself.
pub(crate) async fn without_the_kind_of_pools_it_waits(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.lab.kubectl(&["delete", "crd/ipaddresspools.metallb.io", "--wait"]).await?;
    stage.controller(0)?;
    waits_for(stage, "IPAddressPool").await?;
    is_patient(stage).await?;
    install_kinds(stage).await?;
    stage
        .lab
        .await_condition("the pool is taken", SETTLE, async || {
            stage.pool("lan", of(&["192.168.112.0/29"])).await
        })
        .await?;
    stage.has("early", &["192.168.112.0"]).await?;
    is_ready(stage).await?;
    stage.end(0).await
}

/// Whether a pool is announced is a part of the picture too: controller and speaker wait for it, and go on by themselves.
pub(crate) async fn without_the_kind_of_advertisements_all_wait(
    stage: &Stage<'_>,
) -> anyhow::Result<()> {
    stage.pool("lan", of(&["192.168.112.0/29"])).await?;
    stage.lab.kubectl(&["delete", "crd/l2advertisements.metallb.io", "--wait"]).await?;
    stage.controller(0)?;
    let node = &stage.lab.nodes()[0];
    let speaker = stage.lab.start_speaker(node, &[])?;
    waits_for(stage, "L2Advertisement").await?;
    speaker_says(stage, node, 503, &format!("L2Advertisements: {UNKNOWN}")).await?;
    is_patient(stage).await?;
    install_kinds(stage).await?;
    stage.has("early", &["192.168.112.0"]).await?;
    is_ready(stage).await?;
    speaker_says(stage, node, 200, "[+]caches ok").await?;
    ensure!(speaker.status()?.is_none(), "it is the process of before");
    speaker.sigterm()?;
    speaker.exited(SETTLE).await?;
    stage.end(0).await
}

/// Waits until the controller says that it lacks this kind, and only this.
async fn waits_for(stage: &Stage<'_>, kind: &str) -> anyhow::Result<()> {
    stage
        .lab
        .await_condition("it says what it waits for", SETTLE, async || {
            let (status, text) = stage.reads(0, READY).await?;
            let said = text.contains(&format!("{kind}: {UNKNOWN}"));
            ensure!(status == 503 && said, "{status} {text}");
            ensure!(text.contains("[+]Service ok"), "{text}");
            Ok(())
        })
        .await
}

/// A Service comes early, and is seen. The controller is well, and writes nothing to it.
async fn is_patient(stage: &Stage<'_>) -> anyhow::Result<()> {
    let seen = async || stage.series(0, "metallb_k8s_client_updates_total").await;
    let before = seen().await?;
    let early = stage.ask("early", json!({})).await?;
    stage
        .lab
        .await_condition("the Service is seen", SETTLE, async || {
            let now = seen().await?;
            ensure!(now > before, "{now} objects were read");
            Ok(())
        })
        .await?;
    let (status, text) = stage.reads(0, HEALTHY).await?;
    ensure!(status == 200, "to wait is not to be sick: {text}");
    let now = stage.services.get(&early.name_any()).await?;
    ensure!(now == early, "nothing is written before all is known");
    Ok(())
}

async fn is_ready(stage: &Stage<'_>) -> anyhow::Result<()> {
    let (status, text) = stage.reads(0, READY).await?;
    ensure!(status == 200, "{text}");
    Ok(())
}

async fn install_kinds(stage: &Stage<'_>) -> anyhow::Result<()> {
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crds");
    stage.lab.kubectl(&["apply", "-k", &crds.to_string_lossy()]).await?;
    Ok(())
}

/// Waits until the speaker of `node` answers so to who asks whether it is ready.
async fn speaker_says(
    stage: &Stage<'_>,
    node: &Node,
    status: u16,
    words: &str,
) -> anyhow::Result<()> {
    let what = format!("the speaker says {words:?}");
    let (port, path) = READY;
    let server = SocketAddr::from(([127, 0, 0, 1], port));
    stage
        .lab
        .await_condition(&what, SETTLE, async || {
            let get = http::get(server, path, Duration::from_secs(1));
            let answer = node.namespace().spawn(get).await??;
            let said = answer.status == status && answer.body.contains(words);
            ensure!(said, "{answer:?}");
            Ok(())
        })
        .await
}

/// A fresh installation in another namespace than that of the pools must not wipe a cluster's addresses.
pub(crate) async fn without_any_pool_nothing_is_cleared(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[]).await?;
    stage
        .ask("served", json!({ "metadata": { "annotations": { FROM_POOL: "elsewhere" } } }))
        .await?;
    let ingress = json!([{ "ip": "203.0.113.7" }]);
    let status = json!({ "loadBalancer": { "ingress": ingress } });
    let served = stage.change_status("served", status).await?;
    stage.controller(0)?;
    stage.leads(0).await?;
    stage.ask("new", json!({})).await?;
    let why = "Failed to allocate IP for \"default/new\": no available IPs: no pool is configured";
    stage.is_told("default", "new", &[("Warning", "AllocationFailed", why)]).await?;
    stage.stays(&served).await?;
    let words = "no IPAddressPool has been seen yet in namespace herald-system: what Services have \
                 stays (1 of them), until there is a pool; then each loses what lies in none";
    stage.is_told(SYSTEM, "herald-controller", &[("Warning", "NoPools", words)]).await?;
    // From the first pool on, it is as with MetalLB.
    stage.pool("lan", of(&["192.168.112.0/29"])).await?;
    let held = |service: &Service| !addresses(service).contains(&IpAddr::from([203, 0, 113, 7]));
    let cleared = stage.sees("it loses what no pool holds", SETTLE, "served", held).await?;
    ensure!(pool(&cleared).as_deref() == Some("lan"), "{cleared:?}");
    stage.has_any("new").await?;
    Ok(())
}
