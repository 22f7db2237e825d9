//! Snapshot → core model → plan → letters: the only caller of core's planner.

mod judging;
mod services;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use herald_api::crd::configuration_state::Verdict as ConfigurationVerdict;
use herald_api::parse::demand::{Asked, NotOurs, Ours};
use herald_cluster::events::Note;
use herald_core::address::Family;
use herald_core::allocation::pools::capacity;
use herald_core::allocation::{self, Demand, Namespaces, Outcome, Pools, Stray, World};
use herald_core::config::{Object, Pool, SETTLING};
use herald_core::name::PoolName;
use tokio::time::Instant;

use self::judging::Judging;
use crate::outbox::{Letter, Outbox, Shown, Subject};
use crate::tell;
use crate::watch::{Configured, Snapshot};

/// What follows from one look at the world.
#[derive(Debug, Default)]
pub struct Decision {
    /// The letters that may go now, in the order of what clients wait for: Services' addresses, what is said to Services,
    /// what is said of the configuration.
    pub letters: Vec<Letter>,
    /// What is to be told at once.
    pub notes: Vec<Note>,
    /// What there is to count.
    pub figures: Figures,
    /// When to decide again although nothing has changed: there is a letter that may not go yet, or a Service that waits for
    /// the pools to settle.
    pub again: Option<Instant>,
}

/// What metrics show of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Each pool's.
    pub pools: Vec<PoolFigures>,
    /// Services that lack something, by reason.
    pub lacking: BTreeMap<&'static str, u64>,
    /// Services left untouched because it is not known whether what they have is right.
    pub untouched: u64,
}

/// What metrics show of a pool: addresses that it can give, and that Services have; IPv4, IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolFigures {
    /// Its name.
    pub pool: PoolName,
    /// How many it can give, at most `i64::MAX`.
    pub capacity: [u64; 2],
    /// How many Services have; one that several share counts once.
    pub in_use: [u64; 2],
    /// How many Services have any.
    pub services: u64,
}

/// The planner, and what it remembers from one plan to the next.
pub struct Planner {
    namespace: String,
    judging: Judging,
    pools: Pools,
    namespaces: Namespaces,
    /// What `judging` and `namespaces` were made from.
    seen: Snapshot,
    /// Whether other pools have come into force since the last plan.
    pools_changed: bool,
    /// Until when the pools in force may still be changing.
    settles: Option<Instant>,
    /// Whether it was told that nothing is cleared because there has never been a pool.
    told_of_no_pool: bool,
}

impl Planner {
    /// A planner that has seen nothing; the objects of configuration are those of `namespace`.
    pub fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            judging: Judging::new(namespace),
            pools: Pools::default(),
            namespaces: Namespaces::new(),
            seen: Snapshot::default(),
            pools_changed: false,
            settles: None,
            told_of_no_pool: false,
        }
    }

    /// Puts in force what can be of the configuration. Standbys do it too: what was in force before an object broke goes
    /// on when they lead.
    pub fn observe(&mut self, snapshot: &Snapshot) {
        let same = Arc::ptr_eq(&self.seen.pools, &snapshot.pools)
            && Arc::ptr_eq(&self.seen.advertisements, &snapshot.advertisements);
        if !same {
            let before = self.judging.configuration().pools().clone();
            self.judging.settle(snapshot);
            let configuration = self.judging.configuration();
            let (pools, refused) = (configuration.pools(), configuration.refused());
            let changed = *pools != before;
            if changed || refused != self.pools.refused() {
                self.pools = Pools::new(pools.values().cloned()).with_refused(refused.clone());
            }
            if changed {
                self.pools_changed = true;
                tracing::info!(pools = pools.len(), "other pools are in force");
            }
        }
        if !Arc::ptr_eq(&self.seen.namespaces, &snapshot.namespaces) {
            let labels = snapshot.namespaces.iter();
            self.namespaces =
                labels.map(|(name, labels)| (name.clone(), (**labels).clone())).collect();
        }
        self.seen = Snapshot { services: Arc::default(), ..snapshot.clone() };
    }

    /// Whether an object exists whose present version is not in force.
    pub fn is_stale(&self) -> bool {
        !self.judging.problems().is_empty()
    }

    /// What is to be said of the configuration as a whole.
    pub fn verdict(&self) -> ConfigurationVerdict {
        ConfigurationVerdict::of(self.judging.problems())
    }

    /// Whether a configuration is in force, if only one without pools; not while all that there is is broken.
    pub fn has_configuration(&self) -> bool {
        !self.is_stale() || !self.judging.configuration().pools().is_empty()
    }

    /// Decides the whole world. [`Planner::observe`] has seen `snapshot` before.
    ///
    /// While pools are pinned by labels of namespaces, a Service whose own namespace the snapshot does not show is left as it
    /// is: which of two watches is ahead must not decide where a Service's address comes from.
    pub fn plan(&mut self, snapshot: &Snapshot, outbox: &mut Outbox, now: Instant) -> Decision {
        let mut decision = Decision {
            notes: outbox.reconcile(|subject| shown(snapshot, subject), now),
            ..Decision::default()
        };
        let ours: Vec<&Ours> = snapshot
            .services
            .values()
            .filter_map(|asked| match asked.as_ref() {
                Asked::Ours(ours) => Some(ours.as_ref()),
                Asked::NotOurs(_) => None,
            })
            .collect();
        let demands: Vec<&Demand> = ours.iter().map(|ours| &ours.demand).collect();
        let unechoed = outbox.unechoed();
        let seen = self.judging.configuration().has_seen_a_pool();
        let settled = self.have_settled(now);
        let world = World {
            pools: &self.pools,
            stray: if seen && settled { Stray::Clear } else { Stray::Keep },
            namespaces: &self.namespaces,
            demands: &demands,
            unechoed: &unechoed,
        };
        let plan = allocation::plan(&world);
        decision.figures = self.figures(&plan);
        if !seen {
            decision.notes.extend(self.no_pool_yet(decision.figures.untouched));
        }
        let by_labels = self.pools.iter().any(selects_namespaces);
        let judged = ours.iter().copied().zip(&plan.verdicts).filter(|(ours, _)| {
            // The watch of Namespaces lags behind that of Services: the verdict is no more than a guess.
            !by_labels || self.namespaces.contains_key(&ours.demand.id.namespace)
        });
        let letters = services::letters(snapshot, judged, outbox, now);
        decision.letters = letters.now;
        let judgements = self.judging.judge(snapshot, &decision.figures.pools, outbox, now);
        decision.letters.extend(judgements.letters);
        decision.notes.extend(judgements.notes);
        let settles = self.settles.filter(|_| decision.figures.untouched > 0);
        let agains = [settles, letters.again, judgements.again];
        decision.again = agains.into_iter().flatten().min();
        decision
    }

    /// Whether the pools in force have been the same for long enough.
    fn have_settled(&mut self, now: Instant) -> bool {
        if std::mem::take(&mut self.pools_changed) {
            self.settles = Some(now + SETTLING);
        }
        self.settles = self.settles.filter(|until| now < *until);
        self.settles.is_none()
    }

    /// Tells once that nothing is cleared although no pool is there: the likeliest cause is another namespace.
    fn no_pool_yet(&mut self, untouched: u64) -> Option<Note> {
        if untouched == 0 || self.told_of_no_pool {
            return None;
        }
        self.told_of_no_pool = true;
        let namespace = &self.namespace;
        tracing::warn!(
            namespace,
            untouched,
            "no pool has been seen yet: Services stay as they are"
        );
        Some(tell::no_pool_yet(namespace, untouched))
    }

    fn figures(&self, plan: &allocation::Plan) -> Figures {
        let mut services: HashMap<&PoolName, u64> = HashMap::new();
        let mut figures = Figures::default();
        for verdict in &plan.verdicts {
            if let Some(grant) = verdict.grant() {
                *services.entry(&grant.pool).or_default() += 1;
            }
            if let Some(why) = &verdict.lacks {
                *figures.lacking.entry(why.reason()).or_default() += 1;
            }
            figures.untouched += u64::from(verdict.outcome == Outcome::Untouched);
        }
        figures.pools = self
            .pools
            .iter()
            .zip(&plan.usage)
            .map(|(pool, usage)| PoolFigures {
                pool: pool.name.clone(),
                capacity: [capacity(pool, Family::V4), capacity(pool, Family::V6)],
                in_use: [usage.v4, usage.v6],
                services: services.get(&pool.name).copied().unwrap_or_default(),
            })
            .collect();
        figures
    }
}

/// Whether it is pinned by labels of namespaces.
fn selects_namespaces(pool: &Pool) -> bool {
    pool.allocation.as_ref().is_some_and(|pinned| !pinned.namespace_selectors.is_empty())
}

fn shown<'a>(snapshot: &'a Snapshot, subject: &Subject) -> Option<Shown<'a>> {
    let service = |version, addresses, allocated| Shown { version, addresses, allocated };
    Some(match subject {
        Subject::Service(id) => match snapshot.services.get(id)?.as_ref() {
            Asked::Ours(ours) => service(&ours.version, &ours.demand.held, ours.allocated.as_ref()),
            Asked::NotOurs(NotOurs::Former(version)) => service(version, &[], None),
            Asked::NotOurs(NotOurs::OtherClass | NotOurs::OtherType) => return None,
        },
        Subject::Configuration(Object::Pool(name)) => configuration(snapshot.pools.get(name)?),
        Subject::Configuration(Object::Advertisement(name)) => {
            configuration(snapshot.advertisements.get(name)?)
        }
    })
}

fn configuration<T>(object: &Configured<T>) -> Shown<'_> {
    Shown { version: &object.version, addresses: &[], allocated: None }
}

#[cfg(test)]
mod tests;
