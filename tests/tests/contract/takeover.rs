//! Herald applied over an installed MetalLB: its objects stay readable and whole without its webhook, and its two
//! workloads are replaced where they stand.

use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use herald_tests::lab::Lab;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::{SERVED, manifests};

const METALLB: &str = "metallb-system";
const CRD: &str = "bgppeers.metallb.io";
/// Its objects are deleted first.
const GONE: Duration = Duration::from_secs(30);

/// How an operator brings our CRDs over MetalLB's.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Over what was applied as well, which remembers what to take away.
    Apply,
    /// Over what Helm installed, which does not.
    ApplyOverHelm,
    ServerSideApply,
    Replace,
}

impl Way {
    /// The verbs by which MetalLB's CRD is created, and changed later.
    fn verbs(self) -> [&'static str; 2] {
        match self {
            Self::Apply | Self::ServerSideApply | Self::Replace => ["apply"; 2],
            Self::ApplyOverHelm => ["create", "replace"],
        }
    }

    async fn go(self, lab: &Lab) -> anyhow::Result<()> {
        let crd = manifests("crds/bgppeers.yaml");
        match self {
            Self::Apply | Self::ApplyOverHelm => {
                lab.kubectl(&["apply", "-k", &manifests("overlays/metallb-compat")]).await?;
            }
            Self::ServerSideApply => {
                let apply = ["apply", "--server-side", "--force-conflicts", "-f", &crd];
                // An apply on the server takes away nothing that others wrote, whatever it says itself.
                let refusal =
                    lab.kubectl(&apply).await.err().context("the webhook is MetalLB's")?;
                let words = "should not be set when strategy is not set to Webhook";
                ensure!(refusal.to_string().contains(words), "{refusal:#}");
                let none = r#"{"spec":{"conversion":{"strategy":"None","webhook":null}}}"#;
                lab.kubectl(&["patch", "crd", CRD, "--type=merge", "-p", none]).await?;
                lab.kubectl(&apply).await?;
            }
            Self::Replace => {
                lab.kubectl(&["replace", "-f", &crd]).await?;
            }
        }
        Ok(())
    }
}

/// A version of BGPPeer as a MetalLB has it, later than any we know: it has a field more.
fn version(name: &str, storage: bool) -> Value {
    let text = json!({"type": "string"});
    let number = json!({"type": "integer", "format": "int64"});
    let spec = json!({
        "type": "object",
        "properties": {
            "myASN": number,
            "peerASN": number,
            "peerAddress": text,
            "holdTime": text,
            "passwordSecret": {"type": "object", "properties": {"name": text}},
            "nodeSelectors": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "matchLabels": {"type": "object", "additionalProperties": text},
                },
            }},
            "weather": {"type": "object", "properties": {"wind": number}},
        },
    });
    json!({
        "name": name,
        "served": true,
        "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
    })
}

/// The CRD with these versions.
fn definition(versions: &[Value], conversion: &Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD},
        "spec": {
            "group": "metallb.io",
            "names": {"kind": "BGPPeer", "plural": "bgppeers", "singular": "bgppeer"},
            "scope": "Namespaced",
            "conversion": conversion,
            "versions": versions,
        },
    })
}

/// Two objects, stored in different versions.
fn peers() -> [Value; 2] {
    let peer = |version: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": format!("metallb.io/{version}"),
            "kind": "BGPPeer",
            "metadata": {"name": name, "namespace": METALLB},
            "spec": spec,
        })
    };
    let early = json!({
        "myASN": 64512,
        "peerASN": 4_200_000_000_u32,
        "peerAddress": "198.51.100.1",
        "nodeSelectors": [{"matchLabels": {"rack": "7"}}],
    });
    let late = json!({
        "myASN": 64512,
        "peerASN": 64513,
        "peerAddress": "2001:db8::1",
        "holdTime": "1m30s",
        "passwordSecret": {"name": "upstream"},
        "weather": {"wind": 12},
    });
    [peer("v1beta1", "early", early), peer("v1beta2", "late", late)]
}

/// Runs kubectl's `verb` with `object`: `apply` not on the server's side.
async fn write(lab: &Lab, verb: &str, object: &Value) -> anyhow::Result<()> {
    let path = lab.folder().join("written.json");
    fs::write(&path, object.to_string())?;
    lab.kubectl(&[verb, "-f", &path.to_string_lossy()]).await?;
    Ok(())
}

/// MetalLB's CRD after years: objects of the version that it began with, and a webhook for them that nobody serves now.
async fn install_metallbs_crd(lab: &Lab, [create, change]: [&str; 2]) -> anyhow::Result<()> {
    let [early, late] = peers();
    write(lab, create, &definition(&[version("v1beta1", true)], &json!({"strategy": "None"})))
        .await?;
    let served = async || write(lab, "apply", &early).await;
    lab.await_condition("v1beta1 is served", SERVED, served).await?;
    let service = json!({"namespace": METALLB, "name": "webhook", "path": "/convert"});
    let conversion = json!({
        "strategy": "Webhook",
        "webhook": {
            "conversionReviewVersions": ["v1beta1", "v1beta2"],
            "clientConfig": {"service": service},
        },
    });
    let versions = [version("v1beta1", false), version("v1beta2", true)];
    write(lab, change, &definition(&versions, &conversion)).await?;
    // MetalLB's controller writes this when it runs, not those who install it.
    let authority = fs::read(lab.folder().join("certificates/apiserver.crt"))?;
    let client = json!({"clientConfig": {"caBundle": ByteString(authority)}});
    let patch = json!({"spec": {"conversion": {"webhook": client}}}).to_string();
    lab.kubectl(&["patch", "crd", CRD, "--type=merge", "-p", &patch]).await?;
    let served = async || write(lab, "apply", &late).await;
    lab.await_condition("v1beta2 is served", SERVED, served).await?;
    let unreadable = async || {
        let read = lab.kubectl(&["get", "bgppeers.v1beta2.metallb.io", "-n", METALLB]).await;
        ensure!(read.is_err(), "{read:?}");
        Ok(())
    };
    lab.await_condition("the early object needs the webhook", SERVED, unreadable).await
}

/// Every field of each peer is what it was, under both versions.
async fn nothing_is_lost(lab: &Lab) -> anyhow::Result<()> {
    for version in ["v1beta2", "v1beta1"] {
        for peer in peers() {
            let name = peer["metadata"]["name"].as_str().context("a peer has a name")?;
            let kind = format!("bgppeers.{version}.metallb.io");
            let read = lab.kubectl(&["get", &kind, name, "-n", METALLB, "-o", "json"]).await?;
            let read: Value = serde_json::from_str(&read)?;
            for (field, value) in peer["spec"].as_object().context("a peer has a spec")? {
                ensure!(read["spec"][field] == *value, "{field} of {read}");
            }
        }
    }
    Ok(())
}

async fn goes(lab: &Lab, way: Way) -> anyhow::Result<()> {
    install_metallbs_crd(lab, way.verbs()).await?;
    way.go(lab).await?;
    let readable = async || nothing_is_lost(lab).await;
    lab.await_condition("the objects are readable", SERVED, readable).await?;
    let crd = lab.kubectl(&["get", "crd", CRD, "-o", "json"]).await?;
    let crd: Value = serde_json::from_str(&crd)?;
    ensure!(crd["spec"]["conversion"] == json!({"strategy": "None"}), "{}", crd["spec"]);
    ensure!(crd["status"]["storedVersions"] == json!(["v1beta1", "v1beta2"]), "{}", crd["status"]);
    // An object of the old version is written in the new one.
    let edit = r#"{"spec":{"vrf":"red"}}"#;
    let early = ["patch", "bgppeer", "early", "-n", METALLB, "--type=merge", "-p", edit];
    lab.kubectl(&early).await?;
    nothing_is_lost(lab).await?;
    lab.kubectl(&["delete", "crd", CRD, "--wait=false"]).await?;
    let gone = async || {
        let left = lab.kubectl(&["get", "crd", "-o", "name"]).await?;
        ensure!(!left.contains(CRD), "{left}");
        Ok(())
    };
    lab.await_condition("the CRD is gone", GONE, gone).await
}

/// MetalLB's two workloads, with what they have and Herald's have not.
fn workload(kind: &str, name: &str) -> Value {
    let labels = json!({"app": "metallb", "component": name});
    json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": METALLB, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": name,
                    "containers": [{
                        "name": name,
                        "image": format!("example.org/metallb/{name}"),
                        "env": [{"name": "METALLB_ML_SECRET_NAME", "value": "memberlist"}],
                        "ports": [{"name": "metricshttps", "containerPort": 9120}],
                        "volumeMounts": [{"name": "cert", "mountPath": "/cert"}],
                    }],
                    "volumes": [{"name": "cert", "secret": {"secretName": "cert"}}],
                },
            },
        },
    })
}

const WORKLOADS: [(&str, &str); 2] = [("Deployment", "controller"), ("DaemonSet", "speaker")];

async fn read_workload(lab: &Lab, kind: &str, name: &str) -> anyhow::Result<Value> {
    let read = lab.kubectl(&["get", kind, name, "-n", METALLB, "-o", "json"]).await?;
    Ok(serde_json::from_str(&read)?)
}

async fn takes_over(lab: &Lab) -> anyhow::Result<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": METALLB}});
    write(lab, "apply", &namespace).await?;
    let mut before = Vec::new();
    for (kind, name) in WORKLOADS {
        write(lab, "apply", &workload(kind, name)).await?;
        before.push(read_workload(lab, kind, name).await?);
    }
    goes(lab, Way::Apply).await?;
    for ((kind, name), before) in WORKLOADS.into_iter().zip(before) {
        let after = read_workload(lab, kind, name).await?;
        ensure!(after["metadata"]["uid"] == before["metadata"]["uid"], "{after}");
        let pod = &after["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let image = container["image"].as_str().unwrap_or_default();
        ensure!(image.contains(&format!("herald-{name}")), "{container}");
        ensure!(container["ports"][0]["name"] == "monitoring", "{container}");
        for rest in ["METALLB_ML_SECRET_NAME", "\"cert\""] {
            ensure!(!pod.to_string().contains(rest), "{rest} is left in {pod}");
        }
    }
    goes(lab, Way::ApplyOverHelm).await?;
    goes(lab, Way::ServerSideApply).await?;
    goes(lab, Way::Replace).await
}

#[tokio::test]
async fn herald_over_metallb_loses_nothing_and_needs_no_webhook() -> anyhow::Result<()> {
    Lab::run(1, takes_over).await
}
