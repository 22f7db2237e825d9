//! Every version of every Service, in the order in which the API server stored them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::api::{ListParams, VersionMatch, WatchEvent, WatchParams};
use kube::core::ObjectList;
use kube::{Api, Client, ResourceExt as _};
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use herald_tests::lab::wait::await_condition;

use crate::stage::{SETTLE, addresses, pool};

/// One version of one Service.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    /// `namespace/name`.
    pub(crate) service: String,
    pub(crate) number: u64,
    /// Whether it is the last one: the Service is deleted.
    pub(crate) gone: bool,
    pub(crate) addresses: Vec<IpAddr>,
    /// Where its annotation says that they are from.
    pub(crate) pool: Option<String>,
}

/// A watch that forgets nothing, from its beginning on.
pub(crate) struct History {
    versions: Arc<Mutex<Vec<Version>>>,
    /// The API server's count of writes when it began.
    began: u64,
    client: Client,
    task: JoinHandle<()>,
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl History {
    /// Begins now: what exists already is not in it. It outlives the API server.
    pub(crate) async fn begin(client: Client) -> anyhow::Result<Self> {
        let all: Api<Service> = Api::all(client.clone());
        let list = all.list(&ListParams::default()).await.context("list Services")?;
        let from = list.metadata.resource_version.unwrap_or_default();
        let began = from.parse().context("a list's version")?;
        let versions = Arc::default();
        let task = tokio::spawn(follow(all, from, Arc::clone(&versions)));
        Ok(Self { versions, began, client, task })
    }

    /// The place from which [`History::since`] tells what comes next.
    pub(crate) async fn mark(&self) -> anyhow::Result<usize> {
        Ok(self.since(0).await?.len())
    }

    /// What has been seen by now, which may lack the latest.
    pub(crate) fn seen(&self) -> Vec<Version> {
        lock(&self.versions).clone()
    }

    /// All that was stored before this call and after `mark`.
    pub(crate) async fn since(&self, mark: usize) -> anyhow::Result<Vec<Version>> {
        let all: Api<Service> = Api::all(self.client.clone());
        let present = all.list(&ListParams::default()).await.context("list Services")?.items;
        await_condition("the history is whole", SETTLE, async || {
            let versions = lock(&self.versions);
            let latest: BTreeMap<_, _> =
                versions.iter().map(|version| (version.service.as_str(), version.number)).collect();
            for service in &present {
                let known = latest.get(id(service).as_str()).copied().unwrap_or_default();
                let needed = number(service);
                ensure!(known.max(self.began) >= needed, "{} is at {known}", id(service));
            }
            Ok(versions[mark..].to_vec())
        })
        .await
    }
}

/// How often the Service `name` of the namespace `default` was stored.
pub(crate) fn times(versions: &[Version], name: &str) -> usize {
    let service = format!("default/{name}");
    versions.iter().filter(|version| version.service == service && !version.gone).count()
}

/// Each moment at which two Services had one address.
pub(crate) fn doubled(versions: &[Version]) -> Vec<String> {
    let mut holdings: BTreeMap<&str, &[IpAddr]> = BTreeMap::new();
    let mut found = Vec::new();
    for version in versions {
        if version.gone {
            holdings.remove(version.service.as_str());
            continue;
        }
        holdings.insert(&version.service, &version.addresses);
        for (other, theirs) in &holdings {
            let both = theirs.iter().find(|address| version.addresses.contains(address));
            if let Some(address) = both.filter(|_| *other != version.service) {
                found.push(format!("{address}: {} and {other}", version.service));
            }
        }
    }
    found
}

fn lock(versions: &Mutex<Vec<Version>>) -> MutexGuard<'_, Vec<Version>> {
    versions.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(all: Api<Service>, mut from: String, versions: Arc<Mutex<Vec<Version>>>) {
    loop {
        if !watch(&all, &mut from, &versions).await
            && fill(&all, &mut from, &versions).await.is_err()
        {
            // It is away for longer than any test waits.
            return;
        }
    }
}

/// Follows one watch to its end; whether it ended as it should.
async fn watch(all: &Api<Service>, from: &mut String, versions: &Mutex<Vec<Version>>) -> bool {
    let Ok(watch) = all.watch(&WatchParams::default(), from).await else { return false };
    let mut watch = pin!(watch);
    loop {
        let (service, gone) = match watch.try_next().await {
            Ok(Some(WatchEvent::Added(service) | WatchEvent::Modified(service))) => {
                (service, false)
            }
            Ok(Some(WatchEvent::Deleted(service))) => (service, true),
            Ok(Some(WatchEvent::Bookmark(bookmark))) => {
                *from = bookmark.metadata.resource_version;
                continue;
            }
            Ok(None) => return true,
            Ok(Some(WatchEvent::Error(_))) | Err(_) => return false,
        };
        *from = service.resource_version().unwrap_or_default();
        lock(versions).push(version(&service, gone));
    }
}

/// Reads what was stored since `from` from the store itself, moment by moment: an API server that has just begun cannot
/// watch what was before it.
async fn fill(
    all: &Api<Service>,
    from: &mut String,
    versions: &Mutex<Vec<Version>>,
) -> anyhow::Result<()> {
    let present = list(all, &ListParams::default()).await?;
    let until: u64 = present.metadata.resource_version.unwrap_or_default().parse()?;
    let mut before = latest(&lock(versions));
    for moment in from.parse::<u64>()? + 1..=until {
        let params = ListParams::default().at(&moment.to_string()).matching(VersionMatch::Exact);
        let then = list(all, &params).await?.items;
        for service in then.iter().filter(|one| before.get(&id(one)) != Some(&number(one))) {
            lock(versions).push(version(service, false));
        }
        let now: BTreeMap<_, _> = then.iter().map(|one| (id(one), number(one))).collect();
        for (service, number) in before.iter().filter(|(service, _)| !now.contains_key(*service)) {
            let (service, number) = (service.clone(), *number);
            let (addresses, pool) = (Vec::new(), None);
            lock(versions).push(Version { service, number, gone: true, addresses, pool });
        }
        before = now;
        *from = moment.to_string();
    }
    Ok(())
}

/// Lists, as soon as the API server answers.
async fn list(all: &Api<Service>, params: &ListParams) -> anyhow::Result<ObjectList<Service>> {
    let mut attempts = interval(Duration::from_millis(20));
    let answered = async {
        loop {
            attempts.tick().await;
            if let Ok(list) = all.list(params).await {
                return list;
            }
        }
    };
    timeout(SETTLE, answered).await.context("the API server does not answer")
}

/// The last version of each Service that there is.
fn latest(versions: &[Version]) -> BTreeMap<String, u64> {
    let mut latest = BTreeMap::new();
    for version in versions {
        match version.gone {
            true => latest.remove(&version.service),
            false => latest.insert(version.service.clone(), version.number),
        };
    }
    latest
}

fn version(service: &Service, gone: bool) -> Version {
    Version {
        service: id(service),
        number: number(service),
        gone,
        addresses: addresses(service),
        pool: pool(service),
    }
}

fn id(service: &Service) -> String {
    format!("{}/{}", service.namespace().unwrap_or_default(), service.name_any())
}

fn number(service: &Service) -> u64 {
    service.resource_version().and_then(|text| text.parse().ok()).unwrap_or_default()
}
