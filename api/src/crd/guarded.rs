//! Objects that are of another shape than the types here.
//!
//! The CRDs see to it that there are none, but a cluster may have others of the same names: older, or of a laxer schema.
//! One object that cannot be read must not hide all others of its kind. So what can be read of it is kept, and the fault
//! becomes a refusal like any other.

use std::borrow::Cow;
use std::sync::Arc;

use herald_core::config::{Offer, Refusal};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::Resource;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object of the kind `K`, or what is known of one that cannot be read as such.
#[derive(Clone, Debug)]
pub enum Guarded<K> {
    /// It can be read.
    Read(K),
    /// It cannot.
    Unreadable(Box<Unreadable>),
}

/// What is known of an object that cannot be read.
#[derive(Clone, Debug)]
pub struct Unreadable {
    metadata: ObjectMeta,
    conditions: Vec<Condition>,
    fault: Arc<str>,
}

impl<K: Resource> Guarded<K> {
    /// What it offers: what `read` makes of it, or that it cannot be read.
    pub fn offer<T>(&self, read: impl FnOnce(&K) -> Offer<T>) -> Offer<T> {
        match self {
            Self::Read(object) => read(object),
            Self::Unreadable(object) => Offer {
                created: crate::parse::created(&object.metadata),
                labels: object.metadata.labels.clone().unwrap_or_default(),
                accepted: false,
                says: Err(vec![Refusal::Unreadable { fault: Arc::clone(&object.fault) }]),
            },
        }
    }

    /// The object, if it can be read.
    pub const fn readable(&self) -> Option<&K> {
        match self {
            Self::Read(object) => Some(object),
            Self::Unreadable(_) => None,
        }
    }

    /// The conditions of its status, which `read` finds; of one that cannot be read, those that can.
    pub fn conditions<'o>(
        &'o self,
        read: impl FnOnce(&'o K) -> &'o [Condition],
    ) -> &'o [Condition] {
        match self {
            Self::Read(object) => read(object),
            Self::Unreadable(object) => &object.conditions,
        }
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole = Value::deserialize(deserializer)?;
        let fault = match K::deserialize(&whole) {
            Ok(object) => return Ok(Self::Read(object)),
            Err(fault) => fault.to_string().into(),
        };
        // Without metadata it is no object, and nothing can be said of it.
        let metadata = ObjectMeta::deserialize(&whole["metadata"]).map_err(Error::custom)?;
        let conditions = whole["status"]["conditions"].as_array().into_iter().flatten();
        let conditions = conditions.filter_map(|one| Condition::deserialize(one).ok()).collect();
        Ok(Self::Unreadable(Box::new(Unreadable { metadata, conditions, fault })))
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(of: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &Self::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &Self::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Read(object) => object.meta(),
            Self::Unreadable(object) => &object.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Read(object) => object.meta_mut(),
            Self::Unreadable(object) => &mut object.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt as _;
    use kube::core::ObjectList;
    use serde_json::json;

    use super::*;
    use crate::crd::{ACCEPTED, IPAddressPool};
    use crate::parse::pool;

    fn pool(name: &str, spec: &Value) -> Value {
        json!({ "metadata": { "name": name, "labels": { "site": "a" } }, "spec": spec })
    }

    fn list(items: &[Value]) -> Vec<Guarded<IPAddressPool>> {
        let list = json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items });
        let list: ObjectList<Guarded<IPAddressPool>> =
            serde_json::from_value(list).expect("a list");
        list.items
    }

    #[test]
    fn one_that_cannot_be_read_hides_no_other_and_says_why() {
        let good = pool("good", &json!({ "addresses": ["192.0.2.0/24"] }));
        let bad = pool("bad", &json!({ "addresses": ["192.0.2.0/24"], "autoAssign": "no" }));
        let items = list(&[bad, good]);
        let names: Vec<String> = items.iter().map(kube::ResourceExt::name_any).collect();
        assert_eq!(names, ["bad", "good"]);
        let [bad, good] = [0, 1].map(|at: usize| items[at].offer(|object| pool::offer(object).1));
        assert!(good.says.is_ok());
        let refusals = bad.says.expect_err("it cannot be read");
        let told: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        let why = "cannot be read: invalid type: string \"no\", expected a boolean";
        assert_eq!((told.as_slice(), refusals[0].reason()), (&[why.to_owned()][..], "Unreadable"));
        assert_eq!(bad.labels, [("site".to_owned(), "a".to_owned())].into());
    }

    #[test]
    fn what_its_status_said_of_it_is_known_all_the_same() {
        let condition = json!({
            "type": ACCEPTED, "status": "False", "reason": "Unreadable", "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let mut object = pool("bad", &json!({ "addresses": "192.0.2.0/24" }));
        object["status"] = json!({ "conditions": [{ "type": 1 }, condition] });
        let object = &list(&[object])[0];
        let known = object.conditions(|_| &[]);
        assert_eq!(known.len(), 1);
        assert_eq!((&*known[0].type_, &*known[0].reason), (ACCEPTED, "Unreadable"));
        assert_eq!(object.name_any(), "bad");
    }
}
