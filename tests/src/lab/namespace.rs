//! Named network namespaces, each with one thread that lives in it.

use std::fs::{self, File};
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, anyhow, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime;
use tokio::sync::oneshot;

/// What every namespace's and folder's name begins with; the pid of the process that made it follows.
pub(super) const PREFIX: &str = "herald-lab";

/// Where `ip netns` keeps the names.
const NAMES: &str = "/run/netns";

/// A network namespace that `ip netns exec <name>` can enter, and a thread that lives in it.
///
/// Sockets belong to the namespace of the thread that opens them, and children to that of their parent's thread: so
/// whatever shall be *in* the namespace is started by this thread. It also lives as long as the namespace, which makes
/// it the parent whose death takes the children along. Dropped, the namespace is deleted.
#[derive(Debug)]
pub struct Namespace {
    runtime: runtime::Handle,
    // Dropped in this order: its thread leaves before the name goes.
    _resident: Resident,
    name: Name,
}

/// The entry of a namespace among those that `ip netns` knows; dropped, it is deleted.
#[derive(Debug)]
struct Name(String);

impl Drop for Name {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "del", &self.0]) {
            tracing::warn!("{error:#}");
        }
    }
}

/// A namespace's thread; dropped, it is told to leave and waited for.
#[derive(Debug)]
struct Resident {
    leave: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Resident {
    fn drop(&mut self) {
        // Dropping the sender is the word to leave.
        self.leave.take();
        if let Some(thread) = self.thread.take() {
            // A panic of it was reported where it happened.
            thread.join().ok();
        }
    }
}

impl Namespace {
    /// Makes the namespace `name`, with its loopback up.
    pub fn create(name: String) -> anyhow::Result<Self> {
        ip(&["netns", "add", &name])?;
        let name = Name(name);
        let told = || format!("enter the namespace {}", name.0);
        let (started, wait) = mpsc::sync_channel(1);
        let (leave, left) = oneshot::channel();
        let entry = Path::new(NAMES).join(&name.0);
        let thread = thread::Builder::new()
            .name(name.0.clone())
            .spawn(move || live_in(&entry, &started, left))
            .with_context(told)?;
        let resident = Resident { leave: Some(leave), thread: Some(thread) };
        let runtime = wait.recv().context("its thread died at its start").with_context(told)?;
        let runtime = runtime.with_context(told)?;
        let namespace = Self { runtime, _resident: resident, name };
        namespace.ip_batch(&["link set lo up".to_owned()])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns exec` takes it.
    pub fn name(&self) -> &str {
        &self.name.0
    }

    /// Runs `future` on the thread that lives here: the sockets it opens are this namespace's.
    pub fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime.spawn(future)
    }

    /// Runs `work`, which must be short, on the thread that lives here and waits for it.
    pub fn enter<T, F>(&self, work: F) -> anyhow::Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (send, receive) = mpsc::sync_channel(1);
        self.runtime.spawn(async move {
            // The receiver waits below for as long as this runs.
            send.send(work()).ok();
        });
        receive.recv().map_err(|_| anyhow!("the thread of the namespace {} is gone", self.name()))
    }

    /// Sets kernel parameters below `/proc/sys`, as (path, value).
    pub fn sysctl(&self, values: &'static [(&'static str, &'static str)]) -> anyhow::Result<()> {
        self.enter(move || {
            for (path, value) in values {
                let file = Path::new("/proc/sys").join(path);
                fs::write(&file, value)
                    .with_context(|| format!("write {value} to {}", file.display()))?;
            }
            Ok(())
        })?
    }

    /// Runs lines of `ip`, all of them or an error.
    pub fn ip_batch(&self, lines: &[String]) -> anyhow::Result<()> {
        batch(&["ip", "-n", self.name(), "-batch", "-"], lines)
    }
}

/// The life of a namespace's thread: enter, say so, serve until told to leave.
fn live_in(
    entry: &Path,
    started: &mpsc::SyncSender<anyhow::Result<runtime::Handle>>,
    left: oneshot::Receiver<()>,
) {
    let entered = || -> anyhow::Result<runtime::Runtime> {
        let file = File::open(entry).with_context(|| format!("open {}", entry.display()))?;
        setns(&file, CloneFlags::CLONE_NEWNET).context("setns")?;
        Ok(runtime::Builder::new_current_thread().enable_all().build()?)
    };
    match entered() {
        Ok(runtime) => {
            if started.send(Ok(runtime.handle().clone())).is_ok() {
                // Its end, which is all that it tells.
                runtime.block_on(left).ok();
            }
        }
        Err(error) => {
            started.send(Err(error)).ok();
        }
    }
}

/// Runs `ip` with `arguments`.
fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let told = || format!("run `ip {}`", arguments.join(" "));
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    succeeded(&output.with_context(told)?).with_context(told)
}

/// Runs `command`, which takes its work from standard input, with `lines` there.
fn batch(command: &[&str], lines: &[String]) -> anyhow::Result<()> {
    let told = || format!("run `{}` with {lines:?}", command.join(" "));
    let [program, arguments @ ..] = command else {
        return Ok(());
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(told)?;
    if let Some(mut input) = child.stdin.take() {
        // It stops reading at the first line that fails, and tells of that itself.
        input.write_all((lines.join("\n") + "\n").as_bytes()).ok();
    }
    succeeded(&child.wait_with_output().with_context(told)?).with_context(told)
}

/// An error with what the program said, if it failed.
fn succeeded(output: &Output) -> anyhow::Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", output.status, said.trim());
    Ok(())
}

/// Ends what labs left behind whose process was killed: their namespaces, whoever still runs in those, their folders.
///
/// Only for who has the machine's turn and no lab yet.
pub(super) fn sweep() -> anyhow::Result<()> {
    for name in left_behind(Path::new(NAMES))? {
        for pid in inhabitants(&name)? {
            // Gone by itself meanwhile is as good.
            kill(pid, Signal::SIGKILL).ok();
        }
        ip(&["netns", "del", &name])?;
    }
    for name in left_behind(&std::env::temp_dir())? {
        let folder = std::env::temp_dir().join(name);
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(())
}

/// The entries of `folder` that belong to a lab whose process is dead: or has the number of this one, as happens where a
/// container begins anew and keeps its files.
fn left_behind(folder: &Path) -> anyhow::Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| format!("read {}", folder.display()))?.file_name();
        let Some(name) = name.to_str() else { continue };
        if owner(name).is_some_and(|pid| pid == std::process::id() || !alive(pid)) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The process that a lab's namespace or folder belongs to, by its name.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.strip_prefix('-')?.split('-').next()?.parse().ok()
}

fn alive(pid: u32) -> bool {
    PathBuf::from(format!("/proc/{pid}")).exists()
}

/// Who runs in the namespace `name`.
pub fn inhabitants(name: &str) -> anyhow::Result<Vec<Pid>> {
    let output = Command::new("ip")
        .args(["netns", "pids", name])
        .output()
        .with_context(|| format!("ask who runs in the namespace {name}"))?;
    let pids = String::from_utf8_lossy(&output.stdout);
    Ok(pids.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect())
}

/// The namespaces of the lab called `lab` that exist now.
pub fn existing(lab: &str) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(NAMES).with_context(|| format!("read {NAMES}"))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let own = |name: &String| name.strip_prefix(lab).is_some_and(|rest| rest.starts_with('-'));
    Ok(names.filter(own).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_whose_it_is() {
        assert_eq!(owner("herald-lab-4711-0-node1"), Some(4711));
        assert_eq!(owner("herald-lab-4711-0"), Some(4711));
        assert_eq!(owner("herald-lab-x-0"), None);
        assert_eq!(owner("herald-lab.lock"), None);
        assert_eq!(owner("cni-4711-0"), None);
    }

    #[test]
    fn only_what_dead_processes_left_is_swept() {
        let folder = std::env::temp_dir().join(format!("herald-sweep-{}", std::process::id()));
        let of = |pid: u32| format!("{PREFIX}-{pid}-0-node1");
        // Above the largest pid that a kernel gives out (2^22).
        let (dead, own, living) = (of(4_194_305), of(std::process::id()), of(1));
        for name in [&dead, &own, &living, &"unrelated".to_owned()] {
            fs::create_dir_all(folder.join(name)).expect("a folder in the temporary one");
        }
        let mut left = left_behind(&folder).expect("a readable folder");
        fs::remove_dir_all(&folder).expect("just created");
        left.sort_unstable();
        let mut expected = [dead, own];
        expected.sort_unstable();
        assert_eq!(left, expected);
    }
}
