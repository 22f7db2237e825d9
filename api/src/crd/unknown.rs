//! Fields that Herald does not know: a later version's, or a slip of the pen.
//!
//! The API server keeps them (`x-kubernetes-preserve-unknown-fields`), so that no field of a user's is lost, and does
//! not complain of them either. So the types keep them too, and what they are called is said on the object.

use std::collections::BTreeMap;

use serde_json::Value;

/// What stands in an object beside the fields that its type names.
pub type UnknownFields = BTreeMap<String, Value>;

/// Where in its object each of `fields`, found in `place`, is: `spec.aFeild`.
pub(super) fn paths(place: &str, fields: &UnknownFields) -> impl Iterator<Item = String> {
    fields.keys().map(move |field| format!("{place}.{field}"))
}
