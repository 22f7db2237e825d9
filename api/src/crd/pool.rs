//! IPAddressPool.
// Each column of `kubectl get` is a `printcolumn(..)` of its own, which the lint takes for a slip.
#![expect(clippy::duplicated_attributes, reason = "printcolumn repeats by design")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::unknown::{UnknownFields, paths};

/// A pool of addresses for Services of type LoadBalancer.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "IPAddressPool",
    plural = "ipaddresspools",
    namespaced,
    status = "IPAddressPoolStatus",
    derive = "PartialEq",
    doc = "IPAddressPool is a pool of addresses for Services of type LoadBalancer.",
    printcolumn(name = "Auto Assign", type_ = "boolean", json_path = ".spec.autoAssign"),
    printcolumn(name = "Avoid Buggy IPs", type_ = "boolean", json_path = ".spec.avoidBuggyIPs"),
    printcolumn(name = "Addresses", type_ = "string", json_path = ".spec.addresses"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Accepted")].status"#
    ),
    printcolumn(
        name = "Advertised",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Advertised")].status"#
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct IPAddressPoolSpec {
    /// The addresses: each entry a CIDR (`192.0.2.0/24`, `2001:db8::/120`) or a range
    /// (`192.0.2.10-192.0.2.20`) with both ends included. They are given out in the order of this list, lowest first
    /// in each entry. No address may be in two entries or two pools.
    #[schemars(schema_with = "addresses_schema")]
    pub addresses: Vec<String>,

    /// Whether a Service that asks for no pool and no address may get one from here.
    #[serde(default = "yes")]
    pub auto_assign: bool,

    /// Whether IPv4 addresses that end in .0 or .255 are left out, for the sake of old routers and clients that
    /// drop them.
    #[serde(default, rename = "avoidBuggyIPs")]
    pub avoid_buggy_ips: bool,

    /// Whom the pool serves. Absent: everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ServiceAllocation")]
    pub service_allocation: Option<ServiceAllocation>,

    /// Fields beside these.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

impl IPAddressPool {
    /// The fields of the spec that mean nothing to Herald, as `spec.aFeild`, in order.
    pub fn unknown_fields(&self) -> Vec<String> {
        let allocation = self.spec.service_allocation.as_ref();
        let allocation = allocation
            .into_iter()
            .flat_map(|allocation| paths("spec.serviceAllocation", &allocation.unknown));
        paths("spec", &self.spec.unknown).chain(allocation).collect()
    }
}

/// The Services that a pool serves: those in one of the namespaces (named or selected; none given: any) which one of
/// the service selectors selects (none given: all).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct ServiceAllocation {
    /// Which of several pools that fit is asked first: the lowest number, and 0 last.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i64,

    /// Namespaces by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "namespaces_schema")]
    pub namespaces: Vec<String>,

    /// Namespaces by label. One that matches is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespace_selectors: Vec<LabelSelector>,

    /// Services by label. One that matches is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_selectors: Vec<LabelSelector>,

    /// Fields beside these.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// What has become of a pool. Written by the controller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IPAddressPoolStatus {
    /// How many of the pool's IPv4 addresses Services have; a shared one counts once.
    #[serde(default, rename = "assignedIPv4", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub assigned_ipv4: Option<i64>,

    /// How many of the pool's IPv6 addresses Services have; a shared one counts once.
    #[serde(default, rename = "assignedIPv6", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub assigned_ipv6: Option<i64>,

    /// How many of the pool's IPv4 addresses are free; as many as an int64 holds when there are more.
    #[serde(default, rename = "availableIPv4", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub available_ipv4: Option<i64>,

    /// How many of the pool's IPv6 addresses are free; as many as an int64 holds when there are more.
    #[serde(default, rename = "availableIPv6", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub available_ipv6: Option<i64>,

    /// What the controller thinks of the pool: `Accepted`, `Advertised`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// The counters of a pool's status: IPv4, IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// How many addresses Services have; a shared one counts once.
    pub assigned: [i64; 2],
    /// How many are free; `i64::MAX` when there are more.
    pub available: [i64; 2],
}

impl Counters {
    /// The counters of a pool that can give `capacity` addresses, `i64::MAX` standing for any number from there on, of which
    /// Services have `in_use`.
    pub fn of(capacity: [u64; 2], in_use: [u64; 2]) -> Self {
        const MOST: u64 = i64::MAX.unsigned_abs();
        let int = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let free = |family: usize| match capacity[family] {
            MOST.. => i64::MAX,
            // A Service may still be on an address that its pool gives nobody any more.
            capacity => int(capacity.saturating_sub(in_use[family])),
        };
        Self { assigned: in_use.map(int), available: [free(0), free(1)] }
    }
}

impl IPAddressPoolStatus {
    /// The counters, if all four are there.
    pub fn counters(&self) -> Option<Counters> {
        Some(Counters {
            assigned: [self.assigned_ipv4?, self.assigned_ipv6?],
            available: [self.available_ipv4?, self.available_ipv6?],
        })
    }

    /// A status with these counters and conditions.
    pub fn new(counters: Counters, conditions: Vec<Condition>) -> Self {
        let Counters { assigned, available } = counters;
        Self {
            assigned_ipv4: Some(assigned[0]),
            assigned_ipv6: Some(assigned[1]),
            available_ipv4: Some(available[0]),
            available_ipv6: Some(available[1]),
            conditions,
        }
    }
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The longest entry that means something is a range of two full IPv6 addresses: 39 + 1 + 39, and blanks.
/// The bounds are what lets the server know the rule's cost beforehand. Whether a range's ends are in order,
/// CEL cannot say: the controller does.
fn addresses_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 1024,
        "items": {
            "type": "string",
            "maxLength": 96,
            "x-kubernetes-validations": [{
                "rule": "isCIDR(self) || (self.contains('-') && \
                         isIP(self.substring(0, self.indexOf('-')).trim()) && \
                         isIP(self.substring(self.indexOf('-') + 1).trim()) && \
                         self.substring(0, self.indexOf('-')).contains(':') == \
                         self.substring(self.indexOf('-') + 1).contains(':'))",
                "message": "must be a CIDR (192.0.2.0/24; a single address as 192.0.2.1/32 or 2001:db8::1/128) \
                            or a range of one family (192.0.2.10-192.0.2.20)",
            }],
        },
    })
}

/// Names of namespaces are DNS labels (RFC 1123), so 63 bytes at most.
fn namespaces_schema(_: &mut SchemaGenerator) -> Schema {
    super::distinct_names_schema("namespaces", 512, 63)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn counters_hold_what_an_int64_can_and_never_go_below_none() {
        const MOST: u64 = i64::MAX.unsigned_abs();
        let counted = Counters::of([254, MOST], [3, 7]);
        assert_eq!((counted.assigned, counted.available), ([3, 7], [251, i64::MAX]));
        let full = Counters::of([1, 0], [2, u64::MAX]);
        assert_eq!((full.assigned, full.available), ([2, i64::MAX], [0, 0]));
        let mut status = IPAddressPoolStatus::new(counted, Vec::new());
        assert_eq!(status.counters(), Some(counted));
        status.available_ipv6 = None;
        assert_eq!(status.counters(), None);
    }

    #[test]
    fn fields_that_mean_nothing_are_named_and_written_back() {
        let written = json!({
            "apiVersion": "metallb.io/v1beta1",
            "kind": "IPAddressPool",
            "metadata": {"name": "p"},
            "spec": {
                "addresses": ["192.0.2.0/24"],
                "autoAssign": true,
                "avoidBuggyIPs": false,
                "avoidBugyIPs": true,
                "serviceAllocation": {"priority": 3, "namespace": "a"},
                "zone": {"of": ["a later version"]},
            },
        });
        let pool: IPAddressPool = serde_json::from_value(written.clone()).expect("a pool");
        let named = ["spec.avoidBugyIPs", "spec.zone", "spec.serviceAllocation.namespace"];
        assert_eq!(pool.unknown_fields(), named);
        assert_eq!(serde_json::to_value(&pool).expect("JSON"), written);
    }
}
