//! What users write: what MetalLB takes is taken, and kept whole; what it refuses is refused, in its words.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use herald_api::crd::IPAddressPool;
use herald_tests::lab::Lab;
use kube::Api;
use serde_json::{Value, json};

use super::SYSTEM;

/// Kind, spec, and what is said about it.
const REFUSED: [(&str, &str, &str); 40] = [
    ("IPAddressPool", "{addresses: [192.0.2.1]}", "must be a CIDR"),
    ("IPAddressPool", "{addresses: []}", "spec.addresses"),
    (
        "IPAddressPool",
        "{addresses: [192.0.2.0/24], serviceAllocation: {namespaces: [a, b, a]}}",
        "duplicate definition in namespaces field",
    ),
    ("L2Advertisement", "{ipAddressPools: [a, a]}", "duplicate definition in ipAddressPools field"),
    ("L2Advertisement", "{preferredNodeSelectors: [{weight: 101, preference: {}}]}", "weight"),
    ("L2Advertisement", "{preferredNodeSelectors: [{weight: 1}]}", "preference: Required"),
    ("BGPPeer", "{peerASN: 1, peerAddress: 192.0.2.1}", "spec.myASN: Required"),
    ("BGPPeer", "{myASN: 0, peerASN: 1, peerAddress: 192.0.2.1}", "missing local ASN"),
    ("BGPPeer", "{myASN: 4294967296, peerASN: 1, peerAddress: 192.0.2.1}", "spec.myASN"),
    ("BGPPeer", "{myASN: 1, peerAddress: 192.0.2.1}", "missing peer ASN and dynamicASN"),
    (
        "BGPPeer",
        "{myASN: 1, peerASN: 0, peerAddress: 192.0.2.1}",
        "missing peer ASN and dynamicASN",
    ),
    (
        "BGPPeer",
        "{myASN: 1, peerASN: 2, dynamicASN: external, peerAddress: 192.0.2.1}",
        "both peer ASN and dynamicASN specified",
    ),
    (
        "BGPPeer",
        "{myASN: 1, dynamicASN: any, peerAddress: 192.0.2.1}",
        "Unsupported value: \"any\"",
    ),
    ("BGPPeer", "{myASN: 1, peerASN: 2, localASN: 0, peerAddress: 192.0.2.1}", "spec.localASN"),
    (
        "BGPPeer",
        "{myASN: 1, peerASN: 1, ebgpMultiHop: true, peerAddress: 192.0.2.1}",
        "invalid ebgp-multihop parameter set for an ibgp peer",
    ),
    ("BGPPeer", "{myASN: 1, peerASN: 2}", "peer has no Address or Interface specified"),
    (
        "BGPPeer",
        "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, interface: eth0}",
        "peer has both Address and Interface specified",
    ),
    ("BGPPeer", "{myASN: 1, peerASN: 2, peerAddress: router}", "invalid BGPPeer address"),
    (
        "BGPPeer",
        "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, sourceAddress: 192.0.2.0/24}",
        "invalid source IP",
    ),
    (
        "BGPPeer",
        "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, routerID: 2001:db8::1}",
        "invalid router ID",
    ),
    ("BGPPeer", "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, peerPort: 16385}", "spec.peerPort"),
    (
        "BGPPeer",
        "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, holdTime: 2s}",
        "invalid hold time: must be 0 or >=3s",
    ),
    ("BGPPeer", "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, holdTime: soon}", "spec.holdTime"),
    (
        "BGPPeer",
        "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, holdTime: 9s, keepaliveTime: 10s}",
        "invalid keepaliveTime, must be lower than holdTime",
    ),
    (
        "BGPPeer",
        "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, connectTime: 18h13m}",
        "connect time should be between 1 seconds to 65535",
    ),
    (
        "BGPPeer",
        "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, connectTime: 1500ms}",
        "connect time should contain a whole number of seconds",
    ),
    (
        "BGPPeer",
        "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, password: a, passwordSecret: {name: b}}",
        "can not have both password and secret ref set",
    ),
    ("BGPAdvertisement", "{aggregationLength: 33}", "spec.aggregationLength"),
    ("BGPAdvertisement", "{aggregationLength: 0}", "spec.aggregationLength"),
    ("BGPAdvertisement", "{aggregationLengthV6: 129}", "spec.aggregationLengthV6"),
    ("BGPAdvertisement", "{localPref: -1}", "spec.localPref"),
    ("BGPAdvertisement", "{communities: [a, a]}", "duplicate definition of community"),
    ("BGPAdvertisement", "{communities: ['64512:65536']}", "invalid community value"),
    ("BGPAdvertisement", "{communities: ['wide:1:2:3']}", "invalid community value"),
    (
        "BGPAdvertisement",
        "{aggregationLength: 24, serviceSelectors: [{}]}",
        "serviceSelectors and aggregationLength are mutually exclusive",
    ),
    (
        "BGPAdvertisement",
        "{aggregationLengthV6: 64, serviceSelectors: [{}]}",
        "serviceSelectors and aggregationLengthV6 are mutually exclusive",
    ),
    ("BFDProfile", "{receiveInterval: 9}", "spec.receiveInterval"),
    ("BFDProfile", "{detectMultiplier: 256}", "spec.detectMultiplier"),
    ("Community", "{communities: [{name: a, value: 'large:1:2:4294967296'}]}", "invalid community"),
    (
        "Community",
        "{communities: [{name: a, value: '1:2'}, {name: a, value: '1:3'}]}",
        "duplicate definition of community",
    ),
];

/// What is applied to an object that stands there, its spec, and what is said about it, if anything.
const EDITS: [(&str, &str, &str); 4] = [
    ("bgppeer/least", "{enableGracefulRestart: true}", "EnableGracefulRestart cannot be changed"),
    (
        "bgppeer/unnumbered",
        "{enableGracefulRestart: null}",
        "EnableGracefulRestart cannot be chang",
    ),
    ("bgppeer/least", "{enableGracefulRestart: false, vrf: red}", ""),
    ("bgppeer/unnumbered", "{enableGracefulRestart: true, holdTime: 90s}", ""),
];

/// The documents of `api/tests/samples/`.
fn samples() -> anyhow::Result<Vec<Value>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/tests/samples");
    let mut documents = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let text = fs::read_to_string(entry?.path())?;
        documents.extend(serde_saphyr::from_multiple::<Value>(&text)?);
    }
    ensure!(!documents.is_empty(), "{} has no samples", folder.display());
    Ok(documents)
}

/// An error that names what of `wanted` is not in `stored`, or is so otherwise.
fn contains(stored: &Value, wanted: &Value) -> anyhow::Result<()> {
    match (stored, wanted) {
        (Value::Object(stored), Value::Object(wanted)) => {
            for (key, wanted) in wanted {
                let stored = stored.get(key).with_context(|| format!("{key} is missing"))?;
                contains(stored, wanted).with_context(|| key.clone())?;
            }
            Ok(())
        }
        _ if stored == wanted => Ok(()),
        _ => bail!("{stored} is not {wanted}"),
    }
}

/// Applies each sample and reads it back.
pub(super) async fn samples_are_taken_and_kept_whole(lab: &Lab) -> anyhow::Result<()> {
    for sample in samples()? {
        let kind = sample["kind"].as_str().context("a sample has a kind")?;
        let name = sample["metadata"]["name"].as_str().context("a sample has a name")?;
        lab.apply(&sample.to_string()).await.with_context(|| format!("{kind} {name}"))?;
        let read = lab.kubectl(&["get", kind, name, "-n", SYSTEM, "-o", "json"]).await?;
        let stored: Value = serde_json::from_str(&read)?;
        if let Some(spec) = sample.get("spec") {
            contains(&stored["spec"], spec).with_context(|| format!("{kind} {name}: {stored}"))?;
        }
    }
    Ok(())
}

/// Applies what is to be refused.
pub(super) async fn slips_are_refused_in_words_that_scripts_match(lab: &Lab) -> anyhow::Result<()> {
    for (kind, spec, words) in REFUSED {
        let version = if kind == "BGPPeer" { "v1beta2" } else { "v1beta1" };
        let object = json!({
            "apiVersion": format!("metallb.io/{version}"),
            "kind": kind,
            "metadata": {"name": "refused", "namespace": SYSTEM},
            "spec": serde_saphyr::from_str::<Value>(spec)?,
        });
        let answer = lab.apply(&object.to_string()).await;
        let Err(refusal) = answer else { bail!("{kind} {spec} was taken") };
        ensure!(refusal.to_string().contains(words), "{kind} {spec}: {refusal:#}");
    }
    Ok(())
}

/// Edits the samples that stand there.
pub(super) async fn what_cannot_be_changed_is_not(lab: &Lab) -> anyhow::Result<()> {
    for (object, spec, words) in EDITS {
        let patch = json!({"spec": serde_saphyr::from_str::<Value>(spec)?}).to_string();
        let edit = ["patch", object, "-n", SYSTEM, "--type=merge", "-p", &patch];
        let said = lab.kubectl(&edit).await.err().map(|error| error.to_string());
        let said = said.unwrap_or_default();
        ensure!(said.is_empty() == words.is_empty(), "{object} {spec}: {said:?}");
        ensure!(said.contains(words), "{object} {spec}: {said:?}");
    }
    for kind in ["ServiceL2Status", "ServiceBGPStatus"] {
        let report = json!({
            "apiVersion": "metallb.io/v1beta1",
            "kind": kind,
            "metadata": {"name": "report", "namespace": SYSTEM},
        });
        lab.apply(&report.to_string()).await?;
        let write = async |field: &str, value: Value| {
            let patch = json!({"status": {field: value}}).to_string();
            let status = "--subresource=status";
            lab.kubectl(&[
                "patch",
                kind,
                "report",
                "-n",
                SYSTEM,
                status,
                "--type=merge",
                "-p",
                &patch,
            ])
            .await
        };
        for field in ["node", "serviceName", "serviceNamespace"] {
            write(field, "a".into()).await?;
            let refusal = write(field, "b".into()).await.err().map(|error| error.to_string());
            ensure!(refusal.is_some_and(|words| words.contains("Value is immutable")), "{field}");
        }
    }
    Ok(())
}

/// A misspelt field means nothing, which no API server that must keep fields of later versions can say: we do.
pub(super) async fn a_field_that_means_nothing_is_kept_and_named(lab: &Lab) -> anyhow::Result<()> {
    let pool = json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"name": "misspelt", "namespace": SYSTEM},
        "spec": {
            "addresses": ["192.0.2.0/24"],
            "autoAsign": false,
            "serviceAllocation": {"namespace": "a"},
        },
    });
    lab.apply(&pool.to_string()).await?;
    let pools: Api<IPAddressPool> = Api::namespaced(lab.client(), SYSTEM);
    let named = pools.get("misspelt").await?.unknown_fields();
    ensure!(named == ["spec.autoAsign", "spec.serviceAllocation.namespace"], "{named:?}");
    Ok(())
}
