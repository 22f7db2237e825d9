//! The world → for each address, the nodes that may answer for it (R3, as far as objects tell).
//!
//! In order, for each address that a Service of ours has:
//!
//! 1. the Service's endpoints: without a servable one nobody answers;
//! 2. the pool that holds the address, or held it a moment ago, or, of those of which no version is in force, the one that
//!    the Service says it is from or whose ranges hold it; and the advertisements that select the pool and the Service;
//! 3. the nodes that are fit at all and that one of those advertisements selects, each with the union of the allowed
//!    interfaces and the sum of the preference weights of the advertisements that select it;
//! 4. with externalTrafficPolicy Local, of these the nodes that host a servable endpoint;
//! 5. an address that several Services share: the nodes that suit all of those that have endpoints, or, if none does,
//!    those that suit the oldest.
//!
//! Steps 2 and 3 are done once for each set of advertisements and step 4 once for each set of hosts, and shared, so that
//! the cost grows with Services plus nodes, not with their product.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::plan::{Candidacy, Candidates, Interfaces, Plan, Vip};
use super::world::{Endpoints, Node, Served, Service, World};
use crate::address::{AddressRange, Family, bits};
use crate::config::{Advertisement, Pool, refused_pool_of};
use crate::label::any_or_unrestricted;
use crate::name::{NodeName, PoolName};
use crate::why::announcement::Unfit;

/// Plans for the whole world, as seen by node `me`.
pub fn plan(world: &World, me: &NodeName) -> Plan {
    let mut planner = Planner::new(world, me);
    let node = world.nodes.get(me);
    Plan {
        vips: planner.vips(),
        takes_part: node
            .is_some_and(|node| world.advertisements.iter().any(|ad| selects_node(ad, node))),
        node_uid: node.map(|node| node.uid.clone()),
        node_unfit: match node {
            None => Some(Unfit::UnknownNode),
            Some(node) => unfit_at_all(node, world.ignore_exclude_label),
        },
    }
}

/// What keeps `node` from announcing anything.
fn unfit_at_all(node: &Node, ignore_exclude_label: bool) -> Option<Unfit> {
    if node.excluded && !ignore_exclude_label {
        Some(Unfit::Excluded)
    } else if node.network_unavailable {
        Some(Unfit::NetworkUnavailable)
    } else if node.out_of_service {
        Some(Unfit::OutOfService)
    } else {
        None
    }
}

fn selects_node(advertisement: &Advertisement, node: &Node) -> bool {
    any_or_unrestricted(&advertisement.node_selectors, &node.labels)
}

/// Who may answer for one Service's address, and why this node may not.
struct Verdict {
    candidates: Arc<Candidates>,
    unfit: Option<Unfit>,
}

/// A pool, and the indices of the advertisements that select it.
struct Advertised<'w> {
    name: &'w PoolName,
    by: Vec<usize>,
}

struct Planner<'w> {
    world: &'w World,
    me: &'w NodeName,
    /// Ranges of all pools by family and first address, with the pool's index: none overlap.
    ranges: BTreeMap<(Family, u128), (AddressRange, usize)>,
    /// The pools in force, then the former ones, then the refused ones.
    pools: Vec<Advertised<'w>>,
    fit: Vec<&'w Node>,
    /// Candidates by the set of advertisements that apply.
    shared: BTreeMap<Vec<usize>, Arc<Candidates>>,
    /// Candidates by those of `shared`, whose addresses stay theirs as long as this lives, and the nodes that host an
    /// endpoint.
    local: HashMap<(*const Candidates, &'w BTreeSet<NodeName>), Arc<Candidates>>,
    nobody: Arc<Candidates>,
}

impl<'w> Planner<'w> {
    fn new(world: &'w World, me: &'w NodeName) -> Self {
        let mut ranges = BTreeMap::new();
        for (index, pool) in world.pools.iter().enumerate() {
            for range in &pool.ranges {
                ranges.insert((range.family(), bits(range.first())), (*range, index));
            }
        }
        let known =
            world.pools.iter().chain(&world.former_pools).map(|pool| (&pool.name, &pool.labels));
        let pools = known
            .chain(world.refused_pools.iter().map(|(name, pool)| (name, &pool.labels)))
            .map(|(name, labels)| {
                let all = world.advertisements.iter().enumerate();
                let selecting = all.filter(|(_, ad)| ad.selects_pool(name, labels));
                Advertised { name, by: selecting.map(|(index, _)| index).collect() }
            })
            .collect();
        let fit = world
            .nodes
            .values()
            .map(AsRef::as_ref)
            .filter(|node| unfit_at_all(node, world.ignore_exclude_label).is_none())
            .collect();
        let (shared, local, nobody) = (BTreeMap::new(), HashMap::new(), Arc::default());
        Self { world, me, ranges, pools, fit, shared, local, nobody }
    }

    fn vips(&mut self) -> BTreeMap<IpAddr, Vip> {
        let addresses = |of: &'w Served| of.service.addresses.iter().map(move |one| (*one, of));
        let mut holders: Vec<(IpAddr, &Served)> =
            self.world.services.iter().flat_map(addresses).collect();
        let age = |of: &'w Served| (of.service.created, &of.service.id);
        holders.sort_by(|(a, s), (b, t)| a.cmp(b).then_with(|| age(s).cmp(&age(t))));
        holders.dedup_by(|(a, s), (b, t)| a == b && s.service.id == t.service.id);
        holders
            .chunk_by(|(a, _), (b, _)| a == b)
            .map(|of| {
                let services: Vec<&Served> = of.iter().map(|(_, served)| *served).collect();
                (of[0].0, self.vip(of[0].0, &services))
            })
            .collect()
    }

    fn vip(&mut self, address: IpAddr, services: &[&'w Served]) -> Vip {
        let siblings = services
            .iter()
            .flat_map(|of| of.service.addresses.iter().copied())
            .filter(|other| *other != address)
            .collect();
        let Verdict { candidates, unfit } = self.for_all(address, services);
        Vip {
            services: services.iter().map(|of| of.service.id.clone()).collect(),
            first: services[0].service.addresses[0],
            siblings,
            candidates,
            unfit,
        }
    }

    /// Step 5.
    fn for_all(&mut self, address: IpAddr, services: &[&'w Served]) -> Verdict {
        let mut serving = services.iter().filter(|of| of.endpoints.any);
        let Some(oldest) = serving.next() else {
            return Verdict { candidates: self.nobody.clone(), unfit: Some(Unfit::NoEndpoint) };
        };
        let first = self.for_one(address, oldest);
        let mut others = serving.peekable();
        if others.peek().is_none() {
            return first;
        }
        let mut common = (*first.candidates).clone();
        for other in others {
            let verdict = self.for_one(address, other);
            common.nodes.retain(|node, candidacy| {
                let Some(other) = verdict.candidates.nodes.get(node) else { return false };
                candidacy.interfaces = candidacy.interfaces.intersection(&other.interfaces);
                candidacy.interfaces != Interfaces::Only(BTreeSet::new())
            });
        }
        if common.nodes.is_empty() {
            return first;
        }
        let unfit = match first.unfit {
            None if !common.nodes.contains_key(self.me) => Some(Unfit::NotForAllSharing),
            unfit => unfit,
        };
        Verdict { candidates: Arc::new(common), unfit }
    }

    /// Steps 2 to 4.
    fn for_one(&mut self, address: IpAddr, Served { service, endpoints }: &'w Served) -> Verdict {
        let Some(pool) = self.pool_of(address, service) else {
            return Verdict { candidates: self.nobody.clone(), unfit: Some(Unfit::NotInAnyPool) };
        };
        let world = self.world;
        let pool = &self.pools[pool];
        let name = pool.name;
        let applying: Vec<usize> = pool
            .by
            .iter()
            .copied()
            .filter(|ad| {
                let selectors = &world.advertisements[*ad].service_selectors;
                any_or_unrestricted(selectors, &service.labels)
            })
            .collect();
        if applying.is_empty() {
            let unfit = match pool.by.is_empty() {
                true => Unfit::NoAdvertisement(name.clone()),
                false => Unfit::ServiceNotSelected(name.clone()),
            };
            return Verdict { candidates: self.nobody.clone(), unfit: Some(unfit) };
        }
        let selected = self.selected_by(applying);
        let me = self.world.nodes.get(self.me);
        let unfit = match me {
            None => Some(Unfit::UnknownNode),
            Some(node) => unfit_at_all(node, world.ignore_exclude_label).or_else(|| {
                let selected = selected.nodes.contains_key(self.me);
                (!selected).then(|| Unfit::NodeNotSelected(name.clone()))
            }),
        };
        if service.local {
            self.only_local(endpoints, &selected, unfit)
        } else {
            Verdict { candidates: selected, unfit }
        }
    }

    /// Step 4, once for each set of hosts.
    fn only_local(
        &mut self,
        Endpoints { nodes: hosts, .. }: &'w Endpoints,
        selected: &Arc<Candidates>,
        unfit: Option<Unfit>,
    ) -> Verdict {
        let local = || {
            let nodes: BTreeMap<NodeName, Candidacy> = hosts
                .iter()
                .filter_map(|node| Some((node.clone(), selected.nodes.get(node)?.clone())))
                .collect();
            let scored = selected.scored && nodes.values().any(|candidacy| candidacy.score > 0);
            Arc::new(Candidates { nodes, scored })
        };
        let candidates =
            self.local.entry((Arc::as_ptr(selected), hosts)).or_insert_with(local).clone();
        let unfit = unfit.or_else(|| (!hosts.contains(self.me)).then_some(Unfit::NoLocalEndpoint));
        Verdict { candidates, unfit }
    }

    /// Step 3, once for each set of advertisements.
    fn selected_by(&mut self, applying: Vec<usize>) -> Arc<Candidates> {
        if let Some(known) = self.shared.get(&applying) {
            return known.clone();
        }
        let mut candidates = Candidates::default();
        for node in &self.fit {
            let selecting = applying
                .iter()
                .map(|ad| self.world.advertisements[*ad].as_ref())
                .filter(|ad| selects_node(ad, node));
            let Some(candidacy) = candidacy(node, selecting) else { continue };
            candidates.scored |= candidacy.score > 0;
            candidates.nodes.insert(node.name.clone(), candidacy);
        }
        let candidates = Arc::new(candidates);
        self.shared.insert(applying, candidates.clone());
        candidates
    }

    fn pool_of(&self, address: IpAddr, service: &Service) -> Option<usize> {
        let key = (Family::of(address), bits(address));
        let below = self.ranges.range(..=key).next_back().map(|(_, found)| found);
        if let Some((_, pool)) = below.filter(|(range, _)| range.contains(address)) {
            return Some(*pool);
        }
        let former = &self.world.former_pools;
        let holds = |pool: &Arc<Pool>| pool.ranges.iter().any(|range| range.contains(address));
        if let Some(at) = former.iter().position(holds) {
            return Some(self.world.pools.len() + at);
        }
        let refused = &self.world.refused_pools;
        let of = refused_pool_of(refused, address, service.recorded_pool.as_ref())?;
        let at = refused.keys().position(|name| name == of)?;
        Some(self.world.pools.len() + former.len() + at)
    }
}

/// What the advertisements that select `node` make of it; `None` when there are none.
fn candidacy<'a>(
    node: &Node,
    selecting: impl Iterator<Item = &'a Advertisement>,
) -> Option<Candidacy> {
    let mut found: Option<Candidacy> = None;
    for advertisement in selecting {
        let interfaces = match advertisement.interfaces.is_empty() {
            true => Interfaces::Any,
            false => Interfaces::Only(advertisement.interfaces.clone()),
        };
        let score: u64 = advertisement
            .preferred_nodes
            .iter()
            .filter(|preference| preference.selector.selects(&node.labels))
            .map(|preference| u64::from(preference.weight))
            .sum();
        found = Some(match found {
            None => Candidacy { score, interfaces, ready: node.ready },
            Some(known) => Candidacy {
                score: known.score + score,
                interfaces: known.interfaces.union(&interfaces),
                ready: node.ready,
            },
        });
    }
    found
}

#[cfg(test)]
mod tests;
