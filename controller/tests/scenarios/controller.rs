//! The controller's own path from objects to patches, without its clients: parse, snapshot, planner, outbox, letters.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use herald_api::crd::{BGPAdvertisement, Guarded, IPAddressPool, L2Advertisement};
use herald_api::parse::bgp_advertisement;
use herald_api::parse::demand::{Asked, Ours, asked};
use herald_cluster::events::Note;
use herald_controller::apply::{judgement_patch, service_patch};
use herald_controller::outbox::{Content, Letter, Outbox, Outcome, Subject};
use herald_controller::plan::Planner;
use herald_controller::watch::{Snapshot, configured_advertisement, configured_pool};
use herald_core::allocation::check::check;
use herald_core::allocation::{self, Demand, Pools, Stray, World};
use herald_core::config::{Configuration, Object, Offers, settle};
use herald_core::name::ServiceId;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::ResourceExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::server::{Event, Key, Refusal, Server};

/// Where the objects of configuration are.
pub(crate) const NAMESPACE: &str = "metallb-system";
/// Longer than the controller holds anything back.
const LONG: Duration = Duration::from_secs(60);

/// A controller, and what its watches have shown it.
pub(crate) struct Controller {
    class: Option<String>,
    planner: Planner,
    outbox: Outbox,
    shown: BTreeMap<Key, Value>,
    now: Instant,
}

impl Controller {
    /// One that has just listed everything, and knows nothing else.
    pub(crate) fn new(class: Option<&str>, server: &Server) -> Self {
        Self {
            class: class.map(str::to_owned),
            planner: Planner::new(NAMESPACE),
            outbox: Outbox::default(),
            shown: server.list(),
            now: Instant::now(),
        }
    }

    /// The watches show what has happened.
    pub(crate) fn hear(&mut self, events: impl IntoIterator<Item = Event>) {
        for (key, object) in events {
            match object {
                Some(object) => drop(self.shown.insert(key, object)),
                None => drop(self.shown.remove(&key)),
            }
        }
    }

    /// Looks at what is shown: the letters that are to go, and what is to be told at once.
    pub(crate) fn plan(&mut self) -> (Vec<Letter>, Vec<Note>) {
        let snapshot = self.snapshot();
        self.planner.observe(&snapshot);
        let decision = self.planner.plan(&snapshot, &mut self.outbox, self.now);
        let mut letters = self.outbox.due(self.now);
        letters.extend(decision.letters);
        (letters, decision.notes)
    }

    /// The letter leaves; its answer is still to come.
    pub(crate) fn send(&mut self, letter: &Letter) {
        self.outbox.send(letter, self.now);
    }

    /// The answer; returns what is told with it.
    pub(crate) fn answered(&mut self, letter: &Letter, outcome: Outcome) -> Vec<Note> {
        self.outbox.ended(letter, outcome, self.now)
    }

    /// Time passes, more than the controller ever waits for.
    pub(crate) fn wait(&mut self) {
        self.now += LONG;
    }

    /// Whether an object's present version is not in force.
    pub(crate) fn is_stale(&self) -> bool {
        self.planner.is_stale()
    }

    fn snapshot(&self) -> Snapshot {
        // Listed, even where there is none.
        let bgp_advertisements = Some(Arc::default());
        let mut snapshot = Snapshot { bgp_advertisements, ..Snapshot::default() };
        for (key, object) in &self.shown {
            match key.kind.as_str() {
                "Service" => {
                    let service: Service = read(object);
                    let asked = Arc::new(asked(&service, self.class.as_deref()));
                    let id = ServiceId::new(key.namespace.as_str(), key.name.as_str());
                    Arc::make_mut(&mut snapshot.services).insert(id, asked);
                }
                "Namespace" => {
                    let namespace: Namespace = read(object);
                    let labels = Arc::new(namespace.labels().clone());
                    Arc::make_mut(&mut snapshot.namespaces)
                        .insert(key.name.as_str().into(), labels);
                }
                "IPAddressPool" if key.namespace == NAMESPACE => {
                    let object: Guarded<IPAddressPool> = read(object);
                    let configured = Arc::new(configured_pool(&object));
                    let name = object.name_any().into();
                    Arc::make_mut(&mut snapshot.pools).insert(name, configured);
                }
                "L2Advertisement" if key.namespace == NAMESPACE => {
                    let object: Guarded<L2Advertisement> = read(object);
                    let configured = Arc::new(configured_advertisement(&object));
                    let name = object.name_any().into();
                    Arc::make_mut(&mut snapshot.advertisements).insert(name, configured);
                }
                "BGPAdvertisement" if key.namespace == NAMESPACE => {
                    let object: Guarded<BGPAdvertisement> = read(object);
                    let name = object.name_any().into();
                    let selection =
                        Arc::new(object.readable().and_then(bgp_advertisement::selection));
                    let all = snapshot.bgp_advertisements.get_or_insert_default();
                    Arc::make_mut(all).insert(name, selection);
                }
                _ => {}
            }
        }
        snapshot
    }
}

fn read<T: DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object}"))
}

/// Carries a letter to the server.
pub(crate) fn deliver(server: &mut Server, letter: &Letter) -> Outcome {
    let (key, patch) = match (&letter.subject, &letter.content) {
        (Subject::Service(id), _) => {
            (Key::of("Service", Some(&id.namespace), &id.name), service_patch(letter))
        }
        (Subject::Configuration(object), Content::Judgement(judgement)) => {
            (key_of(object), judgement_patch(letter, judgement))
        }
        (Subject::Configuration(object), other) => panic!("{object}: {other:?}"),
    };
    match server.patch_status(&key, &patch) {
        Ok(()) => Outcome::Landed,
        Err(Refusal::Overtaken) => Outcome::Overtaken,
        Err(Refusal::Invalid) => Outcome::Refused,
    }
}

/// The object that a letter is for.
pub(crate) fn subject(letter: &Letter) -> Key {
    match &letter.subject {
        Subject::Service(id) => Key::of("Service", Some(&id.namespace), &id.name),
        Subject::Configuration(object) => key_of(object),
    }
}

fn key_of(object: &Object) -> Key {
    match object {
        Object::Pool(name) => Key::of("IPAddressPool", None, name.as_str()),
        Object::Advertisement(name) => Key::of("L2Advertisement", None, name.as_str()),
    }
}

/// What is in force and how the statuses look, judged without the planner that made them so.
#[derive(Default)]
pub(crate) struct Auditor {
    configuration: Configuration,
}

impl Auditor {
    /// Everything that is wrong with the statuses of a cluster that has come to rest: a plan that the checker of
    /// `allocation` finds right would show other addresses.
    pub(crate) fn audit(&mut self, controller: &Controller) -> Result<(), String> {
        let snapshot = controller.snapshot();
        let offers = Offers {
            pools: snapshot.pools.iter().map(|(k, v)| (k.clone(), v.offer.clone())).collect(),
            advertisements: BTreeMap::new(),
        };
        self.configuration = settle(&self.configuration, &offers).0;
        let ours: Vec<&Ours> = snapshot
            .services
            .values()
            .filter_map(|asked| match asked.as_ref() {
                Asked::Ours(ours) => Some(ours.as_ref()),
                Asked::NotOurs(_) => None,
            })
            .collect();
        let demands: Vec<&Demand> = ours.iter().map(|ours| &ours.demand).collect();
        let pools = Pools::new(self.configuration.pools().values().cloned());
        let seen = self.configuration.has_seen_a_pool();
        let world = World {
            pools: &pools.with_refused(self.configuration.refused().clone()),
            stray: if seen { Stray::Clear } else { Stray::Keep },
            namespaces: &snapshot
                .namespaces
                .iter()
                .map(|(k, v)| (k.clone(), (**v).clone()))
                .collect(),
            demands: &demands,
            unechoed: &BTreeMap::new(),
        };
        let plan = allocation::plan(&world);
        let violations = check(&world, &plan);
        if !violations.is_empty() {
            return Err(format!("{violations:?}"));
        }
        for (ours, verdict) in ours.iter().zip(&plan.verdicts) {
            let shown: &[IpAddr] = &ours.demand.held;
            let planned = match &verdict.outcome {
                allocation::Outcome::Granted(grant) => grant.addresses.as_slice(),
                allocation::Outcome::Nothing => &[],
                allocation::Outcome::Untouched => shown,
            };
            if planned != shown {
                let id = &ours.demand.id;
                return Err(format!("{id} shows {shown:?}, and should show {planned:?}"));
            }
        }
        Ok(())
    }
}
