//! Node → what makes it fit or unfit to announce.

use herald_core::name::NodeName;
use herald_core::ownership::world::Node as Announcer;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

use crate::annotation::{EXCLUDE_LABEL, OUT_OF_SERVICE_TAINT};

/// What `node` says of itself.
pub fn node(node: &Node) -> Announcer {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    Announcer {
        name: NodeName::from(node.name_any()),
        uid: node.metadata.uid.clone().unwrap_or_default().into(),
        labels: node.labels().clone(),
        excluded: node.labels().contains_key(EXCLUDE_LABEL),
        network_unavailable: is_true(node, "NetworkUnavailable"),
        out_of_service: taints.iter().any(|taint| taint.key == OUT_OF_SERVICE_TAINT),
        ready: is_true(node, "Ready"),
    }
}

fn is_true(node: &Node, condition: &str) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref());
    conditions.unwrap_or_default().iter().any(|c| c.type_ == condition && c.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(object: serde_json::Value) -> Announcer {
        node(&serde_json::from_value(object).expect("a Node"))
    }

    #[test]
    fn a_healthy_node_is_ready_and_nothing_else() {
        let found = parsed(json!({
            "metadata": {"name": "a", "uid": "u", "labels": {"zone": "z"}},
            "status": {"conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "NetworkUnavailable", "status": "False"},
            ]},
        }));
        assert_eq!((found.name.as_str(), &*found.uid, found.ready), ("a", "u", true));
        assert_eq!(found.labels.get("zone").map(String::as_str), Some("z"));
        assert!(!found.excluded && !found.network_unavailable && !found.out_of_service);
    }

    #[test]
    fn each_mark_of_unfitness_is_read() {
        let label = json!({"metadata": {"name": "a", "labels": {
            "node.kubernetes.io/exclude-from-external-load-balancers": ""}}});
        assert!(parsed(label).excluded);
        let condition = json!({"metadata": {"name": "a"},
            "status": {"conditions": [{"type": "NetworkUnavailable", "status": "True"}]}});
        assert!(parsed(condition).network_unavailable);
        let taint = json!({"metadata": {"name": "a"}, "spec": {"taints": [
            {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute", "value": "x"}]}});
        assert!(parsed(taint).out_of_service);
        assert!(!parsed(json!({"metadata": {"name": "a"}})).ready);
    }
}
