//! An API server in this process, for tests in virtual time: lists with pages, watches with bookmarks, 409 and 410,
//! and faults on demand. What it answers was compared with a real one's (`tests/api.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::{Door, Draw};

/// What befalls the next write.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is lost on its way.
    Lost,
    /// It is stored, and the answer is lost.
    AnswerLost,
    /// It is stored, and the answer takes this long.
    AnswerSlow(Duration),
    /// It is not stored, and answered with this code.
    Code(u16),
}

/// A request as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    /// Which of the clients asked, counted from 0.
    pub(crate) client: u64,
}

impl Asked {
    pub(crate) fn is_watch(&self) -> bool {
        self.query.contains_key("watch")
    }

    pub(crate) fn is_list(&self) -> bool {
        self.method == "GET" && !self.is_watch()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.query.get(name)?.parse().ok()
    }
}

/// The server. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    moved: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By path.
    objects: BTreeMap<String, Value>,
    history: Vec<Change>,
    /// Watches from before this version are answered 410.
    compacted: u64,
    /// Connections of clients below this are dead: nothing comes through.
    dead_below: u64,
    clients: u64,
    faults: VecDeque<Fault>,
    /// What every list and watch is answered with instead.
    reads_answer: Option<u16>,
    /// A field of statuses that the server's schema lacks.
    pruned: Option<&'static str>,
    /// Watches open and bring nothing.
    watches_hang: bool,
    asked: Vec<Asked>,
}

#[derive(Clone)]
struct Change {
    version: u64,
    path: String,
    kind: &'static str,
    object: Value,
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

impl Fake {
    pub(crate) fn new() -> Self {
        let state = State { version: 100, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), moved: watch::Sender::new(()) }
    }

    pub(crate) fn client(&self) -> Client {
        let mut state = self.state();
        let id = state.clients;
        state.clients += 1;
        drop(state);
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(id, request).await) }
        });
        Client::new(service, "default")
    }

    /// A door to it behind which every wait is as long as can be.
    pub(crate) fn door(&self) -> Door {
        self.door_that_draws(|| 0)
    }

    pub(crate) fn door_that_draws(&self, draw: Draw) -> Door {
        let server = self.clone();
        Door::opened_by(None, move |_| Ok(server.client()), draw).expect("it makes a client")
    }

    /// From now on nothing comes through connections made before now.
    pub(crate) fn cut_connections(&self) {
        let mut state = self.state();
        state.dead_below = state.clients;
        drop(state);
        self.moved.send_replace(());
    }

    pub(crate) fn fault_next_writes(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    /// Answers every list and watch with this code, until `None` is said.
    pub(crate) fn answer_reads(&self, code: Option<u16>) {
        self.state().reads_answer = code;
    }

    /// From now on watches bring nothing, while lists are answered as ever.
    pub(crate) fn hang_watches(&self) {
        self.state().watches_hang = true;
        self.moved.send_replace(());
    }

    /// From now on drops that field of each status that is applied, as a server does whose CRD is an older one.
    pub(crate) fn prune(&self, field: &'static str) {
        self.state().pruned = Some(field);
    }

    /// Forgets history: watches that begin before now are answered 410, and those that run end so.
    pub(crate) fn compact(&self) {
        let mut state = self.state();
        state.compacted = state.version + 1;
        state.version += 1;
        drop(state);
        self.moved.send_replace(());
    }

    /// What happened after `version` never did, as after a restore from a backup; objects stand as they were put. What
    /// happens from now on is told to watches only past the place where they began.
    pub(crate) fn go_back_to(&self, version: u64) {
        let mut state = self.state();
        state.version = version;
        state.history.retain(|change| change.version <= version);
    }

    /// Sends all watches a bookmark.
    pub(crate) fn bookmark(&self) {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        let metadata = json!({ "resourceVersion": version.to_string() });
        let object = json!({ "apiVersion": "v1", "kind": "Bookmarked", "metadata": metadata });
        state.history.push(Change { version, path: String::new(), kind: "BOOKMARK", object });
        drop(state);
        self.moved.send_replace(());
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    pub(crate) fn objects(&self) -> Vec<Value> {
        self.state().objects.values().cloned().collect()
    }

    /// Stores an object as another client would.
    pub(crate) fn put(&self, collection: &str, mut object: Value) {
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        let mut state = self.state();
        let path = format!("{collection}/{name}");
        let old = state.objects.get(&path).map(|old| old["metadata"]["uid"].clone());
        object["metadata"]["uid"] = old.unwrap_or_else(|| json!(format!("uid-{}", state.version)));
        state.store(&path, object);
        drop(state);
        self.moved.send_replace(());
    }

    pub(crate) fn delete(&self, path: &str) {
        self.state().remove(path);
        self.moved.send_replace(());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the state")
    }

    async fn answer(&self, client: u64, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let asked = Asked {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: query(parts.uri.query().unwrap_or_default()),
            client,
        };
        let body = body.collect_bytes().await.expect("it was given whole");
        self.state().asked.push(asked.clone());
        if client < self.state().dead_below {
            return std::future::pending().await;
        }
        if parts.method == Method::GET {
            return self.read(&asked);
        }
        let fault = self.state().faults.pop_front();
        match fault {
            Some(Fault::Lost) => return std::future::pending().await,
            Some(Fault::Code(code)) => return status(code, "Injected"),
            _ => {}
        }
        let answer = self.state().write(&parts.method, &asked, &body);
        self.moved.send_replace(());
        match fault {
            Some(Fault::AnswerLost) => std::future::pending().await,
            Some(Fault::AnswerSlow(time)) => sleep(time).await,
            _ => {}
        }
        answer
    }

    fn read(&self, asked: &Asked) -> Answer {
        let state = self.state();
        if let Some(code) = state.reads_answer {
            return status(code, "Injected");
        }
        if !asked.is_watch() {
            return state.list(asked);
        }
        let from = asked.number("resourceVersion").unwrap_or(0);
        if from < state.compacted {
            return status(410, "Expired");
        }
        drop(state);
        let time = Duration::from_secs(asked.number("timeoutSeconds").unwrap_or(300));
        let stream = futures::stream::unfold(
            (self.clone(), asked.clone(), from, Instant::now() + time),
            |(server, asked, from, end)| async move {
                let (line, version) = server.next_change(&asked, from, end).await?;
                let frame = Ok::<_, Infallible>(Frame::data(Bytes::from(line)));
                Some((frame, (server, asked, version, end)))
            },
        );
        Response::new(StreamBody::new(stream).boxed_unsync())
    }

    /// The next line of a watch; `None` ends it.
    async fn next_change(&self, asked: &Asked, from: u64, end: Instant) -> Option<(String, u64)> {
        let mut moved = self.moved.subscribe();
        loop {
            if asked.client < self.state().dead_below || self.state().watches_hang {
                std::future::pending::<()>().await;
            }
            if from < self.state().compacted {
                let gone = json!({ "type": "ERROR", "object": status_value(410, "Expired") });
                return Some((format!("{gone}\n"), u64::MAX));
            }
            if let Some(change) = self.state().change_after(asked, from) {
                let event = json!({ "type": change.kind, "object": change.object });
                return Some((format!("{event}\n"), change.version));
            }
            tokio::select! {
                _ = moved.changed() => {}
                () = sleep_until(end) => return None,
            }
        }
    }
}

impl State {
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let new = self.objects.insert(path.to_owned(), object.clone()).is_none();
        let kind = if new { "ADDED" } else { "MODIFIED" };
        self.record(path, kind, &object);
        object
    }

    fn remove(&mut self, path: &str) {
        let Some(mut object) = self.objects.remove(path) else { return };
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.record(path, "DELETED", &object);
    }

    fn record(&mut self, path: &str, kind: &'static str, object: &Value) {
        let (version, object) = (self.version, object.clone());
        self.history.push(Change { version, path: path.to_owned(), kind, object });
    }

    fn change_after(&self, asked: &Asked, from: u64) -> Option<Change> {
        let mut later = self.history.iter().filter(|change| change.version > from);
        later.find(|c| c.kind == "BOOKMARK" || selected(asked, &c.path)).cloned()
    }

    fn list(&self, asked: &Asked) -> Answer {
        let limit = asked.number("limit").unwrap_or(u64::MAX);
        let token = asked.query.get("continue").and_then(|token| token.split_once('-'));
        let (start, version) = match token {
            None => (0, self.version),
            Some((start, version)) => {
                (start.parse().expect("our own"), version.parse().expect("our own"))
            }
        };
        if version < self.compacted {
            return status(410, "Expired");
        }
        let all = self.objects.iter().filter(|(path, _)| selected(asked, path));
        let all: Vec<&Value> = all.map(|(_, object)| object).collect();
        let skip = usize::try_from(start).expect("small");
        let take = usize::try_from(limit).unwrap_or(usize::MAX);
        let page: Vec<&Value> = all.iter().skip(skip).take(take).copied().collect();
        let mut metadata = json!({ "resourceVersion": version.to_string() });
        if skip + page.len() < all.len() {
            metadata["continue"] = json!(format!("{}-{version}", skip + page.len()));
        }
        let list =
            json!({ "apiVersion": "v1", "kind": "List", "metadata": metadata, "items": page });
        answer(200, &list)
    }

    fn write(&mut self, method: &Method, asked: &Asked, body: &[u8]) -> Answer {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let path = &asked.path;
        if *method == Method::POST {
            let path = format!("{path}/{}", body["metadata"]["name"].as_str().expect("a name"));
            if self.objects.contains_key(&path) {
                return status(409, "AlreadyExists");
            }
            let mut object = body;
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
            return answer(201, &self.store(&path, object));
        }
        if asked.query.contains_key("force") {
            return self.apply(path, &body);
        }
        let Some(current) = self.objects.get(path).cloned() else { return status(404, "NotFound") };
        let wanted =
            if *method == Method::DELETE { &body["preconditions"] } else { &body["metadata"] };
        for part in ["uid", "resourceVersion"] {
            if !wanted[part].is_null() && wanted[part] != current["metadata"][part] {
                return status(409, "Conflict");
            }
        }
        match *method {
            Method::DELETE => {
                self.remove(path);
                answer(200, &json!({ "kind": "Status", "status": "Success" }))
            }
            Method::PATCH => {
                let mut object = current;
                for (key, value) in body.as_object().into_iter().flatten() {
                    object[key] = value.clone();
                }
                answer(200, &self.store(path, object))
            }
            _ => answer(200, &self.store(path, body)),
        }
    }

    /// Server-side apply by somebody who takes over each field that it names: of the status or of all the rest. It
    /// creates what is not there, and what changes nothing is no new version.
    fn apply(&mut self, path: &str, body: &Value) -> Answer {
        let (path, of_status) = match path.strip_suffix("/status") {
            Some(path) => (path, true),
            None => (path, false),
        };
        let current = self.objects.get(path).cloned();
        let mut object = match &current {
            Some(current) => current.clone(),
            None if of_status => return status(404, "NotFound"),
            None => json!({ "metadata": { "uid": format!("uid-{}", self.version) } }),
        };
        let part = if of_status { "status" } else { "metadata" };
        for (field, value) in body[part].as_object().into_iter().flatten() {
            if !of_status || self.pruned != Some(field) {
                object[part][field] = value.clone();
            }
        }
        if current.as_ref() == Some(&object) {
            return answer(200, &object);
        }
        answer(200, &self.store(path, object))
    }
}

fn selected(asked: &Asked, path: &str) -> bool {
    let Some((collection, name)) = path.rsplit_once('/') else { return false };
    let named = asked.query.get("fieldSelector");
    collection == asked.path && named.is_none_or(|named| *named == format!("metadata.name={name}"))
}

fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.replace("%3D", "="))).collect()
}

fn status(code: u16, reason: &str) -> Answer {
    answer(code, &status_value(code, reason))
}

fn status_value(code: u16, reason: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": reason,
    })
}

fn answer(code: u16, value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).expect("a code");
    response
}
