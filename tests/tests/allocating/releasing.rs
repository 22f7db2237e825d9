//! Who loses an address, and who keeps it.

use anyhow::ensure;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::history::{doubled, times};
use crate::stage::{FROM_POOL, SETTLE, Stage, addresses, annotated, of, pool, said};

fn no_balancer() -> Value {
    json!({ "spec": { "type": "ClusterIP", "loadBalancerClass": null } })
}

/// Waits until nothing at the Service says that it was ours.
async fn is_let_go(stage: &Stage<'_>, name: &str) -> anyhow::Result<Service> {
    let gone = |service: &Service| {
        addresses(service).is_empty() && pool(service).is_none() && said(service).is_none()
    };
    stage.sees(&format!("{name} is let go"), SETTLE, name, gone).await
}

pub(crate) async fn who_leaves_the_type_lets_go(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("lan", of(&["192.168.112.0/29"]))]).await?;
    let history = stage.history().await?;
    for (name, address) in [("changes", "192.168.112.0"), ("goes", "192.168.112.1")] {
        stage.ask(name, json!({})).await?;
        stage.has(name, &[address]).await?;
    }
    stage.change("changes", no_balancer()).await?;
    let gone = is_let_go(stage, "changes").await?;
    stage.stays(&gone).await?;
    stage.ask("next", json!({})).await?;
    stage.has("next", &["192.168.112.0"]).await?;
    stage.change("changes", json!({ "spec": { "type": "LoadBalancer" } })).await?;
    stage.has("changes", &["192.168.112.2"]).await?;
    stage.delete("goes").await?;
    stage.ask("after", json!({})).await?;
    stage.has("after", &["192.168.112.1"]).await?;
    let versions = history.since(0).await?;
    ensure!(doubled(&versions).is_empty(), "{versions:#?}");
    // Created, given to, changed, let go, changed, given to.
    ensure!(times(&versions, "changes") == 6, "{versions:#?}");
    Ok(())
}

pub(crate) async fn what_changed_while_no_controller_ran(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("lan", of(&["192.168.112.0/29"]))]).await?;
    for (name, address) in
        [("changes", "192.168.112.0"), ("goes", "192.168.112.1"), ("stays", "192.168.112.2")]
    {
        stage.ask(name, json!({})).await?;
        stage.has(name, &[address]).await?;
    }
    let stays = stage.services.get("stays").await?;
    stage.end(0).await?;
    let history = stage.history().await?;
    stage.change("changes", no_balancer()).await?;
    stage.delete("goes").await?;
    for name in ["one", "two", "three"] {
        stage.ask(name, json!({})).await?;
    }
    stage.controller(0)?;
    is_let_go(stage, "changes").await?;
    let mut given = Vec::new();
    for name in ["one", "two", "three"] {
        given.extend(addresses(&stage.has_any(name).await?));
    }
    given.sort();
    // Who of those that came in one second is the older is decided by their UIDs.
    let expected = ["192.168.112.0", "192.168.112.1", "192.168.112.3"];
    ensure!(given.iter().map(ToString::to_string).eq(expected), "{given:?}");
    stage.stays(&stays).await?;
    let versions = history.since(0).await?;
    ensure!(doubled(&versions).is_empty(), "{versions:#?}");
    Ok(())
}

/// What the status of a Service says is adopted before anything is given out; the older keeps what two have.
pub(crate) async fn what_is_in_status_comes_first(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("lan", of(&["192.168.112.0/29"]))]).await?;
    stage.ask("kept", json!({})).await?;
    let kept = stage.has("kept", &["192.168.112.0"]).await?;
    stage.end(0).await?;
    let history = stage.history().await?;
    stage.ask("waits", json!({})).await?;
    let by_hand = json!({ "loadBalancer": { "ingress": [{ "ip": "192.168.112.5" }] } });
    let mut rivals = Vec::new();
    for name in ["younger", "elder"] {
        stage.ask(name, annotated(FROM_POOL, "lan")).await?;
        rivals.push(stage.change_status(name, by_hand.clone()).await?);
    }
    rivals.sort_by_key(|service| (service.creation_timestamp(), service.uid()));
    let [first, second] = &rivals[..] else { anyhow::bail!("two rivals") };
    let mark = history.mark().await?;
    stage.controller(0)?;
    let what = "the younger of two has another address";
    let name = second.name_any();
    let moved = |service: &Service| {
        addresses(service).first().is_some_and(|ip| ip.to_string() != "192.168.112.5")
    };
    let moved = stage.sees(what, SETTLE, &name, moved).await?;
    let waited = stage.has_any("waits").await?;
    let mut given: Vec<_> = [&moved, &waited].iter().flat_map(|one| addresses(one)).collect();
    given.sort();
    let expected = ["192.168.112.1", "192.168.112.2"];
    ensure!(given.iter().map(ToString::to_string).eq(expected), "{given:?}");
    stage.stays(&kept).await?;
    let keeps = stage.services.get(&first.name_any()).await?;
    ensure!(addresses(&keeps) == addresses(first), "{keeps:?}");
    let versions = history.since(mark).await?;
    ensure!(times(&versions, &name) == 1, "{versions:#?}");
    ensure!(doubled(&versions).is_empty(), "{versions:#?}");
    let by = format!("address also in use by default/{}", first.name_any());
    // Events come after what they tell of.
    stage
        .lab
        .await_condition("the younger is told by whom its address is used", SETTLE, async || {
            let told = stage.told_in("default", &name).await?;
            let cleared = told.iter().find(|told| told.reason == "ClearAssignment");
            ensure!(cleared.is_some_and(|cleared| cleared.message.contains(&by)), "{told:#?}");
            Ok(())
        })
        .await
}

/// The API server takes the class from a Service that leaves the type: it must be known again without it.
pub(crate) async fn a_class_is_lost_with_the_type(stage: &Stage<'_>) -> anyhow::Result<()> {
    let class = "example.com/herald";
    stage.configure(&[("lan", of(&["192.168.112.0/29"]))]).await?;
    stage.end(0).await?;
    stage.controller_with(0, &["--lb-class", class])?;
    let plain = stage.ask("plain", json!({})).await?;
    let classed = json!({ "spec": { "loadBalancerClass": class } });
    stage.ask("classed", classed.clone()).await?;
    stage.has("classed", &["192.168.112.0"]).await?;
    stage.change("classed", no_balancer()).await?;
    is_let_go(stage, "classed").await?;
    stage.ask("next", classed).await?;
    let next = stage.has("next", &["192.168.112.0"]).await?;
    stage.stays(&plain).await?;
    stage.end(0).await?;
    stage.controller(0)?;
    let plain = stage.has_any("plain").await?;
    ensure!(addresses(&plain) == addresses(&next), "each class has its own: {plain:?}");
    stage.stays(&next).await
}
