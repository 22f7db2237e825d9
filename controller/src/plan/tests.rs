use herald_api::condition::ALLOCATED;
use herald_api::crd::{Guarded, IPAddressPool};
use herald_api::parse::demand::asked;
use herald_core::name::ServiceId;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::*;
use crate::outbox::{Content, Outcome as Ended};
use crate::watch::configured_pool;

mod judging;

/// A cluster as the watch shows it, and the controller's memory of it.
struct World {
    snapshot: Snapshot,
    planner: Planner,
    outbox: Outbox,
    version: u64,
    /// The Services as the server has them.
    objects: BTreeMap<ServiceId, Value>,
    /// The pools as the server has them.
    pools: BTreeMap<PoolName, Value>,
}

impl World {
    fn new(pools: &[(&str, &[&str])]) -> Self {
        let mut world = Self {
            snapshot: Snapshot::default(),
            planner: Planner::new("system"),
            outbox: Outbox::default(),
            version: 100,
            objects: BTreeMap::new(),
            pools: BTreeMap::new(),
        };
        for (name, addresses) in pools {
            world.pool(name, &json!({ "addresses": addresses }));
        }
        world
    }

    /// Creates or edits a pool; its status stays.
    fn pool(&mut self, name: &str, spec: &Value) {
        let fresh = json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
            "metadata": {
                "name": name, "namespace": "system", "uid": format!("uid-{name}-{}", self.version),
            },
        });
        let name = PoolName::from(name);
        let mut object = self.pools.get(&name).cloned().unwrap_or(fresh);
        object["spec"] = spec.clone();
        self.store_pool(name, object);
    }

    fn store_pool(&mut self, name: PoolName, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let pool: Guarded<IPAddressPool> = serde_json::from_value(object.clone()).unwrap();
        let parsed = Arc::new(configured_pool(&pool));
        Arc::make_mut(&mut self.snapshot.pools).insert(name.clone(), parsed);
        self.pools.insert(name, object);
    }

    fn no_pool(&mut self, name: &str) {
        Arc::make_mut(&mut self.snapshot.pools).remove(&name.into());
        self.pools.remove(&name.into());
    }

    /// Creates or replaces a Service; `more` goes over the plain one.
    fn service(&mut self, name: &str, more: &Value) {
        let mut object = json!({
            "metadata": {
                "namespace": "shop", "name": name, "uid": format!("uid-{name}"), "annotations": {},
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
        self.store(ServiceId::new("shop", name), object);
    }

    /// Changes fields of a Service that is there, and leaves its status.
    fn change(&mut self, name: &str, part: &str, field: &str, value: Value) {
        let id = ServiceId::new("shop", name);
        let mut object = self.objects[&id].clone();
        object[part][field] = value;
        self.store(id, object);
    }

    /// The server has the object, in a new version, and the watch shows it.
    fn store(&mut self, id: ServiceId, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let service: Service = serde_json::from_value(object.clone()).unwrap();
        let services = Arc::make_mut(&mut self.snapshot.services);
        services.insert(id.clone(), Arc::new(asked(&service, None)));
        self.objects.insert(id, object);
    }

    /// Every letter to a Service is stored, and the watch shows it. Returns what is told.
    fn carry_out(&mut self, decision: &Decision) -> Vec<String> {
        let notes = self.deliver(decision, Ended::Landed);
        for letter in &decision.letters {
            if let Subject::Service(id) = &letter.subject {
                let mut object = self.objects[id].clone();
                merge(&mut object, &crate::apply::service_patch(letter));
                self.store(id.clone(), object);
            }
        }
        texts(&notes)
    }

    /// The pools have been the same for as long as it takes.
    async fn settled(&mut self) {
        self.plan();
        tokio::time::advance(SETTLING).await;
    }

    /// One plan, carried out. Returns what it wrote and told.
    fn turn(&mut self) -> (Vec<String>, Vec<String>) {
        let decision = self.plan();
        (letters(&decision), self.carry_out(&decision))
    }

    /// The condition of a Service.
    fn says(&self, name: &str) -> String {
        let object = &self.objects[&ServiceId::new("shop", name)];
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let text = |field: &str| conditions[0][field].as_str().unwrap().to_owned();
        assert_eq!((conditions.len(), text("type").as_str()), (1, "heraldlb.io/AddressAllocated"));
        format!("{} {}: {}", text("status"), text("reason"), text("message"))
    }

    fn plan(&mut self) -> Decision {
        self.planner.observe(&self.snapshot);
        self.planner.plan(&self.snapshot, &mut self.outbox, Instant::now())
    }

    /// Sends every letter of the decision; all of them end so.
    fn deliver(&mut self, decision: &Decision, outcome: Ended) -> Vec<Note> {
        let mut notes = Vec::new();
        for letter in &decision.letters {
            self.outbox.send(letter, Instant::now());
            notes.extend(self.outbox.ended(letter, outcome, Instant::now()));
        }
        notes
    }
}

/// A strategic merge, as far as letters need one: null deletes, `conditions` is keyed by type.
fn merge(object: &mut Value, patch: &Value) {
    let (Value::Object(fields), Value::Object(patch)) = (&mut *object, patch) else {
        *object = patch.clone();
        return;
    };
    for (key, value) in patch {
        match value {
            Value::Null => drop(fields.remove(key)),
            Value::Array(new) if key == "conditions" => {
                let list = fields.entry(key.clone()).or_insert_with(|| json!([]));
                let list = list.as_array_mut().unwrap();
                list.retain(|old| new.iter().all(|new| new["type"] != old["type"]));
                list.extend(new.iter().filter(|new| new.get("$patch").is_none()).cloned());
            }
            value => merge(fields.entry(key.clone()).or_insert_with(|| json!({})), value),
        }
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

/// What each letter to a Service writes, as `name address,address pool`.
fn letters(decision: &Decision) -> Vec<String> {
    let text = |letter: &Letter| {
        let Subject::Service(ServiceId { name, .. }) = &letter.subject else { return None };
        Some(match &letter.content {
            Content::Addresses { addresses, pool, allocated, .. } => {
                let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                let lacks = if *allocated.reason == *ALLOCATED { "" } else { &allocated.reason };
                match pool {
                    Some(pool) => format!("{name} {} {pool} {lacks}", list.join(",")),
                    None => format!("{name} - {lacks}"),
                }
                .trim_end()
                .to_owned()
            }
            Content::Unmark => format!("{name} unmark"),
            Content::Judgement(judgement) => panic!("{name} is no configuration: {judgement:?}"),
        })
    };
    decision.letters.iter().filter_map(text).collect()
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
async fn what_a_service_says_already_is_neither_written_nor_told_whoever_leads() {
    let mut world = World::new(&[("gold", &["10.0.0.1/32"])]);
    world.service("a", &status(&["10.0.0.1"], "gold"));
    world.service("b", &json!({}));
    // What another controller left: its address stays, and it is told what it has.
    let (written, told) = world.turn();
    assert_eq!(written, ["a 10.0.0.1 gold", "b - NoneAvailable"]);
    let lacks = "no available IPs: pool gold has no free IPv4 address";
    assert_eq!(told, [format!("AllocationFailed: Failed to allocate IP for \"shop/b\": {lacks}")]);
    assert_eq!(world.says("a"), "True Allocated: 10.0.0.1 from pool gold");
    assert_eq!(world.says("b"), format!("False NoneAvailable: {lacks}"));
    let quiet = (Vec::new(), Vec::new());
    assert_eq!(world.turn(), quiet);
    (world.planner, world.outbox) = (Planner::new("system"), Outbox::default());
    assert_eq!(world.turn(), quiet);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_renamed_changes_words_and_nobody_is_told_of_an_address_that_stays() {
    let mut world = World::new(&[("gold", &["10.0.0.1-10.0.0.9"])]);
    world.service("a", &status(&["10.0.0.5"], "old"));
    world.turn();
    world.no_pool("gold");
    world.pool("iron", &json!({ "addresses": ["10.0.0.1-10.0.0.9"] }));
    assert_eq!(world.turn(), (vec!["a 10.0.0.5 iron".to_owned()], Vec::new()));
    assert_eq!(world.says("a"), "True Allocated: 10.0.0.5 from pool iron");
}

#[tokio::test(start_paused = true)]
async fn what_is_lacking_is_told_again_when_it_is_another() {
    let mut world = World::new(&[("gold", &["10.0.0.1/32"])]);
    world.service("a", &status(&["10.0.0.1"], "gold"));
    world.service("b", &json!({}));
    world.turn();
    // Another list of the same refusals is worth its words, and no Event.
    world.pool("iron", &json!({ "addresses": ["10.0.1.1-10.0.1.9"] }));
    world.service("c", &status(&["10.0.1.1"], "iron"));
    world.pool("iron", &json!({ "addresses": ["10.0.1.1/32"] }));
    assert_eq!(world.turn().1, Vec::<String>::new());
    let both = "pool gold has no free IPv4 address, pool iron has no free IPv4 address";
    assert_eq!(world.says("b"), format!("False NoneAvailable: no available IPs: {both}"));
    world.change("b", "spec", "loadBalancerIP", json!("10.0.0.1"));
    let in_use =
        "can't change sharing key for \"shop/b\", address also in use by shop/a: \"10.0.0.1\"";
    let told = format!("AllocationFailed: Failed to allocate IP for \"shop/b\": {in_use}");
    assert_eq!(world.turn(), (vec!["b - AddressInUse".to_owned()], vec![told]));
    assert_eq!(world.says("b"), format!("False AddressInUse: {in_use}"));
    world.change("b", "spec", "loadBalancerIP", json!("ten"));
    let decision = world.plan();
    assert_eq!(decision.figures.lacking, BTreeMap::from([("InvalidRequest", 1)]));
    let text = "AllocationFailed: Failed to allocate IP for \"shop/b\": \
                invalid spec.loadBalancerIP \"ten\": not an IP address";
    assert_eq!(world.carry_out(&decision), [text]);
}

#[tokio::test(start_paused = true)]
async fn who_has_one_address_and_lacks_another_says_both() {
    let mut world = World::new(&[("gold", &["10.0.0.1/32"])]);
    let dual = json!({ "spec": {
        "clusterIPs": ["10.96.0.1", "fd00:96::1"], "ipFamilyPolicy": "PreferDualStack",
    } });
    world.service("a", &dual);
    let lacks = "no available IPs in pool gold: it has no IPv6 range";
    let told = [
        "IPAllocated: Assigned IP [\"10.0.0.1\"]".to_owned(),
        format!("AdditionalAssignFailed: cannot assign additional IP in PreferDualStack: {lacks}"),
    ];
    assert_eq!(world.turn(), (vec!["a 10.0.0.1 gold PoolLacksFamily".to_owned()], told.to_vec()));
    assert_eq!(world.says("a"), format!("True PoolLacksFamily: 10.0.0.1 from pool gold; {lacks}"));
    // A request that contradicts itself takes nothing.
    world.change("a", "spec", "loadBalancerIP", json!("ten"));
    let told = world.turn().1;
    assert!(told[0].starts_with("LoadBalancerFailed"), "{told:?}");
    let said = world.says("a");
    assert!(said.starts_with("True InvalidRequest: 10.0.0.1 from pool gold; invalid"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn what_clients_wait_for_is_written_first_and_configuration_last() {
    let mut world = World::new(&[("gold", &["10.0.0.1-10.0.0.2"])]);
    world.pool("iron", &json!({ "addresses": ["10.0.1.0/24"] }));
    let (mut former, asks) = (status(&[], "gold"), json!({"spec": {"loadBalancerIP": "10.9.9.9"}}));
    former["spec"] = json!({ "type": "ClusterIP" });
    world.service("a", &former);
    world.service("b", &asks);
    world.service("c", &status(&["10.0.0.1"], "gold"));
    world.service("d", &json!({}));
    let expected = ["d 10.0.0.2 gold", "b - AddressNotInPools", "c 10.0.0.1 gold", "a unmark"];
    let decision = world.plan();
    assert_eq!(letters(&decision), expected);
    let (_, last) = decision.letters.split_at(expected.len());
    let configuration = |letter: &Letter| matches!(letter.subject, Subject::Configuration(_));
    assert!(last.len() == 2 && last.iter().all(configuration), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_goes_takes_its_addresses_and_another_gives_new_ones() {
    let mut world = World::new(&[("gold", &["10.0.0.0/24"]), ("iron", &["10.0.1.0/24"])]);
    world.service("a", &status(&["10.0.0.5"], "gold"));
    world.turn();
    world.no_pool("gold");
    world.settled().await;
    let cleared = "ClearAssignment: current IP for \"shop/a\" not allowed by config, will attempt \
                   for new IP assignment: [\"10.0.0.5\"] is not allowed in config: no pool holds it";
    let told = vec![cleared.to_owned(), "IPAllocated: Assigned IP [\"10.0.1.0\"]".to_owned()];
    assert_eq!(world.turn(), (vec!["a 10.0.1.0 iron".to_owned()], told));
    world.no_pool("iron");
    world.settled().await;
    assert_eq!(world.turn().0, ["a - NoPools"]);
}

#[tokio::test(start_paused = true)]
async fn what_no_pool_holds_waits_for_the_pools_to_settle_and_nothing_else_does() {
    let quiet = Vec::<String>::new();
    let mut world = World::new(&[("gold", &["10.0.0.0/24"]), ("iron", &["10.0.1.0/24"])]);
    world.settled().await;
    world.service("a", &status(&["10.0.0.5"], "gold"));
    world.turn();
    assert_eq!(world.plan().again, None);
    let began = Instant::now();
    world.no_pool("gold");
    world.service("b", &json!({}));
    assert_eq!(world.turn().0, ["b 10.0.1.0 iron"], "who is new is served at once");
    assert_eq!(world.plan().again, Some(began + SETTLING));
    // The next write of the same rename, or of another, begins the time anew.
    tokio::time::advance(SETTLING / 2).await;
    world.pool("lead", &json!({ "addresses": ["10.0.2.0/24"] }));
    assert_eq!(world.turn().0, quiet);
    tokio::time::advance(SETTLING / 2).await;
    assert_eq!(world.turn().0, quiet);
    let end = began + SETTLING * 3 / 2;
    assert_eq!(world.plan().again, Some(end));
    tokio::time::advance(end - Instant::now()).await;
    assert_eq!(world.turn().0, ["a 10.0.1.1 iron"]);
    assert_eq!(world.plan().again, None);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_comes_back_under_another_name_moves_nobody() {
    let mut world = World::new(&[("gold", &["10.0.0.0/24"]), ("iron", &["10.0.1.0/24"])]);
    world.settled().await;
    world.service("a", &status(&["10.0.0.5"], "gold"));
    world.turn();
    world.no_pool("gold");
    assert_eq!(world.turn(), (Vec::new(), Vec::new()));
    world.pool("silver", &json!({ "addresses": ["10.0.0.0/24"] }));
    assert_eq!(world.turn(), (vec!["a 10.0.0.5 silver".to_owned()], Vec::new()));
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
}

#[tokio::test(start_paused = true)]
async fn words_that_somebody_removes_each_time_come_back_ever_later() {
    let mut world = World::new(&[("gold", &["10.0.0.0/24"])]);
    world.service("a", &json!({}));
    world.settled().await;
    let waits = [0, 0, 250, 500, 1000];
    for wait in waits.map(std::time::Duration::from_millis) {
        let began = Instant::now();
        if !wait.is_zero() {
            assert_eq!(world.turn().0, Vec::<String>::new());
            assert_eq!(world.plan().again, Some(began + wait));
        }
        tokio::time::advance(wait).await;
        assert_eq!(world.turn().0, ["a 10.0.0.0 gold"], "after {wait:?}");
        world.change("a", "status", "conditions", json!([]));
    }
    world.service("b", &json!({}));
    assert_eq!(world.turn().0, ["b 10.0.0.1 gold"], "nobody else waits for it");
}

#[test]
fn a_configuration_without_a_pool_is_one_and_a_broken_one_is_stale_until_it_goes() {
    let mut world = World::new(&[]);
    let state = |world: &mut World| {
        world.plan();
        (world.planner.has_configuration(), world.planner.is_stale())
    };
    assert_eq!(state(&mut world), (true, false));
    world.pool("gold", &json!({ "addresses": ["10.0.1.9-10.0.1.0"] }));
    assert_eq!(state(&mut world), (false, true));
    world.no_pool("gold");
    assert_eq!(state(&mut world), (true, false));
}

#[tokio::test(start_paused = true)]
async fn who_is_no_load_balancer_any_more_loses_its_mark_once() {
    let mut world = World::new(&[("gold", &["10.0.0.0/24"])]);
    let mut former = status(&[], "gold");
    former["spec"] = json!({ "type": "ClusterIP" });
    world.service("a", &former);
    assert_eq!(world.turn().0, ["a unmark"]);
    assert_eq!(world.turn().0, Vec::<String>::new());
    // What never had an address has a condition all the same.
    world.no_pool("gold");
    world.service("b", &json!({}));
    assert_eq!(world.turn().0, ["b - NoPools"]);
    world.change("b", "spec", "type", json!("ClusterIP"));
    assert_eq!(world.turn().0, ["b unmark"]);
    assert_eq!(world.turn().0, Vec::<String>::new());
}

fn shared(key: &str, port: u16, app: &str) -> Value {
    json!({
        "metadata": { "annotations": { "metallb.io/allow-shared-ip": key } },
        "spec": { "ports": [{ "port": port }], "selector": { "app": app } },
    })
}

/// As MetalLB's own end-to-end test has it, but that the one whose conditions change is the one that goes.
#[tokio::test(start_paused = true)]
async fn conditions_that_change_take_a_shared_address_from_the_one_that_no_longer_fits() {
    let mut world = World::new(&[("gold", &["10.0.0.1/32"])]);
    world.service("first", &shared("k", 80, "web"));
    world.service("second", &shared("k", 81, "web"));
    let both = ["first 10.0.0.1 gold", "second 10.0.0.1 gold"];
    assert_eq!(world.turn().0, both);
    assert_eq!(world.turn().0, Vec::<String>::new());
    let local = || json!("Local");
    world.change("second", "spec", "externalTrafficPolicy", local());
    assert_eq!(world.turn().0, ["second - NoneAvailable"]);
    world.change("first", "spec", "externalTrafficPolicy", local());
    assert_eq!(world.turn().0, ["second 10.0.0.1 gold", "first 10.0.0.1 gold"]);
    assert_eq!(world.turn().0, Vec::<String>::new());
    world.change("first", "spec", "selector", json!({ "app": "api" }));
    assert_eq!(world.turn().0, ["first - NoneAvailable"]);
    world.change("second", "spec", "selector", json!({ "app": "api" }));
    assert_eq!(world.turn().0, ["first 10.0.0.1 gold", "second 10.0.0.1 gold"]);
    // It shares no more: what it bears of that tells that it is the one that changed.
    let mut annotations =
        world.objects[&ServiceId::new("shop", "first")]["metadata"]["annotations"].clone();
    assert!(annotations["heraldlb.io/shared-as"].is_string(), "{annotations}");
    annotations["metallb.io/allow-shared-ip"] = json!("");
    world.change("first", "metadata", "annotations", annotations);
    assert_eq!(world.turn().0, ["first - NoneAvailable"]);
    assert_eq!(world.outbox.take_healed(), 0, "nobody gave it to two that did not fit");
    let bears = &world.objects[&ServiceId::new("shop", "first")]["metadata"]["annotations"];
    assert_eq!(bears.get("heraldlb.io/shared-as"), None);
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
async fn who_asks_for_a_pool_that_is_broken_from_the_start_reads_what_is_wrong_with_it() {
    let mut world = World::new(&[("gold", &["10.0.0.0/24"])]);
    world.pool("iron", &json!({ "addresses": ["10.0.1.9-10.0.1.0"] }));
    world.service("a", &json!({"metadata": {"annotations": {"metallb.io/address-pool": "iron"}}}));
    world.service("b", &json!({"spec": {"loadBalancerIP": "10.0.1.1"}}));
    world.turn();
    let expected = "False UnknownPool: unknown pool \"iron\": it is there and not in force: \
                    invalid IP range \"10.0.1.9-10.0.1.0\": it starts after its end";
    assert_eq!(world.says("a"), expected);
    assert!(world.says("b").starts_with("Unknown PoolsNotKnown: "), "{}", world.says("b"));
    // Once it made sense its last good version serves, whatever it says.
    world.pool("iron", &json!({ "addresses": ["10.0.1.0/24"] }));
    world.turn();
    world.pool("iron", &json!({ "addresses": ["10.0.1.9-10.0.1.0"] }));
    world.turn();
    assert_eq!(world.says("b"), "True Allocated: 10.0.1.1 from pool iron");
}

#[tokio::test(start_paused = true)]
async fn of_two_that_have_one_address_the_younger_loses_it_and_that_is_counted() {
    let mut world = World::new(&[("gold", &["10.0.0.1-10.0.0.2"])]);
    for name in ["a", "b"] {
        world.service(name, &status(&["10.0.0.1"], "gold"));
    }
    let (written, told) = world.turn();
    assert_eq!(written, ["b 10.0.0.2 gold", "a 10.0.0.1 gold"]);
    assert!(told[0].starts_with("ClearAssignment: "), "{told:?}");
    assert_eq!(world.outbox.take_healed(), 1);
    world.change("b", "spec", "loadBalancerIP", json!("10.0.0.1"));
    world.turn();
    assert_eq!(world.outbox.take_healed(), 0, "who moves by itself was no double");
}

#[tokio::test(start_paused = true)]
async fn what_a_user_writes_at_any_length_is_told_at_a_bounded_one() {
    let mut world = World::new(&[("gold", &["10.0.0.0/24"])]);
    world.service("a", &json!({"spec": {"loadBalancerIP": "x".repeat(50_000)}}));
    let notes = world.turn().1;
    let short = |text: &String| text.len() < 1100;
    assert!(notes.len() == 1 && notes.iter().all(short) && short(&world.says("a")));
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

#[test]
fn a_service_waits_for_the_labels_of_its_namespace_where_pools_go_by_them() {
    let mut world = World::new(&[("general", &["10.0.0.1/32"])]);
    let pinned = json!({
        "addresses": ["10.0.1.1/32"],
        "serviceAllocation": { "namespaceSelectors": [{ "matchLabels": { "team": "a" } }] },
    });
    world.pool("pinned", &pinned);
    world.service("a", &json!({}));
    assert_eq!(world.turn(), (Vec::new(), Vec::new()), "where it belongs is not known");
    let labels = [("team".to_owned(), "a".to_owned())].into_iter().collect();
    Arc::make_mut(&mut world.snapshot.namespaces).insert("shop".into(), Arc::new(labels));
    assert_eq!(world.turn().0, ["a 10.0.1.1 pinned"]);
}
