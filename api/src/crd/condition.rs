//! The condition `Accepted`: whether what an object of configuration says is in force.

use herald_core::config::Problem;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The condition's type. `False` bears the problem's reason and words, and says whether an earlier version is in force in
/// its place.
pub const ACCEPTED: &str = "Accepted";

/// The condition that an object of this `generation` should bear, if it is not among `before`, those that it bears.
///
/// The time of transition moves only when the status does.
pub fn accepted(
    before: &[Condition],
    generation: Option<i64>,
    problem: Option<&Problem>,
    now: Timestamp,
) -> Option<Condition> {
    let old = before.iter().find(|condition| condition.type_ == ACCEPTED);
    let status = if problem.is_none() { "True" } else { "False" };
    let since = old.filter(|old| old.status == status).map(|old| old.last_transition_time.clone());
    let condition = Condition {
        type_: ACCEPTED.to_owned(),
        status: status.to_owned(),
        reason: problem.map_or("InForce", Problem::reason).to_owned(),
        message: problem.map(ToString::to_string).unwrap_or_default(),
        observed_generation: generation,
        last_transition_time: since.unwrap_or(Time(now)),
    };
    (old != Some(&condition)).then_some(condition)
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

    #[test]
    fn it_is_written_when_it_changes_and_its_time_moves_with_its_status() {
        let good = accepted(&[], Some(1), None, second(10)).expect("there is none yet");
        assert_eq!((good.status.as_str(), good.reason.as_str()), ("True", "InForce"));
        let good = [good];
        assert_eq!(accepted(&good, Some(1), None, second(20)), None);

        let next = accepted(&good, Some(2), None, second(20)).expect("another generation");
        assert_eq!(next.last_transition_time, Time(second(10)));
        assert_eq!(next.observed_generation, Some(2));

        let bad = accepted(&good, Some(3), Some(&problem(InForce::LastGood)), second(30));
        let bad = bad.expect("another status");
        assert_eq!((bad.status.as_str(), bad.reason.as_str()), ("False", "NoPrefixes"));
        assert!(bad.message.starts_with("pool has no prefixes defined"), "{}", bad.message);
        assert_eq!(bad.last_transition_time, Time(second(30)));

        let worse = accepted(&[bad], Some(3), Some(&problem(InForce::Nothing)), second(40));
        assert_eq!(worse.expect("another message").last_transition_time, Time(second(30)));
    }

    #[test]
    fn conditions_of_others_are_no_concern() {
        let mut other = accepted(&[], None, None, second(1)).expect("new");
        other.type_ = "Audited".to_owned();
        assert!(accepted(&[other], None, None, second(1)).is_some());
    }
}
