//! What every chapter works with: the cluster, the screen, and what was seen so far; and looks at the cluster's objects.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use herald_api::lease::Subject;
use herald_core::wire::Mac;
use herald_tests::lab::node::Node;
use herald_tests::lab::observation::later;
use herald_tests::lab::process::Process;
use herald_tests::lab::wait::await_condition;
use herald_tests::lab::{Lab, http};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::ListParams;

use super::screen::Screen;
use super::table::{Verdict, Verdicts};

/// Where Herald is installed.
pub(crate) const HERALD: &str = "herald-system";
/// The Lease of the controller that leads.
const LEADER: &str = "herald-controller";
/// Where the Services are.
pub(crate) const HOME: &str = "default";
/// Long enough for whatever takes no time worth naming, while the machine does something else.
pub(crate) const SETTLE: Duration = Duration::from_secs(30);
/// Where a speaker tells whether it is ready, unless told otherwise.
const HEALTH_PORT: u16 = 17472;

/// The cluster, the screen, and what was seen so far.
pub(crate) struct Stage<'a> {
    pub(crate) lab: Lab,
    pub(crate) screen: &'a Screen,
    /// The controller's replicas, by their names.
    pub(crate) controllers: RefCell<BTreeMap<String, Process>>,
    /// Who answered whom, over all chapters.
    pub(crate) asks: RefCell<Asks>,
    pub(crate) verdicts: RefCell<Verdicts>,
}

/// Questions who has an address, over all chapters.
#[derive(Default)]
pub(crate) struct Asks {
    /// All of them.
    pub(crate) all: usize,
    /// Those that several nodes answered.
    pub(crate) doubled: usize,
    /// Those of them that a planned move excuses: one each.
    pub(crate) excused: usize,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(screen: &'a Screen, lab: Lab) -> Self {
        Self {
            lab,
            screen,
            controllers: RefCell::default(),
            asks: RefCell::default(),
            verdicts: RefCell::default(),
        }
    }

    /// Records what was seen, and shows it.
    pub(crate) fn judge(&self, ok: bool, what: &str, expected: &str, seen: &str) {
        // What went wrong may be told in several lines.
        let seen = seen.split_whitespace().collect::<Vec<_>>().join(" ");
        let (what, expected) = (what.to_owned(), expected.to_owned());
        let verdict = Verdict { what, expected, seen, ok };
        self.screen.judge(verdict.word(), &format!("{}: {}", verdict.what, verdict.seen));
        self.verdicts.borrow_mut().0.push(verdict);
    }

    /// Runs kubectl and shows both the command and what it prints.
    pub(crate) async fn show_kubectl(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.screen.gap();
        self.screen.show(&format!("$ kubectl {}", arguments.join(" ")));
        let output = self.lab.kubectl(arguments).await?;
        self.screen.show_table(&output);
        Ok(())
    }

    /// The node whose hardware address on the LAN is `mac`.
    pub(crate) fn node_at(&self, mac: Mac) -> anyhow::Result<&Node> {
        let found = self.lab.nodes().iter().find(|node| node.lan_mac() == mac);
        found.with_context(|| format!("no node has the hardware address {mac}"))
    }

    /// The addresses in the status of the Service `name`.
    pub(crate) async fn addresses(&self, name: &str) -> anyhow::Result<Vec<IpAddr>> {
        let services: Api<Service> = Api::namespaced(self.lab.client(), HOME);
        let told = || format!("read the Service {name}");
        let service = services.get(name).await.with_context(told)?;
        let status = service.status.and_then(|status| status.load_balancer);
        let ingress = status.and_then(|status| status.ingress).unwrap_or_default();
        let addresses = ingress.into_iter().filter_map(|one| one.ip);
        addresses.map(|ip| ip.parse().with_context(|| format!("{name} has {ip}"))).collect()
    }

    /// Who holds each of Herald's Leases, by their names.
    pub(crate) async fn holders(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let leases: Api<Lease> = Api::namespaced(self.lab.client(), HERALD);
        let all = leases.list(&ListParams::default()).await.context("list the Leases")?;
        let holder = |lease: Lease| {
            let holder = lease.spec?.holder_identity.filter(|holder| !holder.is_empty())?;
            Some((lease.metadata.name?, holder))
        };
        Ok(all.items.into_iter().filter_map(holder).collect())
    }

    /// Waits until each speaker and the controller that leads have renewed their Leases since `moment`.
    pub(crate) async fn renewed(&self, moment: SystemTime) -> anyhow::Result<()> {
        let sessions =
            self.lab.nodes().iter().map(|node| Subject::Session(node.name().into()).name());
        let names: Vec<_> = sessions.chain([LEADER.to_owned()]).collect();
        let leases: Api<Lease> = Api::namespaced(self.lab.client(), HERALD);
        for name in names {
            await_condition(&format!("{name} is renewed"), SETTLE, async || {
                let spec = leases.get(&name).await?.spec.context("no spec")?;
                let renewed = SystemTime::from(spec.renew_time.context("never")?.0);
                ensure!(renewed > moment, "it was {:?} before", later(renewed, moment));
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// The node that the claim of each of `addresses` names; an error if one has none.
    pub(crate) async fn claimed(
        &self,
        addresses: &[IpAddr],
    ) -> anyhow::Result<BTreeMap<IpAddr, String>> {
        let holders = self.holders().await?;
        let node = |address: &IpAddr| {
            let lease = Subject::Claim(*address).name();
            let holder = holders.get(&lease).with_context(|| format!("nobody holds {lease}"))?;
            let (node, _) = holder.split_once('/').with_context(|| format!("holder {holder}"))?;
            Ok((*address, node.to_owned()))
        };
        addresses.iter().map(node).collect()
    }

    /// The replica of the controller that leads; an error if none does that runs.
    pub(crate) async fn leader(&self) -> anyhow::Result<String> {
        let holders = self.holders().await?;
        let identity = holders.get(LEADER).context("nobody leads")?;
        let (name, _) = identity.split_once('_').with_context(|| format!("holder {identity}"))?;
        ensure!(self.controllers.borrow().contains_key(name), "{name} leads, which is gone");
        Ok(name.to_owned())
    }

    /// Waits until the speaker of `node` says that it is ready, and its session is open.
    pub(crate) async fn speaker_ready(&self, node: &Node) -> anyhow::Result<()> {
        let what = format!("the speaker of {} is ready", node.name());
        let lease = Subject::Session(node.name().into()).name();
        await_condition(&what, SETTLE, async || {
            let health = ([127, 0, 0, 1], HEALTH_PORT).into();
            let get = http::get(health, "/readyz", Duration::from_secs(1));
            let answer = node.namespace().spawn(get).await??;
            ensure!(answer.status == 200, "{}", answer.body);
            ensure!(self.holders().await?.contains_key(&lease), "{lease} is not held");
            Ok(())
        })
        .await
    }

    /// As [`Stage::speaker_ready`], of every node.
    pub(crate) async fn speakers_ready(&self) -> anyhow::Result<()> {
        let nodes = self.lab.nodes().iter();
        futures::future::try_join_all(nodes.map(|node| self.speaker_ready(node))).await?;
        Ok(())
    }
}

/// `items` as a sentence has them.
pub(crate) fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
