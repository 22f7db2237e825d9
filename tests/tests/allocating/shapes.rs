//! Objects of another shape than Herald's own CRDs let through, and than Kubernetes' own types can read.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, ensure};
use herald_api::crd::{ACCEPTED, Guarded, IPAddressPool};
use herald_tests::lab::http;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use crate::stage::{SETTLE, SYSTEM, Stage, of};

const KINDS: &str = "ipaddresspools.metallb.io";
const KIND: &str = "crd/ipaddresspools.metallb.io";

fn pool(name: &str, spec: &Value) -> String {
    let object = json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": { "name": name, "namespace": SYSTEM },
        "spec": spec,
    });
    object.to_string()
}

/// Waits until the pool's condition says that it cannot be read; that condition and the pool's version.
async fn judged_unreadable(stage: &Stage<'_>, name: &str) -> anyhow::Result<(Condition, String)> {
    let pools: Api<Guarded<IPAddressPool>> = Api::namespaced(stage.lab.client(), SYSTEM);
    let what = format!("{name} is judged to be unreadable");
    stage
        .lab
        .await_condition(&what, SETTLE, async || {
            let pool = pools.get(name).await?;
            ensure!(matches!(pool, Guarded::Unreadable(_)), "it can be read");
            let known = pool.conditions(|_| &[]).iter().find(|one| one.type_ == ACCEPTED);
            let known = known.context("no condition")?;
            let is = known.observed_generation == pool.meta().generation;
            ensure!(is && known.reason == "Unreadable", "{known:?}");
            Ok((known.clone(), pool.resource_version().unwrap_or_default()))
        })
        .await
}

/// Waits until so many IPv4 addresses of a pool that cannot be read are said to be assigned; its version.
async fn counted(stage: &Stage<'_>, name: &str, assigned: u64) -> anyhow::Result<String> {
    let path = "{.status.assignedIPv4} {.metadata.resourceVersion}";
    let get = ["get", KINDS, name, "-n", SYSTEM, "-o", &format!("jsonpath={path}")];
    stage
        .lab
        .await_condition("its counters are told", SETTLE, async || {
            let said = stage.lab.kubectl(&get).await?;
            let (count, version) = said.split_once(' ').context("two words")?;
            ensure!(count == assigned.to_string(), "{said}");
            Ok(version.to_owned())
        })
        .await
}

/// Under a CRD of a laxer schema: a pool that cannot be read is told so, hides no other, and serves on if it did.
pub(crate) async fn what_cannot_be_read_hides_nothing(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("lan", of(&["192.168.112.0/30"]))]).await?;
    stage.ask("before", json!({})).await?;
    let before = stage.has("before", &["192.168.112.0"]).await?;
    let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let path = "/spec/versions/0/schema/openAPIV3Schema";
    let patch = json!([{ "op": "replace", "path": path, "value": anything }]).to_string();
    stage.lab.kubectl(&["patch", KIND, "--type=json", "-p", &patch]).await?;
    let bad = pool("bad", &json!({ "addresses": "192.168.113.0/30" }));
    stage.lab.await_condition("it is taken", SETTLE, async || stage.lab.apply(&bad).await).await?;
    let (condition, _) = judged_unreadable(stage, "bad").await?;
    let why = "cannot be read: invalid type: string \"192.168.113.0/30\", expected a sequence";
    ensure!(condition.message.contains(why), "{}", condition.message);
    // The others are followed on.
    stage.pool("more", of(&["192.168.114.0/30"])).await?;
    stage.judged_as("more", "True", "InForce").await?;
    let broken = json!({ "addresses": ["192.168.112.0/30"], "autoAssign": "yes" });
    stage.lab.apply(&pool("lan", &broken)).await?;
    judged_unreadable(stage, "lan").await?;
    stage.ask("after", json!({})).await?;
    stage.has("after", &["192.168.112.1"]).await?;
    let version = counted(stage, "lan", 2).await?;
    stage.looks_on(0).await?;
    stage.stays(&before).await?;
    // Told once: what its status says is known of an unreadable object too.
    let (_, now) = judged_unreadable(stage, "lan").await?;
    ensure!(now == version, "it was written to again: {version}, {now}");
    stage.lab.kubectl(&["delete", "-n", SYSTEM, KINDS, "--all"]).await?;
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crds");
    stage.lab.kubectl(&["apply", "-k", &crds.to_string_lossy()]).await?;
    Ok(())
}

/// The API server stores conditions of Services without a time, and times that our types cannot read: whoever may write
/// one Service must not keep controller and speakers from seeing the others.
pub(crate) async fn an_odd_service_hides_no_other(stage: &Stage<'_>) -> anyhow::Result<()> {
    const LATE: &str = "9999-12-31T23:59:59Z";
    stage.configure(&[("lan", of(&["192.168.112.0/30"]))]).await?;
    stage.ask("odd", json!({})).await?;
    stage.has("odd", &["192.168.112.0"]).await?;
    let condition = |type_: &str, time: Value| {
        let mut condition =
            json!({ "type": type_, "status": "True", "reason": "R", "message": "" });
        condition["lastTransitionTime"] = time;
        condition
    };
    let bare = json!({ "type": "Bare", "status": "True" });
    let odd = [bare, condition("Null", Value::Null), condition("Late", LATE.into())];
    write_odd(stage, &["--subresource=status"], &json!({ "status": { "conditions": odd } }))
        .await?;
    let hand = json!({
        "manager": "hand", "operation": "Update", "apiVersion": "v1", "time": LATE,
        "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": { "f:ports": {} } },
    });
    write_odd(stage, &[], &json!({ "metadata": { "managedFields": [hand] } })).await?;
    // Seen as it changes, with its own condition put back beside the odd ones.
    stage
        .lab
        .await_condition("the odd one is told what it has", SETTLE, async || {
            let stored = stored_odd(stage).await?;
            let types: Vec<&str> =
                conditions(&stored).filter_map(|one| one["type"].as_str()).collect();
            let all = ["Bare", "Null", "Late", "heraldlb.io/AddressAllocated"];
            ensure!(all.iter().all(|type_| types.contains(type_)), "{types:?}");
            Ok(())
        })
        .await?;
    let stored = stored_odd(stage).await?;
    let read: Result<Service, _> = serde_json::from_value(stored.clone());
    ensure!(read.is_err(), "nothing is odd about it: {stored:#}");
    stage.ask("beside", json!({})).await?;
    stage.has("beside", &["192.168.112.1"]).await?;
    // And in a list.
    stage.end(0).await?;
    stage.controller(0)?;
    stage.ask("after", json!({})).await?;
    stage.has("after", &["192.168.112.2"]).await?;
    let node = &stage.lab.nodes()[0];
    let speaker = stage.lab.start_speaker(node, &[])?;
    stage
        .lab
        .await_condition("a speaker has read everything", SETTLE, async || {
            let ready = SocketAddr::from((Ipv4Addr::LOCALHOST, 17472));
            let ask = async move { http::get(ready, "/readyz", SETTLE).await };
            let answer = node.namespace().spawn(ask).await??;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .await?;
    speaker.sigterm()?;
    speaker.exited(SETTLE).await?;
    stage.lab.kubectl(&["delete", "service", "odd"]).await?;
    Ok(())
}

/// As a merge, because a typed client could not read the answer.
async fn write_odd(stage: &Stage<'_>, flags: &[&str], patch: &Value) -> anyhow::Result<()> {
    let patch = patch.to_string();
    let mut all = vec!["patch", "service", "odd", "--type=merge", "-p", &patch];
    all.extend(flags);
    stage.lab.kubectl(&all).await?;
    Ok(())
}

async fn stored_odd(stage: &Stage<'_>) -> anyhow::Result<Value> {
    let path = "/api/v1/namespaces/default/services/odd";
    Ok(serde_json::from_str(&stage.lab.kubectl(&["get", "--raw", path]).await?)?)
}

fn conditions(service: &Value) -> impl Iterator<Item = &Value> {
    service["status"]["conditions"].as_array().into_iter().flatten()
}
