//! The loop in which the machine lives: what happens is fed to it, and what it wants done is done.
//!
//! Nothing in here waits for the API server or the wire: writes run beside the loop and come back as inputs. What the
//! machine says in one turn is carried out in this order: first the table of answers, so that a withdrawal is in force
//! before anything else leaves; then announcements; then writes; then what people read.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use herald_cluster::leases::{LeaseWatch, LeaseWriter};
use herald_core::name::LinkName;
use herald_core::ownership::choices::STOOD_STILL;
use herald_core::ownership::evidence::Voice;
use herald_core::ownership::machine::{Input, Machine, Neighbours, Output};
use herald_core::ownership::plan::{Interfaces, Plan};
use herald_core::ownership::record::{LeaseWrite, WriteOutcome};
use herald_core::ownership::view::LeaseKey;
use herald_core::time::{Moment, Span};
use herald_telemetry::health::Heartbeat;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::net::links::Links;
use crate::net::responder::{Heard, How, Reach, Responder};
use crate::report::Reporter;

/// The loop turns at least so often, for the responder's sake: it stops answering when the loop stands still.
const BEAT: Duration = Duration::from_millis(100);
/// How often the loop sees to what need not follow at once.
const LOOK_AROUND: Duration = Duration::from_secs(1);
/// Events taken in before what follows from them is carried out.
const BATCH: usize = 256;

/// What the loop listens to.
pub struct Ears {
    /// The Lease watch.
    pub leases: LeaseWatch,
    /// The newest plan, once there is one.
    pub plans: watch::Receiver<Option<Arc<Plan>>>,
    /// The node's links.
    pub links: watch::Receiver<Links>,
    /// What others claim on the wire.
    pub heard: mpsc::Receiver<Heard>,
    /// Becomes true when the process is asked to stop.
    pub stop: watch::Receiver<bool>,
}

/// What the loop acts by.
pub struct Hands {
    /// The wire.
    pub responder: Responder,
    /// Writes sessions: renewals must not wait behind a thousand claims.
    pub sessions: LeaseWriter,
    /// Writes claims.
    pub claims: LeaseWriter,
    /// Events, logs, metrics.
    pub reporter: Reporter,
    /// Tells that the loop turns.
    pub heartbeat: Heartbeat,
}

/// One speaker at work.
pub struct Speaker {
    machine: Machine,
    ears: Ears,
    hands: Hands,
    began: Instant,
    answers: HashMap<IpAddr, Reach>,
    writes: JoinSet<(LeaseKey, WriteOutcome, Duration)>,
    /// The links on which a socket could not be opened, by index.
    shut: HashSet<u32>,
    /// When [`Speaker::look_around`] last did anything.
    looked: Instant,
    /// Whether since then anything happened by which this node may have become a candidate, or none.
    unjudged: bool,
}

impl Speaker {
    /// A speaker that has done nothing yet.
    pub fn new(machine: Machine, ears: Ears, hands: Hands) -> Self {
        let (answers, writes, shut) = (HashMap::new(), JoinSet::new(), HashSet::new());
        let now = Instant::now();
        Self {
            machine,
            ears,
            hands,
            began: now,
            answers,
            writes,
            shut,
            looked: now,
            unjudged: false,
        }
    }

    /// Works until it is asked to stop and everything is handed over, or may not wait for that any longer (R5).
    pub async fn run(mut self) {
        let links = self.relink();
        self.machine.handle_all(links, self.now());
        loop {
            let batch = self.next().await;
            let now = self.now();
            self.take(batch, now);
            let left = self.carry_out();
            self.look_around();
            // Who stood still within a turn carried out what was decided before: the next turn asks first (R8).
            if self.now().since(now) < STOOD_STILL {
                self.hands.responder.beat();
            }
            self.hands.heartbeat.beat();
            if left {
                return;
            }
        }
    }

    fn now(&self) -> Moment {
        Moment(self.began.elapsed().as_millis().try_into().unwrap_or(u64::MAX))
    }

    fn take(&mut self, batch: impl IntoIterator<Item = Happened>, now: Moment) {
        // What was not sent, or was lost unread, since the last turn is not counted as unanswered.
        let losses = self.hands.responder.take_losses().into_iter().map(Input::Unsent);
        let mut inputs: Vec<Input> = losses.collect();
        inputs.extend(batch.into_iter().flat_map(|happened| self.hear_of(happened)));
        self.machine.handle_all(inputs, now);
    }

    /// What happened next; nothing when a deadline has come, or it is time for a beat.
    async fn next(&mut self) -> Vec<Happened> {
        let beat = Instant::now() + BEAT;
        let deadline = self.machine.next_deadline();
        let wake = deadline.map_or(beat, |at| beat.min(self.began + Duration::from_millis(at.0)));
        let ears = &mut self.ears;
        let stopping = *ears.stop.borrow();
        let mut batch = Vec::new();
        tokio::select! {
            Some(event) = ears.leases.events.recv() => {
                batch.push(Happened::Input(Input::Leases(event)));
                while batch.len() < BATCH && let Ok(event) = ears.leases.events.try_recv() {
                    batch.push(Happened::Input(Input::Leases(event)));
                }
            }
            Some(written) = self.writes.join_next() => {
                batch.push(Happened::of_write(written));
                while let Some(written) = self.writes.try_join_next() {
                    batch.push(Happened::of_write(written));
                }
            }
            Some(heard) = ears.heard.recv() => batch.push(Happened::Heard(heard)),
            Ok(()) = ears.plans.changed() => {
                let plan = ears.plans.borrow_and_update().clone();
                batch.extend(plan.map(Happened::Plan));
            }
            Ok(()) = ears.links.changed() => batch.push(Happened::Links),
            Ok(_) = ears.stop.wait_for(|stop| *stop), if !stopping => {}
            () = tokio::time::sleep_until(wake) => {}
        }
        // An answer that is here has come in time, though it was not read yet: it goes before what else there is.
        let mut voices = Vec::new();
        while voices.len() < BATCH
            && let Ok(heard) = ears.heard.try_recv()
        {
            voices.push(Happened::Heard(heard));
        }
        batch.splice(0..0, voices);
        if !stopping && *self.ears.stop.borrow() {
            tracing::info!("asked to stop: handing over");
            batch.push(Happened::Input(Input::Stop));
        }
        batch
    }

    /// What happened, as the machine takes it in.
    fn hear_of(&mut self, happened: Happened) -> Vec<Input> {
        match happened {
            Happened::Input(input) => vec![input],
            Happened::Plan(plan) => {
                self.hands.responder.listen_for(plan.vips.keys().copied().collect());
                self.hands.reporter.planned(&plan);
                self.unjudged = true;
                vec![Input::Plan(plan)]
            }
            Happened::Links => self.relink().into(),
            Happened::Heard(heard) => {
                tracing::trace!(address = %heard.address, mac = %heard.mac, link = %heard.link,
                    announced = heard.how == How::Announced, "another host has an address of ours");
                let answer = heard.how == How::Answered;
                let Heard { address, mac, link, .. } = heard;
                vec![Input::Heard(Voice { address, mac, link, answer })]
            }
        }
    }

    fn relink(&mut self) -> [Input; 2] {
        let links = self.ears.links.borrow_and_update().clone();
        let failed = self.hands.responder.set_links(&links).err().unwrap_or_default();
        for error in failed.iter().filter(|error| !self.shut.contains(&error.index)) {
            // Said once: it is tried again every second.
            tracing::error!(%error, source = %error.source, "no socket on a link");
        }
        self.shut = failed.iter().map(|error| error.index).collect();
        let open: HashSet<&LinkName> = self.hands.responder.open_links().collect();
        let mut records = links.records();
        // Where no question can be answered there is no link: this node must not own what it is silent about.
        records.retain(|link| !link.carrier || open.contains(&link.name));
        self.unjudged = true;
        [Input::Gateways(links.gateways()), Input::Links(records)]
    }

    /// Opens sockets that could not be opened, or whose task has ended, though no link has changed; and counts what takes
    /// a while where there are many addresses: claims, and why this node is no candidate.
    fn look_around(&mut self) {
        if self.looked.elapsed() < LOOK_AROUND {
            return;
        }
        self.looked = Instant::now();
        self.hands.reporter.counted(&self.machine);
        if std::mem::take(&mut self.unjudged) {
            self.hands.reporter.judged(&self.machine);
        }
        let open: HashSet<&LinkName> = self.hands.responder.open_links().collect();
        let all = self.ears.links.borrow().eligible().all(|(of, _)| open.contains(&of.name));
        if !all {
            let links = self.relink();
            self.machine.handle_all(links, self.now());
        }
    }

    /// Does what the machine wants done; whether it has left.
    fn carry_out(&mut self) -> bool {
        let (mut answers, mut vouched, mut left) = (HashMap::new(), HashMap::new(), false);
        let mut questions = Vec::new();
        let (mut announcements, mut writes, mut reports) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Answer(address, interfaces) => {
                    let reach = reach(&interfaces);
                    self.answers.insert(address, reach.clone());
                    answers.insert(address, Some(reach));
                }
                Output::Silence(address) => {
                    self.answers.remove(&address);
                    answers.insert(address, None);
                }
                Output::Announce { address, first } => announcements.push((address, first)),
                Output::Ask(question) => questions.push(question),
                Output::Vouch(address, vouches) => drop(vouched.insert(address, vouches)),
                Output::Neighbours(Neighbours { speakers, hosts }) => {
                    self.hands.responder.surround(speakers, hosts);
                }
                Output::Write(key, write) => writes.push((key, write)),
                Output::ListAnew => self.ears.leases.relist.ask(),
                Output::Report(report) => reports.push(report),
                Output::Left => left = true,
            }
        }
        if !answers.is_empty() {
            let told: Vec<(IpAddr, bool)> =
                answers.iter().map(|(address, reach)| (*address, reach.is_some())).collect();
            self.hands.responder.answer(answers);
            self.hands.reporter.answering(told);
        }
        if !vouched.is_empty() {
            self.hands.responder.vouch(vouched);
        }
        for question in questions {
            self.hands.responder.ask(&question);
        }
        for (address, first) in announcements {
            if let Some(reach) = self.answers.get(&address) {
                self.hands.responder.announce(address, reach, first);
            }
        }
        for (key, write) in writes {
            self.write(key, write);
        }
        self.unjudged |= !reports.is_empty();
        for report in reports {
            self.hands.reporter.report(&report);
        }
        left
    }

    fn write(&mut self, key: LeaseKey, write: LeaseWrite) {
        let writer = match key {
            LeaseKey::Session(_) => self.hands.sessions.clone(),
            LeaseKey::Claim(_) => self.hands.claims.clone(),
        };
        let tally = self.hands.reporter.writes();
        // Sessions are renewed for ever: what waits for them to end would wait in vain.
        let urgent = matches!(key, LeaseKey::Claim(_)).then(|| self.hands.reporter.urgent());
        self.writes.spawn(async move {
            let written = writer.write(&write).await;
            drop(urgent);
            tally.count(&key, &written.outcome);
            if written.outcome != WriteOutcome::Unknown {
                tracing::debug!(?key, outcome = ?written.outcome, took = ?written.took, "wrote");
            } else {
                tracing::warn!(?key, took = ?written.took, "a write was not answered");
            }
            (key, written.outcome, written.took)
        });
    }
}

/// Something that happened.
enum Happened {
    Input(Input),
    Plan(Arc<Plan>),
    Links,
    Heard(Heard),
}

impl Happened {
    fn of_write(ended: Result<(LeaseKey, WriteOutcome, Duration), JoinError>) -> Self {
        // A write without an outcome would leave its Lease in flight for ever: better to begin anew.
        let (key, outcome, took) = ended.expect("a write ends by itself, and not by a panic");
        let took = Span::millis(took.as_millis().try_into().unwrap_or(u64::MAX));
        Self::Input(Input::Written(key, outcome, took))
    }
}

fn reach(interfaces: &Interfaces) -> Reach {
    match interfaces {
        Interfaces::Any => Reach::Every,
        Interfaces::Only(names) => Reach::Only(Arc::new(names.clone())),
    }
}

#[cfg(test)]
mod tests;
