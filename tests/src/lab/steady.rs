//! A client that opens a new connection again and again, and tells how each of them went.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::http::{Answer, Failure, get};
use super::namespace::Namespace;
use super::observation::later;

/// Connections that may wait at once; with more, new ones begin later.
const MOST_AT_ONCE: usize = 256;

/// One GET over a connection of its own.
#[derive(Debug)]
pub struct Attempt {
    /// When it began.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub outcome: Result<Answer, Failure>,
}

/// Every attempt, in the order of their beginnings.
#[derive(Debug, Default)]
pub struct Attempts(pub Vec<Attempt>);

impl Attempts {
    /// Those that were answered with status 200.
    pub fn served(&self) -> usize {
        self.count(|outcome| matches!(outcome, Ok(answer) if answer.status == 200))
    }

    /// Those that got no connection because somebody said so.
    pub fn refused(&self) -> usize {
        self.count(|outcome| matches!(outcome, Err(Failure::Refused(..))))
    }

    /// Those that got no connection because nobody answered.
    pub fn unanswered(&self) -> usize {
        self.count(|outcome| matches!(outcome, Err(Failure::Unanswered(..))))
    }

    /// Those whose connection stood, and broke or fell silent.
    pub fn broken(&self) -> usize {
        self.count(|outcome| matches!(outcome, Err(Failure::Broken(..))))
    }

    /// The longest time in which none was served to its end, between the beginning of the first and the end of the last.
    pub fn unserved(&self) -> Duration {
        let end = |one: &Attempt| one.at + one.took;
        let first = self.0.iter().map(|one| one.at).min();
        let last = self.0.iter().map(end).max();
        let served = self.0.iter().filter(|one| one.outcome.is_ok()).map(end);
        let mut times: Vec<SystemTime> = served.chain(first).chain(last).collect();
        times.sort_unstable();
        times.windows(2).map(|pair| later(pair[0], pair[1])).max().unwrap_or_default()
    }

    fn count(&self, kind: impl Fn(&Result<Answer, Failure>) -> bool) -> usize {
        self.0.iter().filter(|attempt| kind(&attempt.outcome)).count()
    }
}

/// A running client. Dropped, it stops.
#[derive(Debug)]
pub struct Steady {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Attempts>,
}

impl Steady {
    /// GETs `/` from `server` every `period`, from `namespace`; connecting and answering may each take `patience`.
    pub fn start(
        namespace: &Namespace,
        server: SocketAddr,
        period: Duration,
        patience: Duration,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = namespace.spawn(connect(server, period, patience, stopped));
        Self { stop: Some(stop), task }
    }

    /// Stops connecting, waits for the connections that stand, and tells how all went.
    pub async fn finish(mut self) -> anyhow::Result<Attempts> {
        if let Some(stop) = self.stop.take() {
            // If it has panicked it no longer listens; that comes next.
            stop.send(()).ok();
        }
        (&mut self.task).await.context("the steady client's task")
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(
    server: SocketAddr,
    period: Duration,
    patience: Duration,
    mut stopped: oneshot::Receiver<()>,
) -> Attempts {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut running = JoinSet::new();
    let mut ended = Vec::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            _ = ticks.tick(), if running.len() < MOST_AT_ONCE => {
                running.spawn(attempt(server, patience));
            }
            Some(attempt) = running.join_next() => ended.push(attempt),
        }
    }
    while let Some(attempt) = running.join_next().await {
        ended.push(attempt);
    }
    // An attempt neither panics nor is it aborted.
    let mut attempts: Vec<_> = ended.into_iter().filter_map(Result::ok).collect();
    attempts.sort_by_key(|attempt: &Attempt| attempt.at);
    Attempts(attempts)
}

async fn attempt(server: SocketAddr, patience: Duration) -> Attempt {
    let (at, began) = (SystemTime::now(), Instant::now());
    let outcome = get(server, "/", patience).await;
    Attempt { at, took: began.elapsed(), outcome }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::super::http::answer;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn connections_that_are_served_broken_and_refused_are_counted_apart() {
        // The client goes on for a moment after the listener is closed: the port is nobody else's until it has ended.
        let reserved = TcpSocket::new_v4().expect("a socket");
        reserved.set_reuseaddr(true).expect("it is not bound yet");
        reserved.bind("127.0.0.1:0".parse().expect("an address")).expect("loopback");
        let server = reserved.local_addr().expect("bound");
        let listener = TcpListener::bind(server).await.expect("it is reserved");
        let (stop, stopped) = oneshot::channel();
        let client = tokio::spawn(connect(server, Duration::from_millis(1), PATIENCE, stopped));
        for _ in 0..3 {
            let (stream, _) = listener.accept().await.expect("a client");
            answer(stream, "served").await.expect("it waits");
        }
        for _ in 0..2 {
            drop(listener.accept().await.expect("a client"));
        }
        drop(listener);
        stop.send(()).expect("it listens");
        let attempts = client.await.expect("no panic");
        assert_eq!(attempts.served(), 3, "{attempts:?}");
        assert!(attempts.broken() >= 2, "{attempts:?}");
        assert_eq!(attempts.unanswered(), 0, "{attempts:?}");
        assert_eq!(
            attempts.served() + attempts.broken() + attempts.refused(),
            attempts.0.len(),
            "{attempts:?}"
        );
    }

    fn attempts(served: &[(u64, bool)]) -> Attempts {
        let server = SocketAddr::from(([127, 0, 0, 1], 80));
        let attempt = |&(millis, served): &(u64, bool)| Attempt {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(millis),
            took: Duration::from_millis(5),
            outcome: match served {
                true => Ok(Answer { status: 200, body: String::new() }),
                false => Err(Failure::Unanswered(server, PATIENCE)),
            },
        };
        Attempts(served.iter().map(attempt).collect())
    }

    #[test]
    fn a_service_that_never_comes_back_is_a_gap_until_the_end() {
        let between = attempts(&[(0, true), (10, false), (20, false), (30, true), (40, true)]);
        assert_eq!(between.unserved(), Duration::from_millis(30));
        let before = attempts(&[(0, false), (10, false), (20, true)]);
        assert_eq!(before.unserved(), Duration::from_millis(25));
        let after = attempts(&[(0, true), (10, true), (20, false), (90, false)]);
        assert_eq!(after.unserved(), Duration::from_millis(80));
        let never = attempts(&[(0, false), (90, false)]);
        assert_eq!(never.unserved(), Duration::from_millis(95));
    }
}
