//! What Herald costs: each of this crate's programs prints figures beside their targets, and begins with its command.
//!
//! What is judged is the median of several runs: half of them did better, and half worse. The fastest stands beside it,
//! because what else the machine does is not ours.
#![forbid(unsafe_code)]

pub mod requests;
pub mod table;

use std::time::{Duration, Instant};

const RUNS: usize = 21;
/// What takes longer than this in all is run no more often.
const LONG: Duration = Duration::from_secs(5);

/// How long several runs of the same took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Took {
    /// The fastest.
    pub fastest: Duration,
    /// The one in the middle.
    pub median: Duration,
}

/// Prints how long `what` took and, where there is a `target` in microseconds, whether the median lies within.
pub fn figure(what: &str, took: Took, target: Option<u64>) -> bool {
    let (median, fastest) = (took.median.as_micros(), took.fastest.as_micros());
    let told = format!("{what:<70} median {median:>7} µs  fastest {fastest:>7} µs");
    let Some(target) = target else {
        println!("{told}");
        return true;
    };
    let met = median <= u128::from(target);
    println!("{told}  target {target:>7} µs  {}", verdict(met));
    met
}

/// Prints how many times as long as `other` it took, and whether that is at most `most`. The fastest of each are compared: a
/// machine that is busy hits long runs more often than short ones, and this is about what is run.
pub fn ratio(what: &str, took: Took, other: Took, most: f64) -> bool {
    let times = took.fastest.as_secs_f64() / other.fastest.as_secs_f64();
    let met = times <= most;
    println!("{what:<70}  times {times:>7.2}  target {most:>4}  {}", verdict(met));
    met
}

const fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

/// How long several `run`s took, on what `prepare` makes anew for each.
pub fn measured<S, T>(prepare: impl Fn() -> S, run: impl Fn(&mut S) -> T) -> Took {
    let mut all: Vec<Duration> = Vec::new();
    while all.len() < RUNS && all.iter().sum::<Duration>() < LONG {
        let mut subject = prepare();
        let began = Instant::now();
        std::hint::black_box(run(&mut subject));
        all.push(began.elapsed());
    }
    all.sort_unstable();
    Took { fastest: all[0], median: all[all.len() / 2] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_judged_and_not_the_fastest() {
        let (fastest, median) = (Duration::from_micros(5), Duration::from_micros(20));
        let took = Took { fastest, median };
        assert!(!figure("too slow", took, Some(10)));
        assert!(figure("in time", took, Some(20)) && figure("told", took, None));
        let twice = Took { fastest: 2 * fastest, median };
        assert!(ratio("twice", twice, took, 2.0) && !ratio("twice", twice, took, 1.5));
    }
}
