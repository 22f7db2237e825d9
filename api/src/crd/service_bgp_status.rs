//! ServiceBGPStatus.
// Each column of `kubectl get` is a `printcolumn(..)` of its own, which the lint takes for a slip.
#![expect(clippy::duplicated_attributes, reason = "printcolumn repeats by design")]

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NothingAsked, immutable_name_schema};

/// What stands beside the metadata and the status: a spec without fields, which may be absent.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "ServiceBGPStatus",
    plural = "servicebgpstatuses",
    namespaced,
    no_spec,
    status = "ServiceBGPStatusStatus",
    derive = "PartialEq",
    doc = "ServiceBGPStatus says to which peers one node means to tell the routes to a Service's addresses.",
    printcolumn(name = "Node", type_ = "string", json_path = ".status.node"),
    printcolumn(name = "Service Name", type_ = "string", json_path = ".status.serviceName"),
    printcolumn(
        name = "Service Namespace",
        type_ = "string",
        json_path = ".status.serviceNamespace"
    )
)]
pub struct ServiceBGPStatusBody {
    /// Nothing is asked for.
    #[serde(default)]
    pub spec: NothingAsked,
}

/// To which peers a node means to tell the routes to a Service's addresses. Written by that node's speaker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceBGPStatusStatus {
    /// The node. Cannot be changed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "immutable_name_schema")]
    pub node: String,

    /// The Service's name. Cannot be changed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "immutable_name_schema")]
    pub service_name: String,

    /// The Service's namespace. Cannot be changed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "immutable_name_schema")]
    pub service_namespace: String,

    /// The BGPPeers by name. Whether the session with each is up is not said here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
}
