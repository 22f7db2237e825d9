//! What Herald costs: each of this crate's programs prints figures beside their targets, and begins with its command.
//!
//! A figure is the fastest of several runs, because what else the machine does is not ours; the median stands beside it.
#![forbid(unsafe_code)]

pub mod requests;
pub mod table;

use std::time::{Duration, Instant};

const RUNS: usize = 21;

/// Prints what `runs` took and whether the fastest lies within `target` microseconds.
pub fn figure(what: &str, target: u64, mut runs: Vec<Duration>) -> bool {
    runs.sort_unstable();
    let (fastest, median) = (runs[0].as_micros(), runs[runs.len() / 2].as_micros());
    let met = fastest <= u128::from(target);
    let verdict = if met { "met" } else { "MISSED" };
    println!("{what:<40} {fastest:>7} µs  median {median:>7} µs  target {target:>6} µs  {verdict}");
    met
}

/// How long each of several `run`s took, on what `prepare` makes anew for each.
pub fn measured<S, T>(prepare: impl Fn() -> S, run: impl Fn(&mut S) -> T) -> Vec<Duration> {
    (0..RUNS)
        .map(|_| {
            let mut subject = prepare();
            let began = Instant::now();
            std::hint::black_box(run(&mut subject));
            began.elapsed()
        })
        .collect()
}
