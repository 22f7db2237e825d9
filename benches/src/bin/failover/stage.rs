//! Herald in a lab, with Services whose addresses are given by hand, so that only speakers are measured.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use herald_tests::lab::Lab;
use herald_tests::lab::endpoint::Endpoint;
use herald_tests::lab::node::{Backend, Node};
use herald_tests::lab::prober::Prober;
use k8s_openapi::api::core::v1::Service;
use kube::Api;

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

/// Herald is installed, one pool is announced on the LAN, and a pod serves.
pub(crate) struct Stage<'l> {
    pub(crate) lab: &'l Lab,
    backend: Backend,
}

impl<'l> Stage<'l> {
    pub(crate) async fn set(lab: &'l Lab) -> anyhow::Result<Self> {
        lab.install().await?;
        // The API server serves a new kind a moment after it took its definition.
        let configure = async || lab.apply(CONFIGURATION).await;
        lab.await_condition("the pool is taken", SETTLE, configure).await?;
        let backend = lab.nodes().first().context("a node")?.start_backend("backend").await?;
        Ok(Self { lab, backend })
    }

    /// Makes the Service `name` with `vips` in its status, at most one of each family, and an endpoint.
    pub(crate) async fn serve(&self, name: &str, vips: &[IpAddr]) -> anyhow::Result<()> {
        self.lab.serve(name, "Cluster", vips).await?;
        self.lab.set_endpoints("default", name, &[Endpoint::ready(&self.backend)]).await
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
        self.lab.await_owner(prober, vips, former, SETTLE).await
    }
}
