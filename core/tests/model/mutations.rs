//! The rules that can be switched off, one at a time: by what surrounds the machine, which stays as it is.

use std::net::IpAddr;

use herald_core::ownership::evidence::Voice;
use herald_core::ownership::machine::Input;
use herald_core::ownership::record::{LeaseEvent, LeaseWrite, Version, WriteOutcome};
use herald_core::ownership::view::LeaseKey;
use herald_core::time::Span;

use crate::canon::VERSION;
use crate::explorer::{Choice, Scope};
use crate::faults::{Ailment, Breadth};
use crate::ledger::Broken;
use crate::search;
use crate::settings::{NODES, Setting, index, mac};
use crate::world::{Letter, World};

/// A rule that prevents a known hazard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    /// R7: who hears no third host indicts nobody. Without: each hears one whenever it asks everybody.
    ThirdHost,
    /// R7: a session is closed by a write on the version that was judged. Without: that it was renewed meanwhile seems
    /// to be no conflict, and the claim is taken.
    CloseFirst,
    /// R1: only who is sure is owner. Without: each of its own renewals seems stored and shown although the API server
    /// is not reached, or its watch shows nothing.
    Sure,
    /// R7: who answers on the wire is not closed as expired. Without: what it answers then is not heard.
    Veto,
    /// R7: a speaker answers its peers for what its claims name also while it is silent. Without: it does not.
    Vouching,
    /// R8: who stood still asks before it answers. Without: its clock does not show that it did.
    Gate,
    /// R7: peers are probed. Without: no question to one host gets there.
    Probing,
    /// R7: a dead owner's session is closed. Without: the API server refuses that.
    Closing,
    /// R8, R9: who answers heeds another speaker that it hears. Without: it hears none.
    Rivals,
}

impl Rule {
    /// What it is there to prevent.
    pub(crate) const fn prevents(self) -> Broken {
        match self {
            Self::ThirdHost | Self::Vouching => Broken::Indicted,
            Self::CloseFirst => Broken::Robbed,
            Self::Sure => Broken::TwoOwners,
            Self::Veto => Broken::ExpiredThoughAnswering,
            Self::Gate => Broken::AnsweredAfterAPause,
            Self::Probing => Broken::Slow,
            Self::Closing => Broken::Unanswered,
            Self::Rivals => Broken::TwoAnswer,
        }
    }
}

/// A session expires after so long.
const DURATION: u64 = 6_000;
/// For so long after that what would veto its closing is not heard.
const VETO: u64 = 400;

fn pretended(of: &str) -> Version {
    let name = |what: &str| format!("{}{what}{of}", char::from(VERSION)).into();
    Version { uid: name("p"), resource: name("q") }
}

impl World {
    fn lacks(&self, rule: Rule) -> bool {
        self.setting.without == Some(rule)
    }

    /// Whether a write is not sent, and what follows is made up.
    pub(crate) fn pretends(&mut self, from: usize, key: &LeaseKey, write: &LeaseWrite) -> bool {
        let LeaseWrite::Session(_, session) = write else { return false };
        let own = index(&session.node) == from;
        let node = &self.nodes[from];
        if !self.lacks(Rule::Sure) || !own || node.api && node.watch {
            return false;
        }
        let version = pretended(&format!("{}@{}", session.node, self.now));
        let stored = WriteOutcome::Stored(Some(version.clone()));
        let input = Input::Written(key.clone(), stored, Span(1));
        self.post(1, Letter::Fed { to: from, input });
        let shown = LeaseEvent::Session(version, session.clone());
        self.post(1, Letter::Fed { to: from, input: Input::Leases(shown) });
        true
    }

    /// Whether the API server refuses a write.
    pub(crate) fn refuses(&self, from: usize, write: &LeaseWrite) -> bool {
        self.lacks(Rule::Closing) && closes_another(from, write)
    }

    /// What its sender is told that a write came to.
    pub(crate) fn as_its_sender_sees_it(
        &self,
        from: usize,
        write: &LeaseWrite,
        outcome: WriteOutcome,
    ) -> WriteOutcome {
        let conflicts = outcome == WriteOutcome::Conflict;
        if self.lacks(Rule::CloseFirst) && conflicts && closes_another(from, write) {
            return WriteOutcome::Stored(Some(pretended(&format!("{from}@{}", self.now))));
        }
        outcome
    }

    /// A third host answers for whoever asks everybody, be its cable cut or not.
    pub(crate) fn speak_for_a_third(&mut self, from: usize, address: IpAddr) {
        let owner = self.api.claims.get(&address).map(|(_, claim)| index(&claim.holder.node));
        let third = (0..NODES).find(|node| *node != from && Some(*node) != owner);
        if let Some(third) = third.filter(|_| self.lacks(Rule::ThirdHost)) {
            self.pretend_voice(from, third);
        }
    }

    /// Whether a question does not get there.
    pub(crate) fn loses(&self, unicast: bool) -> bool {
        self.lacks(Rule::Probing) && unicast
    }

    /// Whether a voice is not heard.
    pub(crate) fn mishears(&self, to: usize, voice: &Voice) -> bool {
        if self.lacks(Rule::Rivals) && self.nodes[to].answers(voice.address) {
            return true;
        }
        let of = (0..NODES).find(|node| mac(*node) == voice.mac);
        let renewed = of.and_then(|of| self.api.renewed.get(&of).copied());
        let expired = |at: u64| (DURATION..DURATION + VETO).contains(&(self.now - at));
        self.lacks(Rule::Veto) && renewed.is_some_and(expired)
    }

    /// Whether a speaker answers for what it vouches for.
    pub(crate) fn vouching_counts(&self) -> bool {
        !self.lacks(Rule::Vouching)
    }

    /// Whether no process notices that it stood still.
    pub(crate) fn hides_pauses(&self) -> bool {
        self.lacks(Rule::Gate)
    }
}

/// Whether a write closes the session of a node other than its sender's.
fn closes_another(from: usize, write: &LeaseWrite) -> bool {
    match write {
        LeaseWrite::Session(_, session) => index(&session.node) != from && session.closed.is_some(),
        LeaseWrite::Claim(..) | LeaseWrite::DeleteClaim(..) => false,
    }
}

/// An API server that answers at once, and one that takes its time.
const FAST: [u64; NODES] = [5; NODES];
const SLOW: [u64; NODES] = [5, 55, 105];

/// With the rule the faults break nothing; without it they bring about what it is there to prevent.
fn is_needed(rule: Rule, delays: [u64; NODES], faults: &[fn(&Ailment) -> bool]) {
    is_needed_within(rule, delays, Span(300), faults);
}

/// The same, the first fault striking so long after the cluster has settled at the latest.
fn is_needed_within(
    rule: Rule,
    delays: [u64; NODES],
    first: Span,
    faults: &[fn(&Ailment) -> bool],
) {
    let choice = |ailments: fn(&Ailment) -> bool| Choice {
        breadth: Breadth::Lengths,
        ailments: Some(ailments),
    };
    let setting = Setting::new([0, 700, 1_400], delays, 1);
    let scope = |setting| {
        let faults = faults.iter().copied().map(choice).collect();
        Scope::new(setting, faults).within(first, Span::secs(1))
    };
    let (states, broken) = search(scope(setting.clone()));
    assert!(states > 100 && broken.is_none(), "{}", broken.unwrap_or_default());
    let (_, broken) = search(scope(setting.without(rule)));
    let told = broken.unwrap_or_else(|| panic!("nothing breaks without {rule:?}"));
    println!("without {rule:?}:\n{told}");
}

#[test]
fn without_a_third_host_a_prober_whose_cable_is_cut_indicts_a_healthy_owner() {
    is_needed(Rule::ThirdHost, FAST, &[|of| matches!(of, Ailment::PortDead(_))]);
}

#[test]
fn without_closing_first_a_stalled_watch_robs_an_owner_that_only_paused() {
    // A prober's watch, and the owner.
    is_needed_within(
        Rule::CloseFirst,
        SLOW,
        Span::secs(1),
        &[|of| matches!(of, Ailment::WatchStalled(0)), |of| matches!(of, Ailment::Suspended(2))],
    );
}

#[test]
fn without_being_sure_two_are_owners_when_one_is_cut_off_from_the_api_server() {
    is_needed(
        Rule::Sure,
        FAST,
        &[|of| matches!(of, Ailment::ApiCut(_)), |of| matches!(of, Ailment::PairCut(..))],
    );
}

#[test]
fn without_being_sure_a_stalled_watch_leaves_two_owners() {
    is_needed(
        Rule::Sure,
        FAST,
        &[|of| matches!(of, Ailment::WatchStalled(_)), |of| matches!(of, Ailment::PairCut(..))],
    );
}

#[test]
fn without_the_veto_expiry_robs_an_owner_that_only_lost_the_api_server() {
    is_needed(Rule::Veto, FAST, &[|of| matches!(of, Ailment::ApiCut(_))]);
}

#[test]
fn without_vouching_silence_on_purpose_passes_for_death() {
    is_needed(
        Rule::Vouching,
        FAST,
        &[|of| matches!(of, Ailment::WatchStalled(_)), |of| matches!(of, Ailment::Away(_))],
    );
}

#[test]
fn without_the_gate_an_owner_that_paused_answers_beside_its_successor() {
    is_needed(Rule::Gate, FAST, &[|of| matches!(of, Ailment::Suspended(_))]);
}

#[test]
fn without_probes_a_dead_owner_is_replaced_late() {
    is_needed(Rule::Probing, FAST, &[|of| matches!(of, Ailment::Dead(_))]);
}

#[test]
fn without_closing_sessions_a_dead_owner_is_never_replaced() {
    is_needed(Rule::Closing, FAST, &[|of| matches!(of, Ailment::Dead(_))]);
}

#[test]
fn without_heeding_rivals_an_owner_without_the_api_server_answers_beside_its_successor() {
    is_needed(
        Rule::Rivals,
        FAST,
        &[|of| matches!(of, Ailment::ApiCut(_)), |of| matches!(of, Ailment::PortDead(_))],
    );
}
