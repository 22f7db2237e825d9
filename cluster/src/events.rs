//! core/v1 Events: what people and their scripts read about an object.
//!
//! Written beside the work, never in its way: [`Recorder::publish`] puts a note into a bounded queue and returns; one
//! task writes them in their order, at most [`RATE`] a second, and stands back while the process has writes under way
//! that its users wait for ([`Recorder::precedence`]). The same note again raises `count` and `lastTimestamp`
//! of the Event that is there, as `kubectl get events` expects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

pub use self::precedence::{Precedence, Urgent};
use self::recent::{Known, Recent};

mod precedence;
mod recent;
#[cfg(test)]
mod tests;

/// Notes that may wait. One that finds it full is dropped and counted: the work it tells of is done all the same.
pub const QUEUE_CAPACITY: usize = 16_384;
/// Events written in a second, so that a failover of a thousand addresses leaves the API server room for Leases.
pub const RATE: u32 = 50;
/// Notes whose Event is remembered, to be counted up instead of written again.
const REMEMBERED: usize = 1024;
/// How often a note is tried when the API server fails; the wait doubles from the first.
const ATTEMPTS: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// What of an object's name goes into its Event's name, whose limit is 253 bytes.
const NAME_ROOM: usize = 230;

/// Whether an Event tells of something that needs no attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// All is well.
    Normal,
    /// Somebody should look.
    Warning,
}

impl Severity {
    /// The Event's `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Something to tell about an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// The object: kind, apiVersion, name, uid, and namespace unless it is cluster-wide.
    pub about: ObjectReference,
    /// How grave.
    pub severity: Severity,
    /// One CamelCase word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// Takes notes. Clones share the queue; when the last one is gone the task writes what is left, and ends.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Queued>,
    dropped: Arc<AtomicU64>,
    precedence: Precedence,
}

/// A note, and when it was published.
struct Queued {
    note: Note,
    at: Timestamp,
    since: Instant,
}

impl Recorder {
    /// Has `note` written later. Never waits.
    pub fn publish(&self, note: Note) {
        let queued = Queued { note, at: Timestamp::now(), since: Instant::now() };
        if let Err(error) = self.queue.try_send(queued) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            let Queued { note, .. } = error.into_inner();
            tracing::debug!(reason = note.reason, about = ?note.about.name, "no room for an Event");
        }
    }

    /// What says which writes go before Events. It does not keep the recorder's queue open.
    pub fn precedence(&self) -> Precedence {
        self.precedence.clone()
    }

    /// How many notes were never written. The count outlives the recorder, and does not keep its queue open.
    pub fn dropped(&self) -> Dropped {
        Dropped(Arc::clone(&self.dropped))
    }
}

/// Notes that were never written, since the process began: the queue was full, or the API server refused or failed six
/// times.
#[derive(Clone, Debug)]
pub struct Dropped(Arc<AtomicU64>);

impl Dropped {
    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A recorder whose Events come from `component` (such as `metallb-speaker`) on `host`, and the task that writes them:
/// the caller spawns it.
pub fn recorder(
    client: Client,
    component: &str,
    host: &str,
) -> (Recorder, impl Future<Output = ()> + Send + 'static) {
    let (queue, notes) = mpsc::channel(QUEUE_CAPACITY);
    let dropped = Arc::new(AtomicU64::new(0));
    let precedence = Precedence::default();
    let writer = Writer {
        client,
        component: component.to_owned(),
        host: host.to_owned(),
        recent: Recent::holding(REMEMBERED),
        dropped: Arc::clone(&dropped),
        precedence: precedence.clone(),
    };
    (Recorder { queue, dropped, precedence }, writer.run(notes))
}

struct Writer {
    client: Client,
    component: String,
    host: String,
    recent: Recent,
    dropped: Arc<AtomicU64>,
    precedence: Precedence,
}

impl Writer {
    async fn run(mut self, mut notes: mpsc::Receiver<Queued>) {
        while let Some(queued) = notes.recv().await {
            self.precedence.lull(queued.since, || notes.is_closed()).await;
            let next = Instant::now() + Duration::from_secs(1) / RATE;
            self.record(&queued.note, queued.at).await;
            sleep_until(next).await;
        }
    }

    async fn record(&mut self, note: &Note, at: Timestamp) {
        let mut wait = FIRST_WAIT;
        for attempt in 1..=ATTEMPTS {
            let Err(error) = self.write(note, at).await else { return };
            // What the server refuses, as in a namespace that is going, it will refuse again.
            let refused = matches!(&error, kube::Error::Api(status) if status.code < 500 && status.code != 429);
            if refused || attempt == ATTEMPTS {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, reason = note.reason, about = ?note.about.name, "Event not written");
                return;
            }
            sleep(wait).await;
            wait *= 2;
        }
    }

    async fn write(&mut self, note: &Note, at: Timestamp) -> kube::Result<()> {
        let namespace = note.about.namespace.as_deref().unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        if let Some(known) = self.recent.get(note) {
            let count = known.count.saturating_add(1);
            let patch = serde_json::json!({ "count": count, "lastTimestamp": Time(at) });
            match api.patch(&known.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => {
                    self.recent.put(note, Known { count, ..known });
                    return Ok(());
                }
                // Events live for an hour. This one is over, and the next is a new one.
                Err(kube::Error::Api(status)) if status.is_not_found() => self.recent.forget(note),
                Err(error) => return Err(error),
            }
        }
        let event = self.event(note, namespace, at);
        let name = event.metadata.name.clone().unwrap_or_default();
        match api.create(&PostParams::default(), &event).await {
            // An earlier attempt whose answer was lost: the name was drawn from this note's own moment.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            other => drop(other?),
        }
        self.recent.put(note, Known { name, count: 1 });
        Ok(())
    }

    fn event(&self, note: &Note, namespace: &str, at: Timestamp) -> Event {
        let about = note.about.name.as_deref().unwrap_or_default();
        let mut end = about.len().min(NAME_ROOM);
        while !about.is_char_boundary(end) {
            end -= 1;
        }
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", &about[..end], at.as_nanosecond())),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: note.about.clone(),
            type_: Some(note.severity.as_str().to_owned()),
            reason: Some(note.reason.to_owned()),
            message: Some(note.message.clone()),
            count: Some(1),
            first_timestamp: Some(Time(at)),
            last_timestamp: Some(Time(at)),
            source: Some(EventSource {
                component: Some(self.component.clone()),
                host: Some(self.host.clone()),
            }),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(self.host.clone()),
            ..Event::default()
        }
    }
}
