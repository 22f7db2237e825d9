//! One Lease as this speaker knows it: what the watch has shown, overlaid with its own write that the watch has not
//! shown yet.
//!
//! One view decides, the watch's. A write that the server confirmed is later than everything that the watch has shown
//! so far, so it may stand in for the event that is still on its way. A write that met another version or whose outcome is
//! unknown changes nothing: the register is then blocked until the watch, or a consistent list, shows what stands.

use super::record::{Version, WriteOutcome};

/// So many confirmed writes one upon the other may be older than a list; more are taken for older than any.
const OVERLAID: usize = 8;

/// The known state of one Lease, and whether a write may be sent on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Register<T> {
    seen: Option<(Version, T)>,
    overlay: Option<Overlay<T>>,
    flight: Option<Flight<T>>,
    blocked: bool,
}

/// A confirmed write that the watch has yet to show.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Overlay<T> {
    /// What stood before it, and before each confirmed write under it that has not been shown either.
    bases: Vec<Option<Version>>,
    stored: Option<(Version, T)>,
    /// A later write on this version met another one, so that it does not stand any more.
    refuted: bool,
}

/// A write without an outcome yet. `value` is `None` for a deletion.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Flight<T> {
    base: Option<Version>,
    value: Option<T>,
}

impl<T> Default for Register<T> {
    fn default() -> Self {
        Self { seen: None, overlay: None, flight: None, blocked: false }
    }
}

impl<T> Register<T> {
    /// What stands, as far as this speaker knows.
    pub fn current(&self) -> Option<&T> {
        self.entry().map(|(_, value)| value)
    }

    /// The version a write must name.
    pub fn version(&self) -> Option<&Version> {
        self.entry().map(|(version, _)| version)
    }

    /// What the watch itself has shown, without own writes.
    pub fn shown(&self) -> Option<&T> {
        self.seen.as_ref().map(|(_, value)| value)
    }

    /// Whether a write may be decided now: none is in flight, and none awaits the view.
    pub fn is_writable(&self) -> bool {
        self.flight.is_none() && !self.blocked
    }

    /// Whether a failed or unknown write waits for the watch to show what stands.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whether nothing is known or under way, so that the register may be forgotten.
    pub fn is_empty(&self) -> bool {
        self.seen.is_none() && self.overlay.is_none() && self.flight.is_none() && !self.blocked
    }

    /// The watch shows this version, or that the Lease is gone.
    pub fn show(&mut self, event: Option<(Version, T)>) {
        self.seen = event;
        self.blocked = false;
        if self
            .overlay
            .as_ref()
            .is_some_and(|o| o.stored.as_ref().map(|(version, _)| version) == self.seen_version())
        {
            self.overlay = None;
        }
    }

    /// A consistent list shows this. It may be older than a confirmed write only if it still shows what stood before it,
    /// and not even then if that write is known to have been overtaken.
    pub fn list(&mut self, entry: Option<(Version, T)>) {
        self.seen = entry;
        self.blocked = false;
        let later = |o: &Overlay<T>| {
            o.refuted || o.bases.iter().all(|base| base.as_ref() != self.seen_version())
        };
        if self.overlay.as_ref().is_some_and(later) {
            self.overlay = None;
        }
    }

    /// The watch has shown something that is later than the confirmed write, and not that write: it was overtaken by
    /// what the watch shows, or by a deletion.
    pub fn forget_unshown(&mut self) {
        self.overlay = None;
    }

    /// Whether a confirmed write has not been shown yet.
    pub fn is_unshown(&self) -> bool {
        self.overlay.is_some()
    }

    /// A write of `value` (`None` deletes) leaves now; returns the version it must name.
    pub fn send(&mut self, value: Option<T>) -> Option<Version> {
        debug_assert!(self.is_writable(), "a second write on one Lease");
        let base = self.version().cloned();
        self.flight = Some(Flight { base: base.clone(), value });
        base
    }

    /// The write in flight came to this.
    pub fn settle(&mut self, outcome: &WriteOutcome) {
        let Some(Flight { base, value }) = self.flight.take() else { return };
        let unmoved = self.version() == base.as_ref();
        match outcome {
            WriteOutcome::Stored(version) => {
                if unmoved {
                    let stored = version.clone().zip(value);
                    let mut bases = self.overlay.take().map_or_else(Vec::new, |below| below.bases);
                    if bases.len() == OVERLAID {
                        bases.remove(0);
                    }
                    bases.push(base);
                    self.overlay = Some(Overlay { bases, stored, refuted: false });
                }
            }
            // Nothing was stored.
            WriteOutcome::Refused => {}
            // Where the view has moved since, it already shows what the write ran into, or the write itself.
            WriteOutcome::Conflict | WriteOutcome::Unknown => {
                self.blocked = unmoved;
                let overtaken = unmoved && *outcome == WriteOutcome::Conflict;
                if let Some(overlay) = self.overlay.as_mut().filter(|_| overtaken) {
                    overlay.refuted = true;
                }
            }
        }
    }

    fn entry(&self) -> Option<&(Version, T)> {
        match &self.overlay {
            Some(overlay) => overlay.stored.as_ref(),
            None => self.seen.as_ref(),
        }
    }

    fn seen_version(&self) -> Option<&Version> {
        self.seen.as_ref().map(|(version, _)| version)
    }
}

#[cfg(test)]
mod tests;
