//! What `kubectl kustomize` makes of `manifests/`: every name that one object uses is another's.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, ensure};
use clap::Parser;
use herald_tests::lab::controlplane::assets;
use serde_json::{Value, json};

use super::manifests;

/// What users apply, and the namespace that it is installed in.
const ROOTS: [(&str, &str); 4] = [
    ("", "herald-system"),
    ("overlays/monitored", "herald-system"),
    ("overlays/metallb-system", "metallb-system"),
    ("overlays/metallb-compat", "metallb-system"),
];

/// The objects that `kubectl apply -k` would apply.
fn rendered(root: &str) -> anyhow::Result<Vec<Value>> {
    let kubectl = assets()?.join("kubectl");
    let output = Command::new(&kubectl)
        .args(["kustomize", &manifests(root)])
        .output()
        .with_context(|| format!("run {}", kubectl.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kubectl kustomize {root}: {said}");
    Ok(serde_saphyr::from_multiple(&String::from_utf8(output.stdout)?)?)
}

/// Every ServiceAccount that an object of this kind gives rights to, or runs as: namespace and name.
fn accounts_used(object: &Value) -> Vec<(Value, Value)> {
    let listed = |list: &Value| list.as_array().cloned().unwrap_or_default();
    match object["kind"].as_str() {
        Some("RoleBinding" | "ClusterRoleBinding") => listed(&object["subjects"])
            .into_iter()
            .map(|subject| (subject["namespace"].clone(), subject["name"].clone()))
            .collect(),
        Some("FlowSchema") => listed(&object["spec"]["rules"])
            .iter()
            .flat_map(|rule| listed(&rule["subjects"]))
            .map(|subject| subject["serviceAccount"].clone())
            .map(|account| (account["namespace"].clone(), account["name"].clone()))
            .collect(),
        Some("Deployment" | "DaemonSet") => {
            let account = &object["spec"]["template"]["spec"]["serviceAccountName"];
            vec![(object["metadata"]["namespace"].clone(), account.clone())]
        }
        _ => Vec::new(),
    }
}

#[test]
fn every_right_is_given_to_an_account_that_exists_and_is_used() -> anyhow::Result<()> {
    for (root, namespace) in ROOTS {
        let objects = rendered(root)?;
        let accounts: BTreeSet<String> = objects
            .iter()
            .filter(|object| object["kind"] == "ServiceAccount")
            .map(|account| format!("{namespace}/{}", account["metadata"]["name"]))
            .collect();
        ensure!(accounts.len() == 2, "{root}: {accounts:?}");
        for object in &objects {
            let used = accounts_used(object);
            let expected = match object["kind"].as_str() {
                Some("RoleBinding" | "ClusterRoleBinding" | "Deployment" | "DaemonSet") => 1,
                Some("FlowSchema") => 2,
                _ => 0,
            };
            ensure!(used.len() == expected, "{root}: {object}");
            for (place, name) in used {
                let place = place.as_str().context("an account is in a namespace")?;
                ensure!(
                    accounts.contains(&format!("{place}/{name}")),
                    "{root}: {name} in {object}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn the_namespace_of_the_policy_and_of_the_leases_is_that_of_the_objects() -> anyhow::Result<()> {
    for (root, namespace) in ROOTS {
        let objects = rendered(root)?;
        let one = |kind: &str| {
            let found = objects.iter().find(|object| object["kind"] == kind);
            found.with_context(|| format!("{root} has no {kind}"))
        };
        ensure!(one("Namespace")?["metadata"]["name"] == namespace);
        let home = &one("ValidatingAdmissionPolicy")?["spec"]["variables"][0]["expression"];
        ensure!(*home == format!("'{namespace}'"), "{root}: {home}");
        let leases = &one("FlowSchema")?["spec"]["rules"][0]["resourceRules"][0]["namespaces"];
        ensure!(*leases == json!([namespace]), "{root}: {leases}");
    }
    Ok(())
}

#[test]
fn the_component_for_tools_of_metallb_says_what_they_look_for() -> anyhow::Result<()> {
    let objects = rendered("overlays/metallb-compat")?;
    for (kind, name) in [("Deployment", "controller"), ("DaemonSet", "speaker")] {
        let found = objects.iter().find(|object| object["kind"] == kind);
        let workload = found.with_context(|| format!("no {kind}"))?;
        ensure!(workload["metadata"]["name"] == name, "{workload}");
        let labels = json!({"app": "metallb", "component": name});
        let template = &workload["spec"]["template"];
        ensure!(workload["spec"]["selector"]["matchLabels"] == labels, "{workload}");
        for labelled in [&workload["metadata"]["labels"], &template["metadata"]["labels"]] {
            for key in ["app", "component"] {
                ensure!(labelled[key] == labels[key], "{labelled}");
            }
        }
        ensure!(template["spec"]["serviceAccountName"] == name, "{template}");
        let container = &template["spec"]["containers"][0];
        ensure!(container["name"] == name, "{container}");
        ensure!(container["ports"][0] == json!({"name": "monitoring", "containerPort": 9120}));
    }
    Ok(())
}

/// What a workload's container is told, as its program understands it; its ports must be those that the container names.
fn started_as<F: Parser>(
    objects: &[Value],
    kind: &str,
    rights: &Value,
    ports: impl FnOnce(F) -> anyhow::Result<[u16; 2]>,
) -> anyhow::Result<()> {
    let found = objects.iter().find(|object| object["kind"] == kind);
    let container =
        &found.with_context(|| format!("no {kind}"))?["spec"]["template"]["spec"]["containers"][0];
    ensure!(container["securityContext"]["capabilities"] == *rights, "{container}");
    let command = F::command();
    let told = container["env"].as_array().into_iter().flatten().map(|of| &of["name"]);
    let mut arguments = vec!["it".to_owned()];
    for name in told {
        let flag = command.get_arguments().find(|flag| {
            flag.get_env().is_some_and(|env| Some(env) == name.as_str().map(AsRef::as_ref))
        });
        let flag = flag.with_context(|| format!("no flag of it is {name}"))?;
        arguments.push(format!("--{}=a", flag.get_long().context("it is long")?));
    }
    let given = container["args"].as_array().into_iter().flatten();
    arguments.extend(given.filter_map(Value::as_str).map(str::to_owned));
    let [metrics, health] = ports(F::try_parse_from(arguments)?)?;
    let expected = json!([
        {"name": "monitoring", "containerPort": metrics},
        {"name": "health", "containerPort": health},
    ]);
    ensure!(container["ports"] == expected, "{}", container["ports"]);
    for probe in ["livenessProbe", "readinessProbe"] {
        ensure!(container[probe]["httpGet"]["port"] == "health", "{container}");
    }
    Ok(())
}

#[test]
fn each_program_understands_what_its_workload_tells_it_and_has_no_right_too_many()
-> anyhow::Result<()> {
    for (root, _) in ROOTS {
        let objects = rendered(root)?;
        let none = json!({"drop": ["ALL"]});
        started_as(&objects, "Deployment", &none, |flags: herald_controller::settings::Flags| {
            let endpoints = flags.settings().endpoints;
            Ok([endpoints.metrics_port, endpoints.health_port])
        })?;
        let raw = json!({"drop": ["ALL"], "add": ["NET_RAW"]});
        started_as(&objects, "DaemonSet", &raw, |flags: herald_speaker::settings::Flags| {
            let endpoints = flags.settings()?.endpoints;
            Ok([endpoints.metrics_port, endpoints.health_port])
        })?;
    }
    Ok(())
}
