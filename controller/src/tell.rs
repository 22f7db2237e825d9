//! What users read about a decision: Events in MetalLB's words, which their scripts match.

use std::net::IpAddr;

use herald_api::condition::bounded;
use herald_api::parse::demand::Version;
use herald_cluster::events::{Note, Severity};
use herald_core::config::{Object, Problem};
use herald_core::name::ServiceId;
use herald_core::why::address::{Quoted, Why};
use k8s_openapi::api::core::v1::ObjectReference;

use crate::term::LEASE;

/// Whom an Event is about: a Service.
pub fn about_service(id: &ServiceId, version: &Version) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Service".to_owned()),
        namespace: Some(id.namespace.to_string()),
        name: Some(id.name.to_string()),
        uid: Some(version.uid.to_string()),
        ..ObjectReference::default()
    }
}

/// Whom an Event is about: an object of configuration in `namespace`.
pub fn about_configuration(object: &Object, namespace: &str, version: &Version) -> ObjectReference {
    let (kind, name) = match object {
        Object::Pool(name) => ("IPAddressPool", name.as_str()),
        Object::Advertisement(name) => ("L2Advertisement", name.as_str()),
    };
    ObjectReference {
        api_version: Some("metallb.io/v1beta1".to_owned()),
        kind: Some(kind.to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        uid: Some(version.uid.to_string()),
        ..ObjectReference::default()
    }
}

/// The Service has these addresses now, after `before`; `None` when nothing was added.
pub fn allocated(about: &ObjectReference, before: &[IpAddr], addresses: &[IpAddr]) -> Option<Note> {
    let message = match addresses.split_last() {
        Some((added, rest)) if rest == before && !rest.is_empty() => {
            format!("Assigned additional IP \"{added}\"")
        }
        _ if addresses.iter().all(|address| before.contains(address)) => return None,
        _ => format!("Assigned IP {}", Quoted(addresses)),
    };
    Some(note(about, Severity::Normal, "IPAllocated", message))
}

/// The reason of [`cleared`].
pub const CLEARED: &str = "ClearAssignment";

/// The Service loses what it had.
pub fn cleared(about: &ObjectReference, id: &ServiceId, why: &Why) -> Note {
    let message = format!(
        "current IP for \"{id}\" not allowed by config, will attempt for new IP assignment: {why}"
    );
    note(about, Severity::Normal, CLEARED, message)
}

/// The Service lacks something; `None` for what is told in another way, or is no news to anybody.
///
/// `has_one` when it has an address all the same.
pub fn lacking(about: &ObjectReference, id: &ServiceId, why: &Why, has_one: bool) -> Option<Note> {
    let (severity, reason, message) = match why {
        // A Service gets its cluster IP in the same moment as its existence: one without is headless on purpose.
        Why::NoClusterIp => return None,
        Why::NotEnoughClusterIps { .. } => {
            (Severity::Warning, "not enough clusterips", why.to_string())
        }
        Why::RequestedTwice { .. } | Why::InvalidRequest { .. } | Why::FamilyMismatch { .. }
            if has_one =>
        {
            let message = format!("invalid requested loadbalancer IPs: {why}");
            (Severity::Warning, "LoadBalancerFailed", message)
        }
        Why::PoolNotInForce { .. } => (Severity::Warning, why.reason(), why.to_string()),
        Why::PoolExhausted { .. } | Why::PoolLacksFamily { .. } if has_one => {
            let message = format!("cannot assign additional IP in PreferDualStack: {why}");
            (Severity::Normal, "AdditionalAssignFailed", message)
        }
        _ => {
            let message = format!("Failed to allocate IP for \"{id}\": {why}");
            (Severity::Warning, "AllocationFailed", message)
        }
    };
    Some(note(about, severity, reason, message))
}

/// The Service is asked for by an old key.
pub fn deprecated(about: &ObjectReference, key: &str) -> Note {
    let message = format!("Service uses deprecated annotation {key}");
    note(about, Severity::Warning, "deprecatedAnnotation", message)
}

/// Why nothing is taken from `untouched` Services, told once for all of them: of the leader's Lease, which lies where
/// pools were looked for.
pub fn no_pool_yet(namespace: &str, untouched: u64) -> Note {
    let about = ObjectReference {
        api_version: Some("coordination.k8s.io/v1".to_owned()),
        kind: Some("Lease".to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(LEASE.to_owned()),
        ..ObjectReference::default()
    };
    let message = format!(
        "no IPAddressPool has been seen yet in namespace {namespace}: what Services have stays ({untouched} of them), \
         until there is a pool; then each loses what lies in none"
    );
    note(&about, Severity::Warning, "NoPools", message)
}

/// The object's present version is not in force.
pub fn not_in_force(about: &ObjectReference, problem: &Problem) -> Note {
    note(about, Severity::Warning, problem.reason(), problem.to_string())
}

/// The object has fields that mean nothing; `sentence` names them.
pub fn unknown_fields(about: &ObjectReference, sentence: String) -> Note {
    note(about, Severity::Warning, "UnknownField", sentence)
}

fn note(
    about: &ObjectReference,
    severity: Severity,
    reason: &'static str,
    message: String,
) -> Note {
    Note { about: about.clone(), severity, reason, message: bounded(message) }
}
