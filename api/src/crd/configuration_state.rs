//! ConfigurationState: what each component thinks of the whole configuration, for who looks in one place.
//!
//! There is one object called `controller`, written by the controller that leads, and one called `speaker-<node>` for each
//! speaker.
// Each column of `kubectl get` is a `printcolumn(..)` of its own, which the lint takes for a slip.
#![expect(clippy::duplicated_attributes, reason = "printcolumn repeats by design")]

use herald_core::config::Problem;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The label that tells a `controller` from a `speaker`.
pub const COMPONENT_TYPE: &str = "metallb.io/component-type";
/// The label that names a speaker's node.
pub const NODE_NAME: &str = "metallb.io/node-name";
/// The controller's condition.
pub const POOLS_VALID: &str = "poolReconcilerValid";
/// A speaker's condition.
pub const CONFIGURATION_VALID: &str = "configReconcilerValid";

/// How many sentences a summary holds before it only counts them.
const TOLD_AT_MOST: usize = 20;
/// How long each of them may be, in bytes: with [`TOLD_AT_MOST`], well below the 32 KiB of a condition's message.
const SENTENCE_ROOM: usize = 1024;

/// It has no spec: it only reports.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "ConfigurationState",
    plural = "configurationstates",
    namespaced,
    no_spec,
    status = "ConfigurationStateStatus",
    derive = "PartialEq",
    doc = "ConfigurationState says what one component thinks of the configuration. Components write it, people read it.",
    printcolumn(name = "Result", type_ = "string", json_path = ".status.result"),
    printcolumn(name = "ErrorSummary", type_ = "string", json_path = ".status.errorSummary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct ConfigurationStateBody {}

/// What the component thinks. Written by the component.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationStateStatus {
    /// `Valid`, `Invalid` or `Unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "result_schema")]
    pub result: Option<String>,

    /// What is wrong, in sentences; empty when nothing is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error_summary: String,

    /// The controller's is `poolReconcilerValid`, a speaker's `configReconcilerValid`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions_schema")]
    pub conditions: Vec<Condition>,
}

fn result_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["Valid", "Invalid", "Unknown"] })
}

/// What a component thinks of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The present version of every object is in force.
    Valid,
    /// Some are not: a sentence for each (never none).
    Invalid(Vec<String>),
    /// It cannot be read, for this reason.
    Unknown(String),
}

impl Verdict {
    /// The verdict on a configuration that can be read and has these problems.
    pub fn of(problems: &[Problem]) -> Self {
        if problems.is_empty() {
            return Self::Valid;
        }
        let sentence = |problem: &Problem| format!("{}: {problem}", problem.object);
        Self::Invalid(problems.iter().map(sentence).collect())
    }

    /// The status that an object should bear whose status is `before`, with this as the component's condition
    /// `condition`.
    ///
    /// The time of transition moves only when the condition's status does.
    pub fn status(
        &self,
        condition: &str,
        before: &[Condition],
        now: Timestamp,
    ) -> ConfigurationStateStatus {
        let (result, status, reason) = match self {
            Self::Valid => ("Valid", "True", "Reconciled"),
            Self::Invalid(_) => ("Invalid", "False", "ConfigurationError"),
            Self::Unknown(_) => ("Unknown", "Unknown", "UnknownError"),
        };
        let summary = self.summary();
        let same = before.iter().find(|old| old.type_ == condition && old.status == status);
        let since = same.map_or(Time(now), |old| old.last_transition_time.clone());
        let condition = Condition {
            type_: condition.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: summary.clone(),
            observed_generation: None,
            last_transition_time: since,
        };
        ConfigurationStateStatus {
            result: Some(result.to_owned()),
            error_summary: summary,
            conditions: vec![condition],
        }
    }

    fn summary(&self) -> String {
        let sentences = match self {
            Self::Valid => return String::new(),
            Self::Invalid(sentences) => sentences.as_slice(),
            Self::Unknown(why) => std::slice::from_ref(why),
        };
        let told: Vec<&str> = sentences
            .iter()
            .take(TOLD_AT_MOST)
            .map(|sentence| &sentence[..sentence.floor_char_boundary(SENTENCE_ROOM)])
            .collect();
        let mut summary = told.join(" ");
        if sentences.len() > TOLD_AT_MOST {
            summary.push_str(&format!(" And {} more.", sentences.len() - TOLD_AT_MOST));
        }
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn its_words_are_metallbs_and_its_time_moves_with_its_status() {
        let status = Verdict::Valid.status(POOLS_VALID, &[], second(10));
        let found = serde_json::to_value(&status).expect("JSON");
        let expected = serde_json::json!({
            "result": "Valid",
            "conditions": [{
                "type": "poolReconcilerValid", "status": "True", "reason": "Reconciled",
                "message": "", "lastTransitionTime": "1970-01-01T00:00:10Z",
            }],
        });
        assert_eq!(found, expected);

        let good = status.conditions;
        let invalid = |text: &str| Verdict::Invalid(vec![text.to_owned()]);
        let bad = invalid("One.").status(POOLS_VALID, &good, second(20));
        assert_eq!((bad.result.as_deref(), bad.error_summary.as_str()), (Some("Invalid"), "One."));
        let condition = &bad.conditions[0];
        assert_eq!((&*condition.status, &*condition.reason), ("False", "ConfigurationError"));
        assert_eq!(condition.last_transition_time, Time(second(20)));
        let worse = invalid("Two.").status(POOLS_VALID, &bad.conditions, second(30));
        assert_eq!(worse.conditions[0].last_transition_time, Time(second(20)));
        let other = invalid("Two.").status(CONFIGURATION_VALID, &bad.conditions, second(30));
        assert_eq!(other.conditions[0].last_transition_time, Time(second(30)));

        let unknown = Verdict::Unknown("why".to_owned()).status(POOLS_VALID, &good, second(40));
        let condition = &unknown.conditions[0];
        assert_eq!((&*condition.status, &*condition.reason), ("Unknown", "UnknownError"));
        assert_eq!((unknown.result.as_deref(), &*condition.message), (Some("Unknown"), "why"));
    }

    #[test]
    fn each_problem_is_a_sentence_that_names_its_object() {
        use herald_core::config::{InForce, Object, Refusal};
        assert_eq!(Verdict::of(&[]), Verdict::Valid);
        let (object, refusals) = (Object::Pool("gold".into()), vec![Refusal::NoPrefixes]);
        let problem = Problem { object, refusals, in_force: InForce::Nothing };
        let words =
            "IPAddressPool gold: pool has no prefixes defined. No version of it is in force.";
        assert_eq!(Verdict::of(&[problem]), Verdict::Invalid(vec![words.to_owned()]));
    }

    #[test]
    fn a_summary_is_bounded_in_both_directions() {
        let many = (0..23).map(|n| format!("{n} {}", "ü".repeat(2000))).collect();
        let summary = Verdict::Invalid(many).summary();
        assert!(summary.len() <= TOLD_AT_MOST * (SENTENCE_ROOM + 1) + 16, "{}", summary.len());
        assert!(summary.ends_with(" And 3 more."), "{summary}");
        assert_eq!(Verdict::Invalid(vec!["a.".into(), "b.".into()]).summary(), "a. b.");
    }
}
