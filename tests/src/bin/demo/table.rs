//! The table that the demo ends with: what was to be seen, and what was.

use std::fmt::{self, Display, Formatter};

use super::screen::{WIDTH, wrap};

/// Columns of the verdict, of what was looked at, and of what was expected; what was seen has the rest.
const COLUMNS: [usize; 3] = [6, 40, 24];
/// Columns between two columns.
const GAP: usize = 2;

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// What was looked at.
    pub(crate) what: String,
    /// What it should be.
    pub(crate) expected: String,
    /// What it was.
    pub(crate) seen: String,
    /// Whether that is as expected.
    pub(crate) ok: bool,
}

impl Verdict {
    /// The word for it.
    pub(crate) const fn word(&self) -> &'static str {
        if self.ok { "ok" } else { "FAILED" }
    }
}

/// Everything that was looked at, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdicts(pub(crate) Vec<Verdict>);

impl Verdicts {
    /// How many were not as expected.
    pub(crate) fn failed(&self) -> usize {
        self.0.iter().filter(|verdict| !verdict.ok).count()
    }
}

impl Display for Verdicts {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        row(f, ["", "What was seen", "Expected", "Seen"])?;
        writeln!(f, "{}", "-".repeat(WIDTH))?;
        for verdict in &self.0 {
            row(f, [verdict.word(), &verdict.what, &verdict.expected, &verdict.seen])?;
        }
        writeln!(f, "{}", "-".repeat(WIDTH))
    }
}

fn row(f: &mut Formatter<'_>, cells: [&str; 4]) -> fmt::Result {
    let [first, second, third] = COLUMNS;
    let widths = [first, second, third, WIDTH - first - second - third - 3 * GAP];
    let wrapped: Vec<_> =
        cells.iter().zip(widths).map(|(cell, width)| wrap(cell, width, 0)).collect();
    for number in 0..wrapped.iter().map(Vec::len).max().unwrap_or_default() {
        let mut line = String::new();
        for (cell, width) in wrapped.iter().zip(widths) {
            let text = cell.get(number).map_or("", String::as_str);
            line.push_str(&format!("{text:width$}{:GAP$}", ""));
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts() -> Verdicts {
        let long = "a sentence that is long enough to need more than one line of its cell";
        let one = |ok| Verdict {
            what: format!("what: {long}"),
            expected: format!("expected: {long}"),
            seen: format!("seen: {long} {}", "x".repeat(WIDTH)),
            ok,
        };
        Verdicts(vec![one(true), one(false)])
    }

    #[test]
    fn no_line_is_wider_than_the_screen_and_nothing_is_cut_off() {
        let text = verdicts().to_string();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        let count = |sign| text.chars().filter(|s| *s == sign).count();
        // Two more in "Expected", and one in each "expected".
        assert_eq!(count('x'), 2 * WIDTH + 3, "{text}");
    }

    #[test]
    fn the_verdict_stands_first_and_failures_are_counted() {
        let verdicts = verdicts();
        assert_eq!(verdicts.failed(), 1);
        let text = verdicts.to_string();
        let words = text.lines().filter_map(|line| line.split_once("  ").map(|(word, _)| word));
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        assert_eq!(words, ["ok", "FAILED"], "{text}");
    }
}
