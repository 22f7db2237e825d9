//! What users are told of their Services: MetalLB's reasons and words, which their scripts match.

use anyhow::ensure;
use serde_json::{Value, json};

use crate::stage::{SETTLE, Stage, annotated, of};

type Words = (&'static str, &'static str, &'static str);

/// What a user does to one Service, one after the other, and what that adds to what is told of it: the pool,
fn other_pools() -> Vec<(Value, &'static [Words])> {
    vec![
        (
            annotated("metallb.io/address-pool", "two"),
            &[
                (
                    "Normal",
                    "ClearAssignment",
                    "current IP for \"default/shop\" not allowed by config, will attempt for new IP assignment: \
                     the service asks for pool two, and its IP is of pool one",
                ),
                ("Normal", "IPAllocated", "Assigned IP [\"192.168.117.1\"]"),
            ],
        ),
        (
            annotated("metallb.io/address-pool", "nowhere"),
            &[
                (
                    "Normal",
                    "ClearAssignment",
                    "current IP for \"default/shop\" not allowed by config, will attempt for new IP assignment: \
                     the service asks for pool nowhere, and its IP is of pool two",
                ),
                (
                    "Warning",
                    "AllocationFailed",
                    "Failed to allocate IP for \"default/shop\": unknown pool \"nowhere\"",
                ),
            ],
        ),
    ]
}

/// and then the addresses that it asks for.
fn other_addresses() -> Vec<(Value, &'static [Words])> {
    vec![
        (
            json!({ "metadata": { "annotations": {
                "metallb.io/address-pool": null,
                "metallb.io/loadBalancerIPs": "192.168.116.300",
            } } }),
            &[(
                "Warning",
                "AllocationFailed",
                "Failed to allocate IP for \"default/shop\": \
                 invalid metallb.io/loadBalancerIPs: \"192.168.116.300\": not an IP address",
            )],
        ),
        (
            json!({ "metadata": { "annotations": {
                "metallb.io/loadBalancerIPs": "192.168.116.2,fd00:99::116:1",
            } } }),
            &[(
                "Warning",
                "AllocationFailed",
                "Failed to allocate IP for \"default/shop\": requested loadBalancer IP(s) \
                 [\"192.168.116.2\" \"fd00:99::116:1\"] does not match the ipFamily of the service: IPv4",
            )],
        ),
        (
            json!({ "metadata": { "annotations": {
                "metallb.io/loadBalancerIPs": null,
                "metallb.universe.tf/loadBalancerIPs": "192.168.116.2",
            } } }),
            &[
                ("Normal", "IPAllocated", "Assigned IP [\"192.168.116.2\"]"),
                (
                    "Warning",
                    "deprecatedAnnotation",
                    "Service uses deprecated annotation metallb.universe.tf/loadBalancerIPs",
                ),
            ],
        ),
        (
            json!({ "spec": { "loadBalancerIP": "192.168.116.1" } }),
            &[(
                "Warning",
                "LoadBalancerFailed",
                "invalid requested loadbalancer IPs: service can not have both \
                 metallb.universe.tf/loadBalancerIPs and svc.Spec.LoadBalancerIP",
            )],
        ),
    ]
}

pub(crate) async fn once_per_change(stage: &Stage<'_>) -> anyhow::Result<()> {
    let two = of(&["192.168.117.1-192.168.117.9", "fd00:99::117:0/126"]);
    stage.configure(&[("one", of(&["192.168.116.1-192.168.116.9"])), ("two", two)]).await?;
    stage.ask("shop", json!({})).await?;
    let mut told: Vec<Words> = vec![("Normal", "IPAllocated", "Assigned IP [\"192.168.116.1\"]")];
    stage.is_told("default", "shop", &told).await?;
    for (change, adds) in other_pools().into_iter().chain(other_addresses()) {
        stage.change("shop", change).await?;
        told.extend(adds);
        stage.is_told("default", "shop", &told).await?;
        stage.looks_again(0, 3).await?;
    }
    // What contradicts itself takes nothing away.
    stage.has("shop", &["192.168.116.2"]).await?;
    stage.is_told("default", "shop", &told).await?;
    again(stage).await
}

/// The same words a second time raise the count of the Event that is there.
async fn again(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.ask("to-and-fro", annotated("metallb.io/address-pool", "one")).await?;
    stage.has("to-and-fro", &["192.168.116.1"]).await?;
    stage.change("to-and-fro", annotated("metallb.io/address-pool", "two")).await?;
    stage.has("to-and-fro", &["192.168.117.1"]).await?;
    stage.change("to-and-fro", annotated("metallb.io/address-pool", "one")).await?;
    stage.has("to-and-fro", &["192.168.116.1"]).await?;
    stage
        .lab
        .await_condition("the first Event counts two", SETTLE, async || {
            let told = stage.told_in("default", "to-and-fro").await?;
            let first = told.iter().find(|one| one.message == "Assigned IP [\"192.168.116.1\"]");
            ensure!(told.len() == 4 && first.is_some_and(|one| one.count == 2), "{told:#?}");
            Ok(())
        })
        .await
}
