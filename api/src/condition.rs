//! The condition `heraldlb.io/AddressAllocated` of a Service: whether it has an address, and what it lacks and why.
//!
//! It says nothing of a generation: a new one that changes nothing about the addresses must not cost a write.

use std::fmt;

use herald_core::allocation::{Outcome, Verdict};
use herald_core::why::address::Why;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The condition's type.
pub const ADDRESS_ALLOCATED: &str = "heraldlb.io/AddressAllocated";

/// The reason of a Service that has all that it asks for. Every other reason is [`Why::reason`].
pub const ALLOCATED: &str = "Allocated";

/// The longest sentence that a Service is told, in bytes. The API server takes 32 KiB in a condition; this is for people, and
/// for ten thousand Services.
const LONGEST_MESSAGE: usize = 1024;

/// Between what a Service lacks and why it lost what it had.
const FORMER: &str = "; it lost what it had: ";

/// Stands for what did not fit into a message.
const ELLIPSIS: &str = "…";

/// The condition, as a Service bears it or is to bear it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressAllocated {
    /// Whether the Service has an address.
    pub status: Status,
    /// [`ALLOCATED`], or one word for what is lacking.
    pub reason: Box<str>,
    /// The addresses and their pool; what is lacking and what was tried.
    pub message: Box<str>,
    /// Since when the status is what it is, in whole seconds.
    pub since: Timestamp,
}

/// A condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has an address; where its request contradicts itself or a second address is not to be had, the reason says so.
    True,
    /// It has none.
    False,
    /// It has none, and what it asks for may be in a pool that could not be read; or it keeps one of a pool of which no
    /// version is in force.
    Unknown,
}

impl Status {
    /// As conditions spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl AddressAllocated {
    /// The condition among those of a Service's status; `None` also for one with a status that nobody defined.
    pub fn find(conditions: &[Condition]) -> Option<Self> {
        let found = conditions.iter().find(|condition| condition.type_ == ADDRESS_ALLOCATED)?;
        let all = [Status::True, Status::False, Status::Unknown];
        Some(Self {
            status: all.into_iter().find(|status| status.as_str() == found.status)?,
            reason: found.reason.as_str().into(),
            message: found.message.as_str().into(),
            since: found.last_transition_time.0,
        })
    }

    /// The condition that goes with `verdict` for a Service that bears `before`; `None` for one that is told nothing: pools
    /// are just being changed, or none has ever been seen.
    ///
    /// The time moves only when the status does. Why a Service lost what it had is known to one plan; the condition goes on
    /// saying it, from what it said before, while the Service lacks something and its status is the same.
    pub fn of(verdict: &Verdict, before: Option<&Self>, now: Timestamp) -> Option<Self> {
        let status = match (&verdict.outcome, &verdict.lacks) {
            (Outcome::Untouched, Some(Why::PoolNotInForce { .. })) => Status::Unknown,
            (Outcome::Untouched, _) => return None,
            (Outcome::Granted(_), _) => Status::True,
            (Outcome::Nothing, Some(Why::PoolsNotKnown)) => Status::Unknown,
            (Outcome::Nothing, _) => Status::False,
        };
        let before = before.filter(|before| before.status == status);
        let since = before.map(|before| before.since);
        let mut message = bounded(Sentence(verdict).to_string());
        if let Some(former) = former(verdict, before.map(|before| &*before.message), &message) {
            message = bounded(message + FORMER + &former);
        }
        Some(Self {
            status,
            reason: verdict.lacks.as_ref().map_or(ALLOCATED, Why::reason).into(),
            message: message.into(),
            since: since.unwrap_or_else(|| whole_seconds(now)),
        })
    }

    /// Whether both say the same to who reads them, whenever they came to say it.
    pub fn says_as(&self, other: &Self) -> bool {
        (self.status, &self.reason, &self.message) == (other.status, &other.reason, &other.message)
    }
}

/// What the server stores of a time.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Why the Service lost what it had, where that is to be said behind `message`.
fn former(verdict: &Verdict, before: Option<&str>, message: &str) -> Option<String> {
    let lacks = verdict.lacks.as_ref()?;
    // A mark that is cut could not be found again.
    if message.len() + FORMER.len() + ELLIPSIS.len() > LONGEST_MESSAGE {
        return None;
    }
    if let Some(lost) = &verdict.lost {
        return (lost != lacks).then(|| lost.to_string());
    }
    // What users wrote may look like the mark.
    let before = before.filter(|before| *before != message)?;
    before.rsplit_once(FORMER).map(|(_, former)| former.to_owned())
}

struct Sentence<'a>(&'a Verdict);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(grant) = self.0.grant() {
            for (position, address) in grant.addresses.iter().enumerate() {
                write!(f, "{}{address}", if position == 0 { "" } else { ", " })?;
            }
            write!(f, " from pool {}", grant.pool)?;
        }
        match (&self.0.lacks, self.0.grant()) {
            (Some(why), Some(_)) => write!(f, "; {why}"),
            (Some(why), None) => write!(f, "{why}"),
            (None, _) => Ok(()),
        }
    }
}

/// The text, cut short where it would be longer than anybody reads: users' own words may stand in it, at any length.
pub fn bounded(mut text: String) -> String {
    if text.len() > LONGEST_MESSAGE {
        text.truncate(text.floor_char_boundary(LONGEST_MESSAGE - ELLIPSIS.len()));
        text.push_str(ELLIPSIS);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use herald_core::address::Family;
    use herald_core::allocation::Grant;
    use herald_core::config::Refusal;
    use herald_core::why::address::RequestFault;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn granted_addresses() -> Vec<IpAddr> {
        vec!["10.0.0.1".parse().expect("v4"), "fd00::1".parse().expect("v6")]
    }

    fn granted(lacks: Option<Why>) -> Verdict {
        let addresses = granted_addresses();
        let outcome = Outcome::Granted(Grant { pool: "gold".into(), addresses });
        Verdict { outcome, lost: None, lacks }
    }

    fn nothing(lacks: Why) -> Verdict {
        Verdict { outcome: Outcome::Nothing, lost: None, lacks: Some(lacks) }
    }

    fn text(condition: &AddressAllocated) -> String {
        let AddressAllocated { status, reason, message, .. } = condition;
        format!("{} {reason}: {message}", status.as_str())
    }

    #[test]
    fn it_names_what_is_there_and_what_is_lacking() {
        let exhausted = Why::PoolExhausted { pool: "gold".into(), family: Family::V6 };
        let of = |verdict| AddressAllocated::of(&verdict, None, second(1)).map(|c| text(&c));
        let cases = [
            (granted(None), "True Allocated: 10.0.0.1, fd00::1 from pool gold"),
            (
                granted(Some(exhausted.clone())),
                "True PoolExhausted: 10.0.0.1, fd00::1 from pool gold; \
                 no available IPs in pool gold: no IPv6 address is free",
            ),
            (
                nothing(exhausted),
                "False PoolExhausted: no available IPs in pool gold: no IPv6 address is free",
            ),
        ];
        for (verdict, expected) in cases {
            assert_eq!(of(verdict).as_deref(), Some(expected));
        }
        let unknown = of(nothing(Why::PoolsNotKnown)).expect("nothing is held");
        assert!(unknown.starts_with("Unknown PoolsNotKnown: "), "{unknown}");
        let untouched =
            Verdict { outcome: Outcome::Untouched, lost: None, lacks: Some(Why::PoolsNotKnown) };
        assert_eq!(of(untouched), None);
        let (pool, refusal) = ("gold".into(), Box::new(Refusal::NoPrefixes));
        let why = Why::PoolNotInForce { addresses: granted_addresses(), pool, refusal };
        let kept = Verdict { outcome: Outcome::Untouched, lost: None, lacks: Some(why) };
        let said = "Unknown PoolNotInForce: [\"10.0.0.1\" \"fd00::1\"] stays with the service, and \
                    nobody promises an answer: pool gold is not in force: pool has no prefixes defined";
        assert_eq!(of(kept).as_deref(), Some(said));
    }

    #[test]
    fn its_time_moves_with_its_status_and_is_what_a_server_stores() {
        let noon = Timestamp::from_millisecond(10_700).expect("in range");
        let first = AddressAllocated::of(&nothing(Why::NoPools), None, noon).expect("said");
        assert_eq!(first.since, second(10));
        let other = nothing(Why::NoClusterIp);
        let still = AddressAllocated::of(&other, Some(&first), second(20)).expect("said");
        assert_eq!(still.since, second(10));
        assert!(!still.says_as(&first));
        let given = AddressAllocated::of(&granted(None), Some(&still), second(30)).expect("said");
        assert_eq!(given.since, second(30));
    }

    #[test]
    fn why_an_address_was_lost_is_said_until_the_service_has_one_again() {
        let lost = Why::Avoided { address: "10.0.0.0".parse().expect("v4"), pool: "gold".into() };
        let loss = |lacks| Verdict { lost: Some(lost.clone()), ..nothing(lacks) };
        let said = |verdict: &Verdict, before| {
            AddressAllocated::of(verdict, before, second(1)).expect("said")
        };
        let held = said(&granted(None), None);
        let first = said(&loss(Why::NoPools), Some(&held));
        assert_eq!(
            text(&first),
            "False NoPools: no available IPs: no pool is configured; it lost what it had: \
             [\"10.0.0.0\"] is not allowed in config: pool gold avoids .0 and .255"
        );
        assert!(said(&nothing(Why::NoPools), Some(&first)).says_as(&first));
        let other = said(&nothing(Why::NoClusterIp), Some(&first));
        assert!(other.message.ends_with("avoids .0 and .255"), "{}", other.message);
        assert!(said(&granted(None), Some(&other)).says_as(&held));
        let again = said(&nothing(Why::NoPools), Some(&held));
        assert_eq!(&*again.message, "no available IPs: no pool is configured");
        // One reason for both is said once.
        assert!(said(&loss(lost.clone()), None).says_as(&said(&nothing(lost.clone()), None)));
    }

    #[test]
    fn what_a_condition_remembers_does_not_grow_whatever_users_wrote() {
        for length in (1..1200).step_by(7) {
            let (field, fault) = ("f".to_owned(), RequestFault::NotAnAddress);
            let text = format!("{FORMER}{}{FORMER}", "x".repeat(length));
            let lacks = Why::InvalidRequest { field, text, fault };
            for lost in [None, Some(Why::NoPools)] {
                let loss = Verdict { lost, ..nothing(lacks.clone()) };
                let first = AddressAllocated::of(&loss, None, second(1)).expect("said");
                let next = AddressAllocated::of(&nothing(lacks.clone()), Some(&first), second(2));
                assert_eq!(next, Some(first), "{length}");
            }
        }
    }

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        for filler in ["x", "é", "€"] {
            let (field, fault) = ("f".to_owned(), RequestFault::NotAnAddress);
            let long = Why::InvalidRequest { field, text: filler.repeat(2000), fault };
            let said = AddressAllocated::of(&nothing(long), None, second(1)).expect("said");
            let length = said.message.len();
            assert!((LONGEST_MESSAGE - 3..=LONGEST_MESSAGE).contains(&length), "{length}");
            assert!(said.message.ends_with('…'));
        }
    }

    #[test]
    fn it_is_found_among_others_whatever_generation_somebody_added() {
        let condition = |type_: &str, status: &str| Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: "Allocated".to_owned(),
            message: "m".to_owned(),
            observed_generation: Some(7),
            last_transition_time: Time(second(9)),
        };
        let others = [condition("Ready", "True"), condition(ADDRESS_ALLOCATED, "False")];
        let found = AddressAllocated::find(&others).expect("found");
        assert_eq!((text(&found).as_str(), found.since), ("False Allocated: m", second(9)));
        assert_eq!(AddressAllocated::find(&others[..1]), None);
        assert_eq!(AddressAllocated::find(&[condition(ADDRESS_ALLOCATED, "Maybe")]), None);
    }
}
