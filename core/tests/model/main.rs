//! A model of three speakers, the API server and the segment between them, which runs the very machine that the product
//! runs, and of what may go wrong.
//!
//! From a settled cluster time goes on by leaps, and wherever something else stands than before, and each 150 ms besides,
//! anything of [`faults`] may go wrong: at each such moment every choice is followed, and after it every choice of a
//! second fault. What each path must keep to is written in [`ledger`]; a path ends when all has been well for a while,
//! and must have come to that within the bounds of I2. [`mutations`] switches off one rule at a time, and expects that
//! the hazard which it prevents is found.
//!
//! `cargo test -p herald-core --test model` looks at one fault of any kind and length at any moment of a renew period, at
//! the pace that is usual and at the edges of what operators may choose; at a second fault that strikes within 150 ms
//! of the first; and at a link that is cut while a node has long been without the API server: in two minutes. All faults
//! of the latter kind are eleven million states, and take five minutes; two faults of every kind, the second within a
//! second, twenty to forty million for each setting, and about ten minutes of two cores for each:
//!
//! ```text
//! cargo test --release -p herald-core --test model -- --ignored --nocapture
//! ```
#![forbid(unsafe_code)]

use std::time::Instant;

use herald_core::ownership::choices::Periods;
use herald_core::time::Span;
use stateright::{Checker, HasDiscoveries, Model};

use crate::canon::fingerprint;
use crate::explorer::{Choice, PROPERTY, Scope, tell};
use crate::faults::{Ailment, Breadth};
use crate::ledger::Broken;
use crate::settings::Setting;

mod canon;
mod explorer;
mod faults;
mod ledger;
mod mutations;
mod settings;
mod world;

/// How many threads search.
const THREADS: usize = 2;

/// How many states there are, and how one of them comes to break what must hold, if one does.
fn search(scope: Scope) -> (usize, Option<String>) {
    let began = Instant::now();
    let (starts, delays) = (scope.setting.starts, scope.setting.delays);
    let checker = scope.checker().threads(THREADS).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_dfs().join();
    let states = checker.unique_state_count();
    println!("{states} states, {:?}, starts {starts:?}, delays {delays:?}", began.elapsed());
    (states, checker.discovery(PROPERTY).map(|path| tell(path.into_vec())))
}

/// Nothing breaks, and so many states were looked at.
fn holds(scope: Scope) -> usize {
    let (states, broken) = search(scope);
    assert!(broken.is_none(), "{}", broken.unwrap_or_default());
    states
}

/// Clusters whose speakers do things at different times of a renew period and of a probe interval, behind API servers of
/// different speed; the last with two addresses, each with an owner of its own.
fn settings() -> [Setting; 4] {
    [
        Setting::new([0, 700, 1_400], [5, 5, 5], 1),
        Setting::new([0, 730, 1_290], [5, 55, 105], 1),
        Setting::new([0, 40, 1_075], [60, 10, 5], 1),
        Setting::new([0, 730, 1_290], [105, 5, 60], 2),
    ]
}

/// Paces at the edges of what operators may choose.
fn paces() -> [Periods; 5] {
    [
        (1_000, 150, 100),
        (30_000, 150, 100),
        (2_000, 134, 100),
        (2_000, 160, 20),
        (2_000, 2_000, 1_000),
    ]
    .map(|(renew, probe, ask)| {
        let [renew, probe, ask] = [renew, probe, ask].map(Span::millis);
        Periods { renew, probe, ask }.checked().expect("a safe pace")
    })
}

/// One renew period: what comes later has been before.
const PERIOD: Span = Span::secs(2);

#[test]
fn one_fault_of_any_kind_and_length_at_any_moment_breaks_nothing() {
    for setting in settings() {
        let scope = Scope::new(setting, vec![Breadth::All.into()]).within(PERIOD, Span::ZERO);
        let states = holds(scope);
        assert!(states > 20_000, "{states}");
    }
}

#[test]
fn one_fault_breaks_nothing_at_any_pace_that_operators_may_choose() {
    for pace in paces() {
        let setting = Setting::new([0, 730, 1_290], [5, 55, 105], 1).at(pace);
        let scope = Scope::new(setting, vec![Breadth::Lengths.into()]).within(PERIOD, Span::ZERO);
        let states = holds(scope);
        assert!(states > 10_000, "{states}");
    }
}

/// Three probes and a question to all must take longer than a pause that goes unnoticed.
#[test]
fn probing_faster_than_a_pause_is_noticed_lets_two_answer() {
    let [probe, ask] = [100, 60].map(Span::millis);
    let pace = Periods { probe, ask, ..Periods::default() };
    assert!(pace.checked().is_err());
    let setting = Setting::new([0, 700, 1_400], [5, 5, 5], 1).at(pace);
    let setting = setting.seeking(Broken::AnsweredAfterAPause);
    let pauses =
        Choice { breadth: Breadth::All, ailments: Some(|of| matches!(of, Ailment::Suspended(_))) };
    let scope = Scope::new(setting, vec![pauses]).within(PERIOD, Span::ZERO);
    let (_, broken) = search(scope);
    let told = broken.expect("a pause of 430 ms in which the owner is replaced");
    assert!(told.contains("AnsweredAfterAPause"), "{told}");
}

#[test]
fn a_fault_upon_another_breaks_nothing() {
    for setting in settings() {
        let faults = vec![Breadth::Kinds.into(), Breadth::Kinds.into()];
        let states = holds(Scope::new(setting, faults).within(Span(10), Span(150)));
        assert!(states > 50_000, "{states}");
    }
}

#[test]
#[ignore = "an hour"]
fn two_faults_of_every_kind_break_nothing() {
    for setting in settings() {
        let faults = vec![Breadth::Kinds.into(), Breadth::Kinds.into()];
        let states = holds(Scope::new(setting, faults).within(PERIOD, Span::secs(1)));
        assert!(states > 5_000_000, "{states}");
    }
}

/// The first keeps a node from the API server for so long that its session expires.
fn long_without_the_api_server(second: Choice) -> impl Iterator<Item = usize> {
    settings().into_iter().map(move |setting| {
        let without = |of: &Ailment| matches!(of, Ailment::ApiCut(_) | Ailment::WatchStalled(_));
        let first = Choice { breadth: Breadth::Kinds, ailments: Some(without) };
        holds(Scope::new(setting, vec![first, second]).within(Span(10), Span::secs(9)))
    })
}

#[test]
fn a_link_that_is_cut_while_a_node_has_long_been_without_the_api_server_closes_no_session_that_lives()
 {
    let ailments = |of: &Ailment| matches!(of, Ailment::Unhearing(_) | Ailment::Away(_));
    let cut = Choice { breadth: Breadth::Kinds, ailments: Some(ailments) };
    for states in long_without_the_api_server(cut).take(2) {
        assert!(states > 10_000, "{states}");
    }
}

#[test]
#[ignore = "five minutes"]
fn a_fault_while_a_node_has_long_been_without_the_api_server_breaks_nothing() {
    for states in long_without_the_api_server(Breadth::Kinds.into()) {
        assert!(states > 1_500_000, "{states}");
    }
}

#[test]
fn a_cluster_that_is_well_again_stays_as_it_is() {
    for setting in settings() {
        let choice = Choice { breadth: Breadth::Kinds, ailments: Some(|_| true) };
        let scope = Scope::new(setting, vec![choice]).within(Span(150), Span::ZERO);
        holds(Scope { aftercare: 20_000, ..scope });
    }
}

#[test]
fn a_story_that_begins_later_passes_through_the_same_states() {
    for setting in settings() {
        for fault in Scope::settled(&setting, 0).possible(Breadth::All) {
            let [mut one, mut other] = [0, 7_777].map(|late| Scope::settled(&setting, late));
            one.suffer(fault);
            other.suffer(fault);
            for _ in 0..200 {
                assert_eq!(fingerprint(&one), fingerprint(&other), "{fault:?} at {}", one.now);
                assert_ne!(one.now, other.now);
                one.step();
                other.step();
            }
        }
    }
}
