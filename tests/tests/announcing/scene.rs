//! What the stories have in common: Services with addresses, speakers, and who answers for what.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use herald_core::ownership::record::{Claim, Holder, Session};
use herald_tests::lab::Lab;
use herald_tests::lab::endpoint::Endpoint;
use herald_tests::lab::node::{Backend, Node};
use herald_tests::lab::observation::{Ask, Observation, later};
use herald_tests::lab::prober::Prober;
use herald_tests::lab::process::Process;
use k8s_openapi::api::core::v1::Service;
use kube::Api;

/// Where Herald is installed.
pub(crate) const NAMESPACE: &str = "herald-system";
/// For what is not measured: long enough for a machine that compiles beside.
pub(crate) const SETTLE: Duration = Duration::from_secs(30);
/// Between two questions of the prober.
pub(crate) const ASKS: Duration = Duration::from_millis(10);
/// A dead owner is replaced within this: evidence in 0.7 s, two writes, and the load of a machine that does all of it.
pub(crate) const REPLACED_WITHIN: Duration = Duration::from_millis(1_500);
/// Two may answer while a planned move is heard of: far less than the second that it would take unheard (R5).
const OVERLAP: Duration = Duration::from_millis(250);
/// By then the last question is answered, or never is: no answer is older than 450 ms (R8).
const ANSWERED_WITHIN: Duration = Duration::from_millis(500);
/// A speaker is heard and probed by its peers so soon after it took an address: a prober indicts nobody whom it never heard.
const HEARD: Duration = Duration::from_secs(1);

const CONFIGURATION: &str = r#"
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: herald-system}
spec: {addresses: ["192.168.112.0/24", "fd00:99::112:0/112"]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan, namespace: herald-system}
spec: {ipAddressPools: [lan]}
"#;

/// Herald is installed, one pool is announced on the LAN, and no speaker runs yet.
pub(crate) struct Scene<'l> {
    pub(crate) lab: &'l Lab,
}

impl<'l> Scene<'l> {
    pub(crate) async fn set(lab: &'l Lab) -> anyhow::Result<Self> {
        lab.install().await?;
        // The API server serves a new kind a moment after it took its definition.
        let configure = async || lab.apply(CONFIGURATION).await;
        lab.await_condition("the pool is taken", SETTLE, configure).await?;
        Ok(Self { lab })
    }

    /// Makes the Service `name` with `vips` in its status, at most one of each family, served by `backends`.
    pub(crate) async fn serve(
        &self,
        name: &str,
        policy: &str,
        vips: &[IpAddr],
        backends: &[&Backend],
    ) -> anyhow::Result<()> {
        self.lab.serve(name, policy, vips).await?;
        self.back(name, backends).await
    }

    /// Makes `backends` all that the Service `name` has.
    pub(crate) async fn back(&self, name: &str, backends: &[&Backend]) -> anyhow::Result<()> {
        let endpoints: Vec<_> = backends.iter().map(|one| Endpoint::ready(one)).collect();
        self.lab.set_endpoints("default", name, &endpoints).await
    }

    pub(crate) fn services(&self) -> Api<Service> {
        Api::default_namespaced(self.lab.client())
    }

    /// Starts a speaker on every node.
    pub(crate) fn speak(&self) -> anyhow::Result<Vec<Process>> {
        self.lab.nodes().iter().map(|node| self.speak_on(node)).collect()
    }

    /// Starts the speaker of `node`.
    pub(crate) fn speak_on(&self, node: &Node) -> anyhow::Result<Process> {
        self.lab.start_speaker(node, &["--log-level", "debug"])
    }

    pub(crate) async fn claims(&self) -> anyhow::Result<BTreeMap<IpAddr, Claim>> {
        self.lab.claims().await
    }

    /// Whose the claims are.
    pub(crate) async fn holders(&self) -> anyhow::Result<BTreeMap<IpAddr, Holder>> {
        let claims = self.claims().await?.into_iter();
        Ok(claims.map(|(vip, claim)| (vip, claim.holder)).collect())
    }

    pub(crate) async fn sessions(&self) -> anyhow::Result<BTreeMap<String, Session>> {
        self.lab.sessions().await
    }

    /// Waits until each node of `nodes` has an open session, and neither leaves.
    pub(crate) async fn await_sessions(&self, nodes: &[Node]) -> anyhow::Result<()> {
        self.lab
            .await_condition("the sessions are open", SETTLE, async || {
                self.lab.check_sessions(nodes).await
            })
            .await
    }

    /// Waits until all of `vips` are answered, and returns by whom: the same node for all.
    pub(crate) async fn await_owner(
        &self,
        prober: &Prober,
        vips: &[IpAddr],
    ) -> anyhow::Result<&'l Node> {
        self.await_owner_but(prober, vips, None).await
    }

    /// As [`Scene::await_owner`], by another node than `former`.
    pub(crate) async fn await_owner_but(
        &self,
        prober: &Prober,
        vips: &[IpAddr],
        former: Option<&Node>,
    ) -> anyhow::Result<&'l Node> {
        self.lab.await_owner(prober, vips, former, SETTLE).await
    }

    /// Waits until `owner` has announced `vip` since `since`, and returns when it first did. The table of answers comes
    /// before the announcement: an answer may be seen, and nothing announced yet.
    pub(crate) async fn await_announcement(
        &self,
        prober: &Prober,
        vip: IpAddr,
        owner: &Node,
        since: SystemTime,
    ) -> anyhow::Result<SystemTime> {
        self.lab
            .await_condition(&format!("{vip} is announced"), SETTLE, async || {
                let seen = prober.seen(vip)?;
                Ok(seen.announced_after(since, owner.lan_mac()).context("not yet")?.at)
            })
            .await
    }

    /// Waits until the prober, which asks for `vip`, has done so for `span` longer, whatever is answered.
    pub(crate) async fn observe(
        &self,
        prober: &Prober,
        vip: IpAddr,
        span: Duration,
    ) -> anyhow::Result<()> {
        let until = prober.seen(vip)?.ended + span;
        self.lab
            .await_condition("the prober has asked on", span + SETTLE, async || {
                ensure!(prober.seen(vip)?.ended >= until, "it asks");
                Ok(())
            })
            .await
    }

    /// Waits until the owner of `vips` is known to the peers that probe it, and returns it.
    pub(crate) async fn await_probed_owner(
        &self,
        prober: &Prober,
        vips: &[IpAddr],
    ) -> anyhow::Result<&'l Node> {
        let owner = self.await_owner(prober, vips).await?;
        self.observe(prober, vips[0], HEARD).await?;
        Ok(owner)
    }

    /// An error if a question for one of `vips` that was asked since `since` and before this call is not answered.
    pub(crate) async fn all_answered(
        &self,
        prober: &Prober,
        vips: &[IpAddr],
        since: SystemTime,
    ) -> anyhow::Result<()> {
        let until = SystemTime::now();
        for &vip in vips {
            self.observe(prober, vip, ANSWERED_WITHIN).await?;
            let seen = prober.seen(vip)?.between(since, until);
            let (asks, unanswered) = (seen.asks.len(), seen.unanswered());
            ensure!(asks > 0 && unanswered == 0, "{vip}: {unanswered} of {asks} unanswered");
        }
        Ok(())
    }

    /// GETs `/` from `vip` as the client until that succeeds; what was answered.
    pub(crate) async fn reach(&self, vip: IpAddr) -> anyhow::Result<String> {
        self.lab
            .await_condition(&format!("{vip} is reached"), SETTLE, async || {
                let answer = self.lab.get(SocketAddr::new(vip, 80), Duration::from_secs(1)).await?;
                ensure!(answer.status == 200, "{answer:?}");
                Ok(answer.body)
            })
            .await
    }
}

/// Several Services at once.
pub(crate) async fn all<T>(
    each: impl IntoIterator<Item = impl Future<Output = anyhow::Result<T>>>,
) -> anyhow::Result<Vec<T>> {
    try_join_all(each).await
}

/// An error if two hosts answered one question.
pub(crate) fn one_voice(vip: IpAddr, seen: &Observation) -> anyhow::Result<()> {
    let several = seen.answered_by_several();
    ensure!(several.is_empty(), "{vip}: {} questions had two answers: {several:?}", several.len());
    Ok(())
}

/// An error if two hosts answered side by side for longer than a planned move may take to be heard of; `moves` such moves were
/// made.
pub(crate) fn one_voice_but_for(
    moves: usize,
    vip: IpAddr,
    seen: &Observation,
) -> anyhow::Result<usize> {
    let several = seen.answered_by_several();
    let mut runs: Vec<(&Ask, &Ask)> = Vec::new();
    for ask in &several {
        match runs.last_mut() {
            Some((_, last)) if later(last.at, ask.at) < Duration::from_secs(1) => *last = ask,
            _ => runs.push((ask, ask)),
        }
    }
    ensure!(runs.len() <= moves, "{vip}: {several:?}");
    for (first, last) in &runs {
        let took = later(first.at, last.at);
        ensure!(took < OVERLAP, "{vip}: two answered for {took:?}: {several:?}");
    }
    Ok(several.len())
}

/// Times between two moments, in milliseconds, signed.
pub(crate) fn millis(from: SystemTime, to: SystemTime) -> f64 {
    match to.duration_since(from) {
        Ok(span) => span.as_secs_f64() * 1e3,
        Err(error) => -error.duration().as_secs_f64() * 1e3,
    }
}
