//! BGPPeer.
// Each column of `kubectl get` is a `printcolumn(..)` of its own, which the lint takes for a slip.
#![expect(clippy::duplicated_attributes, reason = "printcolumn repeats by design")]

use k8s_openapi::api::core::v1::SecretReference;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, CustomResourceExt};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{NothingReported, no, text_schema};

/// A router that the speakers are to have BGP sessions with. An empty text and an AS number 0 are as good as none.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "metallb.io",
    version = "v1beta2",
    kind = "BGPPeer",
    plural = "bgppeers",
    namespaced,
    status = "NothingReported",
    derive = "PartialEq",
    doc = "BGPPeer is a router that the speakers are to have BGP sessions with.",
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.peerAddress"),
    printcolumn(name = "ASN", type_ = "string", json_path = ".spec.peerASN"),
    printcolumn(name = "BFD Profile", type_ = "string", json_path = ".spec.bfdProfile"),
    printcolumn(name = "Multi Hops", type_ = "string", json_path = ".spec.ebgpMultiHop")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(has(self.peerASN) && self.peerASN > 0) || has(self.dynamicASN)",
        "message": "missing peer ASN and dynamicASN",
    },
    {
        "rule": "!has(self.peerASN) || self.peerASN == 0 || !has(self.dynamicASN)",
        "message": "both peer ASN and dynamicASN specified",
    },
    {
        "rule": "!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !has(self.peerASN) || \
                 self.peerASN != self.myASN",
        "message": "invalid ebgp-multihop parameter set for an ibgp peer",
    },
    {
        "rule": "(has(self.peerAddress) && self.peerAddress != '') || \
                 (has(self.interface) && self.interface != '')",
        "message": "peer has no Address or Interface specified",
    },
    {
        "rule": "!has(self.peerAddress) || self.peerAddress == '' || \
                 !has(self.interface) || self.interface == ''",
        "message": "peer has both Address and Interface specified",
    },
    {
        "rule": "!has(self.password) || self.password == '' || !has(self.passwordSecret) || \
                 !has(self.passwordSecret.name) || self.passwordSecret.name == ''",
        "message": "can not have both password and secret ref set in peer config",
    },
    {
        "rule": "!has(self.holdTime) || !has(self.keepaliveTime) || \
                 duration(self.keepaliveTime) <= duration(self.holdTime)",
        "message": "invalid keepaliveTime, must be lower than holdTime",
    },
    // A rule of the field alone would not see it come or go.
    {
        "rule": "(has(self.enableGracefulRestart) && self.enableGracefulRestart) == \
                 (has(oldSelf.enableGracefulRestart) && oldSelf.enableGracefulRestart)",
        "message": "EnableGracefulRestart cannot be changed after creation",
    },
]))]
pub struct BGPPeerSpec {
    /// The AS number of this side, 1 to 4294967295.
    #[serde(rename = "myASN")]
    #[schemars(schema_with = "my_asn_schema")]
    pub my_asn: u32,

    /// The AS number that the router must have, 1 to 4294967295. Either this or `dynamicASN`.
    #[serde(default, rename = "peerASN", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = 4_294_967_295_i64))]
    pub peer_asn: Option<u32>,

    /// What AS number the router may have: the same as `myASN` (internal), or any other (external).
    #[serde(default, rename = "dynamicASN", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DynamicAsn")]
    pub dynamic_asn: Option<DynamicAsn>,

    /// The AS number that this router is shown in the place of `myASN`, 1 to 4294967295.
    #[serde(default, rename = "localASN", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 1, max = 4_294_967_295_i64))]
    pub local_asn: Option<u32>,

    /// The router's IP address. Either this or `interface`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "peer_address_schema")]
    pub peer_address: String,

    /// The node's interface whose other end is the router, which is found by its router advertisements there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interface: String,

    /// The IP address that the session comes from. Absent: the kernel's choice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "source_address_schema")]
    pub source_address: String,

    /// The router's TCP port, 1 to 16384.
    #[serde(default = "bgp_port")]
    #[schemars(with = "i32", range(min = 1, max = 16384))]
    pub peer_port: u16,

    /// How long the router may be silent before it counts as gone (RFC 4271): a duration such as `90s`, of at least
    /// 3 s, or 0 for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "hold_time_schema")]
    pub hold_time: Option<String>,

    /// The time between two signs of life (RFC 4271): a duration such as `30s`, no longer than `holdTime`. Absent: a
    /// third of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "keepalive_time_schema")]
    pub keepalive_time: Option<String>,

    /// The time between two attempts to connect: a duration of whole seconds, 1 to 65535.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "connect_time_schema")]
    pub connect_time: Option<String>,

    /// The BGP identifier that the router is shown, in the form of an IPv4 address.
    #[serde(default, rename = "routerID", skip_serializing_if = "String::is_empty")]
    #[schemars(schema_with = "router_id_schema")]
    pub router_id: String,

    /// The nodes whose speakers are to have the session, by label. One that matches is enough; none given: every node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_selectors: Vec<LabelSelector>,

    /// The password of TCP MD5 (RFC 2385). Either this or `passwordSecret`, where fewer may read it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub password: String,

    /// The Secret of type `kubernetes.io/basic-auth` in the namespace of this object that has the password of TCP MD5,
    /// under the key `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SecretReference")]
    pub password_secret: Option<SecretReference>,

    /// The BFDProfile by which the router is watched beside. Absent: it is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bfd_profile: String,

    /// Whether the router is asked to keep the routes while the speaker restarts (RFC 4724). Cannot be changed.
    #[serde(default, skip_serializing_if = "no")]
    pub enable_graceful_restart: bool,

    /// Whether a router of another AS may be several hops away.
    #[serde(default, skip_serializing_if = "no")]
    pub ebgp_multi_hop: bool,

    /// The VRF of the node that the router is in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub vrf: String,

    /// Whether IPv4 and IPv6 have a session each. Superseded by `dualStackAddressFamily`.
    #[serde(default, rename = "disableMP")]
    pub disable_mp: bool,

    /// Whether routes of both families go over the session, and not only those of its own.
    #[serde(default)]
    pub dual_stack_address_family: bool,
}

/// What AS number a router may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DynamicAsn {
    /// Ours.
    Internal,
    /// Any but ours.
    External,
}

/// BGPPeer under both its versions, which have the same fields: the server turns one into the other without help.
///
/// The older one is what early MetalLB stored, and what manifests of that time say.
pub(super) fn definition() -> CustomResourceDefinition {
    let mut definition = BGPPeer::crd();
    let older = definition.spec.versions.first().cloned().map(|mut version| {
        version.name = "v1beta1".to_owned();
        version.storage = false;
        version.deprecated = Some(true);
        version.deprecation_warning =
            Some("metallb.io/v1beta1 BGPPeer is deprecated: write metallb.io/v1beta2".to_owned());
        version
    });
    definition.spec.versions.extend(older);
    definition
}

fn bgp_port() -> u16 {
    179
}

fn my_asn_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "integer",
        "format": "int64",
        "minimum": 0,
        "maximum": u32::MAX,
        "x-kubernetes-validations": [{ "rule": "self > 0", "message": "missing local ASN" }],
    })
}

fn peer_address_schema(_: &mut SchemaGenerator) -> Schema {
    address_schema("self == '' || isIP(self)", "invalid BGPPeer address")
}

fn source_address_schema(_: &mut SchemaGenerator) -> Schema {
    address_schema("self == '' || isIP(self)", "invalid source IP")
}

fn router_id_schema(_: &mut SchemaGenerator) -> Schema {
    address_schema("self == '' || (isIP(self) && ip(self).family() == 4)", "invalid router ID")
}

/// An IPv6 address in full has 39 bytes.
fn address_schema(rule: &str, message: &str) -> Schema {
    text_schema(64, &[(rule, message)])
}

fn hold_time_schema(_: &mut SchemaGenerator) -> Schema {
    let rule = "duration(self).getSeconds() == 0 || duration(self).getSeconds() >= 3";
    duration_schema(&[(rule, "invalid hold time: must be 0 or >=3s")])
}

fn keepalive_time_schema(_: &mut SchemaGenerator) -> Schema {
    duration_schema(&[("duration(self) >= duration('0s')", "invalid keepaliveTime")])
}

fn connect_time_schema(_: &mut SchemaGenerator) -> Schema {
    duration_schema(&[
        (
            "duration(self).getSeconds() >= 1 && duration(self).getSeconds() <= 65535",
            "connect time should be between 1 seconds to 65535",
        ),
        (
            "duration(self).getMilliseconds() % 1000 == 0",
            "connect time should contain a whole number of seconds",
        ),
    ])
}

/// A duration as Go writes it, which is how CEL reads it: `90s`, `1m30s`, `1.5h`.
fn duration_schema(rules: &[(&str, &str)]) -> Schema {
    let mut schema = text_schema(64, rules);
    schema.insert(
        "pattern".to_owned(),
        r"^[-+]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$".into(),
    );
    schema
}
