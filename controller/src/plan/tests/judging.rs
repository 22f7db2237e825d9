//! What objects of configuration are told of themselves.

use std::time::Duration;

use herald_api::crd::{Guarded, L2Advertisement};
use herald_cluster::events::Severity;
use herald_core::config::BgpAdvertisement;
use tokio::time::advance;

use super::*;
use crate::apply::judgement_patch;
use crate::watch::configured_advertisement;

/// What each letter to an object of configuration writes: its conditions, and a pool's counters as
/// `assigned/available` of IPv4 and IPv6.
fn judgements(decision: &Decision) -> Vec<String> {
    let text = |letter: &Letter| {
        let Subject::Configuration(object) = &letter.subject else { return None };
        let Content::Judgement(judgement) = &letter.content else { panic!("{letter:?}") };
        let mut text = object.to_string();
        for condition in &judgement.conditions {
            text = format!("{text} {}={}", condition.type_, condition.reason);
        }
        if let Some(counters) = judgement.counters {
            let ([v4, v6], [free_v4, free_v6]) = (counters.assigned, counters.available);
            text = format!("{text} {v4}/{free_v4} {v6}/{free_v6}");
        }
        Some(text)
    };
    decision.letters.iter().filter_map(text).collect()
}

fn of(addresses: &[&str]) -> Value {
    json!({ "addresses": addresses })
}

impl World {
    /// One plan, carried out, once no pace holds a letter back. Returns what it wrote to pools.
    async fn round(&mut self) -> Vec<String> {
        advance(Duration::from_secs(1)).await;
        let decision = self.plan();
        self.carry_out(&decision);
        for letter in &decision.letters {
            if let Subject::Configuration(Object::Pool(name)) = &letter.subject {
                self.store_status(name, letter);
            }
        }
        judgements(&decision)
    }

    /// A merge patch: lists are replaced.
    fn store_status(&mut self, name: &PoolName, letter: &Letter) {
        let Content::Judgement(judgement) = &letter.content else { panic!("{letter:?}") };
        let mut object = self.pools[name].clone();
        let patch = judgement_patch(letter, judgement);
        assert_eq!(patch["metadata"]["resourceVersion"], object["metadata"]["resourceVersion"]);
        for (field, value) in patch["status"].as_object().unwrap() {
            object["status"][field] = value.clone();
        }
        self.store_pool(name.clone(), object);
    }

    fn advertise(&mut self, spec: &Value) {
        self.version += 1;
        let object: Guarded<L2Advertisement> = serde_json::from_value(json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement",
            "metadata": {
                "name": "l2", "namespace": "system", "uid": "l",
                "resourceVersion": self.version.to_string(),
            },
            "spec": spec,
        }))
        .unwrap();
        let parsed = Arc::new(configured_advertisement(&object));
        Arc::make_mut(&mut self.snapshot.advertisements).insert("l2".into(), parsed);
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_breaks_is_told_and_judged_and_its_last_good_version_serves_on() {
    let mut world = World::new(&[("gold", &["10.0.0.0/24"])]);
    assert_eq!(world.round().await, ["IPAddressPool gold Accepted=InForce 0/256 0/0"]);
    world.pool("gold", &of(&["10.0.0.9-10.0.0.1"]));
    world.service("a", &json!({}));
    advance(Duration::from_secs(1)).await;
    let decision = world.plan();
    assert_eq!(letters(&decision), ["a 10.0.0.0 gold"]);
    assert_eq!(judgements(&decision), ["IPAddressPool gold Accepted=InvalidAddresses 1/255 0/0"]);
    let [note] = decision.notes.as_slice() else { panic!("{decision:?}") };
    assert_eq!((note.severity, note.about.name.as_deref()), (Severity::Warning, Some("gold")));
    assert!(note.message.ends_with("The last good version stays in force."), "{}", note.message);
    assert!(world.planner.is_stale());
    // Whether its write lands or not.
    assert!(world.plan().notes.is_empty());
    world.round().await;
    // Nor by another that leads, and finds it in the condition.
    let before = std::mem::replace(&mut world.planner, Planner::new("system"));
    world.planner.judging.settle(&world.snapshot);
    assert_eq!(texts(&world.plan().notes).len(), 1, "now there is no version of it");
    world.planner = before;
    world.pool("gold", &of(&["10.0.0.0/24"]));
    world.round().await;
    world.pool("gold", &of(&["10.0.0.9-10.0.0.1"]));
    assert_eq!(world.plan().notes.len(), 1, "it broke again");
}

#[tokio::test(start_paused = true)]
async fn who_leads_next_finds_what_was_told_in_the_condition() {
    let mut world = World::new(&[]);
    world.pool("gold", &of(&["10.0.0.9-10.0.0.1"]));
    assert_eq!(world.plan().notes.len(), 1);
    world.round().await;
    world.planner = Planner::new("system");
    assert!(world.plan().notes.is_empty());
    // Another object of its name has not been told.
    world.no_pool("gold");
    world.pool("gold", &of(&["10.0.0.9-10.0.0.1"]));
    assert_eq!(world.plan().notes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn counters_of_a_pool_that_cannot_be_read_stay_as_they_were() {
    let mut world = World::new(&[("gold", &["10.0.0.0/30"])]);
    world.service("a", &json!({}));
    world.round().await;
    world.pool("gold", &of(&["10.0.0.9-10.0.0.1"]));
    world.planner = Planner::new("system");
    let line = "IPAddressPool gold Accepted=InvalidAddresses 1/3 0/0";
    assert_eq!(world.round().await, [line]);
    world.pool("new", &of(&["10.0.0.9-10.0.0.1"]));
    assert_eq!(world.round().await, ["IPAddressPool new Accepted=InvalidAddresses 0/0 0/0"]);
}

#[tokio::test(start_paused = true)]
async fn an_advertisement_is_judged_too() {
    let mut world = World::new(&[]);
    world.advertise(&json!({
        "nodeSelectors": [{ "matchExpressions": [{ "key": "a", "operator": "Is" }] }],
    }));
    assert_eq!(judgements(&world.plan()), ["L2Advertisement l2 Accepted=InvalidSelector"]);
}

#[tokio::test(start_paused = true)]
async fn one_bad_pool_keeps_no_other_from_being_edited() {
    let mut world = World::new(&[("gold", &["10.0.0.0/24"])]);
    world.pool("bad", &of(&["10.1.0.9-10.1.0.1"]));
    world.round().await;
    world.pool("gold", &of(&["10.2.0.0/30"]));
    world.service("a", &json!({}));
    assert_eq!(letters(&world.plan()), ["a 10.2.0.0 gold"]);
    assert_eq!(world.round().await, ["IPAddressPool gold Accepted=InForce 1/3 0/0"]);
}

#[tokio::test(start_paused = true)]
async fn counters_follow_what_services_have_and_come_back_when_somebody_edits_them() {
    let mut world = World::new(&[("gold", &["10.0.0.0/30", "fd00::/64"])]);
    let huge = i64::MAX;
    let line = |counts: &str| vec![format!("IPAddressPool gold Accepted=InForce {counts}")];
    assert_eq!(world.round().await, line(&format!("0/4 0/{huge}")));
    let shared = json!({ "metadata": { "annotations": { "metallb.io/allow-shared-ip": "k" } } });
    for (name, port) in [("a", 80), ("b", 81)] {
        world.service(name, &shared);
        world.change(name, "spec", "ports", json!([{ "port": port }]));
    }
    assert_eq!(world.round().await, line(&format!("1/3 0/{huge}")), "a shared one counts once");
    assert!(world.round().await.is_empty());
    let name = PoolName::from("gold");
    for (field, value) in [("availableIPv4", json!(-1)), ("assignedIPv6", Value::Null)] {
        let mut object = world.pools[&name].clone();
        object["status"][field] = value;
        world.store_pool(name.clone(), object);
        assert_eq!(world.round().await, line(&format!("1/3 0/{huge}")));
        assert!(world.round().await.is_empty());
    }
    world.pool("gold", &of(&["10.0.0.0/31"]));
    assert_eq!(world.round().await, line("1/1 0/0"));
}

#[tokio::test(start_paused = true)]
async fn a_burst_costs_a_pool_two_writes_a_second_and_the_last_is_exact() {
    let mut world = World::new(&[("gold", &["10.0.0.0/24"])]);
    world.round().await;
    advance(Duration::from_secs(1)).await;
    let began = Instant::now();
    let mut writes = Vec::new();
    for number in 0..100 {
        world.service(&format!("s{number}"), &json!({}));
        let decision = world.plan();
        world.carry_out(&decision);
        writes.extend(judgements(&decision));
        for letter in &decision.letters {
            if let Subject::Configuration(Object::Pool(name)) = &letter.subject {
                world.store_status(name, letter);
            }
        }
        if judgements(&decision).is_empty() {
            let again = decision.again.expect("a letter waits");
            assert!(again > Instant::now() && again <= Instant::now() + Duration::from_millis(500));
        }
        advance(Duration::from_millis(20)).await;
    }
    let seconds = began.elapsed().as_secs();
    assert_eq!((seconds, writes.len()), (2, 4), "{writes:?}");
    assert_eq!(world.round().await, ["IPAddressPool gold Accepted=InForce 100/156 0/0"]);
    assert_eq!(world.plan().again, None);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_nobody_announces_says_so() {
    let mut world = World::new(&[("gold", &["10.0.0.0/30"])]);
    let line = |reason: &str| {
        vec![format!("IPAddressPool gold Accepted=InForce Advertised={reason} 0/4 0/0")]
    };
    let unknown = ["IPAddressPool gold Accepted=InForce 0/4 0/0"];
    assert_eq!(world.round().await, unknown, "it is not known whether there is BGP");
    world.snapshot.bgp_advertisements = Some(Arc::default());
    assert_eq!(world.round().await, line("NoAdvertisement"));
    let (pools, pool_selectors) = (["gold".into()].into(), Vec::new());
    let bgp = BgpAdvertisement { name: "tor".into(), pools, pool_selectors };
    let mut all = BTreeMap::from([("broken".into(), Arc::new(None))]);
    world.snapshot.bgp_advertisements = Some(Arc::new(all.clone()));
    assert!(world.round().await.is_empty());
    all.insert("tor".into(), Arc::new(Some(bgp)));
    world.snapshot.bgp_advertisements = Some(Arc::new(all));
    assert_eq!(world.round().await, line("OnlyBGP"));
    world.advertise(&json!({ "ipAddressPools": ["gold"] }));
    assert_eq!(world.round().await[0], line("Selected")[0]);
    // While it is not known, as after a start, what was said stays.
    world.snapshot.bgp_advertisements = None;
    world.snapshot.advertisements = Arc::default();
    assert!(world.round().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_field_that_means_nothing_is_named_once_and_keeps_nothing_out_of_force() {
    let mut world = World::new(&[]);
    world.pool("gold", &json!({ "addresses": ["10.0.0.0/30"], "avoidBugyIPs": true }));
    let told = texts(&world.plan().notes);
    let words = "spec.avoidBugyIPs: not known to this version, without effect.";
    assert_eq!(told, [format!("UnknownField: {words}")]);
    assert_eq!(world.round().await, ["IPAddressPool gold Accepted=InForce 0/4 0/0"]);
    let status = &world.pools[&PoolName::from("gold")]["status"];
    assert_eq!(status["conditions"][0]["message"], words);
    assert!(!world.planner.is_stale());
    world.planner = Planner::new("system");
    assert!(world.plan().notes.is_empty());
}
