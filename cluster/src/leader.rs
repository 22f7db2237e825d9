//! Which replica of the controller works: one Lease, won by compare-and-swap.
//!
//! [`machine`] decides, from what the watch shows and what became of its writes; [`elect`] drives it. No wall clock
//! decides anything: a Lease is expired when it has not been *seen* to change for its duration, and its holder has
//! stopped a second before, counted from when it *sent* its last renewal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use herald_api::lease::version_of;
use herald_core::ownership::record::WriteOutcome;
use herald_core::time::{Moment, Span};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use self::machine::{Action, Machine, Seen, Write};
use crate::client::Door;
use crate::feed::{Event, Feed, Settings};
use crate::swap::{Patience, Swap, swap};

pub mod bound;
pub mod machine;
#[cfg(test)]
mod tests;

pub use self::machine::Timing;

/// How long one renewal may take: several fit before the renew deadline.
const PATIENCE: Patience =
    Patience { resend: Duration::from_millis(300), deadline: Duration::from_millis(900) };
/// The longest wait between two attempts to follow the Lease. A standby counts the Lease's duration from when it has seen
/// the last renewal: what it sees late delays a takeover by as much.
const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// How long a release may take when the process ends. Without it the standby waits for the Lease's duration.
const RELEASE_TIME: Duration = Duration::from_secs(2);

/// Where this replica stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does not lead; this one does, as far as is known.
    Standby(Option<String>),
    /// It leads, for the so-manieth time in the life of the process: who reads this late still sees that leadership
    /// was lost and won again meanwhile, and that another may have led between.
    Leading(u32),
}

/// The view of the election that all of a process shares.
#[derive(Clone)]
pub struct Leadership {
    began: Instant,
    /// Until when this replica leads, in milliseconds since `began`; 0 when it does not.
    until: Arc<AtomicU64>,
    standing: watch::Receiver<Standing>,
}

impl Leadership {
    /// Whether this replica leads at this moment, by the clock and not by the last event: to be asked before each
    /// write. A process that was stopped for a while finds out here.
    pub fn held_now(&self) -> bool {
        moment(self.began).0 < self.until.load(Ordering::Acquire)
    }

    /// Whether this replica leads at this moment, and will for `time` at least unless another takes its Lease by force.
    pub fn held_for(&self, time: Duration) -> bool {
        let end = moment(self.began) + Span(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        end.0 <= self.until.load(Ordering::Acquire)
    }

    /// Which term of this process it is at this moment, as in [`Standing::Leading`]; `None` when it does not lead.
    pub fn term(&self) -> Option<u32> {
        match *self.standing.borrow() {
            Standing::Leading(term) if self.held_now() => Some(term),
            Standing::Leading(_) | Standing::Standby(_) => None,
        }
    }

    /// Who leads, as of the last change.
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// The changes of standing, for `select!`.
    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Waits until this replica leads.
    pub async fn gained(&self) {
        self.wait_for(|standing| matches!(standing, Standing::Leading(_))).await;
    }

    /// Waits until the leadership of this moment has ended, be it that another has begun; not at all when there is
    /// none.
    pub async fn lost(&self) {
        let Standing::Leading(term) = self.standing() else { return };
        self.wait_for(|standing| *standing != Standing::Leading(term)).await;
    }

    async fn wait_for(&self, wanted: impl FnMut(&Standing) -> bool) {
        // The sender goes when the election has been left for good; what it said last, it said as standby.
        let mut standing = self.standing.clone();
        if standing.wait_for(wanted).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Which election, and as whom.
#[derive(Clone, Debug)]
pub struct Candidacy {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name: `herald-controller`.
    pub name: String,
    /// A name that no other process ever bore: the host's, and something random.
    pub identity: String,
    /// How fast.
    pub timing: Timing,
}

/// Takes part in an election until `stop` is ready, then lets go of the Lease, so that a standby takes over at once.
/// Writers must have ended before. The caller spawns the task.
pub fn elect(
    door: Door,
    candidacy: Candidacy,
    stop: impl Future<Output = ()> + Send + 'static,
) -> (Leadership, impl Future<Output = ()> + Send + 'static) {
    let began = Instant::now();
    let until = Arc::new(AtomicU64::new(0));
    let (standing_tx, standing) = watch::channel(Standing::Standby(None));
    let driver = Driver {
        machine: Machine::new(candidacy.identity.clone(), candidacy.timing),
        feed: feed(&door, &candidacy),
        door,
        candidacy,
        began,
        until: Arc::clone(&until),
        standing: standing_tx,
        acquired: Timestamp::now(),
        listed: None,
        terms: 0,
    };
    (Leadership { began, until, standing }, driver.run(stop))
}

fn feed(door: &Door, candidacy: &Candidacy) -> Feed<Lease> {
    let settings = Settings {
        fields: Some(format!("metadata.name={}", candidacy.name)),
        resend: PATIENCE.resend,
        answer: Duration::from_secs(2),
        watch: Duration::from_secs(20),
        longest_wait: LONGEST_WAIT,
        ..Settings::default()
    };
    let namespace = candidacy.namespace.clone();
    Feed::new(door.clone(), move |client| Api::namespaced(client, &namespace), settings)
}

fn moment(began: Instant) -> Moment {
    Moment(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX))
}

struct Driver {
    machine: Machine,
    feed: Feed<Lease>,
    door: Door,
    candidacy: Candidacy,
    began: Instant,
    until: Arc<AtomicU64>,
    standing: watch::Sender<Standing>,
    acquired: Timestamp,
    /// What the list that is coming in has shown.
    listed: Option<Seen>,
    /// How often it has won.
    terms: u32,
}

impl Driver {
    async fn run(mut self, stop: impl Future<Output = ()> + Send) {
        let mut stop = std::pin::pin!(stop);
        let mut give_up: Option<Instant> = None;
        let mut under_way: Option<BoxFuture<'static, WriteOutcome>> = None;
        loop {
            let now = self.now();
            let action = self.machine.action(now);
            self.publish(now);
            let mut wake = self.wake();
            match action {
                Action::Done => return,
                Action::Wait(until) => wake = earlier(wake, until.map(|until| self.instant(until))),
                Action::Write(write) => under_way = Some(self.store(write)),
                Action::List => {
                    self.feed.list_anew();
                    continue;
                }
            }
            wake = earlier(wake, give_up);
            let outcome = async {
                match &mut under_way {
                    Some(write) => write.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                outcome = outcome => {
                    under_way = None;
                    self.wrote(outcome);
                }
                event = self.feed.next() => self.observe(event),
                () = until(wake) => {
                    if give_up.is_some_and(|moment| moment <= Instant::now()) {
                        tracing::warn!("the Lease could not be released; a standby waits for its duration");
                        return;
                    }
                }
                () = &mut stop, if give_up.is_none() => {
                    give_up = Some(Instant::now() + RELEASE_TIME);
                    self.machine.release();
                }
            }
        }
    }

    fn now(&self) -> Moment {
        moment(self.began)
    }

    fn instant(&self, moment: Moment) -> Instant {
        self.began + Duration::from_millis(moment.0)
    }

    /// When leadership ends unless it is renewed.
    fn wake(&self) -> Option<Instant> {
        self.machine.leads_until().map(|until| self.instant(until))
    }

    fn publish(&mut self, now: Moment) {
        let until = self.machine.leads_until().filter(|until| now < *until);
        self.until.store(until.map_or(0, |until| until.0), Ordering::Release);
        let standing = match (until, &*self.standing.borrow()) {
            (Some(_), Standing::Leading(term)) => Standing::Leading(*term),
            (Some(_), Standing::Standby(_)) => {
                self.terms += 1;
                Standing::Leading(self.terms)
            }
            (None, _) => Standing::Standby(self.machine.leader().map(str::to_owned)),
        };
        self.standing.send_if_modified(|current| {
            let changed = *current != standing;
            if changed {
                tracing::info!(identity = self.candidacy.identity, ?standing, "election");
                *current = standing;
            }
            changed
        });
    }

    fn observe(&mut self, event: Event<Lease>) {
        match event {
            Event::Began => self.listed = None,
            Event::Item(lease) => self.listed = seen(&lease),
            Event::Listed => {
                let listed = self.listed.take();
                self.machine.observe(listed, self.now());
            }
            Event::Applied(lease) => self.machine.observe(seen(&lease), self.now()),
            Event::Deleted(_) => self.machine.observe(None, self.now()),
            Event::Trouble(trouble) => tracing::warn!(%trouble, "cannot follow the election"),
        }
    }

    fn wrote(&mut self, outcome: WriteOutcome) {
        // Only the watch or a list tells what stands there now; the watch may be silent.
        if matches!(outcome, WriteOutcome::Conflict | WriteOutcome::Unknown) {
            self.feed.list_anew();
        }
        self.machine.wrote(outcome, self.now());
    }

    fn store(&mut self, write: Write) -> BoxFuture<'static, WriteOutcome> {
        let now = Timestamp::now();
        if write.takes {
            self.acquired = now;
        }
        let lease = self.lease(&write, now);
        let (door, namespace) = (self.door.clone(), self.candidacy.namespace.clone());
        let change = match write.over {
            None => Swap::Create(lease),
            Some(_) => Swap::Replace(lease),
        };
        Box::pin(async move { swap(&door, &namespace, &change, PATIENCE).await })
    }

    fn lease(&self, write: &Write, now: Timestamp) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some(self.candidacy.name.clone()),
                uid: write.over.as_ref().map(|version| version.uid.to_string()),
                resource_version: write.over.as_ref().map(|version| version.resource.to_string()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(write.holder.clone().unwrap_or_default()),
                lease_duration_seconds: i32::try_from(write.duration.whole_seconds()).ok(),
                lease_transitions: i32::try_from(write.transitions).ok(),
                acquire_time: Some(MicroTime(self.acquired)),
                renew_time: Some(MicroTime(now)),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// What a Lease says about the election. A duration that makes no sense is taken for a long one: to wait is safe.
fn seen(lease: &Lease) -> Option<Seen> {
    const LONG: Span = Span::secs(15);
    let version = version_of(&lease.metadata)?;
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|n| u64::try_from(n).ok());
    Some(Seen {
        version,
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        duration: seconds.filter(|n| *n > 0).map_or(LONG, Span::secs),
        transitions: spec.lease_transitions.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
    })
}
