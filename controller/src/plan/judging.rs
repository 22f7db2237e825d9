//! What is in force of the configuration, and what each of its objects is told of that.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use herald_api::crd;
use herald_api::parse::demand::Version;
use herald_core::config::{Configuration, Object, Offer, Offers, Problem, settle};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tokio::time::Instant;

use crate::outbox::{Content, Letter, Outbox, Subject};
use crate::tell;
use crate::watch::{Configured, Snapshot};

/// The configuration in force, and why what is not in force is not.
pub(super) struct Judging {
    /// Where the objects of configuration are.
    namespace: String,
    configuration: Configuration,
    problems: Vec<Problem>,
}

impl Judging {
    /// Nothing is in force yet of what is in `namespace`.
    pub(super) fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            configuration: Configuration::default(),
            problems: Vec::new(),
        }
    }

    /// Puts in force what can be of what the snapshot offers, and logs each problem that is new.
    pub(super) fn settle(&mut self, snapshot: &Snapshot) {
        let offers = Offers {
            pools: offers(&snapshot.pools),
            advertisements: offers(&snapshot.advertisements),
        };
        let (configuration, problems) = settle(&self.configuration, &offers);
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::warn!(object = %problem.object, reason = problem.reason(), %problem,
                "an object is not in force");
        }
        (self.configuration, self.problems) = (configuration, problems);
    }

    /// What is in force.
    pub(super) const fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Why the present version of an object is not in force; empty when every one is.
    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The condition of each object of configuration that does not say yet what this planner thinks of it.
    pub(super) fn letters(
        &self,
        snapshot: &Snapshot,
        outbox: &Outbox,
        now: Instant,
    ) -> Vec<Letter> {
        let problems: HashMap<&Object, &Problem> =
            self.problems.iter().map(|problem| (&problem.object, problem)).collect();
        let pools = snapshot
            .pools
            .iter()
            .map(|(name, object)| (Object::Pool(name.clone()), Judged::of(object)));
        let advertisements = snapshot
            .advertisements
            .iter()
            .map(|(name, object)| (Object::Advertisement(name.clone()), Judged::of(object)));
        let judged = pools.chain(advertisements).filter_map(|(object, judged)| {
            let problem = problems.get(&object).copied();
            let subject = Subject::Configuration(object.clone());
            if !outbox.is_open(&subject, now) {
                return None;
            }
            let accepted =
                crd::accepted(judged.accepted, judged.generation, problem, Timestamp::now())?;
            let about = tell::about_configuration(&object, &self.namespace, judged.version);
            // A new generation with the old fault is worth a condition, not another Event.
            let news = judged
                .accepted
                .iter()
                .all(|old| (&old.status, &old.message) != (&accepted.status, &accepted.message));
            let note = problem.filter(|_| news).map(|problem| tell::not_in_force(&about, problem));
            Some(Letter {
                subject,
                version: judged.version.clone(),
                content: Content::Accepted(accepted),
                notes: note.into_iter().collect(),
            })
        });
        judged.collect()
    }
}

/// What a judgement depends on, whatever the kind.
struct Judged<'a> {
    version: &'a Version,
    generation: Option<i64>,
    accepted: &'a [Condition],
}

impl<'a> Judged<'a> {
    fn of<T>(object: &'a Configured<T>) -> Self {
        let Configured { version, generation, accepted, .. } = object;
        Self { version, generation: *generation, accepted }
    }
}

fn offers<K: Ord + Clone, T>(objects: &BTreeMap<K, Arc<Configured<T>>>) -> BTreeMap<K, Offer<T>>
where
    Offer<T>: Clone,
{
    objects.iter().map(|(name, object)| (name.clone(), object.offer.clone())).collect()
}
