//! Waiting for a condition, with a deadline and with what was seen last.

use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep, timeout_at};

/// Time between two looks.
const PERIOD: Duration = Duration::from_millis(20);

/// Looks until `probe` succeeds and returns what it found; after `deadline`, an error that says what it saw last.
///
/// A look that itself does not return is cut off at the deadline too.
pub async fn await_condition<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    let mut seen = anyhow::anyhow!("the first look did not return");
    while Instant::now() < end {
        match timeout_at(end, probe()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => seen = error,
            Err(_) => break,
        }
        sleep(PERIOD).await;
    }
    Err(seen).with_context(|| format!("waited {deadline:?} until {what}; last seen"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_last_is_told() {
        let mut looks = 0;
        let error = await_condition("it is seven", Duration::from_secs(1), async || {
            looks += 1;
            anyhow::ensure!(looks == 0, "it is {looks}");
            Ok(())
        })
        .await
        .expect_err("it never is");
        assert!(format!("{error:#}").contains("until it is seven; last seen: it is"), "{error:#}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_is_cut_off() {
        let look = async || std::future::pending::<anyhow::Result<()>>().await;
        let waited = await_condition("it returns", Duration::from_secs(1), look).await;
        assert!(waited.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_value_found_is_returned() {
        let mut looks = 0;
        let found = await_condition("three looks", Duration::from_secs(1), async || {
            looks += 1;
            anyhow::ensure!(looks == 3, "{looks} looks");
            Ok(looks)
        });
        assert_eq!(found.await.expect("it was found"), 3);
    }
}
