//! Herald in a lab, with Services whose addresses are given by hand, so that only speakers are measured.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use herald_core::wire::Mac;
use herald_tests::lab::Lab;
use herald_tests::lab::node::Node;
use herald_tests::lab::prober::Prober;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

/// For what is waited for and not measured.
pub(crate) const SETTLE: Duration = Duration::from_secs(60);

const CONFIGURATION: &str = r#"
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: herald-system}
spec: {addresses: ["192.168.112.0-192.168.143.255", "fd00:99::112:0/112"]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan, namespace: herald-system}
spec: {ipAddressPools: [lan], interfaces: [lan0]}
"#;

/// Herald is installed, and one pool is announced on the LAN.
#[derive(Clone, Copy)]
pub(crate) struct Stage<'l> {
    pub(crate) lab: &'l Lab,
}

impl<'l> Stage<'l> {
    pub(crate) async fn set(lab: &'l Lab) -> anyhow::Result<Self> {
        lab.install().await?;
        // The API server serves a new kind a moment after it took its definition.
        let configure = async || lab.apply(CONFIGURATION).await;
        lab.await_condition("the pool is taken", SETTLE, configure).await?;
        Ok(Self { lab })
    }

    /// Creates the Service `name` with `vips` in its status, at most one of each family, and an endpoint.
    pub(crate) async fn serve(&self, name: &str, vips: &[IpAddr]) -> anyhow::Result<()> {
        let told = || format!("create the Service {name}");
        let slices: Api<EndpointSlice> = Api::default_namespaced(self.lab.client());
        let mut families = Vec::new();
        for vip in vips {
            let (family, endpoint) = match vip {
                IpAddr::V4(_) => ("IPv4", "10.244.1.1"),
                IpAddr::V6(_) => ("IPv6", "fd00:244:1::1"),
            };
            families.push(family);
            let slice = serde_json::from_value(json!({
                "metadata": {
                    "name": format!("{name}-{}", family.to_lowercase()),
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": family,
                "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
                "endpoints": [{
                    "addresses": [endpoint],
                    "nodeName": "node1",
                    "conditions": {"ready": true, "serving": true, "terminating": false},
                }],
            }))?;
            slices.create(&PostParams::default(), &slice).await.with_context(told)?;
        }
        let stack = if vips.len() > 1 { "RequireDualStack" } else { "SingleStack" };
        let service = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "type": "LoadBalancer",
                "ipFamilies": families,
                "ipFamilyPolicy": stack,
                "ports": [{"port": 80}],
            },
        }))?;
        self.services().create(&PostParams::default(), &service).await.with_context(told)?;
        let ingress: Vec<_> = vips.iter().map(|vip| json!({"ip": vip})).collect();
        let status = json!({"status": {"loadBalancer": {"ingress": ingress}}});
        let merge = Patch::Merge(&status);
        let patched = self.services().patch_status(name, &PatchParams::default(), &merge).await;
        patched.with_context(told)?;
        Ok(())
    }

    pub(crate) fn services(&self) -> Api<Service> {
        Api::default_namespaced(self.lab.client())
    }

    /// Starts a speaker on every node.
    pub(crate) fn speak(&self) -> anyhow::Result<()> {
        self.lab.nodes().iter().try_for_each(|node| self.speak_on(node))
    }

    /// Starts the speaker of `node`.
    pub(crate) fn speak_on(&self, node: &Node) -> anyhow::Result<()> {
        self.lab.start_speaker(node, &[]).map(drop)
    }

    /// Has the speaker of `node` end in good order.
    pub(crate) async fn hush(&self, node: &Node) -> anyhow::Result<()> {
        let speaker = self.lab.speaker(node).context("it runs")?;
        speaker.sigterm()?;
        speaker.exited(SETTLE).await?;
        Ok(())
    }

    /// Waits until every session is open and nobody is doubted.
    pub(crate) async fn sessions_open(&self) -> anyhow::Result<()> {
        self.lab
            .await_condition("the sessions are open", SETTLE, async || {
                self.lab.check_sessions(self.lab.nodes()).await?;
                let sessions = self.lab.sessions().await?;
                let doubted = sessions.values().find(|session| session.doubted);
                ensure!(doubted.is_none(), "{doubted:?}");
                Ok(())
            })
            .await
    }

    /// Waits until one node answers for all of `vips`, which `prober` asks for; another one than `former`.
    pub(crate) async fn owner_but(
        &self,
        prober: &Prober,
        vips: &[IpAddr],
        former: Option<&Node>,
    ) -> anyhow::Result<&'l Node> {
        let former = former.map(Node::lan_mac);
        self.lab
            .await_condition("one node answers for all", SETTLE, async || {
                let mut owner = None;
                for &vip in vips {
                    let seen = prober.seen(vip)?;
                    let latest = seen.asks.iter().rev().take(5).find_map(|ask| ask.answers.last());
                    let mac = latest.with_context(|| format!("nobody answers for {vip}"))?.mac;
                    ensure!(Some(mac) != former, "{vip} is still at {mac}");
                    ensure!(*owner.get_or_insert(mac) == mac, "{vip} is at {mac}, not {owner:?}");
                }
                self.node_of(owner.context("no address")?)
            })
            .await
    }

    fn node_of(&self, mac: Mac) -> anyhow::Result<&'l Node> {
        let found = self.lab.nodes().iter().find(|node| node.lan_mac() == mac);
        found.with_context(|| format!("no node has {mac}"))
    }
}
