//! A relay between Herald's programs and the API server, which answers in its stead, loses answers, and lets watches die.
//!
//! ```text
//!   herald-* ── TLS ──▶ relay, 10.99.0.1:6444 ── TLS ──▶ kube-apiserver, 10.99.0.1:6443
//! ```
//!
//! It bears the API server's own certificate, and passes on who asks. Without faults nothing differs but the port. A
//! fault befalls all requests that fit, from [`Relay::inflict`] until what that returned is dropped. All others who are
//! in the lab reach the API server directly, so that a test sees what is stored.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::config::AuthInfo;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::namespace::Namespace;

/// What befalls a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not passed on, and answered with this code and a `Status`, as the API server's own; to 429 a
    /// `Retry-After` of a second belongs.
    Answer(u16),
    /// It is carried out, and its answer never comes.
    AnswerLost,
    /// It is not passed on and never answered. Of a watch that runs nothing comes any more, for good: its connection
    /// stands, as if the machine behind it had died.
    Silence,
    /// It is answered as a watch that ends at once, its place in history being gone (410). A watch that runs ends so. See
    /// [`super::Lab::forget_history`].
    Gone,
    /// It is passed on so much later, as by a server whose store is slow.
    Late(Duration),
}

impl Fault {
    /// Whether it befalls watches whose opening was answered.
    fn is_for_running_watches(self) -> bool {
        matches!(self, Self::Silence | Self::Gone)
    }
}

/// A request as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Where it came from: the address of a node or of a controller on the management network.
    pub from: IpAddr,
    /// Its method.
    pub method: Method,
    /// Its path, from `/api` on.
    pub path: String,
    /// Whether it is a watch.
    pub watch: bool,
    /// The version that it names: a watch tells what came after it.
    pub version: Option<u64>,
}

impl Asked {
    /// Whether it is about objects of this kind, such as `leases`, or one of them.
    pub fn is_about(&self, kind: &str) -> bool {
        self.path.split('/').any(|part| part == kind)
    }

    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        self.method != Method::GET
    }
}

/// The relay. Clones are the same one.
#[derive(Clone)]
pub struct Relay(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Told when a fault begins: watches that run may fit it.
    inflicted: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    faults: Vec<Inflicted>,
    /// How many there have been.
    inflictions: u64,
    asked: Vec<Asked>,
}

struct Inflicted {
    number: u64,
    fits: Box<dyn Fn(&Asked) -> bool + Send>,
    fault: Fault,
    hits: usize,
    struck: BTreeSet<(IpAddr, String)>,
}

/// A fault that lasts until this is dropped.
#[must_use = "dropped, the fault is over"]
pub struct Infliction {
    relay: Relay,
    number: u64,
}

impl Infliction {
    /// How many requests, or watches that ran, it has befallen.
    pub fn hits(&self) -> usize {
        self.count(|fault| fault.hits)
    }

    /// How many it has befallen that differ in who asked or for what: however often one watch is tried again, it is one.
    pub fn struck(&self) -> usize {
        self.count(|fault| fault.struck.len())
    }

    fn count(&self, of: impl Fn(&Inflicted) -> usize) -> usize {
        let state = self.relay.state();
        state.faults.iter().find(|fault| fault.number == self.number).map_or(0, of)
    }
}

impl Drop for Infliction {
    fn drop(&mut self) {
        self.relay.state().faults.retain(|fault| fault.number != self.number);
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, kube::Error>>;

impl Relay {
    /// Opens a relay at `address` of `namespace`, to the server of `upstream`; its certificate and key lie in
    /// `certificates`.
    pub(super) async fn open(
        namespace: &Namespace,
        address: SocketAddr,
        upstream: Config,
        certificates: &Path,
    ) -> anyhow::Result<Self> {
        let relay =
            Self(Arc::new(Shared { state: Mutex::default(), inflicted: watch::Sender::new(()) }));
        let acceptor = acceptor(certificates)?;
        let opened = relay.clone();
        let opening = namespace.spawn(async move {
            let listener = TcpListener::bind(address).await?;
            // Its connections are the namespace's, as the listener is: both are made on this thread.
            let client = Client::try_from(transparent(upstream))?;
            tokio::spawn(opened.serve(listener, acceptor, client));
            anyhow::Ok(())
        });
        opening.await?.with_context(|| format!("open a relay at {address}"))?;
        Ok(relay)
    }

    /// From now on `fault` befalls every request for which `fits` holds, and every watch that runs; of several faults
    /// that fit, the first.
    pub fn inflict(
        &self,
        fault: Fault,
        fits: impl Fn(&Asked) -> bool + Send + 'static,
    ) -> Infliction {
        let mut state = self.state();
        state.inflictions += 1;
        let number = state.inflictions;
        state.faults.push(Inflicted {
            number,
            fits: Box::new(fits),
            fault,
            hits: 0,
            struck: BTreeSet::new(),
        });
        drop(state);
        self.0.inflicted.send_replace(());
        Infliction { relay: self.clone(), number }
    }

    /// Every request so far, in the order in which they came.
    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault, of those for which `can` holds, that befalls the request.
    fn befalls(&self, asked: &Asked, can: fn(Fault) -> bool) -> Option<Fault> {
        let mut state = self.state();
        let mut faults = state.faults.iter_mut().filter(|fault| can(fault.fault));
        let fault = faults.find(|fault| (fault.fits)(asked))?;
        fault.hits += 1;
        fault.struck.insert((asked.from, asked.path.clone()));
        Some(fault.fault)
    }

    async fn serve(self, listener: TcpListener, acceptor: TlsAcceptor, client: Client) {
        // Out of descriptors is the only error that a listener has; the test fails by what it then misses.
        while let Ok((stream, from)) = listener.accept().await {
            let (relay, acceptor, client) = (self.clone(), acceptor.clone(), client.clone());
            tokio::spawn(async move {
                stream.set_nodelay(true).ok();
                // Who does not speak TLS, or hangs up, ends the connection: there is nobody to tell.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let answer = service_fn(|request| relay.answer(from.ip(), &client, request));
                http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await.ok();
            });
        }
    }

    /// Answers a request; an error closes the connection, as a server does that goes down.
    async fn answer(
        &self,
        from: IpAddr,
        client: &Client,
        request: Request<Incoming>,
    ) -> anyhow::Result<Answer> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let query = parts.uri.query().unwrap_or_default();
        let asked = Asked {
            from,
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            watch: query.split('&').any(|part| part.starts_with("watch=") && part != "watch=false"),
            version: query
                .split('&')
                .find_map(|part| part.strip_prefix("resourceVersion=")?.parse().ok()),
        };
        self.state().asked.push(asked.clone());
        let request = Request::from_parts(parts, Body::from(body));
        match self.befalls(&asked, |_| true) {
            None => self.pass_on(asked, client, request).await,
            Some(Fault::Late(by)) => {
                sleep(by).await;
                self.pass_on(asked, client, request).await
            }
            Some(Fault::Answer(code)) => refuse(code),
            Some(Fault::Gone) => Ok(Response::new(whole(gone()))),
            Some(Fault::AnswerLost) => {
                // On a task of its own: it is carried out, whether or not the client waits.
                let client = client.clone();
                tokio::spawn(async move { client.send(request).await.map(drop) });
                std::future::pending().await
            }
            Some(Fault::Silence) => std::future::pending().await,
        }
    }

    async fn pass_on(
        &self,
        asked: Asked,
        client: &Client,
        request: Request<Body>,
    ) -> anyhow::Result<Answer> {
        let answer = client.send(request).await?;
        Ok(answer.map(|body| match asked.watch {
            true => self.clone().follow(asked, body),
            false => body.boxed_unsync(),
        }))
    }

    /// What comes of a watch, until a fault befalls it.
    fn follow(self, asked: Asked, body: Body) -> UnsyncBoxBody<Bytes, kube::Error> {
        let inflicted = self.0.inflicted.subscribe();
        let watch = Some((self, asked, body, inflicted));
        let frames = stream::unfold(watch, |watch| async move {
            let (relay, asked, mut body, mut inflicted) = watch?;
            loop {
                match relay.befalls(&asked, Fault::is_for_running_watches) {
                    Some(Fault::Gone) => return Some((Ok(Frame::data(gone())), None)),
                    Some(_) => std::future::pending().await,
                    None => {}
                }
                tokio::select! {
                    biased;
                    _ = inflicted.changed() => {}
                    frame = body.frame() => {
                        return Some((frame?, Some((relay, asked, body, inflicted))));
                    }
                }
            }
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

/// TLS with the certificate that the API server made for itself.
fn acceptor(certificates: &Path) -> anyhow::Result<TlsAcceptor> {
    let file = certificates.join("apiserver.crt");
    let told = || format!("read {}", file.display());
    let chain = CertificateDer::pem_file_iter(&file).with_context(told)?;
    let chain = chain.collect::<Result<Vec<_>, _>>().with_context(told)?;
    let file = certificates.join("apiserver.key");
    let key = PrivateKeyDer::from_pem_file(&file);
    let key = key.with_context(|| format!("read {}", file.display()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The same server for a client that adds nothing of its own: no account, no second attempt, no deadline.
fn transparent(mut config: Config) -> Config {
    config.auth_info = AuthInfo::default();
    config.default_retry = false;
    config.read_timeout = None;
    config.write_timeout = None;
    config
}

fn refuse(code: u16) -> anyhow::Result<Answer> {
    let body = Bytes::from(status(code, "Injected").to_string());
    let mut answer = Response::new(whole(body));
    *answer.status_mut() = StatusCode::from_u16(code)?;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    if code == 429 {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Ok(answer)
}

fn whole(body: Bytes) -> UnsyncBoxBody<Bytes, kube::Error> {
    Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// The line that ends a watch whose place in history is compacted, as the API server words it.
fn gone() -> Bytes {
    let mut line = json!({ "type": "ERROR", "object": status(410, "Expired") }).to_string();
    line.push('\n');
    line.into()
}

fn status(code: u16, reason: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": format!("{reason} by the lab's relay"),
    })
}
