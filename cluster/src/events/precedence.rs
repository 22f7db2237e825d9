//! What clients wait for goes first: Events stand back while their process has such writes under way.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// So long after the last urgent write the next may still belong to the same burst.
const LULL: Duration = Duration::from_millis(250);
/// An Event stands back no longer than this: a burst may go on for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which urgent writes a process has under way. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Precedence(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    ended: Option<Instant>,
}

/// An urgent write, from its making to its drop.
#[derive(Debug)]
pub struct Urgent(Precedence);

impl Precedence {
    /// An urgent write begins.
    pub fn urgent(&self) -> Urgent {
        self.change(|state| state.under_way += 1);
        Urgent(self.clone())
    }

    /// Waits for a lull in urgent writes, but not longer than something that has waited since `since` may; at once when
    /// `in_haste` says that the process is about to end.
    pub(super) async fn lull(&self, since: Instant, in_haste: impl Fn() -> bool) {
        let latest = since + PATIENCE;
        while !in_haste() {
            let now = Instant::now();
            let quiet = self.change(|state| match state.under_way {
                0 => state.ended.map_or(now, |ended| ended + LULL),
                _ => now + LULL,
            });
            if quiet.min(latest) <= now {
                return;
            }
            sleep_until(quiet.min(latest)).await;
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // Nothing under the lock can panic half way through a change.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.under_way -= 1;
            state.ended = Some(Instant::now());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn waited(precedence: &Precedence) -> Duration {
        let since = Instant::now();
        precedence.lull(since, || false).await;
        since.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_is_urgent_nobody_waits() {
        assert_eq!(waited(&Precedence::default()).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lull_begins_some_time_after_the_last_urgent_write() {
        let precedence = Precedence::default();
        drop(precedence.urgent());
        assert_eq!(waited(&precedence).await, LULL);
    }

    #[tokio::test(start_paused = true)]
    async fn urgent_writes_without_end_are_not_waited_for_for_ever() {
        let precedence = Precedence::default();
        let urgent = precedence.urgent();
        assert_eq!(waited(&precedence).await, PATIENCE);
        drop(urgent);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_about_to_end_does_not_wait() {
        let precedence = Precedence::default();
        let urgent = precedence.urgent();
        let since = Instant::now();
        precedence.lull(since, || true).await;
        assert_eq!(since.elapsed(), Duration::ZERO);
        drop(urgent);
    }
}
