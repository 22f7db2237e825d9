//! `--rebalance`: the node with most addresses is relieved of one at a time (R4).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Machine;
use crate::name::NodeName;
use crate::ownership::order;
use crate::ownership::plan::Vip;
use crate::time::{Moment, Span};

/// How often a speaker looks whether it has too many.
const LOOK_INTERVAL: Span = Span::secs(1);

impl Machine {
    /// When it is time to look.
    pub(super) fn relief_due(&self) -> Option<Moment> {
        self.choices.rebalance.then(|| self.relief_sought + LOOK_INTERVAL)
    }

    pub(super) fn seek_relief(&mut self, now: Moment) {
        if self.relief_due().is_none_or(|at| now < at) {
            return;
        }
        self.relief_sought = now;
        let relief = if self.sure { self.relief() } else { None };
        if relief != self.relief {
            let concerned = [self.relief.take(), relief.clone()];
            self.dirty.extend(concerned.into_iter().flatten().map(|(address, _)| address));
            self.relief = relief;
        }
    }

    /// The address that should move, and where to: from the node with most addresses to the candidate with fewest, as
    /// long as that has two fewer; and only while nothing else moves.
    fn relief(&self) -> Option<(IpAddr, NodeName)> {
        let mut loads: BTreeMap<&NodeName, usize> = BTreeMap::new();
        let mut moving = None;
        for claim in self.view.claims().filter(|claim| self.view.is_open_for(&claim.holder)) {
            *loads.entry(&claim.holder.node).or_default() += 1;
            if let Some(to) = &claim.handing_over_to {
                moving = Some((claim.address, to));
            }
        }
        if let Some((address, to)) = moving {
            return self.relief.clone().filter(|relief| (relief.0, &relief.1) == (address, to));
        }
        let load = |node: &NodeName| loads.get(node).copied().unwrap_or_default();
        let mine = load(&self.me);
        let heaviest = loads.iter().all(|(node, load)| (*load, *node) <= (mine, &self.me));
        if !heaviest {
            return None;
        }
        let lightest = |address: IpAddr, vip: &Vip| {
            let nodes = order::welcome(address, vip, &self.view).into_iter().enumerate();
            let others = nodes.filter(|(_, node)| **node != self.me && load(node) + 1 < mine);
            others.min_by_key(|(place, node)| (load(node), *place)).map(|(_, node)| node.clone())
        };
        let answered = self.parts.iter().filter(|(_, part)| part.state.answers());
        answered
            .filter_map(|(address, _)| Some((*address, lightest(*address, self.vip(*address)?)?)))
            .next()
    }
}
