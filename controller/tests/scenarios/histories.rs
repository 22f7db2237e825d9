//! Random histories: what users do to a cluster in which everything collides, and that it does not matter how the
//! controller hears of it.
//!
//! A plan depends on the objects that the watches show and on the writes that they do not show yet, and on nothing else.
//! So histories whose plans see the same objects end in the same statuses, word for word, and this is what "equal"
//! means here: whatever the order of the events between two plans, however often each comes, late repeats included, and
//! whichever controller makes a plan, one that saw everything or one that has just listed it.
//!
//! What cannot be equal is an end after plans that saw *different* objects. If a plan falls between two creations, the
//! first to be seen is served while nobody knows of the other, and keeps what it got: no address moves because an older
//! Service turns up. Such ends are judged, not compared: right, as few moves as possible, and quiet.

use std::collections::BTreeMap;

use proptest::collection::{btree_set, vec};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use super::cluster::{Cluster, text};
use super::server::{Event, Key, Stack};

/// Services there may be.
const SLOTS: usize = 8;
/// Every address that a request may name; the last is of no pool.
const ADDRESSES: [&str; 12] = [
    "192.0.2.254",
    "192.0.2.255",
    "192.0.3.0",
    "192.0.3.1",
    "192.0.3.2",
    "198.51.100.1",
    "198.51.100.2",
    "2001:db8::1",
    "2001:db8::2",
    "2001:db8::3",
    "2001:db8::4",
    "203.0.113.99",
];
/// What pools are made of.
const RANGES: [&str; 6] = [
    "192.0.2.254-192.0.3.0",
    "192.0.3.1-192.0.3.2",
    "198.51.100.1/32",
    "198.51.100.2/32",
    "2001:db8::1-2001:db8::2",
    "2001:db8::3-2001:db8::4",
];

/// What a user does.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// A Service is created or changed.
    Apply(Value),
    /// The Service of that slot is deleted, if there is one.
    Delete(usize),
    /// These are the pools from now on.
    Pools(Vec<Value>),
    /// Whether the namespace `blue` has the label that pools ask for.
    Label(bool),
}

fn service_key(slot: usize) -> Key {
    let namespace = ["red", "blue"][slot % 2];
    Key::of("Service", Some(namespace), &format!("s{slot}"))
}

/// A Service's spec but for its ports and sharing.
fn spec() -> impl Strategy<Value = Value> {
    let families = prop_oneof![
        5 => Just(json!({})),
        2 => Just(json!({ "ipFamilies": ["IPv6"] })),
        2 => Just(json!({ "ipFamilyPolicy": "RequireDualStack" })),
        2 => Just(json!({ "ipFamilyPolicy": "PreferDualStack" })),
        1 => Just(json!({ "ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"] })),
        1 => Just(json!({ "clusterIP": "None" })),
    ];
    (families, prop::bool::weighted(0.1)).prop_map(|(mut spec, other_type)| {
        spec["type"] = json!(if other_type { "ClusterIP" } else { "LoadBalancer" });
        spec
    })
}

fn service(sharing: bool) -> impl Strategy<Value = Value> {
    let requests = (
        weighted(0.2, select(vec!["p", "q", "r", "absent"])),
        weighted(0.25, subsequence(ADDRESSES.to_vec(), 1..=2)),
    );
    let key = weighted(0.5, (select(vec!["k", "l"]), any::<bool>(), select(vec!["x", "y"])));
    let ports = btree_set(1..4_u16, 1..=2);
    (0..SLOTS, spec(), requests, key, ports, any::<bool>()).prop_map(
        move |(slot, mut spec, (pool, addresses), key, ports, web)| {
            let mut annotations = Map::new();
            if let Some(pool) = pool {
                annotations.insert("metallb.io/address-pool".to_owned(), json!(pool));
            }
            if let Some(addresses) = addresses {
                annotations.insert("metallb.io/loadBalancerIPs".to_owned(), json!(addresses.join(",")));
            }
            if let Some((key, local, selector)) = key.filter(|_| sharing) {
                annotations.insert("metallb.io/allow-shared-ip".to_owned(), json!(key));
                spec["externalTrafficPolicy"] = json!(if local { "Local" } else { "Cluster" });
                spec["selector"] = json!({ "app": selector });
            }
            spec["ports"] = ports.iter().map(|port| json!({ "port": port })).collect();
            let labels = if web { json!({ "app": "web" }) } else { json!({}) };
            let Key { namespace, name, .. } = service_key(slot);
            json!({
                "kind": "Service", "spec": spec,
                "metadata": {
                    "namespace": namespace, "name": name, "annotations": annotations, "labels": labels,
                },
            })
        },
    )
}

/// Pools that divide the ranges between them, so that none overlap, and edits split, merge and rename. There is always
/// one: who has seen pools and sees none any more clears everything, and who has never seen one clears nothing.
fn pools() -> impl Strategy<Value = Vec<Value>> {
    let allocation = (0..3, any::<bool>(), any::<bool>()).prop_map(|(priority, blue, web)| {
        let mut allocation = json!({ "priority": priority });
        if blue {
            allocation["namespaceSelectors"] = json!([{ "matchLabels": { "team": "blue" } }]);
        }
        if web {
            allocation["serviceSelectors"] = json!([{ "matchLabels": { "app": "web" } }]);
        }
        allocation
    });
    let traits = (prop::bool::weighted(0.8), any::<bool>(), weighted(0.3, allocation));
    // Each range goes to one of three pools or to none.
    (vec(0..4_usize, RANGES.len()), vec(traits, 3)).prop_map(|(mut owners, traits)| {
        owners[0] %= 3;
        let pools = traits.into_iter().enumerate().filter_map(|(at, (auto, avoid, allocation))| {
            let owned = RANGES.iter().zip(&owners).filter(|(_, owner)| **owner == at);
            let ranges: Vec<&str> = owned.map(|(range, _)| *range).collect();
            let mut spec =
                json!({ "addresses": ranges, "autoAssign": auto, "avoidBuggyIPs": avoid });
            if let Some(allocation) = allocation {
                spec["serviceAllocation"] = allocation;
            }
            let name = ["p", "q", "r"][at];
            (!ranges.is_empty()).then(
                || json!({ "kind": "IPAddressPool", "metadata": { "name": name }, "spec": spec }),
            )
        });
        pools.collect()
    })
}

pub(crate) fn edit(sharing: bool) -> impl Strategy<Value = Edit> {
    prop_oneof![
        8 => service(sharing).prop_map(Edit::Apply),
        2 => (0..SLOTS).prop_map(Edit::Delete),
        2 => pools().prop_map(Edit::Pools),
        1 => any::<bool>().prop_map(Edit::Label),
    ]
}

/// Batches of edits; the controller hears of those of one batch together.
fn history() -> impl Strategy<Value = Vec<Vec<Edit>>> {
    vec(vec(edit(true), 1..5), 1..6)
}

/// A cluster that has pools and namespaces.
pub(crate) fn cluster() -> Cluster {
    let mut cluster = Cluster::new(Stack::Dual, None);
    let spec = json!({ "addresses": [RANGES[0], RANGES[4]] });
    let pool = json!({ "kind": "IPAddressPool", "metadata": { "name": "p" }, "spec": spec });
    let red = json!({ "kind": "Namespace", "metadata": { "name": "red" } });
    for manifest in [pool, red] {
        cluster.server.apply(&manifest).expect("a manifest that the server takes");
    }
    carry_out(&mut cluster, &Edit::Label(true));
    cluster
}

/// Does to the server what the user does.
pub(crate) fn carry_out(cluster: &mut Cluster, edit: &Edit) {
    let server = &mut cluster.server;
    match edit {
        Edit::Apply(manifest) => {
            drop(server.apply(manifest).expect("a manifest that the server takes"))
        }
        Edit::Delete(slot) => {
            let key = service_key(*slot);
            if server.get(&key).is_some() {
                server.delete(&key).expect("it is there");
            }
        }
        Edit::Pools(pools) => {
            for name in ["p", "q", "r"] {
                let key = Key::of("IPAddressPool", None, name);
                let stays = pools.iter().any(|pool| pool["metadata"]["name"] == name);
                if !stays && server.get(&key).is_some() {
                    server.delete(&key).expect("it is there");
                }
            }
            for pool in pools {
                server.apply(pool).expect("a manifest that the server takes");
            }
        }
        Edit::Label(labelled) => {
            let labels = if *labelled { json!({ "team": "blue" }) } else { json!({}) };
            let metadata = json!({ "name": "blue", "labels": labels });
            let namespace = json!({ "kind": "Namespace", "metadata": metadata });
            server.apply(&namespace).expect("a manifest that the server takes");
        }
    }
}

/// Plays the history; after each batch the controller hears in that way, and comes to rest.
fn play(history: &[Vec<Edit>], mut hear: impl FnMut(&mut Cluster)) -> Result<End, TestCaseError> {
    let mut cluster = cluster();
    for batch in history {
        batch.iter().for_each(|edit| carry_out(&mut cluster, edit));
        cluster.writes.clear();
        cluster.settle_hearing(&mut hear).map_err(TestCaseError::fail)?;
        cluster.successor_is_quiet().map_err(TestCaseError::fail)?;
    }
    Ok(End::of(&cluster))
}

/// Where a history ends, and what was told on the way.
#[derive(Debug, PartialEq)]
struct End {
    /// Each Service's annotations and status, without times.
    services: BTreeMap<Key, (Value, Value)>,
    /// All that was told of Services, sorted: letters that go together land in any order.
    told: Vec<String>,
}

impl End {
    fn of(cluster: &Cluster) -> Self {
        let services = cluster.server.list().into_iter().filter(|(key, _)| key.kind == "Service");
        let services = services.map(|(key, service)| {
            let mut status = service["status"].clone();
            for condition in status["conditions"].as_array_mut().into_iter().flatten() {
                condition["lastTransitionTime"] = Value::Null;
            }
            (key, (service["metadata"]["annotations"].clone(), status))
        });
        let told = cluster.told.iter().filter(|note| note.about.kind.as_deref() == Some("Service"));
        let mut told: Vec<String> = told.map(text).collect();
        told.sort();
        Self { services: services.collect(), told }
    }
}

/// Every event, a plan, and all of them again: the writes of that plan are then followed by what was true before them.
fn hear_twice(cluster: &mut Cluster) {
    let events = cluster.server.events();
    cluster.controller.hear(events.clone());
    cluster.round();
    cluster.controller.hear(events);
}

/// The events in an order that `seed` gives, but those of one object in their own.
fn hear_shuffled(cluster: &mut Cluster, seed: u64) {
    let mut by_object: BTreeMap<Key, Vec<Event>> = BTreeMap::new();
    for event in cluster.server.events() {
        by_object.entry(event.0.clone()).or_default().push(event);
    }
    let mut queues: Vec<_> = by_object.into_values().map(Vec::into_iter).collect();
    let mut dice = seed | 1;
    while !queues.is_empty() {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).rotate_left(23) | 1;
        let at = usize::try_from(dice >> 8).unwrap_or_default() % queues.len();
        match queues[at].next() {
            Some(event) => cluster.controller.hear([event]),
            None => drop(queues.remove(at)),
        }
        // A plan that falls between them.
        if dice & 0x80 != 0 {
            cluster.round();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn events_that_come_twice_change_nothing(history in history()) {
        let (once, twice) = (play(&history, Cluster::hear)?, play(&history, hear_twice)?);
        prop_assert_eq!(once.services, twice.services);
    }

    #[test]
    fn restarts_change_nothing_and_nothing_is_told_again(history in history(), coins in vec(any::<bool>(), 16)) {
        let calm = play(&history, Cluster::hear)?;
        let mut coins = coins.iter().cycle();
        let restless = play(&history, |cluster| {
            if coins.next() == Some(&true) { cluster.restart() } else { cluster.hear() }
        })?;
        prop_assert_eq!(calm, restless);
    }

    #[test]
    fn plans_that_fall_between_events_in_any_order_lead_to_a_right_end(history in history(), seed in any::<u64>()) {
        play(&history, |cluster| hear_shuffled(cluster, seed))?;
    }
}
