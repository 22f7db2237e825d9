//! The API server: Leases with versions, each write a compare-and-swap, every change in one log.

use std::sync::Arc;

use herald_core::ownership::record::{LeaseEvent, LeaseWrite, Version, WriteOutcome};
use herald_core::ownership::view::LeaseKey;

use super::{Cluster, Happening, Stored};

impl Cluster {
    pub(super) fn list(&self) -> LeaseEvent {
        let (mut sessions, mut claims) = (Vec::new(), Vec::new());
        for (version, stored) in self.leases.values() {
            match stored {
                Stored::Session(session) => sessions.push((version.clone(), session.clone())),
                Stored::Claim(claim) => claims.push((version.clone(), claim.clone())),
            }
        }
        LeaseEvent::Listed(sessions, claims)
    }

    pub(super) fn store(
        &mut self,
        index: usize,
        key: &LeaseKey,
        write: LeaseWrite,
    ) -> WriteOutcome {
        let current = self.leases.get(key).map(|(version, _)| version.clone());
        self.revision += 1;
        let resource: Arc<str> = self.revision.to_string().into();
        let uid = current.as_ref().map_or_else(|| resource.clone(), |v| v.uid.clone());
        let version = Version { uid, resource };
        let (base, stored) = match write {
            LeaseWrite::Session(base, session) => (base, Some(Stored::Session(session))),
            LeaseWrite::Claim(base, claim) => (base, Some(Stored::Claim(claim))),
            LeaseWrite::DeleteClaim(base, _) => (Some(base), None),
        };
        if base != current {
            return WriteOutcome::Conflict;
        }
        self.writes.push((self.now, index, key.clone()));
        self.log.push(match (&stored, key) {
            (Some(Stored::Session(s)), _) => LeaseEvent::Session(version.clone(), s.clone()),
            (Some(Stored::Claim(c)), _) => LeaseEvent::Claim(version.clone(), c.clone()),
            (None, LeaseKey::Claim(address)) => LeaseEvent::ClaimGone(*address),
            (None, LeaseKey::Session(node)) => LeaseEvent::SessionGone(node.clone()),
        });
        let outcome = WriteOutcome::Stored(stored.is_some().then(|| version.clone()));
        match stored {
            Some(stored) => self.leases.insert(key.clone(), (version, stored)),
            None => self.leases.remove(key),
        };
        self.wake_watches();
        outcome
    }

    pub(super) fn wake_watches(&mut self) {
        for index in 0..self.nodes.len() {
            let (delay, life) = (self.delay(), self.nodes[index].life);
            self.later(delay, Happening::Watch(index, life));
        }
    }

    /// The API server, or a node's way to it, is back: watches go on.
    pub(crate) fn heal_api(&mut self) {
        self.api_up = true;
        for node in &mut self.nodes {
            node.api = true;
            node.watch = true;
        }
        self.wake_watches();
    }
}
