//! BFDProfile.
// Each column of `kubectl get` is a `printcolumn(..)` of its own, which the lint takes for a slip.
#![expect(clippy::duplicated_attributes, reason = "printcolumn repeats by design")]

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NothingReported;

/// What stands beside a profile's metadata: its spec, which may be absent (see `L2AdvertisementBody`).
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "BFDProfile",
    plural = "bfdprofiles",
    namespaced,
    no_spec,
    status = "NothingReported",
    derive = "PartialEq",
    doc = "BFDProfile says how BGPPeers that name it are watched by BFD (RFC 5880).",
    printcolumn(name = "Passive Mode", type_ = "boolean", json_path = ".spec.passiveMode"),
    printcolumn(
        name = "Transmit Interval",
        type_ = "integer",
        json_path = ".spec.transmitInterval"
    ),
    printcolumn(name = "Receive Interval", type_ = "integer", json_path = ".spec.receiveInterval"),
    printcolumn(name = "Multiplier", type_ = "integer", json_path = ".spec.detectMultiplier")
)]
pub struct BFDProfileBody {
    /// What it says.
    #[serde(default)]
    pub spec: BFDProfileSpec,
}

/// How a router is watched by BFD (RFC 5880).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct BFDProfileSpec {
    /// The least time between two packets that the router may send us, 10 to 60000 ms. Absent: 300 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 10, max = 60_000))]
    pub receive_interval: Option<u32>,

    /// The least time between two packets that we send, 10 to 60000 ms. Absent: 300 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 10, max = 60_000))]
    pub transmit_interval: Option<u32>,

    /// How many packets must be missing before the other side counts as gone, 2 to 255. Absent: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 2, max = 255))]
    pub detect_multiplier: Option<u32>,

    /// The least time between two echo packets that we can handle, 10 to 60000 ms. Absent: 50 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 10, max = 60_000))]
    pub echo_interval: Option<u32>,

    /// Whether we send echo packets, which the router sends straight back. Not for one that is several hops away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub echo_mode: Option<bool>,

    /// Whether we wait for the router's first packet before we send any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub passive_mode: Option<bool>,

    /// The least TTL that a packet from a router several hops away may arrive with, 1 to 254. Absent: 254.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = 254))]
    pub minimum_ttl: Option<u32>,
}
