//! The figures, as they are printed, and whether each met its target.

use std::time::{Duration, SystemTime};

/// One line for each figure.
#[derive(Debug, Default)]
pub struct Table {
    missed: usize,
}

/// What a figure must be.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// At most this.
    Most(f64),
    /// At least this.
    Least(f64),
}

impl Table {
    /// A figure with its target, in `unit`.
    pub fn judged(&mut self, what: &str, figure: f64, unit: &str, target: Target) {
        self.beside(what, figure, unit, target, None);
    }

    /// The same, and what MetalLB needed in the same lab where that was measured.
    pub fn beside(
        &mut self,
        what: &str,
        figure: f64,
        unit: &str,
        target: Target,
        metallb: Option<f64>,
    ) {
        let (met, word, bound) = match target {
            Target::Most(bound) => (figure <= bound, "≤", bound),
            Target::Least(bound) => (figure >= bound, "≥", bound),
        };
        let verdict = if met { "met" } else { "MISSED" };
        self.missed += usize::from(!met);
        let metallb = metallb.map(|theirs| format!("  MetalLB {}", short(theirs)));
        let metallb = metallb.unwrap_or_default();
        let figure = short(figure);
        println!("{what:<58} {figure:>9} {unit:<7} {word} {bound:<7} {verdict:<6}{metallb}");
    }

    /// A figure without one.
    pub fn told(&self, what: &str, figure: f64, unit: &str) {
        println!("{what:<58} {:>9} {unit}", short(figure));
    }

    /// Words.
    pub fn remark(&self, text: &str) {
        println!("{text}");
    }

    /// Whether every figure met its target.
    pub const fn all_met(&self) -> bool {
        self.missed == 0
    }
}

/// Three digits are enough, and whole numbers are shown whole.
fn short(figure: f64) -> String {
    // The sum of nothing is -0.
    let figure = figure + 0.0;
    if figure.fract() == 0.0 || figure >= 100.0 {
        format!("{figure:.0}")
    } else if figure >= 10.0 {
        format!("{figure:.1}")
    } else {
        format!("{figure:.3}")
    }
}

/// Median, 99th percentile and maximum, in seconds.
pub fn spread(mut all: Vec<Duration>) -> [f64; 3] {
    all.sort_unstable();
    let at = |percent: usize| {
        let rank = (all.len() * percent).div_ceil(100);
        all.get(rank.saturating_sub(1)).map_or(f64::NAN, Duration::as_secs_f64)
    };
    [at(50), at(99), at(100)]
}

/// From `from` to `to`; none when `to` is earlier.
pub fn between(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_what_was_measured() {
        let all = (1..=200).rev().map(Duration::from_secs).collect();
        assert_eq!(spread(all), [100.0, 198.0, 200.0]);
    }

    #[test]
    fn nothing_is_shown_as_nothing() {
        assert_eq!(short(Vec::<f64>::new().iter().sum()), "0");
        assert_eq!([0.0371, 44.44, 512.3].map(short), ["0.037", "44.4", "512"]);
    }

    #[test]
    fn one_missed_target_is_remembered() {
        let mut table = Table::default();
        table.judged("met", 1.0, "s", Target::Most(1.0));
        assert!(table.all_met());
        table.judged("missed", 0.4, "", Target::Least(0.5));
        table.judged("met", 1.0, "", Target::Least(0.5));
        assert!(!table.all_met());
    }
}
