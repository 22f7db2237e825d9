//! The cluster as the speaker sees it: five kinds, parsed once for each version, and none acted on before all are there.

use std::convert::Infallible;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use herald_api::crd::{Guarded, IPAddressPool, L2Advertisement};
use herald_api::parse;
use herald_api::sparse::Sparse;
use herald_cluster::cache::{self, Cache, Dirty, follow};
use herald_cluster::client::Door;
use herald_cluster::feed::{Feed, Settings};
use herald_core::config::{Advertisement, Offer, Pool};
use herald_core::name::{AdvertisementName, NodeName, PoolName, ServiceId};
use herald_core::ownership::world;
use herald_telemetry::metrics::Counter;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

/// A task that keeps a cache.
pub type Keeper = Pin<Box<dyn Future<Output = Infallible> + Send>>;

/// An object's namespace and name.
pub type Key = (Box<str>, Box<str>);

/// What one EndpointSlice says, unless it belongs to no Service.
pub type Slice = Option<(ServiceId, Arc<world::Endpoints>)>;

/// Everything that the plan follows from.
#[derive(Clone)]
pub struct Caches {
    /// All Nodes.
    pub nodes: Cache<NodeName, world::Node>,
    /// All Services; those that are not announced are `None`.
    pub services: Cache<ServiceId, Option<Arc<world::Service>>>,
    /// All EndpointSlices.
    pub slices: Cache<Key, Slice>,
    /// The IPAddressPools of our namespace.
    pub pools: Cache<PoolName, Offer<Pool>>,
    /// The L2Advertisements of our namespace.
    pub advertisements: Cache<AdvertisementName, Offer<Advertisement>>,
}

/// Caches of `namespace`'s configuration and the cluster's Services of `class`, and the tasks that keep them. `updates`
/// counts the objects that were read.
pub fn caches(
    door: &Door,
    namespace: &str,
    class: Option<&str>,
    dirty: &Dirty,
    updates: &Counter,
) -> (Caches, Vec<Keeper>) {
    let mut follow = Follow { dirty, updates, keepers: Vec::new() };
    let own = || (door.clone(), namespace.to_owned());
    let class: Option<Arc<str>> = class.map(Into::into);
    let caches = Caches {
        nodes: follow.all(
            "Nodes",
            Feed::new(door.clone(), Api::<Sparse<Node>>::all, Settings::default()),
            |node| node.name_any().into(),
            |Sparse(node)| parse::node::node(&node),
        ),
        services: follow.all(
            "Services",
            Feed::new(door.clone(), Api::<Sparse<Service>>::all, Settings::default()),
            |service| ServiceId::new(service.namespace().unwrap_or_default(), service.name_any()),
            move |Sparse(service)| {
                parse::service::announced(&service, class.as_deref()).map(Arc::new)
            },
        ),
        slices: follow.all(
            "EndpointSlices",
            Feed::new(door.clone(), Api::<Sparse<EndpointSlice>>::all, Settings::default()),
            |slice| (slice.namespace().unwrap_or_default().into(), slice.name_any().into()),
            |Sparse(slice)| {
                let (service, endpoints) = parse::endpoints::endpoints(&slice)?;
                Some((service, Arc::new(endpoints)))
            },
        ),
        pools: follow.all(
            "IPAddressPools",
            feed_of(own()),
            |pool: &Guarded<IPAddressPool>| pool.name_any().into(),
            |pool| pool.offer(|pool| parse::pool::offer(pool).1),
        ),
        advertisements: follow.all(
            "L2Advertisements",
            feed_of(own()),
            |advertisement: &Guarded<L2Advertisement>| advertisement.name_any().into(),
            |advertisement| advertisement.offer(|one| parse::advertisement::offer(one).1),
        ),
    };
    (caches, follow.keepers)
}

fn feed_of<O>((door, namespace): (Door, String)) -> Feed<O>
where
    O: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    Feed::new(door, move |client| Api::namespaced(client, &namespace), Settings::default())
}

/// What all caches share, and the tasks that keep them.
struct Follow<'a> {
    dirty: &'a Dirty,
    updates: &'a Counter,
    keepers: Vec<Keeper>,
}

impl Follow<'_> {
    fn all<O, K, V>(
        &mut self,
        kind: &'static str,
        feed: Feed<O>,
        key: impl Fn(&O) -> K + Send + 'static,
        parse: impl Fn(O) -> V + Send + 'static,
    ) -> Cache<K, V>
    where
        O: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
        K: Ord + Clone + Send + Sync + 'static,
        V: PartialEq + Send + Sync + 'static,
    {
        let updates = self.updates.clone();
        let counted = move |object| {
            updates.inc();
            parse(object)
        };
        let (cache, keeper) = follow(kind, feed, key, counted, self.dirty.clone());
        self.keepers.push(Box::pin(keeper));
        cache
    }
}

/// What the caches hold at one moment.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// All Nodes.
    pub nodes: cache::Snapshot<NodeName, world::Node>,
    /// All Services; those that are not announced are `None`.
    pub services: cache::Snapshot<ServiceId, Option<Arc<world::Service>>>,
    /// All EndpointSlices.
    pub slices: cache::Snapshot<Key, Slice>,
    /// The IPAddressPools of our namespace.
    pub pools: cache::Snapshot<PoolName, Offer<Pool>>,
    /// The L2Advertisements of our namespace.
    pub advertisements: cache::Snapshot<AdvertisementName, Offer<Advertisement>>,
}

impl Caches {
    /// What there is now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            nodes: self.nodes.snapshot(),
            services: self.services.snapshot(),
            slices: self.slices.snapshot(),
            pools: self.pools.snapshot(),
            advertisements: self.advertisements.snapshot(),
        }
    }

    /// What keeps the configuration from being read at all, if that is known.
    pub fn unreadable(&self) -> Option<String> {
        let pools = self.pools.trouble().and_then(|_| self.pools.readiness().err());
        let advertisements =
            || self.advertisements.trouble().and_then(|_| self.advertisements.readiness().err());
        pools.or_else(advertisements)
    }

    /// The first that has not been listed yet, and why.
    ///
    /// # Errors
    /// The reason, in words.
    pub fn readiness(&self) -> Result<(), String> {
        self.nodes.readiness()?;
        self.services.readiness()?;
        self.slices.readiness()?;
        self.pools.readiness()?;
        self.advertisements.readiness()
    }
}
