//! Interfaces that are never announced on, by name, as MetalLB's `excludel2.yaml` lists them.

use std::io;
use std::path::{Path, PathBuf};

use regex_lite::Regex;
use serde::Deserialize;

/// Where MetalLB's manifests mount the list.
pub const FILE: &str = "/etc/metallb/excludel2.yaml";

/// The list where there is no file: what container runtimes and network plugins create on a node.
const DEFAULT: [&str; 14] = [
    "^docker.*",
    "^cbr.*",
    "^dummy.*",
    "^virbr.*",
    "^lxcbr.*",
    "^veth.*",
    "^lo$",
    "^cali.*",
    "^tunl.*",
    "^flannel.*",
    "^kube-ipvs.*",
    "^cni.*",
    "^nodelocaldns.*",
    "^lxc.*",
];

/// Why a list of excluded interfaces cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExclusionError {
    /// The file is there but cannot be read.
    #[error("cannot read the excluded interfaces from {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is no YAML, or not of the expected shape.
    #[error(
        "{path} is not a map with a list of names under announcedInterfacesToExclude: {reason}"
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// A name in the list is no regular expression.
    #[error("the excluded interface {pattern:?} is no regular expression")]
    Pattern {
        /// As it stands in the list.
        pattern: String,
        /// Why not.
        #[source]
        source: regex_lite::Error,
    },
}

/// Regular expressions, unanchored; an interface is excluded when any of them matches its name.
#[derive(Clone, Debug)]
pub struct Exclusion {
    patterns: Vec<Regex>,
}

/// The file's shape.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    announced_interfaces_to_exclude: Vec<String>,
}

impl Default for Exclusion {
    fn default() -> Self {
        Self::of(DEFAULT).expect("the default patterns are regular expressions")
    }
}

impl Exclusion {
    /// An exclusion by `patterns`.
    ///
    /// # Errors
    /// Names the first that is no regular expression.
    pub fn of<S: AsRef<str>>(
        patterns: impl IntoIterator<Item = S>,
    ) -> Result<Self, ExclusionError> {
        let compile = |pattern: S| {
            Regex::new(pattern.as_ref()).map_err(|source| ExclusionError::Pattern {
                pattern: pattern.as_ref().to_owned(),
                source,
            })
        };
        Ok(Self { patterns: patterns.into_iter().map(compile).collect::<Result<_, _>>()? })
    }

    /// The list in the file at `path`; the default list when there is no such file.
    ///
    /// # Errors
    /// A file that is there but cannot be used: going on without it would announce where the operator forbade it.
    pub fn load(path: &Path) -> Result<Self, ExclusionError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(ExclusionError::Read { path: path.to_owned(), source }),
        };
        let file: File = serde_saphyr::from_str(&text)
            .map_err(|e| ExclusionError::Shape { path: path.to_owned(), reason: e.to_string() })?;
        Self::of(file.announced_interfaces_to_exclude)
    }

    /// Whether the interface `name` is excluded.
    pub fn excludes(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.is_match(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_list_excludes_what_is_not_the_nodes_own() {
        let exclusion = Exclusion::default();
        for name in ["lo", "docker0", "veth12ab", "cali0123", "flannel.1", "kube-ipvs0", "cni0"] {
            assert!(exclusion.excludes(name), "{name}");
        }
        for name in ["eth0", "lo1", "bond0.100", "br0", "myveth"] {
            assert!(!exclusion.excludes(name), "{name}");
        }
    }

    #[test]
    fn a_file_replaces_the_default_list_and_its_patterns_are_unanchored() {
        let path = std::env::temp_dir().join(format!("herald-exclude-{}.yaml", std::process::id()));
        std::fs::write(&path, "announcedInterfacesToExclude: [\"th1\", \"^wan$\"]\n").unwrap();
        let exclusion = Exclusion::load(&path).unwrap();
        std::fs::write(&path, "announcedInterfacesToExclude: [\"(\"]\n").unwrap();
        let pattern = Exclusion::load(&path).unwrap_err();
        std::fs::write(&path, "[]\n").unwrap();
        let shape = Exclusion::load(&path).unwrap_err();
        std::fs::remove_file(&path).unwrap();

        let excluded = ["eth1", "wan", "wan0", "docker0"].map(|name| exclusion.excludes(name));
        assert_eq!(excluded, [true, true, false, false]);
        assert!(matches!(pattern, ExclusionError::Pattern { .. }), "{pattern}");
        assert!(matches!(shape, ExclusionError::Shape { .. }), "{shape}");
        assert!(Exclusion::load(&path).unwrap().excludes("docker0"), "no file: the default list");
    }
}
