//! `/healthz`: does the main loop turn? `/readyz`: is all there that the process needs to do its work?
//!
//! Liveness never depends on the API server: restarting cures no outage of another.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What a check says: an error is the reason.
pub type Verdict = Result<(), String>;

/// The checks of one process. Clones share them.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    began: Instant,
    checks: Mutex<Vec<Check>>,
}

struct Check {
    name: String,
    vital: bool,
    ask: Box<dyn Fn() -> Verdict + Send + Sync>,
}

/// A loop's sign of life. Clones are of the same loop.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    began: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Heartbeat {
    /// The loop turns.
    pub fn beat(&self) {
        self.last_ms.store(ms_since(self.began), Ordering::Relaxed);
    }
}

/// All checks of one endpoint, asked at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Each check's name and what it said.
    pub checks: Vec<(String, Verdict)>,
}

impl Report {
    /// Whether every check passed.
    pub fn is_ok(&self) -> bool {
        self.checks.iter().all(|(_, verdict)| verdict.is_ok())
    }
}

impl fmt::Display for Report {
    /// A line for each check, as the API server's own `/readyz?verbose` writes them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, verdict) in &self.checks {
            match verdict {
                Ok(()) => writeln!(f, "[+]{name} ok")?,
                Err(reason) => writeln!(f, "[-]{name} failed: {reason}")?,
            }
        }
        f.write_str(if self.is_ok() { "ok\n" } else { "failed\n" })
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Without a check, everything is well.
    pub fn new() -> Self {
        Self(Arc::new(Inner { began: Instant::now(), checks: Mutex::default() }))
    }

    /// The process is not ready while `ask` gives a reason. It is asked at each probe, and must not block.
    pub fn ready_when(
        &self,
        name: impl Into<String>,
        ask: impl Fn() -> Verdict + Send + Sync + 'static,
    ) {
        self.checks().push(Check { name: name.into(), vital: false, ask: Box::new(ask) });
    }

    /// The loop without which the process is useless: when it does not beat for `within`, the process is neither
    /// alive nor ready.
    pub fn main_loop(&self, name: impl Into<String>, within: Duration) -> Heartbeat {
        self.heartbeat(name.into(), within, true)
    }

    /// Another loop: when it does not beat for `within`, the process is not ready.
    pub fn side_loop(&self, name: impl Into<String>, within: Duration) -> Heartbeat {
        self.heartbeat(name.into(), within, false)
    }

    fn heartbeat(&self, name: String, within: Duration, vital: bool) -> Heartbeat {
        let began = self.0.began;
        let last_ms = Arc::new(AtomicU64::new(ms_since(began)));
        let heartbeat = Heartbeat { began, last_ms: Arc::clone(&last_ms) };
        let ask = move || {
            let silent_ms = ms_since(began).saturating_sub(last_ms.load(Ordering::Relaxed));
            let silent = Duration::from_millis(silent_ms);
            if silent <= within {
                return Ok(());
            }
            Err(format!("has not turned for {silent:?}, which may be {within:?}"))
        };
        self.checks().push(Check { name, vital, ask: Box::new(ask) });
        heartbeat
    }

    /// What `/healthz` says.
    pub fn live(&self) -> Report {
        self.report(|check| check.vital)
    }

    /// What `/readyz` says.
    pub fn ready(&self) -> Report {
        self.report(|_| true)
    }

    fn report(&self, wanted: impl Fn(&Check) -> bool) -> Report {
        let checks = self.checks();
        let asked = checks.iter().filter(|check| wanted(check));
        Report { checks: asked.map(|check| (check.name.clone(), (check.ask)())).collect() }
    }

    fn checks(&self) -> MutexGuard<'_, Vec<Check>> {
        // Checks are only ever pushed: a check that panicked has left the list whole.
        self.0.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ms_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_main_loop_that_stands_still_is_neither_alive_nor_ready_until_it_turns() {
        let health = Health::new();
        let heartbeat = health.main_loop("planner", Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(health.live().is_ok());
        tokio::time::advance(Duration::from_secs(5)).await;
        let told = "[-]planner failed: has not turned for 15s, which may be 10s\nfailed\n";
        assert_eq!(health.live().to_string(), told);
        assert!(!health.ready().is_ok());
        heartbeat.beat();
        assert!(health.live().is_ok() && health.ready().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_yet_makes_unready_but_not_dead() {
        let health = Health::new();
        let synced = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&synced);
        let reason = || "not listed yet".to_owned();
        health.ready_when("services", move || {
            asked.load(Ordering::Relaxed).then_some(()).ok_or_else(reason)
        });
        let _turning = health.side_loop("announcer", Duration::from_secs(1));
        assert_eq!(health.live(), Report { checks: vec![] });
        let told = "[-]services failed: not listed yet\n[+]announcer ok\nfailed\n";
        assert_eq!(health.ready().to_string(), told);
        synced.store(true, Ordering::Relaxed);
        assert!(health.ready().is_ok());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!health.ready().is_ok() && health.live().is_ok());
    }
}
