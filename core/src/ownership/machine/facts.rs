//! What the machine knows of one address, gathered for [`claim::step`].

use std::cmp::Reverse;
use std::net::IpAddr;

use super::report::Cause;
use super::{DELAY, Machine};
use crate::name::NodeName;
use crate::ownership::claim::{Facts, HAND_OVER, Leaving, Standing, State};
use crate::ownership::order::{self, usable};
use crate::ownership::plan::{Interfaces, Plan, Vip};
use crate::ownership::record::Claim;
use crate::time::Moment;
use crate::why::announcement::Unfit;

impl Machine {
    pub(super) fn facts(&self, address: IpAddr, now: Moment) -> Facts {
        let vip = self.vip(address);
        let leaving = self.leaving();
        let fit = vip.is_some_and(|vip| self.unfit(address, vip).is_none());
        let open = self.session.is_open();
        let claim = match open {
            true => self.standing(address, vip, fit && leaving == Leaving::No, now),
            false => Standing::NotForMe,
        };
        Facts {
            open,
            sure: self.sure && !self.rivals.is_doubtful(address, now),
            wanted: vip.is_some(),
            fit,
            leaving,
            wire: self.inquiries.wire(address),
            claim,
            writable: self.view.is_claim_writable(address)
                && self.refusals.until(address, now).is_none(),
            delay: DELAY.max(self.write_time.times(2)),
        }
    }

    pub(super) fn vip(&self, address: IpAddr) -> Option<&Vip> {
        self.plan.as_ref()?.vips.get(&address)
    }

    /// Why this node is no candidate for `address`, its leaving aside (R3).
    fn unfit(&self, address: IpAddr, vip: &Vip) -> Option<Unfit> {
        let Some(candidacy) = vip.candidates.nodes.get(&self.me) else {
            return Some(vip.unfit.clone().unwrap_or(Unfit::UnknownNode));
        };
        let links = || usable(&self.links, &candidacy.interfaces);
        if links().next().is_none() {
            return Some(Unfit::NoInterface);
        }
        // A node with another network beside the one that lost its cable would stay owner where nobody hears it.
        let apart = !links().any(|link| link.is_beside(address))
            && self.is_on_a_network(address)
            && order::is_anybody_beside(address, vip, &self.view, &self.me);
        apart.then_some(Unfit::OffLink)
    }

    /// Why this node may not answer for `address` now, of all reasons the first, for people; `None` when it may, or when
    /// no Service has the address.
    pub fn why_not(&self, address: IpAddr) -> Option<Unfit> {
        let vip = self.vip(address)?;
        let going = (self.stopping.is_some() || self.left).then_some(Unfit::Leaving);
        let shut = || (!self.session.is_open()).then_some(Unfit::NoSession);
        self.unfit(address, vip).or(going).or_else(shut)
    }

    pub(super) fn leaving(&self) -> Leaving {
        if self.stopping.is_some() {
            Leaving::Stopping
        } else if self.drained.is_some() {
            Leaving::Drained
        } else {
            Leaving::No
        }
    }

    /// Where this speaker may answer for `address`, if the plan says.
    pub(super) fn allowed_interfaces(&self, address: IpAddr) -> Option<Interfaces> {
        let candidacy = self.vip(address)?.candidates.nodes.get(&self.me)?;
        Some(candidacy.interfaces.clone())
    }

    fn standing(&self, address: IpAddr, vip: Option<&Vip>, stays: bool, now: Moment) -> Standing {
        let Some(claim) = self.view.claim(address) else {
            return vip.map_or(Standing::NotForMe, |vip| self.unclaimed(address, vip, now));
        };
        if self.is_mine(claim) {
            return self.mine(address, claim, vip, stays);
        }
        let held = self.view.is_open_for(&claim.holder);
        let leaving = self.view.session(&claim.holder.node).is_some_and(|s| s.leaving);
        if held && !leaving && claim.handing_over_to.as_ref() != Some(&self.me) {
            return Standing::Held;
        }
        let place = match vip {
            Some(vip) => self.place(address, vip),
            None => Some(self.place_to_delete(address)),
        };
        // That its Lease was deleted is no word of its death: who lives opens another at once, and is first then.
        let holder = &claim.holder.node;
        let may_live = |vip: &Vip| vip.candidates.nodes.contains_key(holder);
        let gone = self.view.session(holder).is_none() && vip.is_some_and(may_live);
        match place {
            Some(place) => Standing::Free { place: place + u64::from(gone), exists: true, held },
            None if held => Standing::Held,
            None => Standing::NotForMe,
        }
    }

    pub(super) fn is_mine(&self, claim: &Claim) -> bool {
        claim.holder.node == self.me && claim.holder.incarnation == *self.session.incarnation()
    }

    fn mine(&self, address: IpAddr, claim: &Claim, vip: Option<&Vip>, stays: bool) -> Standing {
        let (marked_for, contested) = (claim.handing_over_to.clone(), claim.contested);
        let (mut successor, mut better) = (None, None);
        if let Some(vip) = vip {
            if !stays {
                successor = self.successor(address, vip);
            } else if self.may_move(address, vip) {
                better = self.better(address, vip);
            }
        }
        Standing::Mine { marked_for, successor, better, contested }
    }

    fn successor(&self, address: IpAddr, vip: &Vip) -> Option<NodeName> {
        order::successor(address, vip, &self.view, &self.me).cloned()
    }

    /// Whether anything but the loss of candidacy could move an address: most often nothing does, and looking is dear.
    fn may_move(&self, address: IpAddr, vip: &Vip) -> bool {
        let chosen = self.choices.failback || self.choices.rebalance;
        vip.candidates.scored || chosen || self.is_deaf_for(address, vip)
    }

    /// A node to which the address should move as planned, though this one may keep it (R4): one that is preferred, or
    /// one that hears where this one does not, or what operators chose.
    fn better(&self, address: IpAddr, vip: &Vip) -> Option<NodeName> {
        let others = order::welcome(address, vip, &self.view).into_iter();
        let others: Vec<&NodeName> = others.filter(|node| **node != self.me).collect();
        let score = |node: &NodeName| vip.candidates.nodes.get(node).map(|c| c.score);
        // Of several with the highest score the first in order, which is the marked one where there is a mark.
        let preferred = others.iter().copied().filter(|node| score(node) > score(&self.me));
        if let Some(node) = preferred.min_by_key(|node| Reverse(score(node))) {
            return Some(node.clone());
        }
        if self.is_deaf_for(address, vip)
            && let Some(node) = others.first()
        {
            return Some((*node).clone());
        }
        let home = self.choices.failback.then(|| order::home(address, vip, &self.view)).flatten();
        if let Some(node) = home.filter(|node| **node != self.me) {
            return Some(node.clone());
        }
        let relief = self.relief.as_ref().filter(|(relieved, _)| *relieved == address);
        relief.map(|(_, lighter)| lighter.clone())
    }

    /// Whether this node hears nobody where it would answer for `address`.
    fn is_deaf_for(&self, address: IpAddr, vip: &Vip) -> bool {
        let candidacy = vip.candidates.nodes.get(&self.me);
        candidacy.is_some_and(|of| order::is_deaf(&self.links, &of.interfaces, address))
    }

    /// R4: a cold start waits for the sessions of all Ready nodes, or two periods.
    fn unclaimed(&self, address: IpAddr, vip: &Vip, now: Moment) -> Standing {
        let until = self.session.opened_at() + self.period().times(2);
        let complete = || {
            let mut ready = vip.candidates.nodes.iter().filter(|(_, candidacy)| candidacy.ready);
            ready.all(|(node, _)| self.view.open_for(node).is_some())
        };
        if now < until && !complete() {
            return Standing::ColdStart { until };
        }
        match self.place(address, vip) {
            Some(place) => Standing::Free { place, exists: false, held: false },
            None => Standing::NotForMe,
        }
    }

    fn place(&self, address: IpAddr, vip: &Vip) -> Option<u64> {
        let place = order::place(address, vip, &self.view, &self.me)?;
        // Others learn of it with the next write of the session.
        let last = || u64::try_from(order::order(address, vip, &self.view).len() - 1).ok();
        if self.is_deaf_for(address, vip) { last() } else { Some(place) }
    }

    /// A claim that no Service wants and whose holder is gone is deleted in hash order.
    fn place_to_delete(&self, address: IpAddr) -> u64 {
        let mine = order::hash(&self.me, address);
        let before =
            self.view.open_sessions().filter(|session| order::hash(&session.node, address) < mine);
        before.count() as u64
    }

    /// Whether the session is to be closed: nothing is answered any more, nobody is there to take over, or handing over
    /// has lasted long enough (R5).
    pub(super) fn is_to_close(&self, plan: &Plan, now: Moment) -> bool {
        let long_enough = |since: Option<Moment>| since.is_some_and(|s| now >= s + HAND_OVER);
        if self.stopping.is_some() {
            return long_enough(self.stopping) || !self.is_awaiting_successor(plan);
        }
        if !plan.takes_part && !self.is_answering() {
            return true;
        }
        long_enough(self.drained) && self.is_answering()
    }

    fn is_awaiting_successor(&self, plan: &Plan) -> bool {
        self.parts.iter().filter(|(_, part)| part.state.answers()).any(|(address, part)| {
            let taken = matches!(part.state, State::HandingOver { taken: Some(_), .. });
            let vip = plan.vips.get(address);
            taken || vip.is_some_and(|vip| self.successor(*address, vip).is_some())
        })
    }

    /// Why the step to `next` is made.
    pub(super) fn cause(&self, address: IpAddr, next: &State, facts: &Facts) -> Cause {
        let state = self.state(address);
        let claim = self.view.claim(address);
        match (&facts.claim, next) {
            _ if !facts.open => Cause::SessionClosed,
            _ if !facts.wanted => Cause::Unwanted,
            (Standing::Free { held, .. }, State::Taking) => match claim {
                None if state.answers() => Cause::ClaimGone,
                None => Cause::Unowned,
                Some(claim) if *held => Cause::HandedOverBy(claim.holder.node.clone()),
                Some(claim) => Cause::HolderGone(claim.holder.node.clone()),
            },
            (Standing::Mine { .. }, State::Asking) => Cause::Asked,
            (Standing::Mine { .. }, State::Holding) => Cause::ApiLost,
            (Standing::Mine { better: Some(node), .. }, State::HandingOver { .. }) => {
                Cause::Better(node.clone())
            }
            (Standing::Mine { .. }, State::HandingOver { .. } | State::Idle) => {
                Cause::MustGo(self.vip(address).and_then(|vip| self.unfit(address, vip)))
            }
            (Standing::Mine { .. }, _) => match state {
                State::Holding => Cause::ApiBack,
                State::Yielded { .. } => Cause::StillMine,
                State::Asking => Cause::Unopposed,
                State::HandingOver { .. } => Cause::Untaken,
                _ => Cause::Fit,
            },
            _ => match claim {
                Some(claim) if !self.is_mine(claim) => Cause::TakenBy(claim.holder.node.clone()),
                None if state.answers() => Cause::ClaimGone,
                _ => Cause::Fit,
            },
        }
    }
}
