//! The objects of the burst: Services of one kind, their endpoints, and the pool.

use clap::ValueEnum;
use serde_json::{Value, json};

/// Where Herald is installed.
pub(crate) const SYSTEM: &str = "herald-system";
/// As many Services as the pool has addresses for.
pub(crate) const MOST: i64 = 12_288;
/// So many Services have node ports: a cluster has 2,768, and of those with policy Local each takes another.
const WITH_NODE_PORTS: usize = 1_000;
/// The pool, and who announces it: every node, on the LAN.
pub(crate) const POOL: &str = "burst";

/// What Services are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// As most are.
    Cluster,
    /// With `externalTrafficPolicy: Local` and a selector each.
    Local,
    /// With a key each that would let others share their address.
    Sharing,
}

impl Kind {
    /// Seconds from the last creation to the last address with MetalLB.
    pub(crate) const fn metallb(self) -> Option<f64> {
        match self {
            Self::Cluster => Some(5.4),
            Self::Local => Some(9.3),
            Self::Sharing => None,
        }
    }

    /// Its word in the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Local => "local",
            Self::Sharing => "sharing",
        }
    }
}

/// The name of Service `number`.
pub(crate) fn name(number: usize) -> String {
    format!("burst-{number:05}")
}

/// Service `number`.
pub(crate) fn service(kind: Kind, number: usize) -> Value {
    let name = name(number);
    let mut service = json!({
        "metadata": { "name": name },
        "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
    });
    if number >= WITH_NODE_PORTS {
        service["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
    }
    match kind {
        Kind::Cluster => {}
        Kind::Local => {
            service["spec"]["externalTrafficPolicy"] = json!("Local");
            service["spec"]["selector"] = json!({ "app": name });
        }
        Kind::Sharing => {
            service["metadata"]["annotations"] = json!({ "metallb.io/allow-shared-ip": name });
        }
    }
    service
}

/// The endpoints of Service `number`: two, on two of the `nodes`.
pub(crate) fn slice(number: usize, nodes: &[&str]) -> Value {
    let endpoint = |turn: usize| {
        let node = (number + turn) % nodes.len();
        json!({
            "addresses": [format!("10.244.{}.{}", node + 1, 1 + number % 250)],
            "nodeName": nodes[node],
            "conditions": { "ready": true, "serving": true, "terminating": false },
        })
    };
    json!({
        "metadata": {
            "name": format!("{}-ipv4", name(number)),
            "labels": { "kubernetes.io/service-name": name(number) },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
        "endpoints": [endpoint(0), endpoint(1)],
    })
}

/// The pool of [`MOST`] addresses with an advertisement that names it.
pub(crate) fn configuration() -> String {
    let pool = json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": { "name": POOL, "namespace": SYSTEM },
        "spec": { "addresses": ["192.168.112.0-192.168.159.255"] },
    });
    let advertisement = json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": "L2Advertisement",
        "metadata": { "name": POOL, "namespace": SYSTEM },
        "spec": { "ipAddressPools": [POOL], "interfaces": ["lan0"] },
    });
    format!("{pool}\n---\n{advertisement}\n")
}

/// The same pool with a range more.
pub(crate) fn larger_pool() -> String {
    let pool = json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": { "name": POOL, "namespace": SYSTEM },
        "spec": { "addresses": ["192.168.112.0-192.168.159.255", "192.168.160.0/24"] },
    });
    pool.to_string()
}
