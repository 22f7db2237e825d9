//! What the API server makes of a write, for the kinds that the controller reads.
//!
//! Only what decides anything: versions, the defaults of a Service, what a Service loses when it is no LoadBalancer any
//! more, and how a strategic merge patch of a status changes an object. Time passes by one second with each object that
//! is created, so the order of creation is the order of age.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Every kind that there is.
const KINDS: [&str; 5] =
    ["Service", "Namespace", "IPAddressPool", "L2Advertisement", "BGPAdvertisement"];

/// An object by kind, namespace (empty for what has none) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What a watch tells: the object as it is now, or that there is none any more.
pub(crate) type Event = (Key, Option<Value>);

/// Why the API server does not take a status write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 404 or 409: the object is gone, or has another version.
    Overtaken,
    /// 422: no Service but a LoadBalancer has addresses.
    Invalid,
}

/// Which addresses the cluster gives its Services inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stack {
    V4,
    #[default]
    Dual,
}

struct Stored {
    object: Value,
    /// The annotations and labels that its last manifest had: what a later one leaves out, it removes.
    applied: Value,
}

/// The stored objects and what watches have to be told.
#[derive(Default)]
pub(crate) struct Server {
    stack: Stack,
    objects: BTreeMap<Key, Stored>,
    events: Vec<Event>,
    version: u64,
    created: i64,
}

impl Key {
    /// Where a manifest belongs: a Service without a namespace is in `default`, configuration in `metallb-system`.
    pub(crate) fn of(kind: &str, namespace: Option<&str>, name: &str) -> Self {
        let namespace = match (kind, namespace) {
            ("Namespace", _) => "",
            (_, Some(namespace)) => namespace,
            ("Service", None) => "default",
            (_, None) => super::controller::NAMESPACE,
        };
        Self { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl Server {
    pub(crate) fn new(stack: Stack) -> Self {
        Self { stack, version: 100, ..Self::default() }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key).map(|stored| &stored.object)
    }

    /// Every object, as a first list brings them.
    pub(crate) fn list(&self) -> BTreeMap<Key, Value> {
        self.objects.iter().map(|(key, stored)| (key.clone(), stored.object.clone())).collect()
    }

    /// What has happened since this was last asked.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// `kubectl apply`, and where the manifest has a status, what somebody wrote there.
    ///
    /// # Errors
    ///
    /// What the API server refuses, in words.
    pub(crate) fn apply(&mut self, manifest: &Value) -> Result<Key, String> {
        let metadata = &manifest["metadata"];
        let (Some(kind), Some(name)) = (manifest["kind"].as_str(), metadata["name"].as_str())
        else {
            return Err(format!("a manifest without kind or name: {manifest}"));
        };
        if !KINDS.contains(&kind) {
            return Err(format!("no matches for kind {kind:?}"));
        }
        let key = Key::of(kind, metadata["namespace"].as_str(), name);
        let (before, was_applied) = match self.objects.get(&key) {
            Some(stored) => (Some(stored.object.clone()), stored.applied.clone()),
            None => (None, Value::Null),
        };
        let mut object = before.clone().unwrap_or_else(|| self.created(&key));
        for part in ["annotations", "labels"] {
            let left_out = was_applied[part].as_object().into_iter().flat_map(Map::keys);
            left_out.for_each(|name| drop(fields(&mut object["metadata"][part]).remove(name)));
            merge(&mut object["metadata"][part], &metadata[part]);
        }
        if let Some(spec) = manifest.get("spec") {
            object["spec"] = spec.clone();
        }
        if kind == "Service" {
            self.default_service(&mut object, before.as_ref())?;
        }
        if let Some(status) = manifest.get("status") {
            object["status"] = status.clone();
        }
        if kind == "Service" {
            drop_what_is_only_for_load_balancers(&mut object);
        }
        if kind != "Service" && before.as_ref().is_some_and(|old| old["spec"] != object["spec"]) {
            let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
            object["metadata"]["generation"] = json!(generation + 1);
        }
        let applied = metadata.clone();
        self.store(&key, object, Some(applied));
        Ok(key)
    }

    /// Removes the object.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(crate) fn delete(&mut self, key: &Key) -> Result<(), String> {
        self.objects.remove(key).ok_or_else(|| format!("there is no {key:?}"))?;
        self.version += 1;
        self.events.push((key.clone(), None));
        Ok(())
    }

    /// A strategic merge patch of an object's `status` subresource, which may change annotations too.
    ///
    /// # Errors
    ///
    /// The patch names another version of the object than the stored one, or gives addresses to what is no LoadBalancer.
    pub(crate) fn patch_status(&mut self, key: &Key, patch: &Value) -> Result<(), Refusal> {
        let stored = self.objects.get(key).ok_or(Refusal::Overtaken)?;
        let (wanted, metadata) = (&patch["metadata"], &stored.object["metadata"]);
        if wanted["uid"] != metadata["uid"]
            || wanted["resourceVersion"] != metadata["resourceVersion"]
        {
            return Err(Refusal::Overtaken);
        }
        let mut object = stored.object.clone();
        merge(&mut object["metadata"]["annotations"], &wanted["annotations"]);
        if let Some(status) = patch.get("status") {
            merge(&mut object["status"], status);
        }
        let has_addresses = !ingress(&object).is_empty();
        if key.kind == "Service" && has_addresses && object["spec"]["type"] != "LoadBalancer" {
            return Err(Refusal::Invalid);
        }
        default_ip_mode(&mut object);
        self.store(key, object, None);
        Ok(())
    }

    /// A write that changes nothing makes no new version, and no watch hears of it.
    fn store(&mut self, key: &Key, mut object: Value, applied: Option<Value>) {
        default_ip_mode(&mut object);
        let old = self.objects.get(key);
        if old.is_some_and(|old| old.object == object) {
            return;
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let applied = applied.unwrap_or_else(|| old.map_or(Value::Null, |old| old.applied.clone()));
        self.events.push((key.clone(), Some(object.clone())));
        self.objects.insert(key.clone(), Stored { object, applied });
    }

    fn created(&mut self, key: &Key) -> Value {
        self.created += 1;
        let created = jiff::Timestamp::from_second(1_700_000_000 + self.created);
        let created = created.expect("a moment of this century").to_string();
        let mut metadata = json!({
            "name": key.name, "uid": format!("uid-{:06}", self.created), "creationTimestamp": created,
            "annotations": {}, "labels": {},
        });
        if !key.namespace.is_empty() {
            metadata["namespace"] = json!(key.namespace);
        }
        let ours = key.kind != "Service" && key.kind != "Namespace";
        let api_version = if ours { "metallb.io/v1beta1" } else { "v1" };
        if ours {
            metadata["generation"] = json!(1);
        }
        json!({ "apiVersion": api_version, "kind": key.kind, "metadata": metadata })
    }

    /// Cluster IPs and families, as far as the manifest does not say them.
    fn default_service(&self, object: &mut Value, before: Option<&Value>) -> Result<(), String> {
        let old = before.map(|before| before["spec"].clone()).unwrap_or_default();
        let spec = &mut object["spec"];
        let both_load_balancers = [&old, spec].iter().all(|spec| spec["type"] == "LoadBalancer");
        if both_load_balancers && old["loadBalancerClass"] != spec["loadBalancerClass"] {
            return Err("spec.loadBalancerClass: may not change once set".to_owned());
        }
        if spec["clusterIPs"].is_array() {
            spec["clusterIP"] = spec["clusterIPs"][0].clone();
            return Ok(());
        }
        if spec["clusterIP"] == "None" {
            spec["clusterIPs"] = json!(["None"]);
            return Ok(());
        }
        let policy = spec["ipFamilyPolicy"].as_str().unwrap_or("SingleStack").to_owned();
        let asked = spec["ipFamilies"].as_array().cloned().unwrap_or_else(|| vec![json!("IPv4")]);
        let mut families: Vec<&str> = asked.iter().filter_map(Value::as_str).collect();
        match (policy.as_str(), self.stack) {
            ("RequireDualStack", Stack::V4) => {
                return Err("the cluster is not dual-stack".to_owned());
            }
            ("SingleStack", _) | (_, Stack::V4) => families.truncate(1),
            (_, Stack::Dual) if families.len() == 1 => {
                families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" });
            }
            (_, Stack::Dual) => {}
        }
        let cluster_ip = |family: &&str| if *family == "IPv4" { "10.96.0.9" } else { "fd00:96::9" };
        let cluster_ips: Vec<&str> = families.iter().map(cluster_ip).collect();
        spec["clusterIPs"] = json!(cluster_ips);
        spec["clusterIP"] = json!(cluster_ips[0]);
        spec["ipFamilies"] = json!(families);
        spec["ipFamilyPolicy"] = json!(policy);
        Ok(())
    }
}

/// The ingress list of a Service's status.
pub(crate) fn ingress(object: &Value) -> &[Value] {
    object["status"]["loadBalancer"]["ingress"].as_array().map_or(&[], Vec::as_slice)
}

fn drop_what_is_only_for_load_balancers(object: &mut Value) {
    if object["spec"]["type"] != "LoadBalancer" {
        fields(&mut object["spec"]).remove("loadBalancerClass");
        if object["status"]["loadBalancer"].is_object() {
            object["status"]["loadBalancer"] = json!({});
        }
    }
}

fn default_ip_mode(object: &mut Value) {
    let entries = object.pointer_mut("/status/loadBalancer/ingress").and_then(Value::as_array_mut);
    for entry in entries.into_iter().flatten() {
        if entry["ip"].is_string() && entry["ipMode"].is_null() {
            entry["ipMode"] = json!("VIP");
        }
    }
}

/// The fields of an object, which it becomes if it was nothing.
fn fields(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it has just been made one")
}

/// Maps merge, `null` removes, conditions merge by type, every other list is replaced as a whole.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else { return };
    let target = fields(target);
    for (name, value) in patch {
        match value {
            Value::Null => drop(target.remove(name)),
            Value::Object(_) => merge(target.entry(name).or_insert(Value::Null), value),
            Value::Array(conditions) if name == "conditions" => {
                merge_conditions(target.entry(name).or_insert_with(|| json!([])), conditions);
            }
            other => drop(target.insert(name.clone(), other.clone())),
        }
    }
}

fn merge_conditions(target: &mut Value, patch: &[Value]) {
    let Some(list) = target.as_array_mut() else { return };
    for condition in patch {
        let place = list.iter().position(|known| known["type"] == condition["type"]);
        match (place, condition["$patch"] == "delete") {
            (Some(at), true) => drop(list.remove(at)),
            (None, true) => {}
            (Some(at), false) => merge(&mut list[at], condition),
            (None, false) => list.push(condition.clone()),
        }
    }
}
