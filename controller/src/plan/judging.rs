//! What is in force of the configuration, and what each of its objects is told of that.
//!
//! The status of an object says it all: whether the object is in force, and of a pool whether somebody announces it and
//! how full it is. It is written when it says something else, by whosever hand, and the Events go out when there is
//! something new to say: neither in the condition that stands there, nor told by this process before.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use herald_api::crd::{ACCEPTED, Counters, Statement, conditions, without_effect};
use herald_cluster::events::Note;
use herald_core::config::{Configuration, Object, Offer, Offers, Problem, settle, unadvertised};
use herald_core::label::Labels;
use herald_core::name::PoolName;
use jiff::Timestamp;
use tokio::time::Instant;

use super::PoolFigures;
use crate::outbox::{Content, Judgement, Letter, Outbox, Subject};
use crate::tell;
use crate::watch::{Configured, Snapshot};

/// The configuration in force, and why what is not in force is not.
pub(super) struct Judging {
    /// Where the objects of configuration are.
    namespace: String,
    configuration: Configuration,
    problems: Vec<Problem>,
    told: Told,
}

/// What each object's Events have said that still holds; with its uid, because another of its name knows nothing of them.
type Told = HashMap<Object, (Uid, Vec<String>)>;
type Uid = Box<str>;

/// What there is to do about the objects of configuration.
#[derive(Debug, Default)]
pub(super) struct Judgements {
    /// The letters that may go now.
    pub(super) letters: Vec<Letter>,
    /// What is to be told at once.
    pub(super) notes: Vec<Note>,
    /// When the next letter may go that may not go yet.
    pub(super) again: Option<Instant>,
}

impl Judging {
    /// Nothing is in force yet of what is in `namespace`.
    pub(super) fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            configuration: Configuration::default(),
            problems: Vec::new(),
            told: HashMap::new(),
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

    /// Judges every object of the snapshot. `figures` are those of the pools in force.
    pub(super) fn judge(
        &mut self,
        snapshot: &Snapshot,
        figures: &[PoolFigures],
        outbox: &Outbox,
        now: Instant,
    ) -> Judgements {
        let problems: HashMap<&Object, &Problem> =
            self.problems.iter().map(|problem| (&problem.object, problem)).collect();
        let counters: HashMap<&PoolName, Counters> = figures
            .iter()
            .map(|pool| (&pool.pool, Counters::of(pool.capacity, pool.in_use)))
            .collect();
        let mut judge = Judge {
            namespace: &self.namespace,
            problems: &problems,
            told: std::mem::take(&mut self.told),
            telling: HashMap::new(),
            outbox,
            now,
            judgements: Judgements::default(),
        };
        for (name, pool) in &*snapshot.pools {
            // Where no version is in force nobody knows what Services have of it: what stood there last stays.
            let counters = counters.get(name).copied().or(pool.counters).unwrap_or_default();
            let advertised = self.advertised(snapshot, name, &pool.offer.labels);
            judge.object(Object::Pool(name.clone()), pool, Some(counters), advertised);
        }
        for (name, advertisement) in &*snapshot.advertisements {
            judge.object(Object::Advertisement(name.clone()), advertisement, None, None);
        }
        let Judge { telling, judgements, .. } = judge;
        self.told = telling;
        judgements
    }

    /// What is to be said of a pool's being announced; nothing while that is not known.
    fn advertised(
        &self,
        snapshot: &Snapshot,
        name: &PoolName,
        labels: &Labels,
    ) -> Option<Statement> {
        let by_bgp = snapshot.bgp_advertisements.as_ref()?;
        let by_bgp = by_bgp.values().filter_map(|readable| readable.as_ref().as_ref());
        let by_l2 = self.configuration.advertisements().values().map(Arc::as_ref);
        Some(Statement::advertised(unadvertised(name, labels, by_l2, by_bgp).as_ref()))
    }
}

/// One round of judging.
struct Judge<'a> {
    namespace: &'a str,
    problems: &'a HashMap<&'a Object, &'a Problem>,
    told: Told,
    telling: Told,
    outbox: &'a Outbox,
    now: Instant,
    judgements: Judgements,
}

impl Judge<'_> {
    fn object<T>(
        &mut self,
        object: Object,
        configured: &Configured<T>,
        counters: Option<Counters>,
        advertised: Option<Statement>,
    ) {
        let problem = self.problems.get(&object).copied();
        let accepted = Statement::accepted(problem, &configured.unknown_fields);
        let statements: Vec<Statement> = [accepted].into_iter().chain(advertised).collect();
        let conditions = conditions(
            &configured.conditions,
            configured.generation,
            &statements,
            Timestamp::now(),
        );
        self.tell(&object, configured, problem);
        if conditions == configured.conditions && counters == configured.counters {
            return;
        }
        let subject = Subject::Configuration(object);
        let content = Content::Judgement(Judgement { counters, conditions });
        match self.outbox.opens(&subject, &content, self.now) {
            Some(from) if from <= self.now => self.judgements.letters.push(Letter {
                subject,
                version: configured.version.clone(),
                content,
                notes: Vec::new(),
                heals: false,
            }),
            Some(later) => {
                let again = self.judgements.again.map_or(later, |again| again.min(later));
                self.judgements.again = Some(again);
            }
            None => {}
        }
    }

    /// Tells what is wrong with the object, unless it bears it already or this process has told it.
    fn tell<T>(&mut self, object: &Object, configured: &Configured<T>, problem: Option<&Problem>) {
        let about = tell::about_configuration(object, self.namespace, &configured.version);
        let problem = problem.map(|problem| tell::not_in_force(&about, problem));
        let unknown = without_effect(&configured.unknown_fields);
        let unknown = unknown.map(|sentence| tell::unknown_fields(&about, sentence));
        let notes: Vec<Note> = problem.into_iter().chain(unknown).collect();
        if notes.is_empty() {
            return;
        }
        let borne = configured.conditions.iter().filter(|condition| condition.type_ == ACCEPTED);
        let borne: Vec<&str> = borne.map(|condition| condition.message.as_str()).collect();
        let uid = &configured.version.uid;
        let told = self.told.remove(object).filter(|(told, _)| **told == **uid);
        let known = |sentence: &String| {
            told.iter().any(|(_, told)| told.contains(sentence))
                || borne.iter().any(|message| message.contains(sentence))
        };
        let sentences = notes.iter().map(|note| note.message.clone()).collect();
        let news = notes.into_iter().filter(|note| !known(&note.message));
        self.judgements.notes.extend(news);
        self.telling.insert(object.clone(), ((&**uid).into(), sentences));
    }
}

fn offers<K: Ord + Clone, T>(objects: &BTreeMap<K, Arc<Configured<T>>>) -> BTreeMap<K, Offer<T>>
where
    Offer<T>: Clone,
{
    objects.iter().map(|(name, object)| (name.clone(), object.offer.clone())).collect()
}
