//! Writes of Leases, as a watch shows what was stored.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinHandle;

/// A running watch. Dropped, it stops.
#[derive(Debug)]
pub(crate) struct Writes {
    stored: Arc<Mutex<Stored>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Stored {
    ready: bool,
    names: Vec<String>,
}

impl Writes {
    /// Watches the Leases of `namespace`.
    pub(crate) fn watch(client: Client, namespace: &str) -> Self {
        let stored = Arc::new(Mutex::new(Stored::default()));
        let leases = Api::namespaced(client, namespace);
        let task = tokio::spawn(follow(leases, Arc::clone(&stored)));
        Self { stored, task }
    }

    /// Whether every write is seen from now on.
    pub(crate) fn ready(&self) -> bool {
        lock(&self.stored).ready
    }

    /// Forgets those so far.
    pub(crate) fn forget(&self) {
        lock(&self.stored).names.clear();
    }

    /// How many Leases were written, created or deleted since, whose name `fits`; each time counts.
    pub(crate) fn count(&self, fits: impl Fn(&str) -> bool) -> usize {
        lock(&self.stored).names.iter().filter(|name| fits(name)).count()
    }
}

impl Drop for Writes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(stored: &Mutex<Stored>) -> MutexGuard<'_, Stored> {
    stored.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(leases: Api<Lease>, stored: Arc<Mutex<Stored>>) {
    let mut events = watcher(leases, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(lease) | Event::Delete(lease)) => {
                lock(&stored).names.push(lease.name_any());
            }
            Ok(Event::Init | Event::InitApply(_)) => {}
            Ok(Event::InitDone) => lock(&stored).ready = true,
            Err(error) => eprintln!("the watch of the Leases: {error}"),
        }
    }
}
