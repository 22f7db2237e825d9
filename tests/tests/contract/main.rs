//! The contract, as a real API server keeps it: it takes the CRDs and what users write, refuses what is wrong in one
//! object in words that scripts match, and grants each component its rights and no more.
#![forbid(unsafe_code)]

mod rendering;
mod samples;
mod takeover;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use herald_api::crd::{IPAddressPool, IPAddressPoolSpec, L2Advertisement};
use herald_api::parse;
use herald_tests::lab::Lab;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

const SYSTEM: &str = "herald-system";
/// A CRD that was just created is served a moment later.
const SERVED: Duration = Duration::from_secs(20);

/// A file or folder of `manifests/`.
fn manifests(path: &str) -> String {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    manifests.join(path).to_string_lossy().into_owned()
}

#[tokio::test]
async fn the_api_server_keeps_the_contract() -> anyhow::Result<()> {
    Lab::run(1, keeps_the_contract).await
}

async fn keeps_the_contract(lab: &Lab) -> anyhow::Result<()> {
    lab.install().await?;
    lab.await_condition("the CRDs are served", SERVED, async || {
        lab.kubectl(&["apply", "-f", &manifests("examples")]).await
    })
    .await?;
    entries_are_judged_as_parse_does(lab).await?;
    samples::samples_are_taken_and_kept_whole(lab).await?;
    samples::slips_are_refused_in_words_that_scripts_match(lab).await?;
    samples::what_cannot_be_changed_is_not(lab).await?;
    samples::a_field_that_means_nothing_is_kept_and_named(lab).await?;
    advertisements_need_no_spec_and_take_conditions(lab).await?;
    each_component_may_do_what_it_does_and_no_more(lab).await?;
    configuration_has_one_home(lab, SYSTEM).await?;
    lab.kubectl(&["apply", "-k", &manifests("overlays/metallb-system")]).await?;
    configuration_has_one_home(lab, "metallb-system").await?;
    let accounts = lab.kubectl(&["get", "serviceaccounts", "-n", "metallb-system", "-o", "name"]);
    assert!(accounts.await?.contains("serviceaccount/herald-speaker"));
    Ok(())
}

/// A policy is in force a moment after it was written.
async fn configuration_has_one_home(lab: &Lab, home: &str) -> anyhow::Result<()> {
    const KINDS: [(&str, &str, &str); 6] = [
        ("v1beta1", "IPAddressPool", r#"{"addresses": ["192.0.2.0/24"]}"#),
        ("v1beta1", "L2Advertisement", "{}"),
        ("v1beta1", "BGPAdvertisement", "{}"),
        ("v1beta2", "BGPPeer", r#"{"myASN": 1, "peerASN": 2, "interface": "eth0"}"#),
        ("v1beta1", "BFDProfile", "{}"),
        ("v1beta1", "Community", "{}"),
    ];
    let words = format!("resource must be created in {home} namespace");
    for (version, kind, spec) in KINDS {
        let spec: serde_json::Value = serde_json::from_str(spec)?;
        let object = |namespace: &str| {
            json!({
                "apiVersion": format!("metallb.io/{version}"),
                "kind": kind,
                "metadata": {"name": "home", "namespace": namespace},
                "spec": spec,
            })
            .to_string()
        };
        let abroad = lab.folder().join("abroad.json");
        fs::write(&abroad, object("default"))?;
        let create = ["create", "--dry-run=server", "-f", &abroad.to_string_lossy()];
        lab.await_condition("the policy refuses", SERVED, async || {
            let refusal = lab.kubectl(&create).await.err().context("it was taken")?.to_string();
            ensure!(refusal.contains(&words), "{refusal}");
            Ok(())
        })
        .await
        .with_context(|| kind)?;
        lab.apply(&object(home)).await?;
    }
    Ok(())
}

/// The server must refuse nothing that `parse` takes. Of what `parse` refuses it may let through what CEL cannot say.
async fn entries_are_judged_as_parse_does(lab: &Lab) -> anyhow::Result<()> {
    /// Whether the server takes the entries, and whether `parse` does.
    const CASES: [(&[&str], bool, bool); 22] = [
        (&["192.0.2.0/24"], true, true),
        (&["192.0.2.77/24"], true, true),
        (&["192.0.2.7/32", "2001:db8::/120"], true, true),
        (&["2001:DB8:0::1/128"], true, true),
        (&["192.0.2.5-192.0.2.9"], true, true),
        (&["  192.0.2.5 -  192.0.2.9 "], true, true),
        (&["2001:db8::5 - 2001:db8::9"], true, true),
        (&["::/0"], true, true),
        (&["192.0.2.9-192.0.2.5"], true, false),
        (&["192.0.2.0/24", "192.0.2.128/25"], true, false),
        // MetalLB stored such; new ones Kubernetes' own address functions refuse, as it does in a Service's status.
        (&["::ffff:192.0.2.0/120"], false, true),
        (&[], false, false),
        (&["192.0.2.1"], false, false),
        (&["2001:db8::1"], false, false),
        (&[""], false, false),
        (&["-"], false, false),
        (&["192.0.2.1-"], false, false),
        (&["192.0.2.01/24"], false, false),
        (&["192.0.2.0/33"], false, false),
        (&["192.0.2.1-2001:db8::1"], false, false),
        (&["192.0.2.1-192.0.2.3-192.0.2.5"], false, false),
        (&["192.0.2.0/25-192.0.2.200"], false, false),
    ];
    let pools: Api<IPAddressPool> = Api::namespaced(lab.client(), SYSTEM);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    for (entries, server_takes, parse_takes) in CASES {
        let addresses = entries.iter().map(|entry| (*entry).to_owned()).collect();
        let spec = IPAddressPoolSpec { addresses, ..IPAddressPoolSpec::default() };
        let pool = IPAddressPool::new("tried", spec);
        let answer = pools.create(&dry_run, &pool).await;
        ensure!(answer.is_ok() == server_takes, "server on {entries:?}: {answer:?}");
        let (_, offer) = parse::pool::offer(&pool);
        ensure!(offer.says.is_ok() == parse_takes, "parse on {entries:?}: {offer:?}");
    }
    Ok(())
}

async fn advertisements_need_no_spec_and_take_conditions(lab: &Lab) -> anyhow::Result<()> {
    let bare = json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": "L2Advertisement",
        "metadata": {"name": "bare", "namespace": SYSTEM},
    });
    lab.apply(&bare.to_string()).await?;
    let condition = json!({
        "type": "Accepted",
        "status": "True",
        "reason": "InForce",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let advertisements: Api<L2Advertisement> = Api::namespaced(lab.client(), SYSTEM);
    let status = json!({"status": {"conditions": [condition]}});
    advertisements.patch_status("bare", &PatchParams::default(), &Patch::Merge(&status)).await?;
    let read = advertisements.get("bare").await?;
    let conditions = read.status.as_ref().map(|status| status.conditions.len());
    ensure!(conditions == Some(1), "{read:?}");
    ensure!(parse::advertisement::offer(&read).1.says.is_ok(), "{read:?}");

    let twice = json!({"spec": {"ipAddressPools": ["a", "b", "a"]}});
    let answer = advertisements.patch("bare", &PatchParams::default(), &Patch::Merge(&twice)).await;
    let refusal = answer.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(refusal.contains("duplicate definition in ipAddressPools field"), "{refusal:?}");
    Ok(())
}

async fn each_component_may_do_what_it_does_and_no_more(lab: &Lab) -> anyhow::Result<()> {
    /// Who, verb, what, and whether it may.
    const CASES: [(&str, &str, &str, bool); 26] = [
        ("herald-controller", "patch", "services/status", true),
        ("herald-controller", "watch", "namespaces", true),
        ("herald-controller", "patch", "ipaddresspools.metallb.io/status", true),
        ("herald-controller", "watch", "bgpadvertisements.metallb.io", true),
        ("herald-controller", "patch", "configurationstates.metallb.io/controller", true),
        ("herald-controller", "patch", "configurationstates.metallb.io/speaker-node1", false),
        ("herald-controller", "delete", "configurationstates.metallb.io/controller", false),
        ("herald-controller", "update", "leases.coordination.k8s.io/herald-controller", true),
        ("herald-controller", "update", "leases.coordination.k8s.io/speaker-node1", false),
        ("herald-controller", "delete", "leases.coordination.k8s.io/herald-controller", false),
        ("herald-controller", "patch", "services", false),
        ("herald-controller", "list", "nodes", false),
        ("herald-controller", "watch", "endpointslices.discovery.k8s.io/kubernetes", true),
        ("herald-controller", "watch", "endpointslices.discovery.k8s.io", false),
        ("herald-controller", "list", "secrets", false),
        ("herald-speaker", "watch", "endpointslices.discovery.k8s.io", true),
        ("herald-speaker", "watch", "nodes", true),
        ("herald-speaker", "delete", "leases.coordination.k8s.io", true),
        ("herald-speaker", "patch", "configurationstates.metallb.io/status", true),
        ("herald-speaker", "create", "configurationstates.metallb.io", true),
        ("herald-speaker", "delete", "configurationstates.metallb.io", false),
        ("herald-speaker", "patch", "ipaddresspools.metallb.io/status", false),
        ("herald-speaker", "patch", "services/status", false),
        ("herald-speaker", "update", "services", false),
        ("herald-speaker", "patch", "nodes", false),
        ("herald-speaker", "list", "secrets", false),
    ];
    for (account, verb, resource, may) in CASES {
        let user = format!("--as=system:serviceaccount:{SYSTEM}:{account}");
        let mut asked = vec![verb];
        match resource.split_once('/') {
            Some((resource, "status")) => asked.extend([resource, "--subresource=status"]),
            _ => asked.push(resource),
        }
        asked.extend(["-n", SYSTEM, &user]);
        ensure!(lab.can_i(&asked).await? == may, "{account} {verb} {resource}, not {may}");
    }
    Ok(())
}
