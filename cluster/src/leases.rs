//! Sessions and claims, seen in the order in which they were stored, and written by compare-and-swap.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use herald_api::lease::{Record, Subject, decode, encode_claim, encode_session};
use herald_core::ownership::record::{
    Claim, Holder, LeaseEvent, LeaseWrite, Session, Version, WriteOutcome,
};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;

use crate::client::Door;
use crate::feed::{Event, Feed, Settings, Trouble};
use crate::swap::{Patience, Swap, swap};

#[cfg(test)]
mod tests;

/// Events that may wait for the machine. When it is full the watch is not read on, and the API server buffers, or
/// ends the watch, which costs a list.
pub const EVENT_CAPACITY: usize = 1024;
/// Lease writes under way at once: a failover of a thousand addresses must not be a thousand connections.
pub const WRITES_IN_FLIGHT: usize = 16;
/// A write or a list that nobody has answered by then is sent once more (R7's closers cannot wait for TCP).
const RESEND: Duration = Duration::from_millis(300);
/// A write that nobody has answered by then is unknown: below the usual renew period, so that one lost renewal leaves
/// time for the next.
const DEADLINE: Duration = Duration::from_millis(1500);

/// Asks for a list. Clones ask the same watch.
#[derive(Clone, Debug, Default)]
pub struct Relist(Arc<Notify>);

impl Relist {
    /// Has the watch list anew: all that was stored before this call will be in the next `Listed` but one at the
    /// latest, the very next if no list was under way.
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

/// What the watch of the Leases offers.
pub struct LeaseWatch {
    /// What it shows, in its order. It begins with `Listed`; another `Listed` follows whenever the watch was broken
    /// for so long that events may be missing, and when one was asked for.
    pub events: mpsc::Receiver<LeaseEvent>,
    /// Asks for a list.
    pub relist: Relist,
}

/// Watches all Leases of `namespace`, and the task that does it: the caller spawns it.
pub fn watch_leases(
    door: &Door,
    namespace: &str,
) -> (LeaseWatch, impl Future<Output = Infallible> + Send + 'static) {
    let settings = Settings {
        // Not selected by label: one that somebody takes off must not make a claim look free.
        watch: Duration::from_secs(20),
        answer: Duration::from_secs(5),
        resend: RESEND,
        longest_wait: Duration::from_secs(1),
        ..Settings::default()
    };
    let namespace = namespace.to_owned();
    let feed = Feed::<Lease>::new(
        door.clone(),
        move |client| Api::namespaced(client, &namespace),
        settings,
    );
    let (sender, events) = mpsc::channel(EVENT_CAPACITY);
    let relist = Relist::default();
    let follower = Follower {
        feed,
        sender,
        relist: relist.clone(),
        listed: Listing::default(),
        trouble: None,
    };
    (LeaseWatch { events, relist }, follower.run())
}

#[derive(Default)]
struct Listing {
    sessions: Vec<(Version, Session)>,
    claims: Vec<(Version, Claim)>,
}

struct Follower {
    feed: Feed<Lease>,
    sender: mpsc::Sender<LeaseEvent>,
    relist: Relist,
    listed: Listing,
    trouble: Option<Trouble>,
}

impl Follower {
    async fn run(mut self) -> Infallible {
        loop {
            let event = tokio::select! {
                biased;
                // A list under way may have begun before the ask: the ask waits until it is done, and is kept.
                () = self.relist.0.notified(), if !self.feed.is_listing() => {
                    self.feed.list_anew();
                    continue;
                }
                event = self.feed.next() => event,
            };
            if let Some(event) = self.translate(event)
                && self.sender.send(event).await.is_err()
            {
                // The machine has ended, and the process with it.
                std::future::pending::<()>().await;
            }
        }
    }

    fn translate(&mut self, event: Event<Lease>) -> Option<LeaseEvent> {
        match event {
            Event::Began => {
                self.listed = Listing::default();
                None
            }
            Event::Item(lease) => {
                match read(&lease)? {
                    (version, Record::Session(session)) => {
                        self.listed.sessions.push((version, session));
                    }
                    (version, Record::Claim(claim)) => self.listed.claims.push((version, claim)),
                }
                None
            }
            Event::Listed => {
                self.trouble = None;
                let Listing { sessions, claims } = std::mem::take(&mut self.listed);
                Some(LeaseEvent::Listed(sessions, claims))
            }
            Event::Applied(lease) => {
                self.trouble = None;
                Some(match read(&lease)? {
                    (version, Record::Session(session)) => LeaseEvent::Session(version, session),
                    (version, Record::Claim(claim)) => LeaseEvent::Claim(version, claim),
                })
            }
            Event::Deleted(lease) => Some(match Subject::of(lease.metadata.name.as_deref()?)? {
                Subject::Session(node) => LeaseEvent::SessionGone(node),
                Subject::Claim(address) => LeaseEvent::ClaimGone(address),
            }),
            Event::Trouble(trouble) => {
                if self.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!(%trouble, "cannot follow the Leases; trying again");
                }
                self.trouble = Some(trouble);
                None
            }
        }
    }
}

fn read(lease: &Lease) -> Option<(Version, Record)> {
    let decoded = decode(lease)?;
    for problem in &decoded.problems {
        let name = lease.metadata.name.as_deref().unwrap_or_default();
        tracing::warn!(lease = name, %problem, "a Lease was edited by somebody");
    }
    Some((decoded.version, decoded.record))
}

/// Writes Leases. Clones share the bound on writes in flight.
#[derive(Clone)]
pub struct LeaseWriter {
    door: Door,
    namespace: Arc<str>,
    permits: Arc<Semaphore>,
    /// When this process took which claim, so that marking one for a hand-over does not rewrite its `acquireTime`.
    /// As large as the number of addresses that this node ever owned in the life of the process.
    taken: Arc<Mutex<HashMap<IpAddr, Taken>>>,
}

struct Taken {
    holder: Holder,
    transitions: u32,
    at: Timestamp,
}

/// What became of a write, and how long that took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What became of it.
    pub outcome: WriteOutcome,
    /// From the moment it was sent, without its wait for others, to the answer.
    pub took: Duration,
}

impl LeaseWriter {
    /// A writer into `namespace`.
    pub fn new(door: Door, namespace: &str) -> Self {
        Self {
            door,
            namespace: namespace.into(),
            permits: Arc::new(Semaphore::new(WRITES_IN_FLIGHT)),
            taken: Arc::default(),
        }
    }

    /// Stores, or says what stands against it, within 1.5 s of its turn. Dropping the future leaves open whether it
    /// is stored.
    pub async fn write(&self, write: &LeaseWrite) -> Written {
        let permit = self.permits.acquire().await;
        let begun = Instant::now();
        let change = self.change(write, Timestamp::now());
        let patience = Patience { resend: RESEND, deadline: DEADLINE };
        let outcome = swap(&self.door, &self.namespace, &change, patience).await;
        drop(permit);
        Written { outcome, took: begun.elapsed() }
    }

    fn change(&self, write: &LeaseWrite, now: Timestamp) -> Swap {
        let (version, lease) = match write {
            LeaseWrite::Session(version, session) => {
                (version, encode_session(session, version.as_ref(), now))
            }
            LeaseWrite::Claim(version, claim) => {
                (version, encode_claim(claim, version.as_ref(), self.taken_at(claim, now)))
            }
            LeaseWrite::DeleteClaim(version, address) => {
                self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
                return Swap::Delete(Subject::Claim(*address).name(), version.clone());
            }
        };
        match version {
            None => Swap::Create(lease),
            Some(_) => Swap::Replace(lease),
        }
    }

    fn taken_at(&self, claim: &Claim, now: Timestamp) -> Timestamp {
        let fresh =
            || Taken { holder: claim.holder.clone(), transitions: claim.transitions, at: now };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = taken.entry(claim.address).or_insert_with(fresh);
        if entry.holder != claim.holder || entry.transitions != claim.transitions {
            *entry = fresh();
        }
        entry.at
    }
}
