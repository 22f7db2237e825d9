//! Herald's own processes: installed from `manifests/`, run under exactly the rights that those give.

use std::collections::btree_map::Entry;
use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::gate::Gate;
use super::http::{self, Answer};
use super::identity::Identity;
use super::namespace::Namespace;
use super::network::Segment;
use super::node::Node;
use super::process::{Process, Program};
use super::{Lab, workspace};

/// The number of controller replica 0 on the management network.
const CONTROLLER_HOST: u8 = 100;
/// How long a controller may take to answer at one of its endpoints.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where Herald is installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Installation {
    /// By `manifests/`, in `herald-system`.
    #[default]
    HeraldSystem,
    /// By its overlay for a cluster that changes over, in `metallb-system`.
    MetallbSystem,
}

impl Installation {
    /// Every installation.
    pub const ALL: [Self; 2] = [Self::HeraldSystem, Self::MetallbSystem];

    /// The namespace of its ServiceAccounts, Leases and pools.
    pub const fn namespace(self) -> &'static str {
        match self {
            Self::HeraldSystem => "herald-system",
            Self::MetallbSystem => "metallb-system",
        }
    }

    /// The folder that `kubectl apply -k` takes, in the work tree.
    const fn manifests(self) -> &'static str {
        match self {
            Self::HeraldSystem => "manifests",
            Self::MetallbSystem => "manifests/overlays/metallb-system",
        }
    }

    /// The ServiceAccount of each of its components.
    pub(super) fn accounts(self) -> [Identity; 2] {
        ["herald-controller", "herald-speaker"]
            .map(|name| Identity::service_account(self.namespace(), name))
    }
}

/// Where Herald's programs lie: `HERALD_BIN_DIR`, or cargo's release folder.
fn binaries() -> PathBuf {
    match env::var_os("HERALD_BIN_DIR").filter(|path| !path.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => {
            let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
            target.unwrap_or_else(|| workspace().join("target")).join("release")
        }
    }
}

impl Lab {
    /// Installs Herald's objects by `kubectl apply -k manifests`: see [`Lab::install_as`].
    pub async fn install(&self) -> anyhow::Result<()> {
        self.install_as(Installation::HeraldSystem).await
    }

    /// Installs Herald's objects as a user would, by `kubectl apply -k`; a lab takes one installation. Its workloads stay
    /// mere objects, as no kubelet runs here: see [`Lab::start_controller`] and [`Lab::start_speaker`].
    pub async fn install_as(&self, installation: Installation) -> anyhow::Result<()> {
        let first = *self.installation.get_or_init(|| installation);
        ensure!(first == installation, "the lab has {first:?} already");
        let manifests = workspace().join(installation.manifests());
        self.kubectl(&["apply", "-k", &manifests.to_string_lossy()]).await?;
        Ok(())
    }

    /// Starts replica `replica`, 0 to 9, of the controller, in a namespace of its own on the API's network.
    ///
    /// It is called `herald-controller-<replica>`, and takes the place of one of that name.
    pub fn start_controller(&self, replica: u8, arguments: &[&str]) -> anyhow::Result<Process> {
        ensure!(replica <= 9, "controllers are numbered 0 to 9, not {replica}");
        let kubeconfig = self.plane.relayed_kubeconfig(&self.account("herald-controller"))?;
        let program = self
            .program("herald-controller", &format!("herald-controller-{replica}"), &kubeconfig)
            .args(arguments)
            .without_capabilities();
        let mut places = self.controllers.lock().unwrap_or_else(PoisonError::into_inner);
        let place = match places.entry(replica) {
            Entry::Occupied(place) => place.into_mut(),
            Entry::Vacant(place) => {
                let host = format!("ctl{replica}");
                let namespace = Namespace::create(self.folder.namespace(&host))?;
                let segments = [Segment::Management];
                self.network.plug(&host, CONTROLLER_HOST + replica, &namespace, &segments)?;
                place.insert(namespace)
            }
        };
        let process = program.start(place, self.folder())?;
        self.keep(process.clone());
        Ok(process)
    }

    /// GETs `path` from `port` of controller replica `replica`, as a probe on its own host would.
    pub async fn ask_controller(
        &self,
        replica: u8,
        port: u16,
        path: &'static str,
    ) -> anyhow::Result<Answer> {
        let server = SocketAddr::from(([127, 0, 0, 1], port));
        let asked = {
            let places = self.controllers.lock().unwrap_or_else(PoisonError::into_inner);
            let place = places.get(&replica);
            let place = place.with_context(|| format!("no controller {replica} was started"))?;
            place.spawn(http::get(server, path, PATIENCE))
        };
        Ok(asked.await??)
    }

    /// Starts the speaker of `node`, called `herald-speaker-<node>`, with NET_RAW as its only capability.
    pub fn start_speaker(&self, node: &Node, arguments: &[&str]) -> anyhow::Result<Process> {
        let identity = self.account("herald-speaker");
        let kubeconfig = self.plane.relayed_kubeconfig(&identity)?;
        self.start_speaker_with(node, &kubeconfig, arguments)
    }

    /// As [`Lab::start_speaker`], with `gate` as the API server that it is configured to use.
    pub fn start_speaker_through(
        &self,
        gate: &Gate,
        node: &Node,
        arguments: &[&str],
    ) -> anyhow::Result<Process> {
        let identity = self.account("herald-speaker");
        let kubeconfig = self.plane.kubeconfig_to(gate.address(), &identity)?;
        self.start_speaker_with(node, &kubeconfig, arguments)
    }

    fn start_speaker_with(
        &self,
        node: &Node,
        kubeconfig: &Path,
        arguments: &[&str],
    ) -> anyhow::Result<Process> {
        let process = self
            .program("herald-speaker", &format!("herald-speaker-{}", node.name()), kubeconfig)
            .args(["--node-name", node.name()])
            .args(arguments)
            .with_net_raw_only()
            .start(node.namespace(), self.folder())?;
        self.keep(process.clone());
        Ok(process)
    }

    /// The speaker of `node`, if one was started and the node has not lost its power since.
    pub fn speaker(&self, node: &Node) -> Option<Process> {
        self.processes().get(&format!("herald-speaker-{}", node.name())).cloned()
    }

    /// The namespace that Herald is installed in, or would be.
    pub(super) fn herald_namespace(&self) -> &'static str {
        self.installation.get().copied().unwrap_or_default().namespace()
    }

    /// The ServiceAccount that `binary` runs as.
    fn account(&self, binary: &str) -> Identity {
        Identity::service_account(self.herald_namespace(), binary)
    }

    /// The program `binary` of Herald, to be called `name`, logged in by the file `kubeconfig`.
    fn program(&self, binary: &str, name: &str, kubeconfig: &Path) -> Program {
        Program::new(name, binaries().join(binary))
            .args(["--kubeconfig".into(), kubeconfig.as_os_str().to_owned()])
            .args(["--namespace", self.herald_namespace()])
    }
}
