//! The state space: from a state time goes on to the next state that is worth a decision, or something goes wrong.

use std::fmt::Write as _;
use std::sync::Arc;

use herald_core::time::Span;
use stateright::{Model, Property};

use crate::canon::EPOCH;
use crate::faults::{Ailment, Breadth, Fault};
use crate::settings::Setting;
use crate::world::World;

/// How far a search goes.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) setting: Setting,
    /// What may go wrong first, then second, and so on.
    pub(crate) faults: Vec<Choice>,
    /// A decision is offered whenever something else stands than before, and at least so often, in milliseconds.
    pub(crate) grid: u64,
    pub(crate) first_within: u64,
    pub(crate) next_within: u64,
    /// How long a cluster that is well again is looked at, in milliseconds.
    pub(crate) aftercare: u64,
}

/// What may go wrong at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) breadth: Breadth,
    /// Of what befalls nodes only this, and nothing that befalls what is on its way; otherwise everything.
    pub(crate) ailments: Option<fn(&Ailment) -> bool>,
}

impl Choice {
    fn holds(&self, fault: &Fault) -> bool {
        self.ailments.is_none_or(|among| match fault {
            Fault::Strike(ailment, _) => among(ailment),
            Fault::Late(..)
            | Fault::LostWrite(_)
            | Fault::LingeringWrite(..)
            | Fault::LostOutcome(_) => false,
        })
    }
}

impl From<Breadth> for Choice {
    fn from(breadth: Breadth) -> Self {
        Self { breadth, ailments: None }
    }
}

/// The one property: [`crate::ledger`] knows several, and which of them is broken.
pub(crate) const PROPERTY: &str = "what must hold";
/// When the cluster has settled, from the start of the first speaker.
const SETTLED: u64 = 12_000;

/// A step of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Time goes on.
    Wait,
    /// Something goes wrong.
    Fail(Fault),
}

impl Scope {
    /// These faults, at decisions 150 ms apart at most.
    pub(crate) fn new(setting: Setting, faults: Vec<Choice>) -> Self {
        Self { setting, faults, grid: 150, first_within: 0, next_within: 0, aftercare: 150 }
    }

    /// The first fault strikes so long after the cluster has settled at the latest, each other so long after the one
    /// before it.
    pub(crate) fn within(self, first: Span, next: Span) -> Self {
        Self { first_within: first.0, next_within: next.0, ..self }
    }

    /// A settled cluster in this setting, its first speaker started `late` milliseconds after the clock began.
    pub(crate) fn settled(setting: &Setting, late: u64) -> World {
        let mut world = World::new(Arc::new(setting.clone()), late);
        let settled = SETTLED.max(setting.periods.renew.times(6).0);
        while world.now < EPOCH + late + settled {
            world.step();
        }
        assert!(world.ledger.broken.is_none(), "{:?} in the beginning", world.ledger.broken);
        assert!(world.ledger.healthy.is_some(), "a cluster that does not settle");
        world.struck = world.now;
        world
    }

    /// Whether another fault may strike now.
    fn is_open(&self, world: &World) -> bool {
        let within = if world.faults == 0 { self.first_within } else { self.next_within };
        world.faults < self.faults.len() && world.now - world.struck < within
    }

    /// Whether nothing more is to be seen.
    fn is_over(&self, world: &World) -> bool {
        let calm = world.ledger.healthy.is_some_and(|since| world.now - since >= self.aftercare);
        world.ledger.broken.is_some() || calm && !self.is_open(world)
    }

    /// Lets time go on to the next state in which something else stands, or the next point of the grid.
    fn wait(&self, world: &mut World) {
        let (shape, began) = (world.shape(), world.now);
        loop {
            world.step();
            let waited = world.now - began >= self.grid;
            if world.ledger.broken.is_some() {
                break;
            }
            if !world.is_wire_busy() && (waited || world.shape() != shape) {
                break;
            }
        }
    }
}

impl Model for Scope {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![Self::settled(&self.setting, 0)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if self.is_over(world) {
            return;
        }
        actions.push(Action::Wait);
        if self.is_open(world) {
            let choice = self.faults[world.faults];
            let possible = world.possible(choice.breadth).into_iter();
            actions.extend(possible.filter(|fault| choice.holds(fault)).map(Action::Fail));
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Wait => self.wait(&mut next),
            Action::Fail(fault) => next.suffer(fault),
        }
        if !self.is_open(&next) {
            next.struck = 0;
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(PROPERTY, |_, world: &World| world.ledger.broken.is_none())]
    }
}

/// A path, for people: when, who has which part (`!` answers, `+` sure), and what comes next.
pub(crate) fn tell(path: Vec<(World, Option<Action>)>) -> String {
    let began = path.first().map_or(0, |(world, _)| world.now);
    let mut told = String::new();
    for (world, action) in path {
        let (at, broken) = (world.now - began, world.ledger.broken);
        let next = match (broken, action) {
            (Some(broken), _) => format!("{broken:?}"),
            (None, Some(Action::Fail(fault))) => format!("{fault:?}"),
            (None, _) => String::new(),
        };
        let _ = writeln!(told, "{at:>6} ms {} {next}", world.told());
    }
    told
}
