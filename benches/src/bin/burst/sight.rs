//! What a client sees of its Services: when each has its address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinHandle;

/// The address of each Service that has one, by the Service's name, and when that was first seen.
pub(crate) type Addressed = BTreeMap<String, (IpAddr, SystemTime)>;

/// A running watch of the Services. Dropped, it stops.
#[derive(Debug)]
pub(crate) struct Sight {
    seen: Arc<Mutex<Addressed>>,
    task: JoinHandle<()>,
}

impl Sight {
    /// Watches the Services of the namespace `default`.
    pub(crate) fn open(client: Client) -> Self {
        let seen = Arc::new(Mutex::new(Addressed::new()));
        let task = tokio::spawn(watch(client, Arc::clone(&seen)));
        Self { seen, task }
    }

    /// How many Services have an address.
    pub(crate) fn count(&self) -> usize {
        lock(&self.seen).len()
    }

    /// Every Service that has one.
    pub(crate) fn addressed(&self) -> Addressed {
        lock(&self.seen).clone()
    }
}

impl Drop for Sight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(seen: &Mutex<Addressed>) -> MutexGuard<'_, Addressed> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watch(client: Client, seen: Arc<Mutex<Addressed>>) {
    let services: Api<Service> = Api::default_namespaced(client);
    let mut events = watcher(services, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        let at = SystemTime::now();
        match event {
            Ok(Event::Apply(service) | Event::InitApply(service)) => {
                if let Some(address) = address(&service) {
                    lock(&seen).entry(service.name_any()).or_insert((address, at));
                }
            }
            Ok(Event::Delete(service)) => {
                lock(&seen).remove(&service.name_any());
            }
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => eprintln!("the watch of the Services: {error}"),
        }
    }
}

fn address(service: &Service) -> Option<IpAddr> {
    let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
    ingress.first()?.ip.as_ref()?.parse().ok()
}
