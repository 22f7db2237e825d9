//! Which address a Service gets.

use anyhow::ensure;
use serde_json::{Value, json};

use crate::history::times;
use crate::stage::{FROM_POOL, SETTLE, Stage, addresses, annotated, of, pool, said};

fn stack(policy: &str, families: &[&str]) -> Value {
    json!({ "spec": { "ipFamilyPolicy": policy, "ipFamilies": families } })
}

/// In this order: what is asked for, what is given, and from which pool.
fn asks() -> Vec<(&'static str, Value, &'static [&'static str], &'static str)> {
    let mut both = stack("RequireDualStack", &["IPv4", "IPv6"]);
    both["metadata"] = annotated(
        "metallb.universe.tf/loadBalancerIPs",
        "fd00:99::112:2e, 192.168.112.14",
    )["metadata"]
        .clone();
    vec![
        ("first", json!({}), &["192.168.112.20"], "b-auto"),
        ("second", json!({}), &["192.168.112.21"], "b-auto"),
        ("listed-next", json!({}), &["192.168.112.10"], "b-auto"),
        ("v6", stack("SingleStack", &["IPv6"]), &["fd00:99::112:20"], "b-auto"),
        (
            "dual",
            stack("RequireDualStack", &["IPv4", "IPv6"]),
            &["192.168.112.11", "fd00:99::112:21"],
            "b-auto",
        ),
        (
            "prefers-v6",
            stack("PreferDualStack", &["IPv6", "IPv4"]),
            &["192.168.112.12", "fd00:99::112:22"],
            "b-auto",
        ),
        (
            "by-pool",
            annotated("metallb.io/address-pool", "a-manual"),
            &["192.168.113.0"],
            "a-manual",
        ),
        (
            "by-pool-as-before",
            annotated("metallb.universe.tf/address-pool", "a-manual"),
            &["192.168.113.1"],
            "a-manual",
        ),
        (
            "by-address",
            annotated("metallb.io/loadBalancerIPs", "192.168.112.15"),
            &["192.168.112.15"],
            "b-auto",
        ),
        ("by-addresses", both, &["192.168.112.14", "fd00:99::112:2e"], "b-auto"),
        (
            "by-field",
            json!({ "spec": { "loadBalancerIP": "192.168.113.3" } }),
            &["192.168.113.3"],
            "a-manual",
        ),
        ("last-of-its-pool", json!({}), &["192.168.112.13"], "b-auto"),
        ("careful", json!({}), &["192.168.113.254"], "c-careful"),
        ("no-zero", json!({}), &["192.168.114.1"], "c-careful"),
    ]
}

pub(crate) async fn what_is_asked_for(stage: &Stage<'_>) -> anyhow::Result<()> {
    let auto =
        ["192.168.112.20-192.168.112.21", "192.168.112.10-192.168.112.15", "fd00:99::112:20/124"];
    stage
        .configure(&[
            ("a-manual", json!({ "addresses": ["192.168.113.0/30"], "autoAssign": false })),
            ("b-auto", of(&auto)),
            (
                "c-careful",
                json!({ "addresses": ["192.168.113.254-192.168.114.1"], "avoidBuggyIPs": true }),
            ),
        ])
        .await?;
    for (name, more, expected, from) in asks() {
        stage.ask(name, more).await?;
        let service = stage.has(name, expected).await?;
        ensure!(pool(&service).as_deref() == Some(from), "{name} is from {:?}", pool(&service));
    }
    stage.ask("too-late", json!({})).await?;
    let why = "Failed to allocate IP for \"default/too-late\": no available IPs: \
               pool b-auto has no free IPv4 address, pool c-careful has no free IPv4 address, \
               pool a-manual does not assign automatically";
    stage.is_told("default", "too-late", &[("Warning", "AllocationFailed", why)]).await?;
    let late = stage.services.get("too-late").await?;
    ensure!(addresses(&late).is_empty() && pool(&late).is_none(), "{late:?}");
    let why = why.trim_start_matches("Failed to allocate IP for \"default/too-late\": ");
    ensure!(said(&late) == Some(format!("False NoneAvailable: {why}")), "{late:?}");
    let first = said(&stage.services.get("careful").await?);
    ensure!(first.as_deref() == Some("True Allocated: 192.168.113.254 from pool c-careful"));
    stage.stays(&late).await
}

pub(crate) async fn a_waiter_is_woken(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("few", of(&["192.168.115.7/32"]))]).await?;
    stage.ask("has-it", json!({})).await?;
    stage.has("has-it", &["192.168.115.7"]).await?;
    stage.ask("waits", json!({})).await?;
    let why = "Failed to allocate IP for \"default/waits\": no available IPs: \
               pool few has no free IPv4 address";
    stage.is_told("default", "waits", &[("Warning", "AllocationFailed", why)]).await?;
    stage.delete("has-it").await?;
    stage.has("waits", &["192.168.115.7"]).await?;
    // And one that waits is woken by one that moves away.
    stage.ask("waits-too", json!({})).await?;
    stage.pool("other", of(&["192.168.116.0/30"])).await?;
    stage.has("waits-too", &["192.168.116.0"]).await?;
    stage.change("waits", annotated("metallb.io/address-pool", "other")).await?;
    stage.has("waits", &["192.168.116.1"]).await?;
    stage.ask("third", json!({})).await?;
    stage.has("third", &["192.168.115.7"]).await?;
    Ok(())
}

/// Who prefers two families gets what there is, once, and the other when it is free.
pub(crate) async fn half_of_a_dual_stack(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("few", of(&["192.168.115.7/32", "fd00:99::115:0/126"]))]).await?;
    let history = stage.history().await?;
    stage.ask("one", json!({})).await?;
    stage.has("one", &["192.168.115.7"]).await?;
    stage.ask("prefers", stack("PreferDualStack", &["IPv4", "IPv6"])).await?;
    let half = stage.has("prefers", &["fd00:99::115:0"]).await?;
    stage.ask("requires", stack("RequireDualStack", &["IPv4", "IPv6"])).await?;
    let why = "Failed to allocate IP for \"default/requires\": no available IPs: \
               pool few has no free IPv4 address";
    stage.is_told("default", "requires", &[("Warning", "AllocationFailed", why)]).await?;
    stage.stays(&half).await?;
    let given = ("Normal", "IPAllocated", "Assigned IP [\"fd00:99::115:0\"]");
    let lacking = (
        "Normal",
        "AdditionalAssignFailed",
        "cannot assign additional IP in PreferDualStack: no available IPs in pool few: \
         no IPv4 address is free",
    );
    stage.is_told("default", "prefers", &[given, lacking]).await?;
    stage.delete("one").await?;
    let whole = stage.has("prefers", &["fd00:99::115:0", "192.168.115.7"]).await?;
    stage.stays(&whole).await?;
    let added = ("Normal", "IPAllocated", "Assigned additional IP \"192.168.115.7\"");
    stage.is_told("default", "prefers", &[given, lacking, added]).await?;
    let versions = history.since(0).await?;
    ensure!(times(&versions, "prefers") == 3, "{versions:#?}");
    // As it was asked for, and with what it lacks.
    ensure!(times(&versions, "requires") == 2, "{versions:#?}");
    Ok(())
}

pub(crate) async fn another_class_is_not_touched(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("lan", of(&["192.168.112.0/28"]))]).await?;
    let theirs = json!({
        "metadata": {
            "annotations": { FROM_POOL: "theirs", "metallb.io/address-pool": "lan" },
        },
        "spec": { "loadBalancerClass": "example.com/other" },
    });
    stage.ask("theirs", theirs).await?;
    let status = json!({
        "loadBalancer": { "ingress": [{ "ip": "192.168.112.0" }, { "hostname": "lb.example" }] },
    });
    let theirs = stage.change_status("theirs", status).await?;
    stage.ask("other-type", json!({ "spec": { "type": "NodePort" } })).await?;
    // The watch keeps the order of writes: who gives to this one has seen those.
    stage.ask("ours", json!({})).await?;
    stage.has_any("ours").await?;
    stage.stays(&theirs).await?;
    // Events come some time after.
    stage
        .lab
        .await_condition("ours is told of", SETTLE, async || {
            ensure!(!stage.told_in("default", "ours").await?.is_empty());
            Ok(())
        })
        .await?;
    stage.is_told("default", "theirs", &[]).await?;
    stage.is_told("default", "other-type", &[]).await
}

pub(crate) async fn only_those_who_agree_share(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("lan", of(&["192.168.112.0/28"]))]).await?;
    let shares = |key: &str, port: u16| {
        let mut service = annotated("metallb.io/allow-shared-ip", key);
        service["spec"] = json!({ "ports": [{ "port": port }] });
        service
    };
    let cases = [
        ("alone", json!({}), "192.168.112.0"),
        ("web", shares("us", 80), "192.168.112.1"),
        ("web-tls", shares("us", 443), "192.168.112.1"),
        ("same-port", shares("us", 80), "192.168.112.2"),
        ("others", shares("them", 8080), "192.168.112.3"),
    ];
    for (name, more, expected) in cases {
        stage.ask(name, more).await?;
        stage.has(name, &[expected]).await?;
    }
    let wanted = annotated("metallb.io/loadBalancerIPs", "192.168.112.1");
    stage.ask("no-key", wanted).await?;
    let why = "Failed to allocate IP for \"default/no-key\": can't change sharing key for \
               \"default/no-key\", address also in use by ";
    stage
        .lab
        .await_condition("who asks for what others share is told", SETTLE, async || {
            let told = stage.told_in("default", "no-key").await?;
            ensure!(told.len() == 1 && told[0].message.starts_with(why), "{told:#?}");
            Ok(())
        })
        .await
}
