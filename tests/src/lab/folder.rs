//! What a lab needs of the machine: rights, tools, its turn, and a folder that names it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::{env, process, thread};

use anyhow::{Context, bail, ensure};

use super::namespace::PREFIX;
use super::process::on_path;

/// The programs that a lab calls, and the Debian packages that have them.
const TOOLS: [(&str, &str); 4] = [
    ("ip", "iproute2"),
    ("setpriv", "util-linux"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
];

/// An error that says what is missing, if this machine or user cannot run a lab.
pub(super) fn check_machine() -> anyhow::Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the lab makes network namespaces and needs root: run it with sudo"
    );
    let missing: Vec<_> = TOOLS.iter().filter(|(tool, _)| on_path(tool).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let tools: Vec<_> = missing.iter().map(|(tool, _)| *tool).collect();
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    bail!("the lab needs {}: apt-get install {}", tools.join(", "), packages.join(" "))
}

/// The right to run a lab on this machine, given back when it is dropped or its process dies.
#[derive(Debug)]
pub(super) struct Turn {
    _locked: File,
}

impl Turn {
    /// Waits until no other lab runs, for as long as that takes.
    pub(super) async fn wait() -> anyhow::Result<Self> {
        let path = env::temp_dir().join(format!("{PREFIX}.lock"));
        let told = format!("lock {}", path.display());
        let file = File::create(&path).with_context(|| told.clone())?;
        match file.try_lock() {
            Ok(()) => return Ok(Self { _locked: file }),
            Err(TryLockError::WouldBlock) => eprintln!("lab: waiting until another lab has ended"),
            Err(TryLockError::Error(error)) => return Err(error).context(told),
        }
        let wait = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
        Ok(Self { _locked: wait.await?.context(told)? })
    }
}

/// A lab's folder for logs, kubeconfigs and etcd's data; its name is what the lab's namespaces begin with.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    name: String,
    kept: AtomicBool,
}

impl Folder {
    /// Makes the folder of a new lab.
    pub(super) fn create() -> anyhow::Result<Self> {
        static LABS: AtomicU32 = AtomicU32::new(0);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}", process::id());
        let path = env::temp_dir().join(&name);
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path, name, kept: AtomicBool::new(false) })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The lab's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Has it kept when it is dropped.
    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// What the namespace of `host` is to be called.
    pub(super) fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }
}

impl Drop for Folder {
    /// Removes it; or, when told to or after a panic, keeps it in the place of the last one that was kept.
    fn drop(&mut self) {
        let done = if self.kept.load(Ordering::Relaxed) || thread::panicking() {
            let kept = env::temp_dir().join(format!("{PREFIX}-failed"));
            eprintln!("lab: its logs are kept in {}", kept.display());
            // There may be none.
            fs::remove_dir_all(&kept).ok();
            fs::rename(&self.path, &kept)
        } else {
            fs::remove_dir_all(&self.path)
        };
        if let Err(error) = done {
            tracing::warn!("put away {}: {error}", self.path.display());
        }
    }
}
