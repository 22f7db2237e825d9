//! A cluster with one controller at work in it.

use std::collections::BTreeMap;

use herald_cluster::events::Note;
use herald_controller::outbox::Outcome;
use serde_json::Value;

use super::controller::{Auditor, Controller, deliver, subject};
use super::server::{Key, Server, Stack};

/// Plans until there is nothing to write; more is a circle.
const ROUNDS_AT_MOST: usize = 16;
/// Writes to one object after one edit; more is a circle. One takes, one gives, one corrects the words.
const WRITES_AT_MOST: usize = 4;

/// The server, the controller, and what the controller has done since this was last asked.
pub(crate) struct Cluster {
    pub(crate) server: Server,
    pub(crate) controller: Controller,
    auditor: Auditor,
    class: Option<String>,
    /// Letters carried out, ever.
    carried: usize,
    pub(crate) told: Vec<Note>,
    pub(crate) writes: BTreeMap<Key, usize>,
}

impl Cluster {
    /// An empty one, whose controller has that `--lb-class`.
    pub(crate) fn new(stack: Stack, class: Option<&str>) -> Self {
        let server = Server::new(stack);
        Self {
            controller: Controller::new(class, &server),
            server,
            auditor: Auditor::default(),
            class: class.map(str::to_owned),
            carried: 0,
            told: Vec::new(),
            writes: BTreeMap::new(),
        }
    }

    /// Another controller takes over. It knows what it lists, and nothing else.
    pub(crate) fn restart(&mut self) {
        self.server.events();
        self.controller = Controller::new(self.class.as_deref(), &self.server);
        self.auditor = Auditor::default();
    }

    /// The watches tell the controller what has happened.
    pub(crate) fn hear(&mut self) {
        let events = self.server.events();
        self.controller.hear(events);
    }

    /// One plan, every letter of which arrives and is answered.
    pub(crate) fn round(&mut self) {
        let (letters, notes) = self.controller.plan();
        self.told.extend(notes);
        for letter in &letters {
            self.controller.send(letter);
            let outcome = deliver(&mut self.server, letter);
            assert_ne!(outcome, Outcome::Refused, "{letter:?}");
            *self.writes.entry(subject(letter)).or_default() += 1;
            self.told.extend(self.controller.answered(letter, outcome));
        }
        self.carried += letters.len();
    }

    /// The controller works until it has nothing to do, now or after a while.
    ///
    /// # Errors
    ///
    /// It never comes to that, or where it comes to is wrong.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        self.settle_hearing(Self::hear)
    }

    /// As [`Cluster::settle`], by watches that tell what has happened in a way of their own.
    pub(crate) fn settle_hearing(&mut self, mut hear: impl FnMut(&mut Self)) -> Result<(), String> {
        let mut quiet = 0;
        for _ in 0..ROUNDS_AT_MOST {
            let before = self.carried;
            hear(self);
            self.round();
            if self.carried > before {
                quiet = 0;
                continue;
            }
            quiet += 1;
            if quiet > 1 {
                // One that has just taken over waits a while before it takes what no pool holds.
                self.controller.wait();
                self.hear();
                self.round();
                if self.carried > before {
                    quiet = 0;
                    continue;
                }
                self.few_writes()?;
                return self.auditor.audit(&self.controller);
            }
            self.controller.wait();
        }
        Err(format!("does not come to rest: {:?}", self.writes))
    }

    fn few_writes(&self) -> Result<(), String> {
        let many = self.writes.iter().find(|(_, writes)| **writes > WRITES_AT_MOST);
        many.map_or(Ok(()), |(key, writes)| Err(format!("{writes} writes to {key:?}")))
    }

    /// Whether another controller that takes over now finds nothing to write, and nothing to tell of any Service. Not so
    /// while an object is broken: what was in force before it broke is known to nobody but who saw it.
    ///
    /// # Errors
    ///
    /// What it would do.
    pub(crate) fn successor_is_quiet(&self) -> Result<(), String> {
        if self.controller.is_stale() {
            return Ok(());
        }
        let mut successor = Controller::new(self.class.as_deref(), &self.server);
        for _ in 0..2 {
            let (letters, notes) = successor.plan();
            let notes = notes.iter().filter(|note| note.about.kind.as_deref() == Some("Service"));
            let notes: Vec<String> = notes.map(text).collect();
            if !letters.is_empty() || !notes.is_empty() {
                return Err(format!("a successor writes {letters:#?} and tells {notes:?}"));
            }
            successor.wait();
        }
        Ok(())
    }

    /// What is stored of an object.
    pub(crate) fn object(&self, key: &Key) -> Option<&Value> {
        self.server.get(key)
    }
}

/// An Event, as a scenario spells it.
pub(crate) fn text(note: &Note) -> String {
    format!("{}: {}", note.reason, note.message)
}
