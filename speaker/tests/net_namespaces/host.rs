//! Hosts for one test: each a thread in a network namespace of its own, joined by a cable. Root is needed.
//!
//! When a host is dropped, or the test dies, its thread ends, and with it the namespace and all that is in it. To look
//! into one while a test stands still: `nsenter --net=<Host::namespace>`.

use std::future::Future;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use herald_core::wire::Mac;
use nix::sched::{CloneFlags, unshare};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// How long anything may take before the test fails. Generous: it is only ever reached by a failure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// The name of each host's end of the cable. Not `veth…`, which is excluded by default.
pub(crate) const LAN: &str = "lan0";

/// A thread in its own network namespace that drives a runtime.
pub(crate) struct Host {
    /// The namespace, as a path.
    pub(crate) namespace: String,
    /// The Ethernet address of [`LAN`].
    pub(crate) mac: Mac,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// A host whose [`LAN`] will have `mac`.
    pub(crate) fn new(mac: Mac) -> Self {
        let (started, start) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace, as root");
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let thread = nix::unistd::gettid();
            let namespace = format!("/proc/{}/task/{thread}/ns/net", std::process::id());
            started.send((namespace, runtime.handle().clone())).unwrap();
            let _ = runtime.block_on(stopped);
        });
        let (namespace, runtime) = start.recv().unwrap();
        let host = Self { namespace, mac, runtime, stop: Some(stop), thread: Some(thread) };
        host.ip("link set lo up");
        // Addresses can be used at once; duplicates are not looked for.
        for which in ["default", "all"] {
            host.set(&format!("net/ipv6/conf/{which}/accept_dad"), "0");
        }
        host
    }

    /// Runs `task` on the host's thread and waits for it.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let (done, result) = std::sync::mpsc::channel();
        self.runtime.spawn(async move {
            let outcome = tokio::time::timeout(DEADLINE, task).await;
            let _ = done.send(outcome);
        });
        let outcome = result.recv().expect("the task on the host panicked");
        outcome.expect("the task on the host did not end in time")
    }

    /// Runs `work` on the host's thread, whose runtime stands still meanwhile.
    pub(crate) fn block<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.run(async move { work() })
    }

    /// Runs `ip` with `arguments` there and returns what it prints.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        let arguments: Vec<_> = arguments.split_whitespace().map(str::to_owned).collect();
        self.block(move || {
            let output =
                Command::new("ip").args(&arguments).output().expect("iproute2 is installed");
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "ip {}: {error}", arguments.join(" "));
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }

    /// Gives [`LAN`] an address, and waits until it can be used: also where it looks for no duplicates the kernel takes
    /// its time, and meanwhile hears no question for it. (One that is given as `nodad` is not even called tentative.)
    pub(crate) fn assign(&self, address: &str) {
        self.ip(&format!("address add {address} dev {LAN}"));
        eventually(&format!("{address} can be used"), || {
            self.ip(&format!("address show dev {LAN} tentative")).is_empty().then_some(())
        });
    }

    /// Sets a kernel parameter there.
    pub(crate) fn set(&self, parameter: &str, value: &'static str) {
        let path = format!("/proc/sys/{parameter}");
        self.block(move || std::fs::write(&path, value).unwrap_or_else(|e| panic!("{path}: {e}")));
    }

    /// Reads a file there, such as `/proc/thread-self/net/igmp6`.
    pub(crate) fn read(&self, path: &'static str) -> String {
        self.block(move || std::fs::read_to_string(path).unwrap())
    }

    /// The index of the interface `name` there.
    pub(crate) fn index(&self, name: &'static str) -> u32 {
        self.block(move || nix::net::if_::if_nametoindex(name).unwrap())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A node and a neighbour of it, on one cable. Neither has an address yet, not even a link-local one.
pub(crate) fn pair() -> (Host, Host) {
    let node = Host::new(Mac([2, 0, 0, 0, 0, 0xa]));
    let neighbour = Host::new(Mac([2, 0, 0, 0, 0, 0xb]));
    node.ip(&format!(
        "link add {LAN} address {} type veth peer name {LAN} address {} netns {}",
        node.mac, neighbour.mac, neighbour.namespace,
    ));
    for host in [&node, &neighbour] {
        host.ip(&format!("link set {LAN} addrgenmode none"));
        host.ip(&format!("link set {LAN} up"));
    }
    // Until then the kernel drops in silence what is sent.
    for host in [&node, &neighbour] {
        eventually("the cable carries", || {
            host.ip(&format!("link show dev {LAN}")).contains("state UP").then_some(())
        });
    }
    (node, neighbour)
}

/// Asks `condition` again and again until it gives a value.
///
/// # Panics
/// When it gave none within [`DEADLINE`].
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(began.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::yield_now();
    }
}
