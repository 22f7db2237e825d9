//! Keeps one ConfigurationState: what this component thinks of the configuration, where MetalLB's users look for it.
//!
//! ```text
//!   verdict (watch) ──▶ ┌──────────────────┐ ── 1. the object: labels, owner ──▶ API server
//!                       │ wanted − shown   │ ── 2. its status ─────────────────▶ (server-side apply)
//!   own object (feed) ▶ └──────────────────┘
//! ```
//!
//! Nothing waits for it, and it waits for everything: one write at a time, two a second at most, the newest verdict
//! last. What somebody deletes or edits is put right. For one version of the object and one verdict each write is tried
//! until it is stored, and then never again: a server that drops part of it is not written to for ever. A kind that is
//! not installed is waited for without a word.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use herald_api::crd::configuration_state::{
    COMPONENT_TYPE, CONFIGURATION_VALID, NODE_NAME, POOLS_VALID, Verdict,
};
use herald_api::crd::{ConfigurationState, ConfigurationStateStatus};
use herald_core::name::NodeName;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::client::Door;
use crate::feed::{Event, Feed, Settings, Trouble};

#[cfg(test)]
mod tests;

/// Between two writes.
const PACE: Duration = Duration::from_millis(500);
/// The wait after a first failure; it doubles with each in a row. A random half of it is left out.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long a write may take before nobody waits for its answer any more.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How far apart the speakers of a cluster write what all of them find at once.
const SPREAD: Duration = Duration::from_secs(2);

/// Who writes: the object's name and all in it that does not change.
#[derive(Clone, Debug)]
pub struct Component {
    namespace: String,
    name: String,
    labels: BTreeMap<&'static str, String>,
    condition: &'static str,
    manager: &'static str,
    owner: Option<OwnerReference>,
    spread: Duration,
}

/// The pod that a component runs in: with it the object goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Component {
    /// The controller. Its replicas share the object: only the one that leads may have a verdict.
    pub fn controller(namespace: &str, pod: Option<Pod>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: "controller".to_owned(),
            labels: BTreeMap::from([(COMPONENT_TYPE, "controller".to_owned())]),
            condition: POOLS_VALID,
            manager: "herald-controller",
            owner: pod.map(owner),
            spread: Duration::ZERO,
        }
    }

    /// The speaker of `node`.
    pub fn speaker(namespace: &str, node: &NodeName, pod: Option<Pod>) -> Self {
        let labels = [(COMPONENT_TYPE, "speaker".to_owned()), (NODE_NAME, node.to_string())];
        Self {
            namespace: namespace.to_owned(),
            name: format!("speaker-{node}"),
            labels: BTreeMap::from(labels),
            condition: CONFIGURATION_VALID,
            manager: "herald-speaker",
            owner: pod.map(owner),
            spread: SPREAD,
        }
    }
}

fn owner(pod: Pod) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.name,
        uid: pod.uid,
        ..OwnerReference::default()
    }
}

/// Keeps the object of `component` as the newest verdict says; without one it touches nothing. Reads through `door`,
/// writes through `writes`. The caller spawns the task.
pub fn keep_state(
    door: &Door,
    writes: Door,
    component: Component,
    verdict: watch::Receiver<Option<Verdict>>,
) -> impl Future<Output = Infallible> + Send + 'static {
    let settings = Settings {
        fields: Some(format!("metadata.name={}", component.name)),
        longest_wait: LONGEST_WAIT,
        ..Settings::default()
    };
    let namespace = component.namespace.clone();
    let feed = Feed::new(door.clone(), move |client| Api::namespaced(client, &namespace), settings);
    let keeper = Keeper {
        writes,
        component,
        feed,
        verdict,
        shown: None,
        listed: false,
        done: BTreeMap::new(),
        failures: 0,
        next_write: Instant::now(),
        trouble: None,
    };
    keeper.run()
}

/// What is written at a time: the API server takes a status apart from the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Object,
    Status,
}

struct Keeper {
    writes: Door,
    component: Component,
    feed: Feed<ConfigurationState>,
    verdict: watch::Receiver<Option<Verdict>>,
    /// The newest version that is known.
    shown: Option<ConfigurationState>,
    /// Whether `shown` means anything yet.
    listed: bool,
    /// Which version of the object came of which write.
    done: BTreeMap<Part, (Option<String>, Verdict)>,
    failures: u32,
    next_write: Instant,
    trouble: Option<Trouble>,
}

impl Keeper {
    async fn run(mut self) -> Infallible {
        let mut listing = None;
        let mut due: Option<Instant> = None;
        loop {
            let missing = self.missing();
            due = missing.as_ref().map(|_| due.unwrap_or_else(|| self.due()));
            tokio::select! {
                event = self.feed.next() => self.observe(event, &mut listing),
                changed = self.verdict.changed() => {
                    if changed.is_err() {
                        // Nobody will have another verdict: the process is about to end.
                        return std::future::pending().await;
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = None;
                    if let Some((part, verdict)) = missing {
                        self.write(part, verdict).await;
                    }
                }
            }
        }
    }

    /// When what has just become missing is written.
    fn due(&self) -> Instant {
        self.next_write.max(Instant::now() + self.component.spread.mul_f64(rand::random()))
    }

    /// The part that is not as it should be, and the verdict to write there.
    fn missing(&self) -> Option<(Part, Verdict)> {
        let verdict = self.verdict.borrow().clone().filter(|_| self.listed)?;
        let Some(shown) = &self.shown else { return Some((Part::Object, verdict)) };
        let written = |part| {
            let version = shown.resource_version();
            self.done.get(&part).is_some_and(|done| *done == (version, verdict.clone()))
        };
        if !self.component.is_in(shown) && !written(Part::Object) {
            return Some((Part::Object, verdict));
        }
        let said = says(shown.status.as_ref(), &self.status(&verdict));
        (!said && !written(Part::Status)).then_some((Part::Status, verdict))
    }

    fn status(&self, verdict: &Verdict) -> ConfigurationStateStatus {
        let status = self.shown.as_ref().and_then(|shown| shown.status.as_ref());
        let before = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
        verdict.status(self.component.condition, before, Timestamp::now())
    }

    fn observe(
        &mut self,
        event: Event<ConfigurationState>,
        listing: &mut Option<ConfigurationState>,
    ) {
        match event {
            Event::Began => *listing = None,
            Event::Item(object) => *listing = Some(object),
            Event::Listed => {
                (self.shown, self.listed, self.trouble) = (listing.take(), true, None);
            }
            Event::Applied(object) => {
                // What a write was answered with may be newer than what the watch comes to show.
                if self.shown.as_ref().is_none_or(|shown| !is_older(&object, shown)) {
                    self.shown = Some(object);
                }
            }
            Event::Deleted(object) => {
                if self.shown.as_ref().is_some_and(|shown| shown.uid() == object.uid()) {
                    self.shown = None;
                }
            }
            Event::Trouble(trouble) => self.troubled(trouble),
        }
    }

    fn troubled(&mut self, trouble: Trouble) {
        // Said once, not at each attempt.
        if self.trouble.as_ref() != Some(&trouble) && trouble != Trouble::UnknownKind {
            tracing::warn!(%trouble, "cannot follow this component's ConfigurationState; trying again");
        }
        self.trouble = Some(trouble);
    }

    async fn write(&mut self, part: Part, verdict: Verdict) {
        let body = Patch::Apply(self.body(part, &verdict));
        let visit = self.writes.enter();
        let api: Api<ConfigurationState> =
            Api::namespaced(visit.client.clone(), &self.component.namespace);
        let name = self.component.name.clone();
        let params = PatchParams::apply(self.component.manager).force();
        let writing = async {
            match part {
                Part::Object => api.patch(&name, &params, &body).await,
                Part::Status => api.patch_status(&name, &params, &body).await,
            }
        };
        let answer = match timeout(ANSWER_WITHIN, writing).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(late) => Err(late.to_string()),
        };
        let wait = match answer {
            Ok(stored) => {
                self.failures = 0;
                self.done.insert(part, (stored.resource_version(), verdict));
                self.shown = Some(stored);
                PACE
            }
            Err(error) => {
                tracing::debug!(error, name, ?part, "a ConfigurationState was not written");
                // It may be gone, or stored all the same; and another server may do better.
                self.feed.list_anew();
                self.writes.enter_anew(&visit);
                let doubled = FIRST_WAIT.saturating_mul(1 << self.failures.min(16));
                self.failures += 1;
                doubled.min(LONGEST_WAIT).mul_f64(1.0 - rand::random::<f64>() / 2.0)
            }
        };
        self.next_write = Instant::now() + wait;
    }

    fn body(&self, part: Part, verdict: &Verdict) -> Value {
        let mut patch = head();
        match part {
            Part::Object => patch["metadata"] = self.component.metadata(),
            Part::Status => patch["status"] = json!(self.status(verdict)),
        }
        patch
    }
}

impl Component {
    /// Whether `shown` has all that this component writes into it besides the status.
    fn is_in(&self, shown: &ConfigurationState) -> bool {
        let labels = shown.labels();
        let labelled = self.labels.iter().all(|(key, value)| labels.get(*key) == Some(value));
        let owned = |owner: &OwnerReference| {
            shown.owner_references().iter().any(|shown| shown.uid == owner.uid)
        };
        labelled && self.owner.as_ref().is_none_or(owned)
    }

    fn metadata(&self) -> Value {
        let mut metadata = json!({ "name": self.name, "labels": self.labels });
        if let Some(owner) = &self.owner {
            metadata["ownerReferences"] = json!([owner]);
        }
        metadata
    }
}

fn head() -> Value {
    json!({
        "apiVersion": ConfigurationState::api_version(&()),
        "kind": ConfigurationState::kind(&()),
    })
}

/// Whether a status says all that `wanted` does; conditions of others may stand beside.
fn says(shown: Option<&ConfigurationStateStatus>, wanted: &ConfigurationStateStatus) -> bool {
    shown.is_some_and(|shown| {
        shown.result == wanted.result
            && shown.error_summary == wanted.error_summary
            && wanted.conditions.iter().all(|condition| shown.conditions.contains(condition))
    })
}

/// Whether `one` is an earlier version than `other` of the same object.
fn is_older(one: &ConfigurationState, other: &ConfigurationState) -> bool {
    let number = |object: &ConfigurationState| object.resource_version()?.parse::<u64>().ok();
    one.uid() == other.uid() && number(one) < number(other)
}
