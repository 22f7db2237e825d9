//! Connections to the API server, none of which waits for ever.
//!
//! kube's default client hangs on a server that is stopped, and sends a request that was answered 429, 503 or 504 up
//! to fifteen times inside one call. Here nothing is sent twice but by its own caller, connecting takes a second or
//! fails, and every caller sets its own deadline for the answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::time::Instant;

use crate::connection;

/// How long a TCP and TLS handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an answer to a write that is no Lease's may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections to one server are not made anew more often than this: one that is slow for everybody must not be given
/// handshakes to compute as well.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);

/// Where the API server is found.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A kubeconfig file. Without it: the files that `KUBECONFIG` names, `~/.kube/config`, or the pod's own account.
    pub kubeconfig: Option<PathBuf>,
    /// The context in that file; without it, its current one.
    pub context: Option<String>,
}

/// Why no connection could be set up.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file that was named cannot be used.
    #[error("kubeconfig {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
    /// No file was named, and there is neither a usable kubeconfig nor a service account.
    #[error("found no API server: {0}; pass --kubeconfig, set KUBECONFIG, or run in a pod")]
    Infer(kube::config::InferConfigError),
    /// The settings make no client, as with an unreadable certificate.
    #[error("client for {server}: {source}")]
    Client {
        /// The server's URL.
        server: String,
        /// What is wrong.
        source: Box<kube::Error>,
    },
}

/// The connections of one process.
#[derive(Clone)]
pub struct Clients {
    /// For lists and watches, which set their own deadlines.
    pub watches: Door,
    /// For Leases: their answers are waited for shorter than anything depends on them; and for what a speaker says of itself.
    pub leases: Door,
    /// For all other reads and writes: each ends after 10 s at the latest, and none is sent twice.
    pub writes: Client,
    /// The namespace of the kubeconfig's context or of the pod, `default` if neither names one.
    pub namespace: String,
    /// How `writes` was made.
    pub(crate) config: Config,
}

/// Reads the configuration and sets up the clients. Nothing is sent yet: an API server that is down is met later.
pub async fn connect(options: &Options) -> Result<Clients, ConnectError> {
    let mut config = load(options).await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.default_retry = false;
    let namespace = config.default_namespace.clone();
    let watches = Door::to(config.clone())?;
    // Time that a connection lay idle in the pool is no time that the server was silent.
    config.reset_reader_on_write = true;
    config.read_timeout = Some(WRITE_TIMEOUT);
    config.write_timeout = Some(WRITE_TIMEOUT);
    let writes = client(&config, None)?;
    let leases = Door::to(config.clone())?;
    Ok(Clients { watches, leases, writes, namespace, config })
}

async fn load(options: &Options) -> Result<Config, ConnectError> {
    let choice = KubeConfigOptions { context: options.context.clone(), ..Default::default() };
    let Some(path) = &options.kubeconfig else {
        return match &options.context {
            None => Config::infer().await.map_err(ConnectError::Infer),
            Some(_) => Config::from_kubeconfig(&choice)
                .await
                .map_err(|source| ConnectError::Kubeconfig { path: "$KUBECONFIG".into(), source }),
        };
    };
    let failed = |source| ConnectError::Kubeconfig { path: path.clone(), source };
    let file = Kubeconfig::read_from(path).map_err(failed)?;
    Config::from_custom_kubeconfig(file, &choice).await.map_err(failed)
}

/// Where `config` leads, if it says so by an address.
pub(crate) fn address_of(config: &Config) -> Option<SocketAddr> {
    let url = &config.cluster_url;
    let host = url.host()?.trim_matches(['[', ']']).parse().ok()?;
    let usual = if url.scheme() == Some(&http::uri::Scheme::HTTP) { 80 } else { 443 };
    Some(SocketAddr::new(host, url.port_u16().unwrap_or(usual)))
}

fn client(config: &Config, address: Option<SocketAddr>) -> Result<Client, ConnectError> {
    let config = led_to(address, config);
    let server = config.cluster_url.to_string();
    connection::client(&config)
        .map_err(|source| ConnectError::Client { server, source: Box::new(source) })
}

/// `config` with the server at `address`, if there is one, which must prove the same name by its certificate.
pub(crate) fn led_to(address: Option<SocketAddr>, config: &Config) -> Config {
    match address {
        None => config.clone(),
        Some(address) => redirected(config.clone(), address),
    }
}

fn redirected(mut config: Config, address: SocketAddr) -> Config {
    let scheme = config.cluster_url.scheme_str().unwrap_or("https");
    let named = config.cluster_url.host().map(|host| host.trim_matches(['[', ']']).to_owned());
    let url = format!("{scheme}://{address}").parse();
    config.tls_server_name = config.tls_server_name.or(named);
    config.cluster_url = url.unwrap_or(config.cluster_url);
    config
}

/// A client that can be exchanged for one with fresh connections, for all who share it.
///
/// Connections are kept open and used again. One whose server's machine has died swallows requests until TCP gives up,
/// minutes later; who got no answer in time asks for a fresh one instead. Where several API servers are known, each
/// fresh one leads to the next of them.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

type Open = dyn Fn(Option<SocketAddr>) -> Result<Client, ConnectError> + Send + Sync;

/// Draws any number, each as likely as another.
pub type Draw = fn() -> u32;

struct Inner {
    open: Box<Open>,
    draw: Draw,
    current: Mutex<Current>,
}

struct Current {
    client: Client,
    /// Where it leads; `None` is wherever the configured name does.
    to: Option<SocketAddr>,
    generation: u64,
    /// Where the configured server is, if it was configured by an address.
    configured: Option<SocketAddr>,
    /// Where the API servers are, maybe the configured one among them.
    servers: Vec<SocketAddr>,
    /// Which of them comes first where no other reason decides.
    first: usize,
    /// When a connection to each was last made.
    made: BTreeMap<Option<SocketAddr>, Instant>,
}

/// A client as a [`Door`] gave it.
#[derive(Clone)]
pub struct Visit {
    /// The client.
    pub client: Client,
    to: Option<SocketAddr>,
    generation: u64,
}

impl Visit {
    /// Whether it leads to another server than `other`.
    pub(crate) fn leads_elsewhere_than(&self, other: &Self) -> bool {
        self.to != other.to
    }
}

impl Door {
    /// A door to the server of `config`.
    pub fn to(config: Config) -> Result<Self, ConnectError> {
        let configured = address_of(&config);
        Self::opened_by(configured, move |address| client(&config, address), rand::random::<u32>)
    }

    /// A door whose clients `open` makes: to the address, or without one to where it is configured to, which is at
    /// `configured` if that is known. `draw` sees to it that the processes of a cluster do not all do the same at the same
    /// time.
    pub fn opened_by(
        configured: Option<SocketAddr>,
        open: impl Fn(Option<SocketAddr>) -> Result<Client, ConnectError> + Send + Sync + 'static,
        draw: Draw,
    ) -> Result<Self, ConnectError> {
        let current = Current {
            client: open(None)?,
            to: configured,
            generation: 0,
            configured,
            servers: Vec::new(),
            first: 0,
            made: BTreeMap::from([(configured, Instant::now())]),
        };
        Ok(Self(Arc::new(Inner { open: Box::new(open), draw, current: Mutex::new(current) })))
    }

    /// The client of the present.
    pub fn enter(&self) -> Visit {
        let current = self.current();
        current.visit()
    }

    /// A client after `failed` gave no answer in time: with connections of its own to another server, where several are
    /// known; unless another caller has already brought one, or every server was connected to within the last second.
    pub fn enter_anew(&self, failed: &Visit) -> Visit {
        let mut current = self.current();
        let brought = current.generation != failed.generation;
        if let Some(server) = current.next_server().filter(|_| !brought) {
            // The configured server is reached as it was configured: there may be more to that than an address.
            match (self.0.open)(server.filter(|_| server != current.configured)) {
                Ok(client) => current.lead(client, server),
                Err(error) => tracing::warn!(%error, "no fresh connection, the old one stays"),
            }
        }
        current.visit()
    }

    /// From now on fresh connections lead to these in turn, and to the one that was configured. A single one is that
    /// one itself.
    pub fn know_servers(&self, servers: Vec<SocketAddr>) {
        let mut current = self.current();
        if current.servers == servers {
            return;
        }
        // Not every process shall begin with the same one when that which all used has died.
        let drawn = usize::try_from((self.0.draw)()).unwrap_or_default();
        current.first = drawn.checked_rem(servers.len()).unwrap_or_default();
        let configured = current.configured;
        current.made.retain(|server, _| {
            *server == configured || server.is_some_and(|server| servers.contains(&server))
        });
        current.servers = servers;
    }

    /// A time between none and `longest`, drawn anew each time.
    pub(crate) fn up_to(&self, longest: Duration) -> Duration {
        longest * ((self.0.draw)() % 1024) / 1024
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Nothing under the lock can panic half way through a change.
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    fn visit(&self) -> Visit {
        Visit { client: self.client.clone(), to: self.to, generation: self.generation }
    }

    /// Where the next connection should lead: to the server that none has led to for longest, and not within the last
    /// second; where several are known not where the present one leads. Nowhere if there is none.
    fn next_server(&self) -> Option<Option<SocketAddr>> {
        let several = self.servers.len() > 1;
        let (before, from) = self.servers.split_at(self.first);
        let others = from.iter().chain(before).copied().map(Some).filter(|_| several);
        let rested = |server: &Option<SocketAddr>| {
            self.made.get(server).is_none_or(|made| made.elapsed() >= RENEWAL_INTERVAL)
        };
        let all = others.chain([self.configured]).filter(|server| !several || *server != self.to);
        all.filter(rested).min_by_key(|server| self.made.get(server))
    }

    /// From now on `client` is the present one, which leads to `server`.
    fn lead(&mut self, client: Client, server: Option<SocketAddr>) {
        self.client = client;
        self.to = server;
        self.generation += 1;
        self.made.insert(server, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kubeconfig_that_is_not_there_is_named_in_the_error() {
        let options = Options { kubeconfig: Some("/nowhere/kubeconfig".into()), context: None };
        let error = connect(&options).await.err().expect("the file does not exist").to_string();
        assert!(error.starts_with("kubeconfig /nowhere/kubeconfig: "), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_got_no_answer_share_one_fresh_client_and_none_comes_within_a_second() {
        let config = Config::new("http://127.0.0.1:1".parse().expect("a URL"));
        let door = Door::to(config).expect("a client");
        let first = door.enter();
        assert_eq!(door.enter_anew(&first).generation, 0, "it was made just now");
        tokio::time::advance(RENEWAL_INTERVAL).await;
        assert_eq!(door.enter_anew(&first).generation, 1);
        assert_eq!(door.enter_anew(&first).generation, 1, "another brought it already");
        let second = door.enter();
        tokio::time::advance(RENEWAL_INTERVAL).await;
        assert_eq!(door.enter_anew(&second).generation, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn fresh_connections_lead_to_each_of_several_servers_in_turn() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&asked);
        let open = move |address| {
            record.lock().expect("no panic").push(address);
            client(&Config::new("http://127.0.0.1:1".parse().expect("a URL")), address)
        };
        let door = Door::opened_by(None, open, || 7);
        let door = door.expect("a client");
        let [a, b]: [SocketAddr; 2] =
            ["192.0.2.1:6443", "[2001:db8::2]:6443"].map(|text| text.parse().expect("an address"));
        let again = async || {
            tokio::time::advance(RENEWAL_INTERVAL).await;
            door.enter_anew(&door.enter());
        };
        door.know_servers(vec![a]);
        again().await;
        assert_eq!(*asked.lock().expect("no panic"), [None, None], "one is the one it has");
        door.know_servers(vec![a, b]);
        asked.lock().expect("no panic").clear();
        for _ in 0..4 {
            again().await;
        }
        let mut asked = asked.lock().expect("no panic").clone();
        asked.truncate(3);
        asked.sort();
        assert_eq!(asked, [None, Some(a), Some(b)]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gets_no_answer_from_a_fresh_connection_is_led_on_to_another_server_at_once() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&asked);
        let open = move |address| {
            record.lock().expect("no panic").push(address);
            client(&Config::new("http://127.0.0.1:1".parse().expect("a URL")), address)
        };
        let door = Door::opened_by(None, open, || 1).expect("a client");
        let servers: [SocketAddr; 3] = ["192.0.2.1:6443", "192.0.2.2:6443", "192.0.2.3:6443"]
            .map(|text| text.parse().expect("an address"));
        door.know_servers(servers.to_vec());
        let mut visit = door.enter();
        for _ in 0..5 {
            visit = door.enter_anew(&visit);
        }
        let asked = asked.lock().expect("no panic").clone();
        let [a, b, c] = servers.map(Some);
        assert_eq!(asked, [None, b, c, a], "each once within a second, the first by lot");
    }

    #[tokio::test(start_paused = true)]
    async fn the_configured_server_that_gave_no_answer_is_not_asked_again_by_its_other_name() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&asked);
        let config = Config::new("https://192.0.2.1:6443/prefix".parse().expect("a URL"));
        let [a, b]: [SocketAddr; 2] =
            ["192.0.2.1:6443", "192.0.2.2:6443"].map(|text| text.parse().expect("an address"));
        assert_eq!(address_of(&config), Some(a));
        for draw in [|| 0, || 1] {
            let (record, config) = (record.clone(), config.clone());
            let open = move |address| {
                record.lock().expect("no panic").push(address);
                client(&config, address)
            };
            let door = Door::opened_by(Some(a), open, draw).expect("a client");
            door.know_servers(vec![a, b]);
            tokio::time::advance(RENEWAL_INTERVAL).await;
            let visit = door.enter_anew(&door.enter());
            tokio::time::advance(RENEWAL_INTERVAL).await;
            door.enter_anew(&visit);
        }
        let there_and_back = [None, Some(b), None];
        assert_eq!(asked.lock().expect("no panic")[..], [there_and_back, there_and_back].concat());
    }

    #[test]
    fn a_configured_name_is_no_address() {
        let address = |url: &str| address_of(&Config::new(url.parse().expect("a URL")));
        assert_eq!(address("https://kubernetes.default.svc"), None);
        assert_eq!(address("https://[2001:db8::1]"), "[2001:db8::1]:443".parse().ok());
        assert_eq!(address("http://192.0.2.1"), "192.0.2.1:80".parse().ok());
    }

    #[tokio::test]
    async fn another_server_must_prove_the_name_of_the_configured_one() {
        let mut config = Config::new("https://kubernetes.default.svc".parse().expect("a URL"));
        config.default_namespace = "herald".to_owned();
        let address = "192.0.2.1:6443".parse().expect("an address");
        let moved = redirected(config, address);
        assert_eq!(moved.cluster_url.to_string(), "https://192.0.2.1:6443/");
        assert_eq!(moved.tls_server_name.as_deref(), Some("kubernetes.default.svc"));
    }
}
