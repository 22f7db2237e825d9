//! Nodes: a namespace, a Node object, a kube-proxy, and pods that answer HTTP.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::Context;
use herald_core::wire::Mac;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::net::TcpListener;

use super::http;
use super::namespace::Namespace;
use super::network::{Network, Segment, lan_v4, lan_v6, management, pod, pod_prefixes};
use super::process::{Process, Program};

/// Where every backend listens.
pub const BACKEND_PORT: u16 = 8080;
/// Where kube-proxy tells whether it has done its work.
pub(super) const PROXY_HEALTH_PORT: u16 = 10256;

/// What makes a namespace a node: it forwards, also what it got and sends by the same interface, and it says nothing
/// about shorter ways.
const ROUTER: [(&str, &str); 6] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
];

/// A node of the cluster.
#[derive(Debug)]
pub struct Node {
    number: u8,
    name: String,
    namespace: Namespace,
    pods: AtomicU8,
}

impl Node {
    /// Makes the namespace of node `number`, 1 to 99, and plugs it in.
    pub(super) fn create(number: u8, namespace: String, network: &Network) -> anyhow::Result<Self> {
        let name = format!("node{number}");
        let namespace = Namespace::create(namespace)?;
        namespace.sysctl(&ROUTER)?;
        let segments = [Segment::Lan, Segment::Management];
        network.plug(&name, Self::host(number), &namespace, &segments)?;
        Ok(Self { number, name, namespace, pods: AtomicU8::new(0) })
    }

    /// The number of node `number` on both segments.
    const fn host(number: u8) -> u8 {
        10 + number
    }

    /// Its name: `node1`, `node2`, …
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it lives.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its InternalIPs, both on the LAN.
    pub fn addresses(&self) -> (Ipv4Addr, Ipv6Addr) {
        let host = Self::host(self.number);
        (lan_v4(host), lan_v6(host))
    }

    /// Its address on the management network.
    pub fn management(&self) -> Ipv4Addr {
        management(Self::host(self.number))
    }

    /// The hardware address of its `lan0`.
    pub fn lan_mac(&self) -> Mac {
        Segment::Lan.mac(Self::host(self.number))
    }

    /// Routes the pods of every other node of `all` over the LAN.
    pub(super) fn route_pods_of(&self, all: &[Self]) -> anyhow::Result<()> {
        let others = all.iter().filter(|other| other.number != self.number);
        let routes = others.flat_map(|other| {
            let [v4, v6] = pod_prefixes(other.number);
            let (via_v4, via_v6) = other.addresses();
            [format!("route add {v4} via {via_v4}"), format!("route add {v6} via {via_v6}")]
        });
        self.namespace.ip_batch(&routes.collect::<Vec<_>>())
    }

    /// Creates its Node object: Ready, with its addresses and the usual labels.
    pub(super) async fn register(&self, client: Client) -> anyhow::Result<()> {
        let nodes: Api<NodeObject> = Api::all(client);
        let labels = json!({
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
        });
        let object = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {"podCIDRs": pod_prefixes(self.number)},
        });
        let object = serde_json::from_value(object).context("a Node")?;
        let told = || format!("register {}", self.name);
        nodes.create(&PostParams::default(), &object).await.with_context(told)?;
        let (v4, v6) = self.addresses();
        let status = json!({"status": {
            "addresses": [
                {"type": "InternalIP", "address": v4},
                {"type": "InternalIP", "address": v6},
                {"type": "Hostname", "address": self.name},
            ],
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "Lab"},
                {"type": "NetworkUnavailable", "status": "False", "reason": "Lab"},
            ],
        }});
        nodes
            .patch_status(&self.name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .with_context(told)?;
        Ok(())
    }

    /// Starts its kube-proxy.
    pub(super) fn start_proxy(
        &self,
        assets: &Path,
        kubeconfig: &Path,
        folder: &Path,
    ) -> anyhow::Result<Process> {
        Program::new(format!("kube-proxy-{}", self.name), assets.join("kube-proxy"))
            .args([
                format!("--kubeconfig={}", kubeconfig.display()),
                format!("--hostname-override={}", self.name),
                "--proxy-mode=nftables".to_owned(),
                "--cluster-cidr=10.244.0.0/16,fd00:244::/32".to_owned(),
                format!("--healthz-bind-address=0.0.0.0:{PROXY_HEALTH_PORT}"),
                // Limits of the whole machine, not of a namespace.
                "--conntrack-max-per-core=0".to_owned(),
                "--conntrack-tcp-timeout-established=0".to_owned(),
                "--conntrack-tcp-timeout-close-wait=0".to_owned(),
                "--oom-score-adj=0".to_owned(),
            ])
            .start(&self.namespace, folder)
    }

    /// Starts a pod on this node that answers HTTP on [`BACKEND_PORT`] with `name` and the client's address.
    pub async fn start_backend(&self, name: &str) -> anyhow::Result<Backend> {
        let number = 1 + self.pods.fetch_add(1, Ordering::Relaxed);
        let (v4, v6) = pod(self.number, number);
        self.namespace.ip_batch(&[
            format!("addr add {v4}/32 dev lo"),
            format!("addr add {v6}/128 dev lo nodad"),
        ])?;
        for address in [SocketAddr::from((v4, BACKEND_PORT)), (v6, BACKEND_PORT).into()] {
            let listener = self
                .namespace
                .spawn(TcpListener::bind(address))
                .await?
                .with_context(|| format!("listen on {address} on {}", self.name))?;
            self.namespace.spawn(http::serve(listener, name.to_owned()));
        }
        Ok(Backend { name: name.to_owned(), node: self.name.clone(), v4, v6 })
    }
}

/// A pod that answers HTTP on [`BACKEND_PORT`] with two lines: its name, and the address that the client came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// What it answers.
    pub name: String,
    /// The node that it runs on.
    pub node: String,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}
