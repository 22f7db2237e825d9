//! A scenario: what happens to a cluster, step by step, and how its Services look each time the controller has come to
//! rest.

use std::collections::BTreeMap;
use std::path::Path;

use herald_api::annotation::IP_ALLOCATED_FROM_POOL;
use serde::Deserialize;
use serde_json::Value;

use super::cluster::{Cluster, text};
use super::server::{Key, Stack, ingress};

/// What a Service's condition of ours is called.
const ALLOCATED: &str = "heraldlb.io/AddressAllocated";

/// One file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Scenario {
    /// Where the rule comes from, or what went wrong without it.
    about: String,
    /// The controller's `--lb-class`.
    class: Option<String>,
    /// Whether the cluster gives its Services one family; else both.
    #[serde(default)]
    single_stack: bool,
    steps: Vec<Step>,
}

/// What happens at once, in this order; the controller hears of it together.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Step {
    /// Objects as `kubectl create` stores them. A status in a manifest is one that somebody has written.
    #[serde(default)]
    apply: Vec<Value>,
    /// Objects that go, as `Kind name` or `Kind namespace/name`.
    #[serde(default)]
    delete: Vec<String>,
    /// Another controller takes over.
    #[serde(default)]
    restart: bool,
    /// Nothing is written to any Service, and nothing is told of any.
    #[serde(default)]
    quiet: bool,
    /// Whether the configuration counts as stale then.
    stale: Option<bool>,
    /// How Services look then, by name or `namespace/name`.
    #[serde(default)]
    expect: BTreeMap<String, Expected>,
    /// How objects of configuration look then, by `Kind name`.
    #[serde(default)]
    judged: BTreeMap<String, Judged>,
}

/// How a Service looks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// Its status' addresses, in their order. Without one there is no annotation that names a pool either.
    addresses: Vec<String>,
    /// The annotation that names the pool.
    pool: Option<String>,
    /// The reason of its condition.
    condition: Option<String>,
    /// What the condition's sentence contains.
    #[serde(default)]
    says: Vec<String>,
    /// The types of all its conditions, in their order.
    conditions: Option<Vec<String>>,
    /// What was told of it in this step, all of it and in order: each `Reason: a part of the sentence`.
    events: Option<Vec<String>>,
    /// How often it was written in this step.
    writes: Option<usize>,
}

/// How an object of configuration looks; what is left out is not looked at.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Judged {
    /// The reason of its condition `Accepted`, which is true for `InForce` alone.
    accepted: Option<String>,
    /// The reason of a pool's condition `Advertised`, which is true for `Selected` alone.
    advertised: Option<String>,
    /// What the sentences of its conditions contain, taken together.
    #[serde(default)]
    says: Vec<String>,
    /// How many addresses of a pool Services have: IPv4, IPv6.
    assigned: Option<[i64; 2]>,
    /// How many are free: IPv4, IPv6.
    available: Option<[i64; 2]>,
    /// What was told of it in this step, as of a Service.
    events: Option<Vec<String>>,
}

/// Plays the file.
///
/// # Errors
///
/// The first thing that is not as the file says, and the step that it happened in.
pub(crate) fn play(path: &Path) -> Result<(), String> {
    let file = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let scenario: Scenario = serde_saphyr::from_str(&file).map_err(|error| error.to_string())?;
    if scenario.about.trim().is_empty() || scenario.steps.is_empty() {
        return Err("says nothing".to_owned());
    }
    let stack = if scenario.single_stack { Stack::V4 } else { Stack::Dual };
    let mut cluster = Cluster::new(stack, scenario.class.as_deref());
    for (at, step) in scenario.steps.iter().enumerate() {
        take(&mut cluster, step)
            .and_then(|()| check(&cluster, step))
            .map_err(|fault| format!("step {}: {fault}", at + 1))?;
    }
    Ok(())
}

fn take(cluster: &mut Cluster, step: &Step) -> Result<(), String> {
    cluster.told.clear();
    cluster.writes.clear();
    for name in &step.delete {
        cluster.server.delete(&object(name)?)?;
    }
    for manifest in &step.apply {
        cluster.server.apply(manifest)?;
    }
    if step.restart {
        cluster.restart();
    }
    cluster.settle()
}

/// Whether the cluster is as the step says, and would stay so under another controller.
fn check(cluster: &Cluster, step: &Step) -> Result<(), String> {
    for (name, expected) in &step.expect {
        check_service(cluster, &key("Service", name), expected)
            .map_err(|fault| format!("{name}: {fault}"))?;
    }
    for (name, expected) in &step.judged {
        check_judged(cluster, &object(name)?, expected)
            .map_err(|fault| format!("{name}: {fault}"))?;
    }
    if step.quiet {
        let of_service = |key: &&Key| key.kind == "Service";
        let written: Vec<&Key> = cluster.writes.keys().filter(of_service).collect();
        let told = cluster.told.iter().filter(|note| note.about.kind.as_deref() == Some("Service"));
        let told: Vec<String> = told.map(text).collect();
        if !written.is_empty() || !told.is_empty() {
            return Err(format!("wrote {written:?}, told {told:?}"));
        }
    }
    if let Some(stale) = &step.stale {
        equal("stale", &cluster.controller.is_stale(), stale)?;
    }
    cluster.successor_is_quiet()
}

fn check_service(cluster: &Cluster, key: &Key, expected: &Expected) -> Result<(), String> {
    let service = cluster.object(key).ok_or("is not there")?;
    let entries = ingress(service).iter().map(|entry| match entry["ip"].as_str() {
        Some(ip) => ip.to_owned(),
        None => entry.to_string(),
    });
    equal("addresses", &entries.collect::<Vec<_>>(), &expected.addresses)?;
    let pool = service["metadata"]["annotations"][IP_ALLOCATED_FROM_POOL.current].as_str();
    if expected.pool.is_some() || expected.addresses.is_empty() {
        equal("pool", &pool, &expected.pool.as_deref())?;
    }
    if let Some(reason) = &expected.condition {
        let condition = condition(service, ALLOCATED).ok_or("has no condition of ours")?;
        equal("condition", &condition["reason"].as_str(), &Some(reason.as_str()))?;
        let status = match (reason.as_str(), expected.addresses.is_empty()) {
            ("PoolNotInForce" | "PoolsNotKnown", _) => "Unknown",
            (_, true) => "False",
            (_, false) => "True",
        };
        equal("condition's status", &condition["status"].as_str(), &Some(status))?;
        says(condition["message"].as_str().unwrap_or_default(), &expected.says)?;
    }
    if let Some(expected) = &expected.conditions {
        let list = service["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
        let types = list.iter().map(|condition| condition["type"].as_str().unwrap_or_default());
        equal("conditions", &types.map(str::to_owned).collect(), expected)?;
    }
    if let Some(writes) = expected.writes {
        equal("writes", &cluster.writes.get(key).copied().unwrap_or_default(), &writes)?;
    }
    expected.events.as_ref().map_or(Ok(()), |events| check_events(cluster, key, events))
}

fn check_judged(cluster: &Cluster, key: &Key, expected: &Judged) -> Result<(), String> {
    let object = cluster.object(key).ok_or("is not there")?;
    let stated = [
        ("Accepted", &expected.accepted, "InForce"),
        ("Advertised", &expected.advertised, "Selected"),
    ];
    for (kind, reason, good) in stated {
        let Some(reason) = reason.as_deref() else { continue };
        let condition = condition(object, kind).ok_or_else(|| format!("has no {kind}"))?;
        equal(kind, &condition["reason"].as_str(), &Some(reason))?;
        let status = if reason == good { "True" } else { "False" };
        equal("its status", &condition["status"].as_str(), &Some(status))?;
    }
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let messages: Vec<&str> = conditions.filter_map(|one| one["message"].as_str()).collect();
    says(&messages.join(" "), &expected.says)?;
    for (what, numbers) in [("assigned", expected.assigned), ("available", expected.available)] {
        let found =
            ["IPv4", "IPv6"].map(|family| object["status"][format!("{what}{family}")].as_i64());
        numbers.map_or(Ok(()), |numbers| equal(what, &found, &numbers.map(Some)))?;
    }
    expected.events.as_ref().map_or(Ok(()), |events| check_events(cluster, key, events))
}

fn check_events(cluster: &Cluster, key: &Key, expected: &[String]) -> Result<(), String> {
    let about = |note: &&herald_cluster::events::Note| {
        let about = &note.about;
        about.kind.as_deref() == Some(&key.kind)
            && about.name.as_deref() == Some(&key.name)
            && about.namespace.as_deref() == Some(&key.namespace)
    };
    let told: Vec<String> = cluster.told.iter().filter(about).map(text).collect();
    let fits = |(told, expected): (&String, &String)| match expected.split_once(": ") {
        Some((reason, part)) => {
            told.split_once(": ").is_some_and(|told| told.0 == reason && told.1.contains(part))
        }
        None => false,
    };
    if told.len() == expected.len() && told.iter().zip(expected).all(fits) {
        return Ok(());
    }
    Err(format!("events are {told:#?}, expected {expected:#?}"))
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn says(message: &str, parts: &[String]) -> Result<(), String> {
    match parts.iter().find(|part| !message.contains(part.as_str())) {
        Some(part) => Err(format!("says {message:?}, not {part:?}")),
        None => Ok(()),
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: &T,
    expected: &T,
) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?}, expected {expected:?}"))
}

fn object(text: &str) -> Result<Key, String> {
    let (kind, name) = text.split_once(' ').ok_or_else(|| format!("{text:?} is no `Kind name`"))?;
    Ok(key(kind, name))
}

fn key(kind: &str, name: &str) -> Key {
    match name.split_once('/') {
        Some((namespace, name)) => Key::of(kind, Some(namespace), name),
        None => Key::of(kind, None, name),
    }
}
