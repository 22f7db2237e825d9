//! Everything in `manifests/` is what Kubernetes takes it for: no misspelt field, no orphan, no missing file. And what users
//! of MetalLB write, of which `samples/` has some of every kind, our types understand in full.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use herald_api::crd::{
    BFDProfile, BGPAdvertisement, BGPPeer, Community, IPAddressPool, L2Advertisement,
};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Namespace, Secret, Service, ServiceAccount};
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

/// What users of MetalLB write.
fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples")
}

/// Every YAML file under `folder`, sorted.
fn files(folder: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.append(&mut files(&path)?);
        } else {
            ensure!(path.extension().is_some_and(|e| e == "yaml"), "{} is no YAML", path.display());
            found.insert(path);
        }
    }
    Ok(found)
}

fn is_kustomization(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "kustomization.yaml")
}

fn documents(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = fs::read_to_string(path)?;
    serde_saphyr::from_multiple(&text).with_context(|| format!("parsing {}", path.display()))
}

/// Where `written` has something that `understood` lacks or has otherwise.
fn lost(written: &Value, understood: &Value, at: &str) -> Option<String> {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            written.iter().find_map(|(key, value)| match understood.get(key) {
                Some(other) => lost(value, other, &format!("{at}.{key}")),
                // What is named as absent or empty may be absent.
                None => (!value.is_null() && value != "").then(|| format!("{at}.{key}")),
            })
        }
        (Value::Array(written), Value::Array(understood)) if written.len() == understood.len() => {
            let mut pairs = written.iter().zip(understood).enumerate();
            pairs.find_map(|(i, (value, other))| lost(value, other, &format!("{at}[{i}]")))
        }
        _ => (written != understood).then(|| at.to_owned()),
    }
}

/// Reads `document` as a `T` and writes it again: what is missing then was never a field of `T`.
fn read_as<T: DeserializeOwned + Serialize>(document: &Value) -> anyhow::Result<()> {
    let object: T = serde_json::from_value(document.clone())?;
    match lost(document, &serde_json::to_value(&object)?, "") {
        None => Ok(()),
        Some(field) => bail!("{field} means nothing"),
    }
}

/// Our kinds keep what they do not know, and name it.
fn knows(unknown: &[String]) -> anyhow::Result<()> {
    ensure!(unknown.is_empty(), "{} means nothing", unknown.join(", "));
    Ok(())
}

/// Kinds of Kubernetes and ours are checked field by field. The Prometheus operator's are its own.
fn check(document: &Value) -> anyhow::Result<()> {
    let kind = format!("{} {}", document["apiVersion"], document["kind"]).replace('"', "");
    match kind.as_str() {
        "v1 Namespace" => read_as::<Namespace>(document),
        "v1 Service" => read_as::<Service>(document),
        "v1 ServiceAccount" => read_as::<ServiceAccount>(document),
        "v1 Secret" => read_as::<Secret>(document),
        "apps/v1 Deployment" => read_as::<Deployment>(document),
        "apps/v1 DaemonSet" => read_as::<DaemonSet>(document),
        "rbac.authorization.k8s.io/v1 Role" => read_as::<Role>(document),
        "rbac.authorization.k8s.io/v1 RoleBinding" => read_as::<RoleBinding>(document),
        "rbac.authorization.k8s.io/v1 ClusterRole" => read_as::<ClusterRole>(document),
        "rbac.authorization.k8s.io/v1 ClusterRoleBinding" => {
            read_as::<ClusterRoleBinding>(document)
        }
        "flowcontrol.apiserver.k8s.io/v1 FlowSchema" => read_as::<FlowSchema>(document),
        "admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy" => {
            read_as::<ValidatingAdmissionPolicy>(document)
        }
        "admissionregistration.k8s.io/v1 ValidatingAdmissionPolicyBinding" => {
            read_as::<ValidatingAdmissionPolicyBinding>(document)
        }
        "apiextensions.k8s.io/v1 CustomResourceDefinition" => {
            read_as::<CustomResourceDefinition>(document)
        }
        _ if kind.starts_with("metallb.io/") => check_ours(document),
        "monitoring.coreos.com/v1 PodMonitor" => Ok(()),
        _ => bail!("no check for {kind}"),
    }
}

/// Kinds of `metallb.io`. BGPPeer has the same fields under both its versions.
fn check_ours(document: &Value) -> anyhow::Result<()> {
    match document["kind"].as_str() {
        Some("IPAddressPool") => {
            knows(&IPAddressPool::deserialize(document)?.unknown_fields())?;
            read_as::<IPAddressPool>(document)
        }
        Some("L2Advertisement") => {
            knows(&L2Advertisement::deserialize(document)?.unknown_fields())?;
            read_as::<L2Advertisement>(document)
        }
        Some("BGPPeer") => {
            let mut document = document.clone();
            document["apiVersion"] = "metallb.io/v1beta2".into();
            read_as::<BGPPeer>(&document)
        }
        Some("BGPAdvertisement") => read_as::<BGPAdvertisement>(document),
        Some("BFDProfile") => read_as::<BFDProfile>(document),
        Some("Community") => read_as::<Community>(document),
        kind => bail!("no check for {kind:?}"),
    }
}

#[test]
fn every_field_of_every_object_means_something() -> anyhow::Result<()> {
    let all = files(&folder())?.into_iter().chain(files(&samples())?);
    for path in all.filter(|path| !is_kustomization(path)) {
        for document in documents(&path)? {
            check(&document)
                .with_context(|| format!("{} of {}", document["kind"], path.display()))?;
        }
    }
    Ok(())
}

#[test]
fn every_example_pool_and_advertisement_is_in_force_at_once() -> anyhow::Result<()> {
    let mut offers = herald_core::config::Offers::default();
    for path in files(&folder().join("examples"))? {
        for document in documents(&path)? {
            match document["kind"].as_str() {
                Some("IPAddressPool") => {
                    let object = serde_json::from_value(document)?;
                    offers.pools.extend([herald_api::parse::pool::offer(&object)]);
                }
                Some("L2Advertisement") => {
                    let object = serde_json::from_value(document)?;
                    offers
                        .advertisements
                        .extend([herald_api::parse::advertisement::offer(&object)]);
                }
                _ => {}
            }
        }
    }
    let (configuration, problems) =
        herald_core::config::settle(&herald_core::config::Configuration::default(), &offers);
    assert!(problems.is_empty(), "{problems:?}");
    assert!(!configuration.pools().is_empty() && !configuration.advertisements().is_empty());
    // One for all pools would take the restrictions from those beside it.
    assert!(configuration.advertisements().values().all(|of| !of.pools.is_empty()));
    Ok(())
}

#[test]
fn nothing_is_wrong_with_any_sample() -> anyhow::Result<()> {
    let mut seen = 0;
    for path in files(&samples())? {
        for document in documents(&path)? {
            let refusals = match document["kind"].as_str() {
                Some("IPAddressPool") => {
                    herald_api::parse::pool::offer(&serde_json::from_value(document)?).1.says.err()
                }
                Some("L2Advertisement") => {
                    let object = serde_json::from_value(document)?;
                    herald_api::parse::advertisement::offer(&object).1.says.err()
                }
                _ => continue,
            };
            ensure!(refusals.is_none(), "{}: {refusals:?}", path.display());
            seen += 1;
        }
    }
    ensure!(seen > 0, "there are samples of both");
    Ok(())
}

#[test]
fn every_file_is_reached_from_a_kustomization_but_the_examples() -> anyhow::Result<()> {
    let all = files(&folder())?;
    let mut reached = BTreeSet::new();
    for path in all.iter().filter(|path| is_kustomization(path)) {
        let parent = path.parent().context("a file is in a folder")?;
        for document in documents(path)? {
            let lists = ["resources", "components"].map(|list| document[list].as_array().cloned());
            for entry in lists.into_iter().flatten().flatten() {
                let target = parent.join(entry.as_str().context("a path")?);
                let file = if target.is_dir() { target.join("kustomization.yaml") } else { target };
                let file = fs::canonicalize(&file)
                    .with_context(|| format!("{} names {}", path.display(), file.display()))?;
                reached.insert(file);
            }
        }
    }
    let roots = ["kustomization.yaml", "examples", "overlays"].map(|name| folder().join(name));
    for path in &all {
        let is_root = roots.iter().any(|root| path.starts_with(root));
        ensure!(is_root || reached.contains(&fs::canonicalize(path)?), "orphan {}", path.display());
    }
    Ok(())
}
