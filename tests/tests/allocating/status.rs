//! What is reported of the configuration: counters and conditions of pools, and ConfigurationStates.

use std::pin::pin;

use anyhow::{Context, ensure};
use futures::TryStreamExt as _;
use futures::future::try_join_all;
use herald_api::crd::{ConfigurationState, IPAddressPool, IPAddressPoolStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Resource, ResourceExt as _};
use serde_json::json;
use tokio::time::Instant;

use crate::stage::{PACE, SETTLE, SYSTEM, Stage, annotated, of};

/// Services that are created at once.
const BURST: usize = 200;

/// Waits until the pool's status has these counters, `[assigned, available]` of IPv4 and of IPv6.
async fn counts(
    stage: &Stage<'_>,
    pool: &str,
    v4: [i64; 2],
    v6: [i64; 2],
) -> anyhow::Result<IPAddressPoolStatus> {
    let what = format!("{pool} counts {v4:?} and {v6:?}");
    stage
        .lab
        .await_condition(&what, SETTLE, async || {
            let status = stage.pools.get(pool).await?.status.context("no status")?;
            let counters = status.counters().with_context(|| format!("{status:?}"))?;
            let found = [0, 1].map(|at| [counters.assigned[at], counters.available[at]]);
            ensure!(found == [v4, v6], "{found:?}");
            Ok(status)
        })
        .await
}

fn condition<'s>(status: &'s IPAddressPoolStatus, type_: &str) -> anyhow::Result<&'s Condition> {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_);
    found.with_context(|| format!("no {type_} in {status:?}"))
}

pub(crate) async fn counters_are_exact(stage: &Stage<'_>) -> anyhow::Result<()> {
    let addresses = ["192.168.112.0/29", "fd00:99::112:0/125"];
    stage.configure(&[("gold", of(&addresses))]).await?;
    counts(stage, "gold", [0, 8], [0, 8]).await?;
    let shares = |port: u16| {
        json!({
            "metadata": { "annotations": { "metallb.io/allow-shared-ip": "us" } },
            "spec": { "ports": [{ "port": port }] },
        })
    };
    let dual = json!({ "spec": {
        "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
    } });
    let asks = [("plain", json!({})), ("one", shares(80)), ("two", shares(443)), ("dual", dual)];
    for (name, more) in asks {
        stage.ask(name, more).await?;
    }
    counts(stage, "gold", [3, 5], [1, 7]).await?;
    stage.delete("one").await?;
    // It is seen that it went, and the other has the address on.
    stage.looks_again(0, 2).await?;
    counts(stage, "gold", [3, 5], [1, 7]).await?;
    stage.delete("dual").await?;
    stage.delete("two").await?;
    counts(stage, "gold", [1, 7], [0, 8]).await?;
    let spoiled = json!({ "status": { "assignedIPv4": 77, "availableIPv6": -1 } });
    stage
        .pools
        .patch_status("gold", &PatchParams::default(), &Patch::Merge(&spoiled))
        .await
        .context("spoil the counters")?;
    let mended = counts(stage, "gold", [1, 7], [0, 8]).await?;
    ensure!(condition(&mended, "Accepted")?.status == "True", "{mended:?}");
    stage.pool("gold", of(&["192.168.112.0/30"])).await?;
    counts(stage, "gold", [1, 3], [0, 0]).await?;
    let before = stage.pools.get("gold").await?.resource_version();
    stage.looks_on(0).await?;
    ensure!(stage.pools.get("gold").await?.resource_version() == before, "it was written again");
    Ok(())
}

pub(crate) async fn who_is_not_announced_says_so(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.lab.kubectl(&["delete", "l2advertisements", "--all", "-n", SYSTEM]).await?;
    stage.configure(&[("gold", of(&["192.168.112.0/30"]))]).await?;
    let says = async |status: &str, reason: &str| {
        let what = format!("gold is Advertised={status} for {reason}");
        stage
            .lab
            .await_condition(&what, SETTLE, async || {
                let status_now = stage.pools.get("gold").await?.status.unwrap_or_default();
                let found = condition(&status_now, "Advertised")?;
                ensure!(found.status == status && found.reason == reason, "{found:?}");
                Ok(found.message.clone())
            })
            .await
    };
    says("False", "NoAdvertisement").await?;
    let advertisement = |kind: &str| {
        let (api_version, spec) = ("metallb.io/v1beta1", json!({ "ipAddressPools": ["gold"] }));
        let metadata = json!({ "name": "ours", "namespace": SYSTEM });
        json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec })
    };
    stage.lab.apply(&advertisement("BGPAdvertisement").to_string()).await?;
    let message = says("False", "OnlyBGP").await?;
    ensure!(message.contains("BGPAdvertisement ours"), "{message}");
    stage.lab.apply(&advertisement("L2Advertisement").to_string()).await?;
    says("True", "Selected").await?;
    for kind in ["l2advertisements", "bgpadvertisements"] {
        stage.lab.kubectl(&["delete", kind, "ours", "-n", SYSTEM]).await?;
    }
    says("False", "NoAdvertisement").await?;
    Ok(())
}

pub(crate) async fn a_slip_of_the_pen_is_named(stage: &Stage<'_>) -> anyhow::Result<()> {
    let spec = json!({ "addresses": ["192.168.112.0/30"], "avoidBugyIPs": true });
    stage.configure(&[("slip", spec)]).await?;
    let accepted = stage.judged_as("slip", "True", "InForce").await?;
    let words = "spec.avoidBugyIPs: not known to this version, without effect.";
    ensure!(accepted.message == words, "{accepted:?}");
    stage.is_told(SYSTEM, "slip", &[("Warning", "UnknownField", words)]).await
}

/// Waits until the ConfigurationState has that result, and returns it.
async fn state(
    stage: &Stage<'_>,
    states: &Api<ConfigurationState>,
    name: &str,
    result: &str,
) -> anyhow::Result<ConfigurationState> {
    let what = format!("the ConfigurationState {name} is {result}");
    stage
        .lab
        .await_condition(&what, SETTLE, async || {
            let state = states.get(name).await?;
            let found = state.status.clone().unwrap_or_default().result;
            ensure!(found.as_deref() == Some(result), "{found:?}");
            Ok(state)
        })
        .await
}

pub(crate) async fn the_whole_is_judged(stage: &Stage<'_>) -> anyhow::Result<()> {
    let states: Api<ConfigurationState> = Api::namespaced(stage.lab.client(), SYSTEM);
    let node = &stage.lab.nodes()[0];
    let speaker = stage.lab.start_speaker(node, &[])?;
    let name = format!("speaker-{}", node.name());
    stage.configure(&[("good", of(&["192.168.112.0/30"]))]).await?;
    let both = [("controller", "poolReconcilerValid"), (&*name, "configReconcilerValid")];
    for (name, condition) in both {
        let valid = state(stage, &states, name, "Valid").await?;
        let conditions = valid.status.unwrap_or_default().conditions;
        ensure!(conditions.len() == 1 && conditions[0].type_ == condition, "{conditions:?}");
    }
    let labels = states.get(&name).await?.labels().clone();
    ensure!(labels.get("metallb.io/node-name").is_some_and(|of| of == node.name()), "{labels:?}");

    stage.pool("bad", of(&["192.168.113.9-192.168.113.1"])).await?;
    for (name, _) in both {
        let status = state(stage, &states, name, "Invalid").await?.status.unwrap_or_default();
        let words = "IPAddressPool bad: invalid IP range \"192.168.113.9-192.168.113.1\": \
                     it starts after its end. No version of it is in force.";
        ensure!(status.error_summary == words, "{status:?}");
    }
    stage.pool("good", of(&["192.168.112.8/30"])).await?;
    stage.ask("served", json!({})).await?;
    stage.has("served", &["192.168.112.8"]).await?;
    for (name, _) in both {
        states.delete(name, &DeleteParams::default()).await?;
        state(stage, &states, name, "Invalid").await?;
    }
    let spoiled = json!({ "status": { "result": "Valid", "errorSummary": null } });
    states.patch_status("controller", &PatchParams::default(), &Patch::Merge(&spoiled)).await?;
    state(stage, &states, "controller", "Invalid").await?;
    stage.unpool("bad").await?;
    for (name, _) in both {
        let status = state(stage, &states, name, "Valid").await?.status.unwrap_or_default();
        ensure!(status.error_summary.is_empty(), "{status:?}");
    }
    speaker.sigterm()?;
    speaker.exited(SETTLE).await?;
    Ok(())
}

/// Objects of one kind, as anything.
fn all<K: Resource<DynamicType = ()>>(stage: &Stage<'_>) -> Api<DynamicObject> {
    Api::namespaced_with(stage.lab.client(), SYSTEM, &ApiResource::erase::<K>(&()))
}

/// The version of the list of them.
async fn version(all: &Api<DynamicObject>) -> anyhow::Result<String> {
    let list = all.list(&ListParams::default()).await?;
    list.metadata.resource_version.context("a list's version")
}

/// How often any of them was stored since that version.
async fn stored(all: &Api<DynamicObject>, since: &str) -> anyhow::Result<usize> {
    // The server ends it after a second, having told all that it knows.
    let mut watch = pin!(all.watch(&WatchParams::default().timeout(1), since).await?);
    let mut count = 0;
    while let Some(event) = watch.try_next().await? {
        count += usize::from(!matches!(event, WatchEvent::Bookmark(_)));
    }
    Ok(count)
}

pub(crate) async fn a_burst_is_reported_at_a_pace(stage: &Stage<'_>) -> anyhow::Result<()> {
    let states: Api<ConfigurationState> = Api::namespaced(stage.lab.client(), SYSTEM);
    stage.configure(&[("lan", of(&["192.168.112.0/24"]))]).await?;
    counts(stage, "lan", [0, 256], [0, 0]).await?;
    state(stage, &states, "controller", "Valid").await?;
    let (all_pools, all_states) = (all::<IPAddressPool>(stage), all::<ConfigurationState>(stage));
    let (pools_before, states_before) = (version(&all_pools).await?, version(&all_states).await?);
    let began = Instant::now();
    let names: Vec<String> = (0..BURST).map(|number| format!("b{number}")).collect();
    for several in names.chunks(16) {
        try_join_all(several.iter().map(|name| stage.ask(name, json!({})))).await?;
    }
    let taken = i64::try_from(BURST)?;
    counts(stage, "lan", [taken, 256 - taken], [0, 0]).await?;
    // The first goes at once.
    let most = 1 + usize::try_from(began.elapsed().as_millis() / PACE.as_millis())?;
    let writes = stored(&all_pools, &pools_before).await?;
    ensure!((1..=most).contains(&writes), "{writes} writes, in {:?}", began.elapsed());
    eprintln!("{writes} pool writes for {BURST} Services in {:.1?}", began.elapsed());
    ensure!(stored(&all_states, &states_before).await? == 0, "the configuration did not change");
    stage.ask("named", annotated("metallb.io/address-pool", "lan")).await?;
    counts(stage, "lan", [taken + 1, 255 - taken], [0, 0]).await?;
    Ok(())
}
