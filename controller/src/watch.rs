//! Kubernetes watches → one snapshot, parsed once per version of each object.

use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use herald_api::crd::{
    BGPAdvertisement, Counters, Guarded, IPAddressPool, IPAddressPoolStatus, L2Advertisement,
};
use herald_api::parse::demand::{Asked, Version, asked};
use herald_api::parse::{advertisement, bgp_advertisement, pool};
use herald_api::sparse::Sparse;
use herald_cluster::cache::{self, Cache, Dirty, Fence};
use herald_cluster::client::Door;
use herald_cluster::feed::{Feed, Settings};
use herald_core::config::{Advertisement, BgpAdvertisement, Offer, Pool};
use herald_core::label::Labels;
use herald_core::name::{AdvertisementName, BgpAdvertisementName, PoolName, ServiceId};
use herald_telemetry::health::Health;
use herald_telemetry::metrics::Counter;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, Resource as _, ResourceExt as _};
use serde::de::DeserializeOwned;

/// An object of configuration, in one version.
#[derive(Clone, Debug, PartialEq)]
pub struct Configured<T> {
    /// What it says.
    pub offer: Offer<T>,
    /// Which version says so.
    pub version: Version,
    /// Its `metadata.generation`, which counts the versions of its spec.
    pub generation: Option<i64>,
    /// The conditions of its status.
    pub conditions: Vec<Condition>,
    /// The counters of its status, if it is a pool's and has all of them.
    pub counters: Option<Counters>,
    /// Where in it fields stand that mean nothing.
    pub unknown_fields: Vec<String>,
}

/// All that a plan depends on, at one moment.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Every Service of the cluster.
    pub services: cache::Snapshot<ServiceId, Asked>,
    /// The IPAddressPools of our namespace.
    pub pools: cache::Snapshot<PoolName, Configured<Pool>>,
    /// Its L2Advertisements.
    pub advertisements: cache::Snapshot<AdvertisementName, Configured<Advertisement>>,
    /// Every namespace's labels.
    pub namespaces: cache::Snapshot<Arc<str>, Labels>,
    /// The BGPAdvertisements of our namespace, as far as they can be read; `None` while it is not known whether there are
    /// any.
    pub bgp_advertisements: Option<BgpAdvertisements>,
}

/// BGPAdvertisements, each as far as it can be read.
pub type BgpAdvertisements = cache::Snapshot<BgpAdvertisementName, Option<BgpAdvertisement>>;

/// The caches.
#[derive(Clone)]
pub struct Watch {
    services: Cache<ServiceId, Asked>,
    pools: Cache<PoolName, Configured<Pool>>,
    advertisements: Cache<AdvertisementName, Configured<Advertisement>>,
    namespaces: Cache<Arc<str>, Labels>,
    /// Nothing waits for these: a cluster may have no such kind.
    bgp_advertisements: Cache<BgpAdvertisementName, Option<BgpAdvertisement>>,
}

/// A cache's task; the caller spawns it.
pub type Task = BoxFuture<'static, Infallible>;

impl Watch {
    /// Caches of what `door` leads to: Services as a controller of that class sees them, and the configuration in
    /// `namespace`. `updates` counts the objects that were read.
    pub fn new(
        door: &Door,
        namespace: &str,
        class: Option<String>,
        dirty: &Dirty,
        updates: &Counter,
    ) -> (Self, Vec<Task>) {
        let own = |door: &Door| (door.clone(), namespace.to_owned());
        let follow = Follow { dirty, updates };
        let (services, service_task) = follow.all(
            "Service",
            Feed::new(door.clone(), Api::<Sparse<Service>>::all, Settings::default()),
            |service| ServiceId::new(service.namespace().unwrap_or_default(), service.name_any()),
            move |Sparse(service)| asked(&service, class.as_deref()),
        );
        let (namespaces, namespace_task) = follow.all(
            "Namespace",
            Feed::new(door.clone(), Api::<Sparse<Namespace>>::all, Settings::default()),
            |namespace| namespace.name_any().into(),
            |namespace| namespace.labels().clone(),
        );
        let (pools, pool_task) = follow.all(
            "IPAddressPool",
            feed_of(own(door)),
            |object: &Guarded<IPAddressPool>| object.name_any().into(),
            |object: Guarded<IPAddressPool>| configured_pool(&object),
        );
        let (advertisements, advertisement_task) = follow.all(
            "L2Advertisement",
            feed_of(own(door)),
            |object: &Guarded<L2Advertisement>| object.name_any().into(),
            |object: Guarded<L2Advertisement>| configured_advertisement(&object),
        );
        let (bgp_advertisements, bgp_task) = follow.all(
            "BGPAdvertisement",
            feed_of(own(door)),
            |object: &Guarded<BGPAdvertisement>| object.name_any().into(),
            |object: Guarded<BGPAdvertisement>| {
                object.readable().and_then(bgp_advertisement::selection)
            },
        );
        let tasks = vec![service_task, namespace_task, pool_task, advertisement_task, bgp_task];
        (Self { services, pools, advertisements, namespaces, bgp_advertisements }, tasks)
    }

    /// Whether every first list is there: before that, what is absent means nothing.
    pub fn is_synced(&self) -> bool {
        self.services.is_synced()
            && self.pools.is_synced()
            && self.advertisements.is_synced()
            && self.namespaces.is_synced()
    }

    /// Has everything listed anew: see [`Cache::list_anew`].
    pub fn list_anew(&self) -> Vec<Fence> {
        let Self { services, pools, advertisements, namespaces, bgp_advertisements: _ } = self;
        vec![
            services.list_anew(),
            pools.list_anew(),
            advertisements.list_anew(),
            namespaces.list_anew(),
        ]
    }

    /// Not ready until every first list is there.
    pub fn report_to(&self, health: &Health) {
        let Self { services, pools, advertisements, namespaces, .. } = self.clone();
        health.ready_when(services.kind(), move || services.readiness());
        health.ready_when(pools.kind(), move || pools.readiness());
        health.ready_when(advertisements.kind(), move || advertisements.readiness());
        health.ready_when(namespaces.kind(), move || namespaces.readiness());
    }

    /// What keeps the configuration from being read at all, if that is known.
    pub fn unreadable(&self) -> Option<String> {
        let pools = self.pools.trouble().and_then(|_| self.pools.readiness().err());
        let advertisements =
            || self.advertisements.trouble().and_then(|_| self.advertisements.readiness().err());
        pools.or_else(advertisements)
    }

    /// What there is now.
    pub fn snapshot(&self) -> Snapshot {
        let bgp = &self.bgp_advertisements;
        Snapshot {
            services: self.services.snapshot(),
            pools: self.pools.snapshot(),
            advertisements: self.advertisements.snapshot(),
            namespaces: self.namespaces.snapshot(),
            bgp_advertisements: (bgp.is_synced() || bgp.trouble().is_some())
                .then(|| bgp.snapshot()),
        }
    }
}

fn feed_of<O>((door, namespace): (Door, String)) -> Feed<O>
where
    O: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    Feed::new(door, move |client| Api::namespaced(client, &namespace), Settings::default())
}

/// What all caches share.
struct Follow<'a> {
    dirty: &'a Dirty,
    updates: &'a Counter,
}

impl Follow<'_> {
    fn all<O, K, V>(
        &self,
        kind: &'static str,
        feed: Feed<O>,
        key: impl Fn(&O) -> K + Send + 'static,
        parse: impl Fn(O) -> V + Send + 'static,
    ) -> (Cache<K, V>, Task)
    where
        O: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
        K: Ord + Clone + Send + Sync + 'static,
        V: PartialEq + Send + Sync + 'static,
    {
        let updates = self.updates.clone();
        let counted = move |object| {
            updates.inc();
            parse(object)
        };
        let (cache, task) = cache::follow(kind, feed, key, counted, self.dirty.clone());
        (cache, task.boxed())
    }
}

/// A pool, parsed.
pub fn configured_pool(object: &Guarded<IPAddressPool>) -> Configured<Pool> {
    let status = object.readable().and_then(|pool| pool.status.as_ref());
    Configured {
        offer: object.offer(|pool| pool::offer(pool).1),
        version: version(object),
        generation: object.meta().generation,
        conditions: object
            .conditions(|_| status.map_or(&[][..], |status| &status.conditions))
            .to_vec(),
        counters: status.and_then(IPAddressPoolStatus::counters),
        unknown_fields: object.readable().map(IPAddressPool::unknown_fields).unwrap_or_default(),
    }
}

/// An advertisement, parsed.
pub fn configured_advertisement(object: &Guarded<L2Advertisement>) -> Configured<Advertisement> {
    let status = object.readable().and_then(|one| one.status.as_ref());
    Configured {
        offer: object.offer(|one| advertisement::offer(one).1),
        version: version(object),
        generation: object.meta().generation,
        conditions: object
            .conditions(|_| status.map_or(&[][..], |status| &status.conditions))
            .to_vec(),
        counters: None,
        unknown_fields: object.readable().map(L2Advertisement::unknown_fields).unwrap_or_default(),
    }
}

fn version(object: &impl kube::Resource) -> Version {
    Version {
        uid: object.uid().unwrap_or_default().into(),
        resource_version: object.resource_version().unwrap_or_default().into(),
    }
}
