//! A histogram for people, drawn with letters.

use std::fmt::Write;
use std::time::Duration;

/// Milliseconds that one line stands for.
const STEP: u128 = 50;

/// One line for each 50 ms from the shortest of `all` to the longest, as long as there are durations in it.
pub(crate) fn histogram(all: &[Duration]) -> String {
    let step = |one: &Duration| one.as_millis() / STEP;
    let (Some(first), Some(last)) = (all.iter().map(step).min(), all.iter().map(step).max()) else {
        return String::new();
    };
    let mut text = String::new();
    for number in first..=last {
        let count = all.iter().filter(|one| step(one) == number).count();
        let (from, bar) = (number * STEP, "#".repeat(count));
        // Writing to a String does not fail.
        writeln!(text, "  {from:>6} ms {count:>4} {bar}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_in_its_line_and_empty_lines_between_are_drawn() {
        let all = [449, 450, 499, 600].map(Duration::from_millis);
        let expected = "     400 ms    1 #\n     450 ms    2 ##\n     500 ms    0 \n     550 ms    0 \n     600 ms    1 #\n";
        assert_eq!(histogram(&all), expected);
        assert_eq!(histogram(&[]), "");
    }
}
