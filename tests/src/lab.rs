//! A cluster on one machine: nodes as network namespaces on a switch, and a real control plane.
//!
//! ```text
//!   api: etcd, kube-apiserver, kube-controller-manager          client: HTTP, ARP, NDP
//!        │ mgmt 10.99.0.0/24                                        │
//!   ─────┴───────┬──────────────┬─────────── ···                    │
//!              node1          node2          each: kube-proxy, herald-speaker, pods on lo
//!   ─────────────┴──────────────┴─────────── ··· ───────────────────┘
//!          lan 192.168.0.0/16, fd00:99::/64; VIPs lie here
//! ```
//!
//! It needs root, and one lab runs at a time on a machine: [`Lab::boot`] waits for its turn. What it starts it ends:
//! when it is dropped; by the kernel when its process dies; what is left then (namespaces, a folder), when the next lab
//! boots. `ip netns exec herald-lab-<pid>-<n>-node1 bash` enters a node.

pub mod controlplane;
pub mod endpoint;
mod folder;
pub mod frames;
pub mod gate;
pub mod herald;
pub mod http;
pub mod identity;
pub mod listener;
pub mod namespace;
pub mod network;
pub mod node;
pub mod observation;
pub mod prober;
pub mod process;
mod records;
pub mod relay;
mod serving;
pub mod steady;
pub mod wait;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::future::try_join_all;
use tokio::io::AsyncWriteExt;

use self::controlplane::ControlPlane;
use self::endpoint::Endpoint;
use self::folder::{Folder, Turn};
use self::herald::Installation;
use self::http::{Answer, Failure};
use self::identity::Identity;
use self::listener::Listener;
use self::namespace::Namespace;
use self::network::{Network, Segment};
use self::node::{Node, PROXY_HEALTH_PORT};
use self::prober::Prober;
use self::process::Process;
use self::relay::{Asked, Fault, Infliction, Relay};
use self::steady::Steady;

/// The client's number on the LAN.
const CLIENT_HOST: u8 = 200;
/// Long enough for kube-proxy to begin while the machine compiles something.
const PROXY_START: Duration = Duration::from_secs(60);

/// A running cluster. See the module's documentation.
pub struct Lab {
    // Dropped from the top: first who runs, then where it ran, last the right to run.
    processes: Mutex<BTreeMap<String, Process>>,
    plane: ControlPlane,
    installation: OnceLock<Installation>,
    nodes: Vec<Node>,
    client: Namespace,
    controllers: Mutex<BTreeMap<u8, Namespace>>,
    network: Network,
    folder: Folder,
    _turn: Turn,
}

impl Lab {
    /// Boots a cluster of `nodes` nodes, 1 to 20, with kube-proxy on each and without Herald.
    pub async fn boot(nodes: u8) -> anyhow::Result<Self> {
        let mut lab = Self::boot_bare(nodes).await?;
        lab.plane.start_controller_manager()?;
        for node in &lab.nodes {
            lab.start_proxy(node)?;
        }
        try_join_all(lab.nodes.iter().map(|node| lab.proxy_ready(node))).await?;
        Ok(lab)
    }

    /// As [`Lab::boot`], with nothing of Kubernetes but etcd and the API server: what is measured beside them is Herald's.
    pub async fn boot_bare(nodes: u8) -> anyhow::Result<Self> {
        ensure!((1..=20).contains(&nodes), "a lab has 1 to 20 nodes, not {nodes}");
        folder::check_machine()?;
        let turn = Turn::wait().await?;
        namespace::sweep().context("end what an earlier lab left")?;
        let folder = Folder::create()?;
        let named = |host: &str| folder.namespace(host);
        let network = Network::create(named("switch"))?;
        let api = Namespace::create(named("api"))?;
        let identities = components();
        let plane = ControlPlane::boot(api, &network, folder.path(), &identities);
        let places = async {
            let client = Namespace::create(named("client"))?;
            network.plug("client", CLIENT_HOST, &client, &[Segment::Lan])?;
            let nodes = (1..=nodes)
                .map(|number| Node::create(number, named(&format!("node{number}")), &network))
                .collect::<anyhow::Result<Vec<_>>>()?;
            nodes.iter().try_for_each(|node| node.route_pods_of(&nodes))?;
            Ok((client, nodes))
        };
        let (plane, (client, nodes)) = futures::future::try_join(plane, places).await?;
        let lab = Self {
            processes: Mutex::default(),
            plane,
            installation: OnceLock::new(),
            nodes,
            client,
            controllers: Mutex::default(),
            network,
            folder,
            _turn: turn,
        };
        try_join_all(lab.nodes.iter().map(|node| node.register(lab.client()))).await?;
        Ok(lab)
    }

    /// Runs `test` in a lab of `nodes` nodes. If it fails, the error tells the last lines of the logs, and the folder is
    /// kept.
    pub async fn run(
        nodes: u8,
        test: impl AsyncFnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let lab = Self::boot(nodes).await?;
        let outcome = test(&lab).await;
        if outcome.is_err() {
            lab.keep_folder();
        }
        outcome.with_context(|| lab.tails())
    }

    /// Its name, unlike that of any other lab: `<name>-<host>` are its namespaces.
    pub fn name(&self) -> &str {
        self.folder.name()
    }

    /// A client of the API server with every right.
    pub fn client(&self) -> kube::Client {
        self.plane.client()
    }

    /// A kubeconfig with every right, which works outside the lab's namespaces.
    pub fn kubeconfig(&self) -> &Path {
        self.plane.admin_kubeconfig()
    }

    /// The control plane.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// Every node, in the order of their names.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node called `name`; an error when there is none.
    pub fn node(&self, name: &str) -> anyhow::Result<&Node> {
        let found = self.nodes.iter().find(|node| node.name() == name);
        found.with_context(|| format!("the lab has no node {name}"))
    }

    /// The namespace of the client, which is on the LAN alone.
    pub fn client_namespace(&self) -> &Namespace {
        &self.client
    }

    /// Both segments.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where logs, kubeconfigs and etcd's data lie. Deleted with the lab; after a
    /// panic or an error in [`Lab::run`] kept beside, as `herald-lab-failed`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Has [`Lab::folder`] kept beside when the lab ends, as after an error in [`Lab::run`].
    pub fn keep_folder(&self) {
        self.folder.keep();
    }

    /// GETs `/` from `server` as the client, over a connection of its own.
    pub async fn get(&self, server: SocketAddr, patience: Duration) -> Result<Answer, Failure> {
        let get = self.client.spawn(http::get(server, "/", patience));
        get.await.unwrap_or_else(|error| Err(Failure::Broken(server, std::io::Error::other(error))))
    }

    /// Asks the LAN from the client, every `period`, who has each of `addresses`, until told to finish.
    pub async fn probe(&self, addresses: &[IpAddr], period: Duration) -> anyhow::Result<Prober> {
        Prober::start(&self.client, CLIENT_HOST, addresses, period).await
    }

    /// Listens on the LAN as the client to what owners announce of IPv4 addresses.
    pub async fn listen(&self) -> anyhow::Result<Listener> {
        Listener::start(&self.client).await
    }

    /// GETs `/` from `server` as the client every `period`, each over a connection of its own, until told to finish.
    pub fn connect_steadily(
        &self,
        server: SocketAddr,
        period: Duration,
        patience: Duration,
    ) -> Steady {
        Steady::start(&self.client, server, period, patience)
    }

    /// Makes `endpoints` all that the Service `service` of `namespace`, which has no selector, has.
    pub async fn set_endpoints(
        &self,
        namespace: &str,
        service: &str,
        endpoints: &[Endpoint],
    ) -> anyhow::Result<()> {
        endpoint::set_endpoints(self.client(), namespace, service, endpoints).await
    }

    /// Runs kubectl as admin and returns what it printed; an error with its words when it fails.
    pub async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.kubectl_with(arguments, "").await
    }

    /// Whether kubectl says that something may be done: `question` is what `kubectl auth can-i` is asked, a verb and what it
    /// is done to. An error when it says neither yes nor no.
    pub async fn can_i(&self, question: &[&str]) -> anyhow::Result<bool> {
        let asked = [&["auth", "can-i"], question].concat();
        // It says "no" by its status too.
        let output = self.kubectl_output(&asked, "").await?;
        match String::from_utf8_lossy(&output.stdout).trim() {
            "yes" => Ok(true),
            said if said.split_whitespace().next() == Some("no") => Ok(false),
            said => {
                let why = String::from_utf8_lossy(&output.stderr);
                bail!("kubectl {}: {said:?}, {}", asked.join(" "), why.trim())
            }
        }
    }

    /// Applies a manifest in YAML or JSON, of one or several documents.
    pub async fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        self.kubectl_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], manifest)
            .await?;
        Ok(())
    }

    async fn kubectl_with(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let Output { status, stdout, stderr } = self.kubectl_output(arguments, input).await?;
        let said = String::from_utf8_lossy(&stderr);
        ensure!(status.success(), "kubectl {}: {status}: {}", arguments.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    /// What kubectl says of `arguments`, whether it succeeds or not.
    async fn kubectl_output(&self, arguments: &[&str], input: &str) -> anyhow::Result<Output> {
        let told = || format!("kubectl {}", arguments.join(" "));
        let mut child = tokio::process::Command::new(self.plane.assets().join("kubectl"))
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            // Discovery is cached below the home otherwise, where every lab would leave some.
            .arg("--cache-dir")
            .arg(self.folder().join("kubectl-cache"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(told)?;
        let mut stdin = child.stdin.take().context("kubectl's standard input is piped")?;
        let write = async move {
            // kubectl that does not read its input says why by its status.
            stdin.write_all(input.as_bytes()).await.ok();
        };
        let ((), output) = futures::future::join(write, child.wait_with_output()).await;
        output.with_context(told)
    }

    /// As [`wait::await_condition`], and an error tells the last lines of what runs on the nodes.
    pub async fn await_condition<T>(
        &self,
        what: &str,
        deadline: Duration,
        probe: impl AsyncFnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        wait::await_condition(what, deadline, probe).await.with_context(|| self.tails())
    }

    /// The last lines of every log of the nodes' processes and of the controllers.
    pub fn tails(&self) -> String {
        let mut text = String::new();
        for process in self.processes().values() {
            // Writing to a String does not fail.
            writeln!(text, "--- {}\n{}", process.log().display(), process.tail(15)).ok();
        }
        text
    }

    /// The kube-proxy of `node`.
    pub fn start_proxy(&self, node: &Node) -> anyhow::Result<Process> {
        let kubeconfig = self.plane.kubeconfig(&Identity::proxy())?;
        let proxy = node.start_proxy(self.plane.assets(), &kubeconfig, self.folder())?;
        self.keep(proxy.clone());
        Ok(proxy)
    }

    /// Waits until the kube-proxy of `node` says that it is well: which it is while it begins, too.
    pub async fn proxy_ready(&self, node: &Node) -> anyhow::Result<()> {
        let health = SocketAddr::from(([127, 0, 0, 1], PROXY_HEALTH_PORT));
        let what = format!("kube-proxy of {} is healthy", node.name());
        self.await_condition(&what, PROXY_START, async || {
            let get = http::get(health, "/healthz", Duration::from_secs(1));
            let answer = node.namespace().spawn(get).await??;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .await
    }

    /// Takes `node` off the API's network at the switch; it keeps its carrier.
    pub fn cut_api(&self, node: &Node) -> anyhow::Result<()> {
        self.network.cut(Segment::Management, node.name())
    }

    /// Undoes [`Lab::cut_api`].
    pub fn heal_api(&self, node: &Node) -> anyhow::Result<()> {
        self.network.heal(Segment::Management, node.name())
    }

    /// Takes `node` off the LAN at the switch; it keeps its carrier.
    pub fn cut_lan(&self, node: &Node) -> anyhow::Result<()> {
        self.network.cut(Segment::Lan, node.name())
    }

    /// Undoes [`Lab::cut_lan`].
    pub fn heal_lan(&self, node: &Node) -> anyhow::Result<()> {
        self.network.heal(Segment::Lan, node.name())
    }

    /// Takes the carrier from both interfaces of `node`.
    pub fn links_down(&self, node: &Node) -> anyhow::Result<()> {
        self.network.unplug_wholly(node.name())
    }

    /// Undoes [`Lab::links_down`].
    pub fn links_up(&self, node: &Node) -> anyhow::Result<()> {
        self.network.replug_wholly(node.name())
    }

    /// What a node's loss is to the others: whatever ran on it stands still at once, so that none of it notices that both
    /// links go down; then it is killed.
    pub fn power_loss(&self, node: &Node) -> anyhow::Result<()> {
        let suffix = format!("-{}", node.name());
        let names: Vec<_> = self.processes().keys().cloned().collect();
        let ran: Vec<Process> = names
            .iter()
            .filter(|name| name.ends_with(&suffix))
            .filter_map(|name| self.forget(name))
            .collect();
        for process in &ran {
            // One that was stopped or has ended before stands still as well.
            if process.status()?.is_none() {
                process.stop()?;
            }
        }
        self.links_down(node)?;
        ran.iter().try_for_each(Process::kill)
    }

    /// Has Herald's programs that are started from now on reach the API server through a relay, which can do them harm.
    pub async fn relay(&self) -> anyhow::Result<&Relay> {
        self.plane.relay().await
    }

    /// Has the API server behind the relay forget what was stored before this call, until what is returned is dropped: a
    /// watch that runs ends with 410, and each that names a version from before does so too, however often it is tried.
    /// Only who lists anew learns what comes after.
    pub async fn forget_history(&self) -> anyhow::Result<Infliction> {
        let relay = self.relay().await?;
        let now = self.plane.new_version().await?;
        let forgotten = move |from: u64| from < now;
        let fits = move |asked: &Asked| asked.watch && asked.version.is_some_and(forgotten);
        Ok(relay.inflict(Fault::Gone, fits))
    }

    /// Suspends the API server: connections stand, and nothing answers.
    pub fn pause_api(&self) -> anyhow::Result<()> {
        self.plane.apiserver().stop()
    }

    /// Undoes [`Lab::pause_api`].
    pub fn resume_api(&self) -> anyhow::Result<()> {
        self.plane.apiserver().cont()
    }

    /// Kills the API server.
    pub fn stop_api(&self) -> anyhow::Result<()> {
        self.plane.stop_api()
    }

    /// Starts the API server after [`Lab::stop_api`], and waits until it is ready.
    pub async fn start_api(&self) -> anyhow::Result<()> {
        self.plane.start_api().await
    }

    /// Lets the client believe for good that `vip` is at `node`, as if the node had answered for it.
    pub fn pretend_owner(&self, vip: IpAddr, node: &Node) -> anyhow::Result<()> {
        network::remember_neighbour(&self.client, vip, node.lan_mac())
    }

    fn processes(&self) -> MutexGuard<'_, BTreeMap<String, Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds `process` until the lab ends or another of its name takes its place.
    fn keep(&self, process: Process) {
        self.processes().insert(process.name().to_owned(), process);
    }

    fn forget(&self, name: &str) -> Option<Process> {
        self.processes().remove(name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for process in std::mem::take(&mut *self.processes()).into_values() {
            if let Err(error) = process.kill() {
                tracing::warn!("{error:#}");
            }
        }
    }
}

/// Who logs in besides the control plane itself.
fn components() -> Vec<Identity> {
    let accounts = Installation::ALL.into_iter().flat_map(Installation::accounts);
    accounts.chain([Identity::proxy()]).collect()
}

/// The root of the work tree.
fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}
