//! The conditions of an object of configuration: `Accepted`, whether what it says is in force, and a pool's `Advertised`,
//! whether any node announces its addresses.

use herald_core::config::{Problem, Unadvertised};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Whether the object's present version is in force. `False` bears the problem's reason and words, and says whether an
/// earlier version is in force in its place.
pub const ACCEPTED: &str = "Accepted";
/// Whether some L2Advertisement in force selects the pool.
pub const ADVERTISED: &str = "Advertised";

/// How many fields a sentence names before it only counts them.
const NAMED_AT_MOST: usize = 5;
/// How much of a field's path is told, in bytes.
const PATH_ROOM: usize = 100;

/// What one condition is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The condition's type.
    pub type_: &'static str,
    /// Whether its status is `True`; it is `False` otherwise.
    pub holds: bool,
    /// One word.
    pub reason: &'static str,
    /// Sentences; empty where there is nothing to add.
    pub message: String,
}

impl Statement {
    /// `Accepted`. Fields that mean nothing keep nothing out of force, and are named: they may be slips of the pen.
    pub fn accepted(problem: Option<&Problem>, unknown_fields: &[String]) -> Self {
        let sentences = [problem.map(ToString::to_string), without_effect(unknown_fields)];
        let sentences: Vec<String> = sentences.into_iter().flatten().collect();
        Self {
            type_: ACCEPTED,
            holds: problem.is_none(),
            reason: problem.map_or("InForce", Problem::reason),
            message: sentences.join(" "),
        }
    }

    /// `Advertised`.
    pub fn advertised(unadvertised: Option<&Unadvertised>) -> Self {
        Self {
            type_: ADVERTISED,
            holds: unadvertised.is_none(),
            reason: unadvertised.map_or("Selected", Unadvertised::reason),
            message: unadvertised.map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// The condition that says it of this `generation`, where `before` stands there. The time of transition moves only when
    /// the status does.
    fn condition(
        &self,
        before: Option<&Condition>,
        generation: Option<i64>,
        now: Timestamp,
    ) -> Condition {
        let status = if self.holds { "True" } else { "False" };
        let same = before.filter(|before| before.status == status);
        Condition {
            type_: self.type_.to_owned(),
            status: status.to_owned(),
            reason: self.reason.to_owned(),
            message: self.message.clone(),
            observed_generation: generation,
            last_transition_time: same
                .map_or(Time(now), |before| before.last_transition_time.clone()),
        }
    }
}

/// The sentence about fields that mean nothing, if there are any.
pub fn without_effect(fields: &[String]) -> Option<String> {
    if fields.is_empty() {
        return None;
    }
    let named: Vec<&str> = fields
        .iter()
        .take(NAMED_AT_MOST)
        .map(|field| &field[..field.floor_char_boundary(PATH_ROOM)])
        .collect();
    let more = match fields.len().saturating_sub(NAMED_AT_MOST) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    Some(format!("{}{more}: not known to this version, without effect.", named.join(", ")))
}

/// All conditions that an object of this `generation` should bear which bears `before`: these statements', and those of
/// others as they are.
pub fn conditions(
    before: &[Condition],
    generation: Option<i64>,
    statements: &[Statement],
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = before.to_vec();
    for statement in statements {
        let old = conditions.iter_mut().find(|condition| condition.type_ == statement.type_);
        let new = statement.condition(old.as_deref(), generation, now);
        match old {
            Some(old) => *old = new,
            None => conditions.push(new),
        }
    }
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;
    use herald_core::config::{InForce, Object, Refusal};

    fn problem(in_force: InForce) -> Problem {
        Problem { object: Object::Pool("p".into()), refusals: vec![Refusal::NoPrefixes], in_force }
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn said(
        before: &[Condition],
        generation: i64,
        problem: Option<&Problem>,
        at: i64,
    ) -> Vec<Condition> {
        let statements = [Statement::accepted(problem, &[]), Statement::advertised(None)];
        conditions(before, Some(generation), &statements, second(at))
    }

    #[test]
    fn the_time_moves_with_the_status_and_what_is_said_already_stays_as_it_is() {
        let good = said(&[], 1, None, 10);
        let words = |condition: &Condition| {
            let Condition { type_, status, reason, message, .. } = condition;
            format!("{type_} {status} {reason} {message:?}")
        };
        let expected = ["Accepted True InForce \"\"", "Advertised True Selected \"\""];
        assert_eq!(good.iter().map(words).collect::<Vec<_>>(), expected);
        assert_eq!(said(&good, 1, None, 20), good);

        let next = &said(&good, 2, None, 20)[0];
        assert_eq!(next.last_transition_time, Time(second(10)));
        assert_eq!(next.observed_generation, Some(2));

        let bad = said(&good, 3, Some(&problem(InForce::LastGood)), 30);
        assert_eq!((bad[0].status.as_str(), bad[0].reason.as_str()), ("False", "NoPrefixes"));
        assert!(bad[0].message.starts_with("pool has no prefixes defined"), "{}", bad[0].message);
        assert_eq!(bad[0].last_transition_time, Time(second(30)));
        assert_eq!(bad[1].last_transition_time, Time(second(10)));

        let worse = said(&bad, 3, Some(&problem(InForce::Nothing)), 40);
        assert_ne!(worse[0].message, bad[0].message);
        assert_eq!(worse[0].last_transition_time, Time(second(30)));
    }

    #[test]
    fn conditions_of_others_stay_where_they_are() {
        let mut other = said(&[], 1, None, 1).remove(0);
        other.type_ = "Audited".to_owned();
        let all = said(std::slice::from_ref(&other), 1, None, 2);
        assert_eq!((all.len(), &all[0]), (3, &other));
    }

    #[test]
    fn fields_without_effect_are_named_up_to_a_bound_and_beside_a_problem() {
        let fields = |count: usize| (0..count).map(|n| format!("spec.f{n}")).collect::<Vec<_>>();
        assert_eq!(without_effect(&[]), None);
        let one = Statement::accepted(None, &fields(1));
        assert_eq!((one.holds, one.reason), (true, "InForce"));
        assert_eq!(one.message, "spec.f0: not known to this version, without effect.");
        let seven = Statement::accepted(Some(&problem(InForce::Nothing)), &fields(7));
        let words = "pool has no prefixes defined. No version of it is in force. spec.f0, spec.f1, \
                     spec.f2, spec.f3, spec.f4, and 2 more: not known to this version, without effect.";
        assert_eq!((seven.holds, seven.message.as_str()), (false, words));
        let long = without_effect(&["ü".repeat(1000)]).expect("one");
        assert!(long.len() < 200, "{long}");
    }
}
