//! Objects of another shape than Herald's own CRDs let through.

use std::path::Path;

use anyhow::{Context, ensure};
use herald_api::crd::{ACCEPTED, Guarded, IPAddressPool};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use crate::stage::{SETTLE, SYSTEM, Stage, of};

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
    let (_, version) = judged_unreadable(stage, "lan").await?;
    stage.ask("after", json!({})).await?;
    stage.has("after", &["192.168.112.1"]).await?;
    stage.stays(&before).await?;
    // Told once: what its status says is known of an unreadable object too.
    let (_, now) = judged_unreadable(stage, "lan").await?;
    ensure!(now == version, "it was written to again: {version}, {now}");
    stage.lab.kubectl(&["delete", "-n", SYSTEM, "ipaddresspools", "--all"]).await?;
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crds");
    stage.lab.kubectl(&["apply", "-k", &crds.to_string_lossy()]).await?;
    Ok(())
}
