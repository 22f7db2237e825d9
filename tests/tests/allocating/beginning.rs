//! A controller that begins before what it needs is there.

use std::net::IpAddr;
use std::path::Path;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Service;
use serde_json::json;

use crate::stage::{FROM_POOL, HEALTHY, READY, SETTLE, SYSTEM, Stage, addresses, of, pool};

const KIND: &str = "crd/ipaddresspools.metallb.io";

pub(crate) async fn without_the_kinds_it_waits(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.lab.kubectl(&["delete", KIND, "--wait"]).await?;
    stage.controller(0)?;
    let early = stage.ask("early", json!({})).await?;
    stage
        .lab
        .await_condition("it says what it waits for", SETTLE, async || {
            let (status, text) = stage.reads(0, READY).await?;
            let why = "IPAddressPool: not listed yet: \
                       the API server does not know the kind: is its CRD installed?";
            ensure!(status == 503 && text.contains(why), "{status} {text}");
            ensure!(text.contains("[+]Service ok"), "{text}");
            Ok(())
        })
        .await?;
    let (status, text) = stage.reads(0, HEALTHY).await?;
    ensure!(status == 200, "to wait is not to be sick: {text}");
    ensure!(stage.services.get("early").await? == early, "nothing is written before all is known");
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crds");
    stage.lab.kubectl(&["apply", "-k", &crds.to_string_lossy()]).await?;
    stage
        .lab
        .await_condition("the pool is taken", SETTLE, async || {
            stage.pool("lan", of(&["192.168.112.0/29"])).await
        })
        .await?;
    stage.has("early", &["192.168.112.0"]).await?;
    let (status, text) = stage.reads(0, READY).await?;
    ensure!(status == 200, "{text}");
    stage.end(0).await
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
