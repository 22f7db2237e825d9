//! Services whose addresses are given by hand, as a controller would, so that only speakers are looked at; and who answers
//! for them.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use herald_core::wire::Mac;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::Lab;
use super::node::Node;
use super::prober::Prober;

/// An owner answered one of so many last questions; the others may be under way.
const LATEST: usize = 5;

impl Lab {
    /// Makes the Service `name`, without a selector, and writes `vips` into its status: at most one of each family.
    ///
    /// `policy` is its externalTrafficPolicy. For its endpoints see [`Lab::set_endpoints`].
    pub async fn serve(&self, name: &str, policy: &str, vips: &[IpAddr]) -> anyhow::Result<()> {
        let family = |vip: &IpAddr| if vip.is_ipv4() { "IPv4" } else { "IPv6" };
        let families: Vec<_> = vips.iter().map(family).collect();
        let stack = if vips.len() > 1 { "RequireDualStack" } else { "SingleStack" };
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {
                "type": "LoadBalancer",
                "ipFamilies": families,
                "ipFamilyPolicy": stack,
                "externalTrafficPolicy": policy,
                "ports": [{"port": 80}],
            },
        });
        let services: Api<Service> = Api::default_namespaced(self.client());
        let told = || format!("write the Service {name}");
        let apply = PatchParams::apply("lab").force();
        services.patch(name, &apply, &Patch::Apply(&service)).await.with_context(told)?;
        let ingress: Vec<_> = vips.iter().map(|vip| json!({"ip": vip})).collect();
        let status = json!({"status": {"loadBalancer": {"ingress": ingress}}});
        let merge = Patch::Merge(&status);
        services.patch_status(name, &PatchParams::default(), &merge).await.with_context(told)?;
        Ok(())
    }

    /// The node whose hardware address on the LAN `mac` is; an error when it is nobody's.
    pub fn node_of(&self, mac: Mac) -> anyhow::Result<&Node> {
        let found = self.nodes().iter().find(|node| node.lan_mac() == mac);
        found.with_context(|| format!("no node has {mac}"))
    }

    /// Waits, for `deadline` at the most, until one node, another than `former`, answers for all of `vips`, which `prober`
    /// asks for.
    pub async fn await_owner(
        &self,
        prober: &Prober,
        vips: &[IpAddr],
        former: Option<&Node>,
        deadline: Duration,
    ) -> anyhow::Result<&Node> {
        let former = former.map(Node::lan_mac);
        self.await_condition("one node answers for all", deadline, async || {
            let mut owner = None;
            for &vip in vips {
                let mac = prober.answered_now(vip)?;
                ensure!(Some(mac) != former, "{vip} is still at {mac}");
                ensure!(*owner.get_or_insert(mac) == mac, "{vip} is at {mac}, not {owner:?}");
            }
            self.node_of(owner.context("no address")?)
        })
        .await
    }
}

impl Prober {
    /// Who answered one of the last questions for `vip`; an error when nobody did.
    pub fn answered_now(&self, vip: IpAddr) -> anyhow::Result<Mac> {
        let seen = self.seen(vip)?;
        let latest = seen.asks.iter().rev().take(LATEST).find_map(|ask| ask.answers.last());
        Ok(latest.with_context(|| format!("nobody answers for {vip}"))?.mac)
    }
}
