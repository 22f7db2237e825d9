//! A real etcd and a real kube-apiserver on loopback, ended when dropped, or when the test's process dies.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use herald_cluster::client::{Clients, Options, connect};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep};

/// Long enough for a cold start while the machine compiles something.
const START: Duration = Duration::from_secs(90);
const TOKEN: &str = "test";

pub(crate) struct Server {
    apiserver: Child,
    etcd: Child,
    folder: PathBuf,
    _ports: [(TcpSocket, u16); 3],
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in [&mut self.apiserver, &mut self.etcd] {
            drop(child.kill());
            drop(child.wait());
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Server {
    pub(crate) async fn start() -> Result<Self> {
        let assets = assets()?;
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("api-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("tokens.csv"), format!("{TOKEN},test,test,\"system:masters\"\n"))?;
        let ports = [reserve()?, reserve()?, reserve()?];
        let [client, peer, secure] = ports.each_ref().map(|(_, port)| *port);
        let etcd = start(&assets, &folder, "etcd", &etcd_flags(&folder, client, peer))?;
        let apiserver =
            start(&assets, &folder, "kube-apiserver", &api_flags(&folder, client, secure))?;
        let mut server = Self { apiserver, etcd, folder, _ports: ports };
        server.write_kubeconfig(secure)?;
        server.ready().await?;
        Ok(server)
    }

    pub(crate) async fn clients(&self) -> Result<Clients> {
        let options = Options { kubeconfig: Some(self.kubeconfig()), context: None };
        Ok(connect(&options).await?)
    }

    /// Has the API server stand still: it accepts connections, and answers nothing.
    pub(crate) fn suspend(&self) -> Result<Suspended> {
        signal(&self.apiserver, "STOP")?;
        Ok(Suspended(self.apiserver.id()))
    }

    /// Has etcd stand still: the API server answers, but can neither read nor store.
    pub(crate) fn suspend_store(&self) -> Result<Suspended> {
        signal(&self.etcd, "STOP")?;
        Ok(Suspended(self.etcd.id()))
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    fn write_kubeconfig(&self, port: u16) -> Result<()> {
        let authority = self.folder.join("certificates/apiserver.crt");
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{port}"), "certificate-authority": authority,
            }}],
            "users": [{ "name": "test", "user": { "token": TOKEN } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        });
        Ok(fs::write(self.kubeconfig(), text.to_string())?)
    }

    async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            let log = || fs::read_to_string(self.folder.join("kube-apiserver.log"));
            ensure!(self.apiserver.try_wait()?.is_none(), "it ended: {}", log()?);
            let error = match self.try_ready().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            ensure!(Instant::now() < deadline, "not ready in time: {error:#}\n{}", log()?);
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn try_ready(&self) -> Result<()> {
        let api: Api<Namespace> = Api::all(self.clients().await?.writes);
        let metadata = ObjectMeta { name: Some("herald".to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        match api.create(&PostParams::default(), &namespace).await {
            Ok(_) => {}
            // By an attempt before.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(error.into()),
        }
        // It serves before all that it does at first is done.
        let ready = http::Request::get("/readyz").body(Vec::new())?;
        self.clients().await?.writes.request_text(ready).await?;
        Ok(())
    }
}

/// Goes on when it is dropped.
pub(crate) struct Suspended(u32);

impl Drop for Suspended {
    fn drop(&mut self) {
        drop(Command::new("kill").args(["-CONT", &self.0.to_string()]).status());
    }
}

fn signal(child: &Child, name: &str) -> Result<()> {
    let status =
        Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status()?;
    ensure!(status.success(), "kill -{name}: {status}");
    Ok(())
}

/// `KUBEBUILDER_ASSETS`, or what `cargo xtask controlplane` says.
fn assets() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("KUBEBUILDER_ASSETS").filter(|path| !path.is_empty()) {
        return Ok(folder.into());
    }
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["xtask", "controlplane"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("run `cargo xtask controlplane`; or set KUBEBUILDER_ASSETS")?;
    ensure!(output.status.success(), "`cargo xtask controlplane`: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().into())
}

/// A port that is nobody else's while the socket lives: what is bound and does not listen keeps the port from those who
/// want any, and lets a listener have it that asks for it by number.
fn reserve() -> Result<(TcpSocket, u16)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}

fn start(assets: &Path, folder: &Path, name: &str, flags: &[String]) -> Result<Child> {
    let log = fs::File::create(folder.join(format!("{name}.log")))?;
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(assets.join(name))
        .args(flags)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {name} by setpriv (util-linux)"))
}

fn etcd_flags(folder: &Path, client: u16, peer: u16) -> Vec<String> {
    let peers = format!("http://127.0.0.1:{peer}");
    vec![
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls=http://127.0.0.1:{client}"),
        format!("--advertise-client-urls=http://127.0.0.1:{client}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        "--unsafe-no-fsync".to_owned(),
    ]
}

fn api_flags(folder: &Path, etcd: u16, secure: u16) -> Vec<String> {
    let certificates = folder.join("certificates");
    let key = certificates.join("apiserver.key");
    vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        format!("--cert-dir={}", certificates.display()),
        format!("--secure-port={secure}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--token-auth-file={}", folder.join("tokens.csv").display()),
        "--authorization-mode=RBAC".to_owned(),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-signing-key-file={}", key.display()),
        format!("--service-account-key-file={}", key.display()),
    ]
}
