//! Everything at once: edits while letters are under way, answers that get lost, watches that lag, leaders that go.

use std::collections::BTreeMap;

use herald_controller::outbox::{Letter, Outcome};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::cluster::Cluster;
use super::controller::deliver;
use super::histories::{Edit, carry_out, cluster, edit};
use super::server::{Event, ingress};

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// A user does something.
    Edit(Edit),
    /// The watches show so many of the events that they have not shown yet, in any order but an object's own.
    Hear(Vec<Index>),
    /// The controller looks, and its letters leave.
    Plan,
    /// A letter reaches the server, whose answer reaches the controller, or does not.
    Land { which: Index, answered: bool },
    /// A letter gets lost, and the controller never hears what became of it.
    Lose(Index),
    /// Time passes, more than the controller ever waits for.
    Wait,
    /// Another controller takes over; letters of the old one may still be under way.
    Restart,
}

fn step(sharing: bool, restarts: u32) -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => edit(sharing).prop_map(Step::Edit),
        4 => vec(any::<Index>(), 1..6).prop_map(Step::Hear),
        5 => Just(Step::Plan),
        6 => (any::<Index>(), prop::bool::weighted(0.8))
            .prop_map(|(which, answered)| Step::Land { which, answered }),
        1 => any::<Index>().prop_map(Step::Lose),
        2 => Just(Step::Wait),
        restarts => Just(Step::Restart),
    ]
}

/// A cluster whose letters and events are under way.
struct Storm {
    cluster: Cluster,
    /// Letters that have left and not arrived, each with the term it left in.
    letters: Vec<(u32, Letter)>,
    /// Events that the watches have not shown.
    events: Vec<Event>,
    term: u32,
}

impl Storm {
    fn new() -> Self {
        Self { cluster: cluster(), letters: Vec::new(), events: Vec::new(), term: 0 }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Edit(edit) => carry_out(&mut self.cluster, edit),
            Step::Hear(which) => {
                self.events.extend(self.cluster.server.events());
                which.iter().for_each(|which| self.hear_one(which));
            }
            Step::Plan => {
                for letter in self.cluster.controller.plan().0 {
                    self.cluster.controller.send(&letter);
                    self.letters.push((self.term, letter));
                }
            }
            Step::Land { which, answered } if !self.letters.is_empty() => {
                let (term, letter) = self.letters.swap_remove(which.index(self.letters.len()));
                let outcome = deliver(&mut self.cluster.server, &letter);
                self.answer(term, &letter, if *answered { outcome } else { Outcome::Unclear });
            }
            Step::Lose(which) if !self.letters.is_empty() => {
                let (term, letter) = self.letters.swap_remove(which.index(self.letters.len()));
                self.answer(term, &letter, Outcome::Unclear);
            }
            Step::Land { .. } | Step::Lose(_) => {}
            Step::Wait => self.cluster.controller.wait(),
            Step::Restart => {
                self.events.clear();
                self.cluster.restart();
                self.term += 1;
            }
        }
    }

    fn hear_one(&mut self, which: &Index) {
        if self.events.is_empty() {
            return;
        }
        let key = self.events[which.index(self.events.len())].0.clone();
        let earliest = self.events.iter().position(|event| event.0 == key);
        let event = earliest.map(|at| self.events.remove(at));
        self.cluster.controller.hear(event);
    }

    fn answer(&mut self, term: u32, letter: &Letter, outcome: Outcome) {
        if term == self.term {
            self.cluster.controller.answered(letter, outcome);
        }
    }

    /// What is under way arrives, and then nothing happens any more.
    fn calm_down(mut self) -> Result<(), TestCaseError> {
        for (term, letter) in std::mem::take(&mut self.letters) {
            let outcome = deliver(&mut self.cluster.server, &letter);
            self.answer(term, &letter, outcome);
        }
        let events = std::mem::take(&mut self.events);
        self.cluster.controller.hear(events);
        self.cluster.writes.clear();
        self.cluster.settle().map_err(TestCaseError::fail)?;
        self.cluster.successor_is_quiet().map_err(TestCaseError::fail)
    }

    /// The addresses that more than one status shows.
    fn doubled(&self) -> Vec<String> {
        let mut shown: BTreeMap<String, usize> = BTreeMap::new();
        for (_, object) in self.cluster.server.list() {
            for entry in ingress(&object) {
                let address = entry["ip"].as_str().map(str::to_owned);
                *shown.entry(address.unwrap_or_default()).or_default() += 1;
            }
        }
        shown.into_iter().filter(|(_, count)| *count > 1).map(|(address, _)| address).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

    #[test]
    fn after_any_storm_the_end_is_right_and_quiet(steps in vec(step(true, 1), 10..80)) {
        let mut storm = Storm::new();
        steps.iter().for_each(|step| storm.take(step));
        storm.calm_down()?;
    }

    #[test]
    fn while_one_controller_leads_no_two_statuses_ever_show_one_address(steps in vec(step(false, 0), 10..80)) {
        let mut storm = Storm::new();
        for step in &steps {
            storm.take(step);
            prop_assert_eq!(storm.doubled(), Vec::<String>::new());
        }
        storm.calm_down()?;
    }
}
