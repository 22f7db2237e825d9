use herald_api::crd::{self, IPAddressPool, L2Advertisement};
use herald_api::parse::demand::asked;
use herald_api::parse::pool;
use herald_cluster::events::Severity;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::*;
use crate::outbox::Outcome as Ended;
use crate::watch::configured;

/// A cluster as the watch shows it, and the controller's memory of it.
struct World {
    snapshot: Snapshot,
    planner: Planner,
    outbox: Outbox,
    version: u64,
}

impl World {
    fn new(pools: &[(&str, &[&str])]) -> Self {
        let mut world = Self {
            snapshot: Snapshot::default(),
            planner: Planner::new("system"),
            outbox: Outbox::default(),
            version: 100,
        };
        for (name, addresses) in pools {
            world.pool(name, addresses, true);
        }
        world
    }

    /// Creates or edits a pool; `judged` when its condition is of no interest to the test.
    fn pool(&mut self, name: &str, addresses: &[&str], judged: bool) {
        self.version += 1;
        let object: IPAddressPool = serde_json::from_value(json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
            "metadata": {
                "name": name, "namespace": "system", "uid": format!("uid-{name}"),
                "resourceVersion": self.version.to_string(), "generation": 1,
            },
            "spec": { "addresses": addresses },
        }))
        .unwrap();
        let mut parsed = configured(&object, pool::offer(&object).1, &[]);
        if judged {
            let now = Timestamp::UNIX_EPOCH;
            parsed.accepted = crd::accepted(&[], Some(1), None, now).into_iter().collect();
        }
        Arc::make_mut(&mut self.snapshot.pools).insert(name.into(), Arc::new(parsed));
    }

    fn no_pool(&mut self, name: &str) {
        Arc::make_mut(&mut self.snapshot.pools).remove(&name.into());
    }

    /// Creates or replaces a Service; `more` goes over the plain one.
    fn service(&mut self, name: &str, more: &Value) {
        self.version += 1;
        let mut object = json!({
            "metadata": {
                "namespace": "shop", "name": name, "uid": format!("uid-{name}"),
                "resourceVersion": self.version.to_string(), "annotations": {},
            },
            "spec": {
                "type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "ports": [{ "port": 80 }],
            },
        });
        for (part, fields) in more.as_object().unwrap() {
            for (field, value) in fields.as_object().unwrap() {
                object[part][field] = value.clone();
            }
        }
        let service: Service = serde_json::from_value(object).unwrap();
        let services = Arc::make_mut(&mut self.snapshot.services);
        services.insert(ServiceId::new("shop", name), Arc::new(asked(&service, None)));
    }

    fn plan(&mut self) -> Decision {
        self.planner.observe(&self.snapshot);
        self.planner.plan(&self.snapshot, &mut self.outbox, Instant::now())
    }

    /// Sends every letter of the decision; all of them end so.
    fn deliver(&mut self, decision: &Decision, outcome: Ended) -> Vec<Note> {
        let mut notes = Vec::new();
        for letter in &decision.letters {
            self.outbox.send(letter);
            notes.extend(self.outbox.ended(letter, outcome, Instant::now()));
        }
        notes
    }
}

fn status(addresses: &[&str], pool: &str) -> Value {
    let ingress: Vec<Value> =
        addresses.iter().map(|ip| json!({ "ip": ip, "ipMode": "VIP" })).collect();
    json!({
        "metadata": { "annotations": { "metallb.io/ip-allocated-from-pool": pool } },
        "status": { "loadBalancer": { "ingress": ingress } },
    })
}

/// What each letter writes, as `name address,address pool`.
fn letters(decision: &Decision) -> Vec<String> {
    let text = |letter: &Letter| {
        let name = match &letter.subject {
            Subject::Service(id) => id.name.to_string(),
            Subject::Configuration(object) => object.to_string(),
        };
        match &letter.content {
            Content::Addresses { addresses, pool } => {
                let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                let pool = pool.as_ref().map_or("-", |pool| pool.as_str());
                format!("{name} {} {pool}", list.join(","))
            }
            Content::Unmark => format!("{name} unmark"),
            Content::Accepted(condition) => format!("{name} {}", condition.status),
        }
    };
    decision.letters.iter().map(text).collect()
}

fn texts(notes: &[Note]) -> Vec<String> {
    notes.iter().map(|note| format!("{}: {}", note.reason, note.message)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_the_watch_does_not_show_yet_is_neither_written_nor_given_again() {
    let mut world = World::new(&[("gold", &["10.0.0.1-10.0.0.2"])]);
    world.service("a", &json!({}));
    let first = world.plan();
    assert_eq!(letters(&first), ["a 10.0.0.1 gold"]);
    let notes = world.deliver(&first, Ended::Landed);
    assert_eq!(texts(&notes), ["IPAllocated: Assigned IP [\"10.0.0.1\"]"]);
    world.service("b", &json!({}));
    let second = world.plan();
    assert_eq!(letters(&second), ["b 10.0.0.2 gold"]);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_says_what_is_planned_is_not_written() {
    let mut world = World::new(&[("gold", &["10.0.0.1-10.0.0.9"])]);
    world.service("a", &status(&["10.0.0.5"], "gold"));
    let decision = world.plan();
    assert_eq!(letters(&decision), Vec::<String>::new());
    assert!(decision.notes.is_empty());
    // The pool was renamed: the annotation alone is wrong, and nobody is told of an address that stays.
    world.service("a", &status(&["10.0.0.5"], "old"));
    let decision = world.plan();
    assert_eq!(letters(&decision), ["a 10.0.0.5 gold"]);
    assert!(decision.letters[0].notes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_lacking_is_told_once_and_again_when_it_is_another() {
    let mut world = World::new(&[("gold", &["10.0.0.1/32"])]);
    world.service("a", &status(&["10.0.0.1"], "gold"));
    world.service("b", &json!({}));
    let told = texts(&world.plan().notes);
    let text = "AllocationFailed: Failed to allocate IP for \"shop/b\": \
                no available IPs: pool gold has no free IPv4 address";
    assert_eq!(told, [text]);
    assert!(world.plan().notes.is_empty());
    world.service("b", &json!({"spec": {"loadBalancerIP": "10.0.0.1"}}));
    let other = texts(&world.plan().notes);
    assert!(other[0].contains("address also in use by shop/a"), "{other:?}");
    world.service("b", &json!({"spec": {"loadBalancerIP": "ten"}}));
    let decision = world.plan();
    let text = "LoadBalancerFailed: invalid requested loadbalancer IPs: \
                invalid spec.loadBalancerIP: \"ten\": not an IP address";
    assert_eq!(texts(&decision.notes), [text]);
    assert_eq!(decision.figures.lacking, BTreeMap::from([("InvalidRequest", 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_goes_takes_its_addresses_and_another_gives_new_ones() {
    let mut world = World::new(&[("gold", &["10.0.0.0/24"]), ("iron", &["10.0.1.0/24"])]);
    world.service("a", &status(&["10.0.0.5"], "gold"));
    assert_eq!(letters(&world.plan()), Vec::<String>::new());
    world.no_pool("gold");
    let decision = world.plan();
    assert_eq!(letters(&decision), ["a 10.0.1.0 iron"]);
    let notes = texts(&decision.letters[0].notes);
    let cleared = "ClearAssignment: current IP for \"shop/a\" not allowed by config, will attempt \
                   for new IP assignment: [\"10.0.0.5\"] is not allowed in config: no pool holds it";
    assert_eq!(notes, [cleared, "IPAllocated: Assigned IP [\"10.0.1.0\"]"]);
    world.no_pool("iron");
    assert_eq!(letters(&world.plan()), ["a  -"]);
}

#[tokio::test(start_paused = true)]
async fn who_has_never_seen_a_pool_clears_nothing_and_says_so_once() {
    let mut world = World::new(&[]);
    assert!(world.plan().notes.is_empty(), "there is nothing to clear");
    world.service("a", &status(&["10.0.0.5"], "gold"));
    let decision = world.plan();
    assert_eq!(letters(&decision), Vec::<String>::new());
    assert_eq!(decision.figures.untouched, 1);
    let text = "NoPools: no IPAddressPool has been seen yet in namespace system: what Services have stays \
                (1 of them), until there is a pool; then each loses what lies in none";
    assert_eq!(texts(&decision.notes), [text]);
    let about = &decision.notes[0].about;
    assert_eq!(
        (about.kind.as_deref(), about.namespace.as_deref()),
        (Some("Lease"), Some("system"))
    );
    assert!(world.plan().notes.is_empty());
    world.planner.forget();
    assert_eq!(texts(&world.plan().notes), [text]);
}

#[tokio::test(start_paused = true)]
async fn who_is_no_load_balancer_any_more_loses_its_mark_once() {
    let mut world = World::new(&[("gold", &["10.0.0.0/24"])]);
    let mut former = status(&[], "gold");
    former["spec"] = json!({ "type": "ClusterIP" });
    world.service("a", &former);
    let decision = world.plan();
    assert_eq!(letters(&decision), ["a unmark"]);
    world.deliver(&decision, Ended::Landed);
    assert_eq!(letters(&world.plan()), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_foreign_class_is_not_touched_whatever_it_bears() {
    let mut world = World::new(&[("gold", &["10.0.0.0/24"])]);
    let mut foreign = status(&["192.0.2.9"], "gold");
    foreign["spec"] = json!({ "loadBalancerClass": "other/one" });
    world.service("a", &foreign);
    let decision = world.plan();
    assert_eq!((letters(&decision), decision.notes.len()), (Vec::new(), 0));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_breaks_is_told_and_judged_and_its_last_good_version_serves_on() {
    let mut world = World::new(&[]);
    world.pool("gold", &["10.0.0.0/24"], false);
    let decision = world.plan();
    assert_eq!(letters(&decision), ["IPAddressPool gold True"]);
    assert!(decision.letters[0].notes.is_empty());
    world.deliver(&decision, Ended::Landed);
    world.pool("gold", &["10.0.0.9-10.0.0.1"], true);
    world.service("a", &json!({}));
    let decision = world.plan();
    assert_eq!(letters(&decision), ["a 10.0.0.0 gold", "IPAddressPool gold False"]);
    let [note] = decision.letters[1].notes.as_slice() else { panic!("{decision:?}") };
    assert_eq!((note.severity, note.about.name.as_deref()), (Severity::Warning, Some("gold")));
    assert!(note.message.ends_with("The last good version stays in force."), "{}", note.message);
    assert!(world.planner.is_stale());
}

#[tokio::test(start_paused = true)]
async fn an_advertisement_is_judged_too() {
    let mut world = World::new(&[("gold", &["10.0.0.0/24"])]);
    let object: L2Advertisement = serde_json::from_value(json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement",
        "metadata": { "name": "l2", "namespace": "system", "uid": "l", "resourceVersion": "1" },
        "spec": { "nodeSelectors": [{ "matchExpressions": [{ "key": "a", "operator": "Is" }] }] },
    }))
    .unwrap();
    let offer = herald_api::parse::advertisement::offer(&object).1;
    let parsed = Arc::new(configured(&object, offer, &[]));
    Arc::make_mut(&mut world.snapshot.advertisements).insert("l2".into(), parsed);
    assert_eq!(letters(&world.plan()), ["L2Advertisement l2 False"]);
}

#[tokio::test(start_paused = true)]
async fn old_keys_are_told_with_the_write_they_led_to() {
    let mut world = World::new(&[("gold", &["10.0.0.0/24"])]);
    let old = json!({"metadata": {"annotations": {"metallb.universe.tf/address-pool": "gold"}}});
    world.service("a", &old);
    let decision = world.plan();
    assert_eq!(
        texts(&decision.letters[0].notes),
        [
            "IPAllocated: Assigned IP [\"10.0.0.0\"]",
            "deprecatedAnnotation: Service uses deprecated annotation metallb.universe.tf/address-pool",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn figures_count_what_services_have() {
    let mut world = World::new(&[("gold", &["10.0.0.0/24", "fd00::/64"])]);
    world.service("a", &status(&["10.0.0.5"], "gold"));
    world.service("b", &json!({ "spec": { "clusterIPs": ["fd00:96::1"] } }));
    let expected = PoolFigures {
        pool: "gold".into(),
        capacity: [256, i64::MAX.unsigned_abs()],
        in_use: [1, 1],
        services: 2,
    };
    assert_eq!(world.plan().figures.pools, [expected]);
}
