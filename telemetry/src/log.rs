//! Logs, to standard error: JSON for machines, lines for a terminal.

use std::io::{IsTerminal as _, stderr};
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How much is logged, in MetalLB's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Everything, the libraries' details included.
    All,
    /// Each decision, also those that change nothing.
    Debug,
    /// Each change.
    #[default]
    Info,
    /// What somebody should look at.
    Warn,
    /// What does not work.
    Error,
    /// Nothing.
    None,
}

/// A word that is no level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log level {0:?} is none of all, debug, info, warn, error, none")]
pub struct UnknownLevel(String);

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(word: &str) -> Result<Self, UnknownLevel> {
        match word {
            "all" => Ok(Self::All),
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warn" => Ok(Self::Warn),
            "error" => Ok(Self::Error),
            "none" => Ok(Self::None),
            other => Err(UnknownLevel(other.to_owned())),
        }
    }
}

impl Level {
    /// The filter in `RUST_LOG`'s language. All crates of the house begin with `herald`. What fails between us and the
    /// API server they say themselves, once; kube's client would say it at each attempt, with the answer's whole body.
    const fn directives(self) -> &'static str {
        match self {
            Self::All => "debug,herald=trace",
            Self::Debug => "info,herald=debug",
            Self::Info => "info,kube_client=off",
            Self::Warn => "warn,kube_client=off",
            Self::Error => "error,kube_client=off",
            Self::None => "off",
        }
    }
}

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `RUST_LOG` is set to something that is no filter.
    #[error("RUST_LOG={0:?} is no filter: {1}")]
    Filter(String, tracing_subscriber::filter::ParseError),
    /// It has begun already.
    #[error("logging has begun already: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Begins logging for the whole process: what `RUST_LOG` says, or else `level`.
pub fn begin(level: Level) -> Result<(), LogError> {
    let filter = filter(std::env::var("RUST_LOG").ok().as_deref(), level)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        // It would tell of a line that cannot be written by writing another, and panic when that fails too: a full disk
        // would end whoever logs.
        .log_internal_errors(false);
    if stderr().is_terminal() {
        builder.finish().try_init()?;
    } else {
        builder.json().flatten_event(true).finish().try_init()?;
    }
    Ok(())
}

fn filter(rust_log: Option<&str>, level: Level) -> Result<EnvFilter, LogError> {
    let chosen = rust_log.filter(|text| !text.is_empty());
    let directives = chosen.unwrap_or(level.directives());
    EnvFilter::try_new(directives).map_err(|error| LogError::Filter(directives.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_metallbs_words_is_a_level_and_others_are_refused_by_name() {
        for word in ["all", "debug", "info", "warn", "error", "none"] {
            let level: Level = word.parse().expect(word);
            filter(None, level).expect("its directives are a filter");
        }
        let error = "verbose".parse::<Level>().expect_err("no level").to_string();
        assert!(error.contains("\"verbose\"") && error.contains("debug"), "{error}");
    }

    #[test]
    fn rust_log_wins_unless_it_is_empty() {
        let shown = |rust_log| filter(rust_log, Level::Warn).expect("a filter").to_string();
        assert_eq!(shown(Some("herald_core=trace")), "herald_core=trace");
        assert!(shown(Some("")).contains("warn"));
        assert!(shown(None).contains("warn"));
    }

    #[test]
    fn a_rust_log_that_is_no_filter_is_quoted() {
        let error = filter(Some("a=b=c"), Level::Info).expect_err("no filter").to_string();
        assert!(error.starts_with("RUST_LOG=\"a=b=c\" is no filter"), "{error}");
    }
}
