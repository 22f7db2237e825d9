//! The cluster as the speaker sees it: five kinds, parsed once for each version, and none acted on before all are there.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use herald_api::crd::{IPAddressPool, L2Advertisement};
use herald_api::parse;
use herald_cluster::cache::{Cache, Dirty, follow};
use herald_cluster::client::Door;
use herald_cluster::feed::{Feed, Settings};
use herald_core::config::{Advertisement, Offer, Pool};
use herald_core::name::{AdvertisementName, NodeName, PoolName, ServiceId};
use herald_core::ownership::world;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, ResourceExt as _};

/// A task that keeps a cache.
pub type Keeper = Pin<Box<dyn Future<Output = Infallible> + Send>>;

/// An object's namespace and name.
type Key = (Box<str>, Box<str>);

/// What one EndpointSlice says, unless it belongs to no Service.
type Slice = Option<(ServiceId, world::Endpoints)>;

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

/// Caches of `namespace`'s configuration and the cluster's Services of `class`, and the tasks that keep them.
pub fn caches(
    door: &Door,
    namespace: &str,
    class: Option<&str>,
    dirty: &Dirty,
) -> (Caches, Vec<Keeper>) {
    let mut keepers: Vec<Keeper> = Vec::new();
    let all = Settings::default;
    let nodes = Feed::<Node>::new(door.clone(), Api::all, all());
    let services = Feed::<Service>::new(door.clone(), Api::all, all());
    let slices = Feed::<EndpointSlice>::new(door.clone(), Api::all, all());
    let ours: Arc<str> = namespace.into();
    let of = ours.clone();
    let pools = Feed::new(door.clone(), move |client| Api::namespaced(client, &of), all());
    let advertisements =
        Feed::new(door.clone(), move |client| Api::namespaced(client, &ours), all());
    let class: Option<Arc<str>> = class.map(Into::into);
    let caches = Caches {
        nodes: keep(
            &mut keepers,
            follow(
                "Nodes",
                nodes,
                |node: &Node| node.name_any().into(),
                |node| parse::node::node(&node),
                dirty.clone(),
            ),
        ),
        services: keep(
            &mut keepers,
            follow(
                "Services",
                services,
                |s: &Service| ServiceId::new(s.namespace().unwrap_or_default(), s.name_any()),
                move |service| parse::service::announced(&service, class.as_deref()).map(Arc::new),
                dirty.clone(),
            ),
        ),
        slices: keep(
            &mut keepers,
            follow(
                "EndpointSlices",
                slices,
                |s: &EndpointSlice| (s.namespace().unwrap_or_default().into(), s.name_any().into()),
                |slice| parse::endpoints::endpoints(&slice),
                dirty.clone(),
            ),
        ),
        pools: keep(
            &mut keepers,
            follow(
                "IPAddressPools",
                pools,
                |pool: &IPAddressPool| pool.name_any().into(),
                |pool| parse::pool::offer(&pool).1,
                dirty.clone(),
            ),
        ),
        advertisements: keep(
            &mut keepers,
            follow(
                "L2Advertisements",
                advertisements,
                |advertisement: &L2Advertisement| advertisement.name_any().into(),
                |advertisement| parse::advertisement::offer(&advertisement).1,
                dirty.clone(),
            ),
        ),
    };
    (caches, keepers)
}

fn keep<K, V>(
    keepers: &mut Vec<Keeper>,
    (cache, keeper): (Cache<K, V>, impl Future<Output = Infallible> + Send + 'static),
) -> Cache<K, V> {
    keepers.push(Box::pin(keeper));
    cache
}

impl Caches {
    /// Waits until each has been listed once.
    pub async fn synced(&self) {
        self.nodes.synced().await;
        self.services.synced().await;
        self.slices.synced().await;
        self.pools.synced().await;
        self.advertisements.synced().await;
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
