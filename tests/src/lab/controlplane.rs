//! etcd, kube-apiserver and, where it is wanted, kube-controller-manager in a namespace of their own.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;

use super::identity::{Door, Identity, write_kubeconfig, write_tokens};
use super::namespace::Namespace;
use super::network::{Network, Segment, management};
use super::process::{Process, Program};
use super::relay::Relay;
use super::wait::await_condition;

/// The API server's number on the management network.
const HOST: u8 = 1;
pub(super) const API_PORT: u16 = 6443;
const RELAY_PORT: u16 = 6444;
const SECOND_API_PORT: u16 = 6445;
/// Where etcd listens, in the control plane's own namespace.
const ETCD: &str = "http://127.0.0.1:2379";
/// Long enough for a cold start while the machine compiles something.
const START: Duration = Duration::from_secs(60);
/// What of kube-controller-manager a lab needs: endpoints of pods, deletion of what is owned and of namespaces.
const CONTROLLERS: &str = "endpointslice-controller,garbage-collector-controller,\
                           namespace-controller,serviceaccount-controller";

/// Where the programs of the control plane lie: `KUBEBUILDER_ASSETS`, or what `cargo xtask controlplane` says.
pub fn assets() -> anyhow::Result<PathBuf> {
    /// Cargo is asked once: it waits for whoever else builds in the same folder.
    static FOLDER: Mutex<Option<PathBuf>> = Mutex::new(None);
    if let Some(folder) = env::var_os("KUBEBUILDER_ASSETS").filter(|path| !path.is_empty()) {
        return Ok(PathBuf::from(folder));
    }
    let mut known = FOLDER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(folder) = &*known {
        return Ok(folder.clone());
    }
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
        .args(["xtask", "controlplane"])
        .current_dir(super::workspace())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("run `cargo xtask controlplane`; or set KUBEBUILDER_ASSETS")?;
    ensure!(output.status.success(), "`cargo xtask controlplane`: {}", output.status);
    let folder = String::from_utf8(output.stdout).context("the folder's name")?;
    Ok(known.insert(PathBuf::from(folder.trim())).clone())
}

/// A running control plane. Its fields end in this order.
pub struct ControlPlane {
    controller_manager: Option<Process>,
    apiserver: Mutex<Process>,
    etcd: Process,
    namespace: Namespace,
    assets: PathBuf,
    folder: PathBuf,
    /// The API server as the lab's namespaces see it.
    inside: Door,
    admin: Admin,
    relay: OnceCell<Relay>,
    second: OnceCell<Process>,
}

/// The way in from outside the lab's namespaces.
struct Admin {
    kubeconfig: PathBuf,
    client: Client,
}

impl ControlPlane {
    /// Starts etcd and the API server in `namespace`, and waits until that is ready.
    ///
    /// Only `identities` can log in, besides the admin and the controller manager.
    pub(super) async fn boot(
        namespace: Namespace,
        network: &Network,
        folder: &Path,
        identities: &[Identity],
    ) -> anyhow::Result<Self> {
        network.plug("api", HOST, &namespace, &[Segment::Management])?;
        let assets = assets()?;
        let known = [Identity::admin(), Identity::controller_manager()];
        write_tokens(&folder.join("tokens.csv"), &[&known, identities].concat())?;
        let etcd = etcd(&assets, folder).start(&namespace, folder)?;
        let apiserver = first_apiserver(&assets, folder).start(&namespace, folder)?;
        let authority = folder.join("certificates/apiserver.crt");
        await_condition("the API server has made its certificate", START, async || {
            ensure!(apiserver.status()?.is_none(), "it ended:\n{}", apiserver.tail(5));
            fs::read(&authority).with_context(|| format!("read {}", authority.display()))
        })
        .await?;
        let server = format!("https://{}:{API_PORT}", management(HOST));
        let inside = Door { server, authority: authority.clone() };
        let outside = Door { server: open_door(&namespace, API_PORT)?, authority };
        let kubeconfig = write_kubeconfig(folder, &outside, &Identity::admin())?;
        let client = client(&kubeconfig).await?;
        let plane = Self {
            controller_manager: None,
            apiserver: Mutex::new(apiserver),
            etcd,
            namespace,
            assets,
            folder: folder.to_owned(),
            inside,
            admin: Admin { kubeconfig, client },
            relay: OnceCell::new(),
            second: OnceCell::new(),
        };
        plane.ready().await?;
        plane.name_apiservers(&[]).await?;
        Ok(plane)
    }

    /// Makes the first API server and those at `others` the endpoints of `default/kubernetes`.
    pub(super) async fn name_apiservers(&self, others: &[Ipv4Addr]) -> anyhow::Result<()> {
        let addresses: Vec<_> = [management(HOST)].iter().chain(others).copied().collect();
        let endpoint = |address: &Ipv4Addr| json!({"addresses": [address]});
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": API_PORT, "protocol": "TCP"}],
            "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
        });
        let slices: Api<EndpointSlice> = Api::namespaced(self.client(), "default");
        let apply = PatchParams::apply("lab").force();
        let written = slices.patch("kubernetes", &apply, &Patch::Apply(&slice)).await;
        written.context("write the EndpointSlice of the API servers")?;
        Ok(())
    }

    /// A client with every right, that connects from outside the lab.
    pub fn client(&self) -> Client {
        self.admin.client.clone()
    }

    /// A kubeconfig with every right, for use from outside the lab's namespaces.
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin.kubeconfig
    }

    /// Where the programs lie.
    pub fn assets(&self) -> &Path {
        &self.assets
    }

    /// The API server's process.
    pub fn apiserver(&self) -> Process {
        self.apiserver.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// etcd's process.
    pub fn etcd(&self) -> &Process {
        &self.etcd
    }

    /// A kubeconfig for `identity`, for use in the lab's namespaces.
    pub(super) fn kubeconfig(&self, identity: &Identity) -> anyhow::Result<PathBuf> {
        write_kubeconfig(&self.folder, &self.inside, identity)
    }

    /// The relay, which the first call opens.
    pub(super) async fn relay(&self) -> anyhow::Result<&Relay> {
        let open = async || {
            let upstream = config(&self.kubeconfig(&Identity::controller_manager())?).await?;
            let address = SocketAddr::from((management(HOST), RELAY_PORT));
            Relay::open(&self.namespace, address, upstream, &self.folder.join("certificates")).await
        };
        self.relay.get_or_try_init(open).await
    }

    /// As [`ControlPlane::kubeconfig`], through the relay once there is one.
    pub(super) fn relayed_kubeconfig(&self, identity: &Identity) -> anyhow::Result<PathBuf> {
        if self.relay.get().is_none() {
            return self.kubeconfig(identity);
        }
        let server = format!("https://{}:{RELAY_PORT}", management(HOST));
        let door = Door { server, ..self.inside.clone() };
        let folder = self.folder.join("relayed");
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        write_kubeconfig(&folder, &door, identity)
    }

    /// Kills the API server.
    pub fn stop_api(&self) -> anyhow::Result<()> {
        self.apiserver().kill()
    }

    /// Starts the API server after [`ControlPlane::stop_api`], and waits until it is ready.
    pub async fn start_api(&self) -> anyhow::Result<()> {
        let first = first_apiserver(&self.assets, &self.folder);
        let started = first.start(&self.namespace, &self.folder)?;
        *self.apiserver.lock().unwrap_or_else(PoisonError::into_inner) = started;
        self.ready().await
    }

    /// Stores an object that is nobody's concern, and returns its version: whatever anybody has seen before is lower.
    pub(super) async fn new_version(&self) -> anyhow::Result<u64> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client(), "default");
        let metadata =
            ObjectMeta { generate_name: Some("moment-".to_owned()), ..ObjectMeta::default() };
        let map = ConfigMap { metadata, ..ConfigMap::default() };
        let stored = maps.create(&PostParams::default(), &map).await.context("store a moment")?;
        stored.resource_version().unwrap_or_default().parse().context("its version")
    }

    /// Waits until the API server says that it is ready.
    async fn ready(&self) -> anyhow::Result<()> {
        ready(&self.apiserver(), &self.admin.client).await
    }

    /// Where a second API server over the same store is found, which the first call starts: it listens on the control
    /// plane's address on the management network, and who reaches it through a node loses it with that node.
    pub(super) async fn second_apiserver(&self) -> anyhow::Result<SocketAddr> {
        let start = async || {
            let process = second_apiserver(&self.assets, &self.folder)
                .start(&self.namespace, &self.folder)?;
            let server = open_door(&self.namespace, SECOND_API_PORT)?;
            let folder = self.folder.join("second");
            fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
            let door = Door { server, ..self.inside.clone() };
            let kubeconfig = write_kubeconfig(&folder, &door, &Identity::admin())?;
            ready(&process, &client(&kubeconfig).await?).await?;
            anyhow::Ok(process)
        };
        self.second.get_or_try_init(start).await?;
        Ok(SocketAddr::from((management(HOST), SECOND_API_PORT)))
    }

    /// As [`ControlPlane::kubeconfig`], to the API server that is reached at `address`.
    pub(super) fn kubeconfig_to(
        &self,
        address: SocketAddr,
        identity: &Identity,
    ) -> anyhow::Result<PathBuf> {
        let door = Door { server: format!("https://{address}"), ..self.inside.clone() };
        let folder = self.folder.join(format!("to-{address}"));
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        write_kubeconfig(&folder, &door, identity)
    }

    /// Starts the controller manager.
    pub(super) fn start_controller_manager(&mut self) -> anyhow::Result<()> {
        let kubeconfig = self.kubeconfig(&Identity::controller_manager())?;
        let name = "kube-controller-manager";
        let started = Program::new(name, self.assets.join(name))
            .args([
                format!("--kubeconfig={}", kubeconfig.display()),
                format!("--controllers={CONTROLLERS}"),
                "--leader-elect=false".to_owned(),
            ])
            .start(&self.namespace, &self.folder)?;
        self.controller_manager = Some(started);
        Ok(())
    }
}

fn etcd(assets: &Path, folder: &Path) -> Program {
    let peers = "http://127.0.0.1:2380";
    Program::new("etcd", assets.join("etcd")).args([
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={ETCD}"),
        format!("--advertise-client-urls={ETCD}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        "--log-level=warn".to_owned(),
        // What it holds ends with the lab; a disk's syncs would only slow every write.
        "--unsafe-no-fsync".to_owned(),
    ])
}

fn first_apiserver(assets: &Path, folder: &Path) -> Program {
    apiserver("kube-apiserver", assets, folder).args([format!("--secure-port={API_PORT}")])
}

fn second_apiserver(assets: &Path, folder: &Path) -> Program {
    apiserver("kube-apiserver-second", assets, folder)
        .args([format!("--secure-port={SECOND_API_PORT}")])
}

fn apiserver(called: &str, assets: &Path, folder: &Path) -> Program {
    let certificates = folder.join("certificates");
    // The key that it makes for its certificate also signs tokens: nobody else's trust hangs on either.
    let key = certificates.join("apiserver.key");
    Program::new(called, assets.join("kube-apiserver")).args([
        format!("--etcd-servers={ETCD}"),
        format!("--cert-dir={}", certificates.display()),
        format!("--service-account-signing-key-file={}", key.display()),
        format!("--service-account-key-file={}", key.display()),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--token-auth-file={}", folder.join("tokens.csv").display()),
        "--authorization-mode=RBAC".to_owned(),
        // Nobody runs the pods of a lab, so nothing makes their accounts in time.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112".to_owned(),
        "--bind-address=0.0.0.0".to_owned(),
        format!("--advertise-address={}", management(HOST)),
        "--allow-privileged=true".to_owned(),
        // Who is behind `default/kubernetes` the lab says: see `name_apiservers`.
        "--endpoint-reconciler-type=none".to_owned(),
    ])
}

/// Waits until `apiserver`, which `client` reaches, says that it is ready.
async fn ready(apiserver: &Process, client: &Client) -> anyhow::Result<()> {
    await_condition("the API server is ready", START, async || {
        ensure!(apiserver.status()?.is_none(), "it ended:\n{}", apiserver.tail(5));
        // A list of no kind is a plain GET.
        let request = Request::new("/readyz").list(&ListParams::default())?;
        Ok(client.request_text(request).await?)
    })
    .await?;
    Ok(())
}

/// Lets processes outside the lab reach the API server at `port`: what connects to the returned URL, on this machine's
/// loopback, is carried on by the control plane's namespace.
fn open_door(namespace: &Namespace, port: u16) -> anyhow::Result<String> {
    let door = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .context("listen on loopback for the API server")?;
    door.set_nonblocking(true).context("make the API server's door non-blocking")?;
    let address = door.local_addr().context("the API server's door")?;
    namespace.spawn(async move {
        let door = TcpListener::from_std(door)?;
        loop {
            let (mut outside, _) = door.accept().await?;
            tokio::spawn(async move {
                let server = SocketAddr::from((management(HOST), port));
                // A connection that cannot be made ends the one outside, which is how its user learns of it.
                let mut inside = TcpStream::connect(server).await?;
                tokio::io::copy_bidirectional(&mut outside, &mut inside).await
            });
        }
        #[expect(unreachable_code, reason = "it names the type of the loop's errors")]
        Ok::<(), std::io::Error>(())
    });
    Ok(format!("https://{address}"))
}

/// A client by the file `kubeconfig`.
async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    Client::try_from(config(kubeconfig).await?).context("make a client of the API server")
}

async fn config(kubeconfig: &Path) -> anyhow::Result<Config> {
    let read = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("read {}", kubeconfig.display()))?;
    Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("use {}", kubeconfig.display()))
}
