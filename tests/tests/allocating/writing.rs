//! How often, and how, Services are written to.

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::history::{History, doubled, times};
use crate::stage::{FROM_POOL, SETTLE, Stage, annotated, of, pool, said};

/// As many as there are letters under way at a time, several times over.
const SERVICES: usize = 100;

/// What one writer owns of a Service, and through which door it wrote.
fn written(service: &Service) -> anyhow::Result<Value> {
    let ours = service
        .managed_fields()
        .iter()
        .filter(|entry| entry.manager.as_deref() == Some("herald-controller"));
    let [entry] = ours.collect::<Vec<_>>()[..] else {
        anyhow::bail!("not one entry: {:?}", service.managed_fields());
    };
    ensure!(entry.subresource.as_deref() == Some("status"), "{entry:?}");
    Ok(entry.fields_v1.as_ref().context("fields")?.0.clone())
}

pub(crate) async fn one_write_for_each(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("lan", of(&["192.168.112.0/24"]))]).await?;
    let history = stage.history().await?;
    let names: Vec<String> = (0..SERVICES).map(|number| format!("s{number}")).collect();
    try_join_all(names.iter().map(|name| stage.ask(name, json!({})))).await?;
    try_join_all(names.iter().map(|name| stage.has_any(name))).await?;
    stage.looks_again(0, 5).await?;
    let versions = history.since(0).await?;
    for name in &names {
        ensure!(times(&versions, name) == 2, "{name} was written {} times", times(&versions, name));
    }
    for version in &versions {
        let from = version.pool.as_deref();
        let together = match version.addresses.len() {
            0 => from.is_none(),
            _ => from == Some("lan"),
        };
        ensure!(together, "addresses and annotation come together, not {version:?}");
    }
    let doubled = doubled(&versions);
    ensure!(doubled.is_empty(), "{doubled:#?}");
    let fields = written(&stage.services.get(&names[0]).await?)?;
    let annotation = &fields["f:metadata"]["f:annotations"]["f:metallb.io/ip-allocated-from-pool"];
    ensure!(annotation.is_object(), "{fields:#}");
    ensure!(fields["f:status"]["f:loadBalancer"]["f:ingress"].is_object(), "{fields:#}");
    ensure!(fields.get("f:spec").is_none(), "{fields:#}");
    Ok(())
}

pub(crate) async fn conditions_of_others_stay(stage: &Stage<'_>) -> anyhow::Result<()> {
    let pools = [("here", of(&["192.168.112.0/28"])), ("there", of(&["192.168.113.0/28"]))];
    stage.configure(&pools).await?;
    stage.ask("audited", json!({})).await?;
    let given = stage.has("audited", &["192.168.112.0"]).await?;
    let ours = given.status.and_then(|status| status.conditions).unwrap_or_default();
    let condition = json!({
        "type": "example.com/Audited",
        "status": "True",
        "reason": "Seen",
        "message": "by somebody else",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let conditions = json!({ "conditions": [ours.first(), condition] });
    let theirs = stage.change_status("audited", conditions).await?;
    stage.stays(&theirs).await?;
    let history = stage.history().await?;
    stage.change("audited", annotated("metallb.io/address-pool", "there")).await?;
    let moved = stage.has("audited", &["192.168.113.0"]).await?;
    ensure!(pool(&moved).as_deref() == Some("there"), "{:?}", pool(&moved));
    stage.unpool("there").await?;
    let cleared = stage.has("audited", &[]).await?;
    ensure!(pool(&cleared).is_none(), "{cleared:?}");
    for service in [theirs, moved, cleared] {
        let conditions = service.status.as_ref().and_then(|status| status.conditions.as_deref());
        let theirs = conditions
            .is_some_and(|all| all.len() == 2 && all.iter().any(|one| one.reason == "Seen"));
        ensure!(theirs, "their condition is gone from {service:#?}");
    }
    // The user's, the move, and the end.
    let versions = history.since(0).await?;
    ensure!(times(&versions, "audited") == 3, "{versions:#?}");
    Ok(())
}

/// What others make of a status or of the annotation is mended, by one write each time, and told to nobody.
pub(crate) async fn what_others_spoil_is_mended(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("lan", of(&["192.168.112.0/28"]))]).await?;
    stage.ask("spoiled", json!({})).await?;
    stage.has("spoiled", &["192.168.112.0"]).await?;
    let history = stage.history().await?;
    let ingress = |entry: Value| json!({ "loadBalancer": { "ingress": [entry] } });
    let statuses = [
        json!({ "ip": "192.168.112.0", "hostname": "lb.example" }),
        json!({ "ip": "192.168.112.0", "ipMode": "Proxy" }),
        json!({ "ip": "192.168.112.0", "ports": [{ "port": 80, "protocol": "TCP" }] }),
    ];
    for (number, entry) in (1..).zip(statuses) {
        stage.change_status("spoiled", ingress(entry)).await?;
        mended(stage, number, &history).await?;
    }
    stage.change_status("spoiled", json!({ "conditions": null })).await?;
    mended(stage, 4, &history).await?;
    for (number, annotation) in [(5, json!(null)), (6, json!("elsewhere"))] {
        let annotations = json!({ "metadata": { "annotations": { FROM_POOL: annotation } } });
        stage.change("spoiled", annotations).await?;
        mended(stage, number, &history).await?;
    }
    let told = ("Normal", "IPAllocated", "Assigned IP [\"192.168.112.0\"]");
    stage.is_told("default", "spoiled", &[told]).await
}

/// Waits until the Service is as it was given, after so many mendings.
async fn mended(stage: &Stage<'_>, number: usize, history: &History) -> anyhow::Result<()> {
    let entry = LoadBalancerIngress {
        ip: Some("192.168.112.0".to_owned()),
        ip_mode: Some("VIP".to_owned()),
        ..LoadBalancerIngress::default()
    };
    let plain = |service: &Service| {
        let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        status.and_then(|status| status.ingress.as_deref()) == Some(std::slice::from_ref(&entry))
            && pool(service).as_deref() == Some("lan")
            && said(service).is_some()
    };
    let what = format!("spoiling {number} is mended");
    let service = stage.sees(&what, SETTLE, "spoiled", plain).await?;
    stage.stays(&service).await?;
    let versions = history.since(0).await?;
    ensure!(times(&versions, "spoiled") == 2 * number, "{versions:#?}");
    Ok(())
}
