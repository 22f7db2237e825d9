//! What the demo writes: chapters, steps with the time that they take, what commands print. Plain text of 100 columns.

use std::cell::Cell;
use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

/// Columns of a line.
pub(crate) const WIDTH: usize = 100;
/// Columns before what is said: the time since the demo began.
const MARGIN: usize = 10;
/// Columns before a table, which needs them itself.
const TABLE_MARGIN: usize = 2;
/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// Standard output, and the time since the demo began.
pub(crate) struct Screen {
    began: Instant,
    terminal: bool,
    chapter: Cell<&'static str>,
    /// Whether the last line is empty.
    apart: Cell<bool>,
}

impl Screen {
    /// The screen; its clock starts now.
    pub(crate) fn new() -> Self {
        let terminal = stdout().is_terminal();
        Self {
            began: Instant::now(),
            terminal,
            chapter: Cell::new("the beginning"),
            apart: Cell::new(true),
        }
    }

    /// Begins a chapter.
    pub(crate) fn chapter(&self, title: &'static str) {
        self.chapter.set(title);
        self.gap();
        self.line(title);
        self.line(&"-".repeat(title.chars().count()));
    }

    /// The title of the chapter that was begun last.
    pub(crate) fn present_chapter(&self) -> &'static str {
        self.chapter.get()
    }

    /// An empty line, unless there is one.
    pub(crate) fn gap(&self) {
        if !self.apart.get() {
            self.line("");
        }
    }

    fn line(&self, line: &str) {
        let line = line.trim_end();
        self.apart.set(line.is_empty());
        put(&format!("{line}\n"));
    }

    /// Shows `text` in the column of everything else that is said, wrapped.
    pub(crate) fn show(&self, text: &str) {
        let lines = text.lines().flat_map(|line| wrap(line.trim_end(), WIDTH - MARGIN, 0));
        for line in lines {
            self.line(&format!("{:MARGIN$}{line}", ""));
        }
    }

    /// Shows how something was judged: `word`, and what was seen.
    pub(crate) fn judge(&self, word: &str, text: &str) {
        let lines = wrap(text, WIDTH - MARGIN, 0);
        for (number, line) in lines.iter().enumerate() {
            let word = if number == 0 { word } else { "" };
            self.line(&format!("{word:>8}  {line}"));
        }
    }

    /// Shows a table that a command printed, its first line the names of its columns. Only the last one is wrapped.
    pub(crate) fn show_table(&self, table: &str) {
        let head = table.lines().next().unwrap_or_default().trim_end();
        let last = head.rfind("  ").map_or(0, |at| at + 2);
        let lines =
            table.lines().flat_map(|line| wrap(line.trim_end(), WIDTH - TABLE_MARGIN, last));
        for line in lines {
            self.line(&format!("{:TABLE_MARGIN$}{line}", ""));
        }
        self.gap();
    }

    /// Shows `text` as it is, from the first column on.
    pub(crate) fn page(&self, text: &str) {
        self.gap();
        text.lines().for_each(|line| self.line(line));
    }

    /// Does `work`, of which the line `what` tells; its duration follows when it has ended.
    pub(crate) async fn step<T>(
        &self,
        what: &str,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let began = Instant::now();
        self.apart.set(false);
        let beginning = beginning(self.began.elapsed(), what);
        put(&beginning);
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = self.spin() => unreachable!("it spins for ever"),
        };
        let end = match outcome {
            Ok(_) => seconds(began.elapsed()),
            Err(_) => "FAILED".to_owned(),
        };
        let erase = if self.terminal { "\r" } else { "" };
        let again = if self.terminal { beginning.as_str() } else { "" };
        put(&format!("{erase}{again}{}\n", leader(&beginning, &end)));
        outcome
    }

    /// Turns a spinner behind the present line; on a terminal alone, as elsewhere nothing can be erased.
    async fn spin(&self) {
        if !self.terminal {
            return std::future::pending().await;
        }
        let mut ticks = interval(TURN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        for sign in ['|', '/', '-', '\\'].into_iter().cycle() {
            ticks.tick().await;
            put(&format!(" {sign}\u{8}\u{8}"));
        }
    }
}

/// A duration as the demo writes it: seconds, with one digit behind the point.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// The start of a step's line.
fn beginning(elapsed: Duration, what: &str) -> String {
    format!("{:>8}  {what}", seconds(elapsed))
}

/// What leads from a step's `beginning` to its `end`, which stands at the right edge.
fn leader(beginning: &str, end: &str) -> String {
    let taken = beginning.chars().count() + end.chars().count() + 2;
    match WIDTH.saturating_sub(taken) {
        0 => format!(" {end}"),
        dots => format!(" {} {end}", ".".repeat(dots)),
    }
}

/// `text` in lines of at most `width` columns, broken between words where it can be; the second and later lines begin
/// with `indent` spaces, unless that leaves them less than half of the width.
pub(crate) fn wrap(text: &str, width: usize, indent: usize) -> Vec<String> {
    let indent = " ".repeat(if indent > width / 2 { 0 } else { indent });
    let mut lines = Vec::new();
    let mut rest = text.to_owned();
    while rest.chars().count() > width {
        let end = |columns| rest.char_indices().nth(columns).map_or(rest.len(), |(at, _)| at);
        let (hard, begin) = (end(width), end(indent.len()));
        // A space right behind the edge is a break that costs nothing; one that leaves an empty line is none.
        let soft = rest[..end(width + 1)].rfind(' ');
        let soft = soft.filter(|at| *at > begin && !rest[..*at].trim().is_empty());
        let at = soft.unwrap_or(hard);
        lines.push(rest[..at].trim_end().to_owned());
        rest = format!("{indent}{}", rest[at..].trim_start());
    }
    lines.push(rest);
    lines
}

fn put(text: &str) {
    let mut out = stdout();
    // A reader that has gone away is no reason to leave the cluster behind.
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_ends_at_the_right_edge() {
        let start = beginning(Duration::from_millis(12_340), "boot");
        assert_eq!(start, "  12.3 s  boot");
        let line = format!("{start}{}", leader(&start, "0.5 s"));
        assert_eq!(line.chars().count(), WIDTH);
        assert!(line.ends_with(". 0.5 s"), "{line}");
        let long = "x".repeat(WIDTH);
        assert_eq!(leader(&long, "0.5 s"), " 0.5 s");
    }

    #[test]
    fn text_is_broken_between_words_and_long_words_anywhere() {
        assert_eq!(wrap("one two three", 7, 0), ["one two", "three"]);
        assert_eq!(wrap("fd00:99::240", 6, 0), ["fd00:9", "9::240"]);
        assert_eq!(wrap("a  bc def", 6, 3), ["a  bc", "   def"]);
        assert_eq!(wrap("a  bcdefgh", 6, 3), ["a  bcd", "   efg", "   h"]);
        assert_eq!(wrap("one two", 6, 4), ["one", "two"], "too far to the right");
        assert_eq!(wrap("", 6, 0), [""]);
    }
}
