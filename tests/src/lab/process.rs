//! Processes of a lab: each in its namespace, with a log file, ended at the latest when the test's process ends.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::namespace::Namespace;
use super::wait::await_condition;

/// How to start a program.
#[derive(Clone, Debug)]
pub struct Program {
    /// What the log file and messages call it.
    name: String,
    path: PathBuf,
    arguments: Vec<OsString>,
    rights: Rights,
}

/// What a program may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    /// All that root may.
    Root,
    /// UID 0 without any capability but NET_RAW, as a pod that drops ALL and adds NET_RAW.
    NetRaw,
    /// UID 0 without any capability, as a pod that drops ALL.
    None,
}

impl Program {
    /// The program at `path`, to be called `name`.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), path: path.into(), arguments: Vec::new(), rights: Rights::Root }
    }

    /// With these arguments besides.
    #[must_use]
    pub fn args<I: IntoIterator<Item: Into<OsString>>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// With no capability but NET_RAW.
    #[must_use]
    pub fn with_net_raw_only(mut self) -> Self {
        self.rights = Rights::NetRaw;
        self
    }

    /// With no capability at all.
    #[must_use]
    pub fn without_capabilities(mut self) -> Self {
        self.rights = Rights::None;
        self
    }

    /// Starts it in `namespace`, its output appended to `<name>.log` in `folder`.
    pub fn start(self, namespace: &Namespace, folder: &Path) -> anyhow::Result<Process> {
        if !self.path.is_file() {
            bail!("{} is not there: it is what starts {}", self.path.display(), self.name);
        }
        let log = folder.join(format!("{}.log", self.name));
        let mut command = self.command(namespace.name(), &log)?;
        let child = namespace
            .enter(move || command.spawn())?
            .with_context(|| format!("start {} by `ip netns exec` and `setpriv`", self.name))?;
        let pid = i32::try_from(child.id()).context("a pid")?;
        Ok(Process(Arc::new(Running {
            name: self.name,
            log,
            pid: Pid::from_raw(pid),
            child: Mutex::new(child),
        })))
    }

    /// Both `ip netns exec` and `setpriv` become what they start, so that the child's pid is the program's.
    ///
    /// `ip` is entered once more, although the parent's thread lives there, because it also shows the namespace's own
    /// `/sys/class/net`.
    fn command(&self, namespace: &str, log: &Path) -> anyhow::Result<Command> {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, "setpriv", "--pdeathsig", "KILL"]);
        match self.rights {
            Rights::Root => {}
            Rights::NetRaw => {
                command.args(["--no-new-privs", "--inh-caps", "-all"]);
                command.args(["--bounding-set", "-all,+net_raw"]);
            }
            Rights::None => {
                command.args(["--no-new-privs", "--inh-caps", "-all", "--bounding-set", "-all"]);
            }
        }
        let errors = output.try_clone().with_context(|| format!("share {}", log.display()))?;
        command
            .arg("--")
            .arg(&self.path)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        Ok(command)
    }
}

/// A started process. Clones are the same process; when the last is dropped it is killed.
#[derive(Clone, Debug)]
pub struct Process(Arc<Running>);

#[derive(Debug)]
struct Running {
    name: String,
    log: PathBuf,
    pid: Pid,
    child: Mutex<Child>,
}

impl Process {
    /// What it was called when it was started.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.0.pid.as_raw()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.0.log
    }

    /// Asks it to end (SIGTERM); see [`Process::exited`].
    pub fn sigterm(&self) -> anyhow::Result<()> {
        self.0.signal(Signal::SIGTERM)
    }

    /// Kills it (SIGKILL) and waits until it is gone, which takes no time worth naming.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.0.end()
    }

    /// Suspends it (SIGSTOP).
    pub fn stop(&self) -> anyhow::Result<()> {
        self.0.signal(Signal::SIGSTOP)
    }

    /// Lets it go on after [`Process::stop`] (SIGCONT).
    pub fn cont(&self) -> anyhow::Result<()> {
        self.0.signal(Signal::SIGCONT)
    }

    /// How it ended, if it has.
    pub fn status(&self) -> anyhow::Result<Option<ExitStatus>> {
        self.0.child().try_wait().with_context(|| format!("look at {}", self.name()))
    }

    /// Waits until it has ended by itself; an error after `deadline`.
    pub async fn exited(&self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        await_condition(&format!("{} ends", self.name()), deadline, async || {
            self.status()?.context("it runs")
        })
        .await
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let file = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.with_context(|| format!("{file} tells no VmRSS"))? * 1024)
    }

    /// The last `lines` lines of its log.
    pub fn tail(&self, lines: usize) -> String {
        tail(self.log(), lines)
    }
}

impl Running {
    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `signal` unless the process has ended; under the lock, as a pid that was waited for may be another's.
    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let mut child = self.child();
        match child.try_wait().with_context(|| format!("look at {}", self.name))? {
            Some(status) => bail!("send {signal} to {}: it has ended ({status})", self.name),
            None => {
                kill(self.pid, signal).with_context(|| format!("send {signal} to {}", self.name))
            }
        }
    }

    fn end(&self) -> anyhow::Result<()> {
        let mut child = self.child();
        child.kill().with_context(|| format!("kill {}", self.name))?;
        child.wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!("{error:#}");
        }
    }
}

/// The last `lines` lines of the file `log`; what is wrong with it otherwise.
pub(super) fn tail(log: &Path, lines: usize) -> String {
    match fs::read(log) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<_> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("(read {}: {error})", log.display()),
    }
}

/// Where `program` is found on `PATH`.
pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder| folder.join(OsStr::new(program)))
        .find(|path| path.is_file())
}
