//! Objects of Kubernetes' own kinds, of which only what Herald looks at is read.
//!
//! The API server stores more than the types of a client can read: conditions of Services without a time, which it does
//! not check, and times that end with the year 9999. Whoever may write one Service could hide all of them from us, for a
//! list is read as a whole or not at all. So nothing is read that nobody looks at, which also spares the better part of
//! what objects weigh; and where each of several has such parts, the one that cannot be read is left out by itself.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    LoadBalancerStatus, Namespace, Node, NodeCondition, NodeSpec, NodeStatus, Service, ServiceSpec,
    ServiceStatus, Taint,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use kube::Resource;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object of the kind `K` with what Herald looks at, and nothing else.
#[derive(Clone, Debug)]
pub struct Sparse<K>(pub K);

/// A kind of which Herald looks at less than there is.
pub trait ReadSparsely: Sized {
    /// Reads what Herald looks at.
    ///
    /// # Errors
    /// It cannot be read; nothing that the API server stores is so.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

impl<'de, K: ReadSparsely> Deserialize<'de> for Sparse<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        K::read(deserializer).map(Self)
    }
}

impl<K: Resource> Resource for Sparse<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(of: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &Self::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &Self::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

/// Without `managedFields`, which may be half of an object and bear times that anybody may write.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl From<Metadata> for ObjectMeta {
    fn from(read: Metadata) -> Self {
        Self {
            name: read.name,
            namespace: read.namespace,
            uid: read.uid,
            resource_version: read.resource_version,
            generation: read.generation,
            creation_timestamp: read.creation_timestamp,
            labels: read.labels,
            annotations: read.annotations,
            ..Self::default()
        }
    }
}

/// Those of a list that can be read, in its order.
fn readable<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let all = Option::<Vec<Value>>::deserialize(deserializer)?;
    Ok(all.map(|all| all.iter().filter_map(|one| T::deserialize(one).ok()).collect()))
}

impl ReadSparsely for Service {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Read {
            metadata: Metadata,
            spec: Option<ServiceSpec>,
            status: Option<Status>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Status {
            load_balancer: Option<LoadBalancerStatus>,
            #[serde(default, deserialize_with = "readable")]
            conditions: Option<Vec<Condition>>,
        }
        let Read { metadata, spec, status } = Read::deserialize(deserializer)?;
        let status = status.map(|Status { load_balancer, conditions }| ServiceStatus {
            load_balancer,
            conditions,
        });
        Ok(Self { metadata: metadata.into(), spec, status })
    }
}

impl ReadSparsely for Node {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Read {
            metadata: Metadata,
            spec: Option<Spec>,
            status: Option<Status>,
        }
        #[derive(Deserialize)]
        struct Spec {
            taints: Option<Vec<Key>>,
        }
        #[derive(Deserialize)]
        struct Key {
            key: String,
        }
        #[derive(Deserialize)]
        struct Status {
            conditions: Option<Vec<State>>,
        }
        #[derive(Deserialize)]
        struct State {
            #[serde(rename = "type")]
            type_: String,
            status: String,
        }
        let Read { metadata, spec, status } = Read::deserialize(deserializer)?;
        let taint = |Key { key }| Taint { key, ..Taint::default() };
        let taints = spec.and_then(|spec| spec.taints);
        let taints = taints.map(|taints| taints.into_iter().map(taint).collect());
        let state =
            |State { type_, status }| NodeCondition { type_, status, ..NodeCondition::default() };
        let conditions = status.and_then(|status| status.conditions);
        let conditions = conditions.map(|all| all.into_iter().map(state).collect());
        Ok(Self {
            metadata: metadata.into(),
            spec: Some(NodeSpec { taints, ..NodeSpec::default() }),
            status: Some(NodeStatus { conditions, ..NodeStatus::default() }),
        })
    }
}

impl ReadSparsely for EndpointSlice {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Read {
            metadata: Metadata,
            endpoints: Option<Vec<Endpoint>>,
        }
        let Read { metadata, endpoints } = Read::deserialize(deserializer)?;
        Ok(Self {
            metadata: metadata.into(),
            endpoints: endpoints.unwrap_or_default(),
            ..Self::default()
        })
    }
}

impl ReadSparsely for Namespace {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Read {
            metadata: Metadata,
        }
        let Read { metadata } = Read::deserialize(deserializer)?;
        Ok(Self { metadata: metadata.into(), ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt as _;
    use kube::core::ObjectList;
    use serde_json::json;

    use super::*;
    use crate::condition::{ADDRESS_ALLOCATED, AddressAllocated};
    use crate::parse;

    /// Later than the types here can say.
    const LATE: &str = "9999-12-31T23:59:59Z";

    fn list<K: ReadSparsely + Resource + Clone + DeserializeOwned>(items: &[Value]) -> Vec<K> {
        let list = json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items });
        let as_they_are: Result<ObjectList<K>, _> = serde_json::from_value(list.clone());
        assert!(as_they_are.is_err(), "nothing is won by reading them sparsely");
        let list: ObjectList<Sparse<K>> = serde_json::from_value(list).expect("a list");
        list.items.into_iter().map(|item| item.0).collect()
    }

    /// An object called `name`, which a hand has given a time of its own.
    fn object(name: &str, more: Value) -> Value {
        let managed = json!([{ "manager": "hand", "operation": "Update", "time": LATE }]);
        let metadata = json!({
            "name": name, "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 2,
            "creationTimestamp": "1970-01-01T00:00:09Z", "managedFields": managed,
            "labels": { "kubernetes.io/service-name": "s" }, "annotations": { "a": "b" },
        });
        let mut object = json!({ "metadata": metadata });
        let fields = object.as_object_mut().expect("an object");
        fields.extend(more.as_object().cloned().unwrap_or_default());
        object
    }

    #[test]
    fn conditions_without_a_time_are_left_out_and_hide_nothing() {
        let ours = json!({
            "type": ADDRESS_ALLOCATED, "status": "True", "reason": "Allocated", "message": "m",
            "lastTransitionTime": "1970-01-01T00:00:05Z",
        });
        let with = |time: Value| {
            let mut condition = ours.clone();
            condition["type"] = "Other".into();
            condition["lastTransitionTime"] = time;
            condition
        };
        let odd = [Value::Null, LATE.into()].map(with);
        let spec = json!({ "type": "LoadBalancer", "clusterIP": "10.0.0.1" });
        let balancer = json!({ "ingress": [{ "ip": "192.0.2.1" }] });
        let conditions = json!([{ "type": "Bare" }, odd[0], ours, odd[1]]);
        let status = json!({ "loadBalancer": balancer, "conditions": conditions });
        let odd = object("odd", json!({ "spec": spec, "status": status }));
        let plain = object("plain", json!({ "spec": spec, "status": {} }));
        let found: Vec<Service> = list(&[odd, plain]);
        let names: Vec<String> = found.iter().map(kube::ResourceExt::name_any).collect();
        assert_eq!(names, ["odd", "plain"]);
        let status = found[0].status.as_ref().expect("a status");
        let conditions = status.conditions.as_deref().expect("conditions");
        assert_eq!(conditions.len(), 1);
        assert!(AddressAllocated::find(conditions).is_some());
        let announced = parse::service::announced(&found[0], None).expect("announced");
        assert_eq!((announced.id.name.as_ref(), announced.created), ("odd", 9));
        let none = found[1].status.as_ref().expect("a status").conditions.as_ref();
        assert!(none.is_none(), "{none:?}");
    }

    #[test]
    fn what_is_looked_at_of_the_metadata_is_there() {
        let found: Vec<Namespace> = list(&[object("n", json!({}))]);
        let ObjectMeta { generation, managed_fields, .. } = &found[0].metadata;
        assert_eq!((generation, managed_fields), (&Some(2), &None));
        assert_eq!(found[0].resource_version().as_deref(), Some("7"));
        assert_eq!(
            (found[0].uid().as_deref(), found[0].namespace()),
            (Some("u"), Some("n".into()))
        );
        assert_eq!((found[0].labels().len(), found[0].annotations().len()), (1, 1));
    }

    #[test]
    fn a_node_is_judged_whatever_times_it_bears() {
        let ready = json!({ "type": "Ready", "status": "True", "lastHeartbeatTime": LATE });
        let taint = json!({
            "key": "node.kubernetes.io/out-of-service", "effect": "NoExecute", "timeAdded": LATE,
        });
        let more = json!({ "spec": { "taints": [taint] }, "status": { "conditions": [ready] } });
        let bare = object("b", json!({}));
        let found: Vec<Node> = list(&[object("a", more), bare]);
        let [a, b] = [0, 1].map(|at: usize| parse::node::node(&found[at]));
        assert!(a.ready && a.out_of_service);
        assert!(!b.ready && !b.out_of_service);
    }

    #[test]
    fn a_slice_without_endpoints_has_none() {
        let endpoint = json!({ "addresses": ["10.0.0.1"], "nodeName": "a" });
        let full = object("full", json!({ "addressType": "IPv4", "endpoints": [endpoint] }));
        // A Go client says `null` for a list of nothing.
        let empty = object("empty", json!({ "addressType": "IPv4", "endpoints": null }));
        let found: Vec<EndpointSlice> = list(&[full, empty]);
        let any = [0, 1].map(|at: usize| parse::endpoints::endpoints(&found[at]));
        let any = any.map(|found| found.expect("a Service's").1.any);
        assert_eq!(any, [true, false]);
    }
}
