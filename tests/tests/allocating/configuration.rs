//! Pools that break, and pools that go.

use anyhow::{Context, ensure};
use herald_api::crd::L2Advertisement;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::stage::{SETTLE, SYSTEM, Stage, addresses, annotated, of, pool, said};

const STALE: &str = "metallb_k8s_client_config_stale_bool";
const UNTOUCHED: &str = "herald_controller_services_untouched";

/// Waits until a series of the only controller has that value.
async fn shows(stage: &Stage<'_>, series: &str, value: f64) -> anyhow::Result<()> {
    stage
        .lab
        .await_condition(&format!("{series} is {value}"), SETTLE, async || {
            let now = stage.series(0, series).await?;
            ensure!((now - value).abs() < f64::EPSILON, "it is {now}");
            Ok(())
        })
        .await
}

/// What the API server says to that pool; an error when it takes it.
async fn refused(stage: &Stage<'_>, entries: &[&str]) -> anyhow::Result<String> {
    let answer = stage.pool("refused", of(entries)).await;
    let error = answer.err().with_context(|| format!("{entries:?} was taken"))?;
    Ok(format!("{error:#}"))
}

pub(crate) async fn the_last_good_version_stays(stage: &Stage<'_>) -> anyhow::Result<()> {
    let said = refused(stage, &["192.168.112.1"]).await?;
    ensure!(said.contains("must be a CIDR (192.0.2.0/24; a single address as"), "{said}");
    let said = refused(stage, &[]).await?;
    ensure!(said.contains("should have at least 1 items"), "{said}");

    stage.configure(&[("good", of(&["192.168.112.50-192.168.112.51"]))]).await?;
    stage.judged_as("good", "True", "InForce").await?;
    shows(stage, STALE, 0.0).await?;
    stage.ask("a", json!({})).await?;
    let a = stage.has("a", &["192.168.112.50"]).await?;
    stage.pool("later", of(&["192.168.112.48/28"])).await?;
    let overlap = stage.judged_as("later", "False", "Overlap").await?;
    let words = "192.168.112.48-192.168.112.63 overlaps with already defined CIDR \
                 192.168.112.50-192.168.112.51 of pool \"good\". No version of it is in force.";
    ensure!(overlap.message == words, "{overlap:?}");
    stage.is_told(SYSTEM, "later", &[("Warning", "Overlap", words)]).await?;
    shows(stage, STALE, 1.0).await?;

    stage.pool("good", of(&["192.168.112.60-192.168.112.55"])).await?;
    let broken = stage.judged_as("good", "False", "InvalidAddresses").await?;
    let words = "invalid IP range \"192.168.112.60-192.168.112.55\": it starts after its end. \
                 The last good version stays in force.";
    ensure!(broken.message == words, "{broken:?}");
    stage.is_told(SYSTEM, "good", &[("Warning", "InvalidAddresses", words)]).await?;
    stage.ask("b", json!({})).await?;
    stage.has("b", &["192.168.112.51"]).await?;
    stage.stays(&a).await?;

    stage.pool("good", of(&["192.168.112.50-192.168.112.52"])).await?;
    stage.judged_as("good", "True", "InForce").await?;
    stage.ask("c", json!({})).await?;
    stage.has("c", &["192.168.112.52"]).await?;
    stage.unpool("good").await?;
    stage.judged_as("later", "True", "InForce").await?;
    shows(stage, STALE, 0.0).await?;
    renamed(stage, "a", "192.168.112.50").await
}

/// The pool that comes into force has the addresses of the one that went: only the name of the pool changes.
async fn renamed(stage: &Stage<'_>, name: &str, address: &str) -> anyhow::Result<()> {
    let moved = |service: &Service| pool(service).as_deref() == Some("later");
    let service = stage.sees("its pool has another name", SETTLE, name, moved).await?;
    ensure!(addresses(&service) == [address.parse::<std::net::IpAddr>()?], "{service:?}");
    stage.stays(&service).await?;
    let words = format!("Assigned IP [\"{address}\"]");
    stage.is_told("default", name, &[("Normal", "IPAllocated", &words)]).await
}

pub(crate) async fn advertisements_are_judged_too(stage: &Stage<'_>) -> anyhow::Result<()> {
    let advertisement = |operator: &str| {
        json!({
            "apiVersion": "metallb.io/v1beta1",
            "kind": "L2Advertisement",
            "metadata": { "name": "by-node", "namespace": SYSTEM },
            "spec": { "nodeSelectors": [{
                "matchExpressions": [{ "key": "rack", "operator": operator }],
            }] },
        })
        .to_string()
    };
    let advertisements: Api<L2Advertisement> = Api::namespaced(stage.lab.client(), SYSTEM);
    let judged = async |status: &str, message: &str| {
        let what = format!("the advertisement is {status}");
        stage
            .lab
            .await_condition(&what, SETTLE, async || {
                let read = advertisements.get("by-node").await?;
                let conditions = read.status.unwrap_or_default().conditions;
                let fits = |one: &Condition| {
                    (&*one.type_, &*one.status, &*one.message) == ("Accepted", status, message)
                };
                ensure!(conditions.iter().any(fits), "{conditions:?}");
                Ok(())
            })
            .await
    };
    stage.lab.apply(&advertisement("Exists")).await?;
    judged("True", "").await?;
    stage.lab.apply(&advertisement("Near")).await?;
    let words = "invalid label selector 0 in nodeSelectors field: \"Near\" is no operator. \
                 The last good version stays in force.";
    judged("False", words).await?;
    stage.is_told(SYSTEM, "by-node", &[("Warning", "InvalidSelector", words)]).await?;
    shows(stage, STALE, 1.0).await?;
    stage.lab.apply(&advertisement("DoesNotExist")).await?;
    judged("True", "").await?;
    shows(stage, STALE, 0.0).await
}

pub(crate) async fn a_restart_takes_nothing_away(stage: &Stage<'_>) -> anyhow::Result<()> {
    let good = of(&["192.168.112.50-192.168.112.51"]);
    stage.configure(&[("fine", of(&["192.168.113.0/30"])), ("good", good.clone())]).await?;
    stage.ask("a", annotated("metallb.io/address-pool", "good")).await?;
    let a = stage.has("a", &["192.168.112.50"]).await?;
    stage.ask("auto", json!({})).await?;
    let auto = stage.has("auto", &["192.168.113.0"]).await?;
    stage.pool("good", of(&["192.168.112.60-192.168.112.55"])).await?;
    stage.judged_as("good", "False", "InvalidAddresses").await?;
    stage.end(0).await?;
    stage.controller(0)?;
    stage
        .lab
        .await_condition("a new process has no version of it", SETTLE, async || {
            let judged = stage.judged("good").await?;
            ensure!(judged.message.ends_with("No version of it is in force."), "{judged:?}");
            Ok(())
        })
        .await?;
    shows(stage, UNTOUCHED, 1.0).await?;
    let refused = "pool good is not in force";
    let doubts = |service: &Service| said(service).is_some_and(|said| said.contains(refused));
    let doubtful = stage.sees("its pool is not in force", SETTLE, "a", doubts).await?;
    let holds = |service: &Service| (addresses(service), pool(service));
    ensure!(holds(&doubtful) == holds(&a), "{a:?} became {doubtful:?}");
    stage.stays(&doubtful).await?;
    stage.stays(&auto).await?;
    stage.ask("auto-too", json!({})).await?;
    stage.has("auto-too", &["192.168.113.1"]).await?;
    stage.ask("in-need", annotated("metallb.io/address-pool", "good")).await?;
    let why = "Failed to allocate IP for \"default/in-need\": unknown pool \"good\": it is there and not in force: \
               invalid IP range \"192.168.112.60-192.168.112.55\": it starts after its end";
    stage.is_told("default", "in-need", &[("Warning", "AllocationFailed", why)]).await?;
    stage.pool("good", good).await?;
    stage.judged_as("good", "True", "InForce").await?;
    stage.has("in-need", &["192.168.112.51"]).await?;
    shows(stage, UNTOUCHED, 0.0).await?;
    let as_before = |service: &Service| said(service) == said(&a);
    let again = stage.sees("it says what it said", SETTLE, "a", as_before).await?;
    ensure!(holds(&again) == holds(&a), "{a:?} became {again:?}");
    Ok(())
}

pub(crate) async fn pools_that_go_take_their_addresses(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("a", of(&["192.168.112.0/30"])), ("b", of(&["192.168.113.0/30"]))]).await?;
    stage.ask("site", json!({})).await?;
    stage.has("site", &["192.168.112.0"]).await?;
    stage.unpool("a").await?;
    let moved = stage.has("site", &["192.168.113.0"]).await?;
    ensure!(pool(&moved).as_deref() == Some("b"), "{:?}", moved.annotations());
    stage.unpool("b").await?;
    let cleared = stage.has("site", &[]).await?;
    ensure!(pool(&cleared).is_none(), "{:?}", cleared.annotations());
    stage.stays(&cleared).await?;
    let lost = |address: &str| {
        format!(
            "current IP for \"default/site\" not allowed by config, will attempt for new IP \
             assignment: [\"{address}\"] is not allowed in config: no pool holds it"
        )
    };
    let why = "Failed to allocate IP for \"default/site\": no available IPs: no pool is configured";
    let told = [
        ("Normal", "IPAllocated", "Assigned IP [\"192.168.112.0\"]"),
        ("Normal", "ClearAssignment", &lost("192.168.112.0")),
        ("Normal", "IPAllocated", "Assigned IP [\"192.168.113.0\"]"),
        ("Normal", "ClearAssignment", &lost("192.168.113.0")),
        ("Warning", "AllocationFailed", why),
    ];
    stage.is_told("default", "site", &told).await?;
    stage.pool("b", of(&["192.168.113.0/30"])).await?;
    stage.has("site", &["192.168.113.0"]).await?;
    Ok(())
}
