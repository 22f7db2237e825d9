//! What a user applies: the examples of `manifests/`, with addresses of the lab's network.

use herald_tests::lab::node::{BACKEND_PORT, Backend};
use serde_json::{Value, json};

const POOL: &str = include_str!("../../../../manifests/examples/pool.yaml");
const ADVERTISEMENT: &str = include_str!("../../../../manifests/examples/advertisement.yaml");
const SERVICES: &str = include_str!("../../../../manifests/examples/services.yaml");
const MORE_SERVICES: &str = include_str!("services.yaml");

/// The examples' prefixes, which are for documentation, and those of the lab's network that take their place.
const PREFIXES: [(&str, &str); 2] = [("192.0.2.", "192.168.112."), ("2001:db8:0:1::", "fd00:99::")];

/// The pool of the examples, on the lab's network.
pub(crate) fn pool() -> String {
    on_the_lan(POOL)
}

/// The first advertisement of the examples: the second is for a pool and a network with racks.
pub(crate) fn advertisement() -> &'static str {
    ADVERTISEMENT.split("\n---\n").next().unwrap_or(ADVERTISEMENT)
}

/// The Services of the examples and the demo's own, on the lab's network and for its pods.
pub(crate) fn services() -> String {
    let port = format!("- port: 80\n    targetPort: {BACKEND_PORT}");
    on_the_lan(&format!("{SERVICES}---\n{MORE_SERVICES}")).replace("- port: 80", &port)
}

fn on_the_lan(yaml: &str) -> String {
    PREFIXES.iter().fold(yaml.to_owned(), |yaml, (from, to)| yaml.replace(from, to))
}

/// `yaml` without its comments, as it is shown.
pub(crate) fn without_comments(yaml: &str) -> String {
    let lines = yaml.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

/// The Pod behind `backend`, as a user's Deployment would have made it.
pub(crate) fn pod(backend: &Backend) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": backend.name, "labels": {"app": "web"}},
        "spec": {
            "nodeName": backend.node,
            "containers": [{"name": "web", "image": "web", "ports": [{"containerPort": BACKEND_PORT}]}],
        },
    })
}

/// The status that the kubelet of its node gives the Pod behind `backend`.
pub(crate) fn pod_status(backend: &Backend) -> Value {
    let conditions =
        ["Ready", "ContainersReady"].map(|kind| json!({"type": kind, "status": "True"}));
    json!({"status": {
        "phase": "Running",
        "podIP": backend.v4,
        "podIPs": [{"ip": backend.v4}, {"ip": backend.v6}],
        "conditions": conditions,
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_have_what_is_changed_in_them() {
        assert!(PREFIXES.iter().all(|(from, _)| POOL.contains(from)), "{POOL}");
        assert!(!SERVICES.contains("targetPort"), "{SERVICES}");
        for yaml in [pool(), services()] {
            assert!(PREFIXES.iter().all(|(from, _)| !yaml.contains(from)), "{yaml}");
        }
        let services = services();
        let (ports, targets) = (services.matches("port: 80").count(), "targetPort: 8080");
        assert_eq!(services.matches(targets).count(), ports, "{services}");
    }

    #[test]
    fn one_advertisement_is_applied_which_is_for_the_pool_on_every_node_and_interface() {
        let yaml = advertisement();
        assert_eq!(yaml.matches("kind: L2Advertisement").count(), 1, "{yaml}");
        assert!(yaml.contains("ipAddressPools: [default]") && POOL.contains("name: default"));
        assert!(!yaml.contains("nodeSelectors") && !yaml.contains("interfaces:"), "{yaml}");
    }

    #[test]
    fn comments_are_not_shown() {
        assert_eq!(without_comments("# a\nb: 1\n  # c\nd: 2"), "b: 1\nd: 2");
    }
}
