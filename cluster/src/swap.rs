//! One compare-and-swap on one Lease, within a deadline, sent again when nobody answers.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use tokio::time::{Instant, sleep_until};

use crate::client::{Door, Visit};
use herald_api::lease::version_of;
use herald_core::ownership::record::{Version, WriteOutcome};

/// What is to be stored, and over what.
#[derive(Clone, Debug)]
pub(crate) enum Swap {
    /// Create it; it must not exist.
    Create(Lease),
    /// Replace the version that its metadata names.
    Replace(Lease),
    /// Delete this version of the Lease of this name.
    Delete(String, Version),
}

/// How long a write waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// After this without an answer it is sent again, over a fresh connection.
    pub(crate) resend: Duration,
    /// After this it is unknown what became of it.
    pub(crate) deadline: Duration,
}

/// What one attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Stored(Option<Version>),
    /// Another version stands there, or none.
    Conflict,
    /// The server has said that it stored nothing.
    Refused,
    /// An error that leaves open whether it is stored.
    Unclear,
}

/// A write is sent so often: a fresh connection may lead to a machine that is dead as well.
const ATTEMPTS: usize = 3;

/// Carries out `swap` in `namespace`.
///
/// Unanswered for [`Patience::resend`], or left open by an error, it is sent again over a fresh connection, and once more
/// if there is yet another server. Further attempts cannot do harm: of equal compare-and-swaps one at most succeeds.
/// But they make a conflict ambiguous: what stands in the way may be an earlier attempt's own success.
pub(crate) async fn swap(
    door: &Door,
    namespace: &str,
    swap: &Swap,
    patience: Patience,
) -> WriteOutcome {
    let asked = Instant::now();
    let (deadline, mut resend_at) = (asked + patience.deadline, asked + patience.resend);
    let mut visit = door.enter();
    let mut pending = FuturesUnordered::from_iter([attempt(visit.clone(), namespace, swap)]);
    let mut sent = 1;
    let mut unclear = false;
    loop {
        let answer = tokio::select! {
            biased;
            Some(answer) = pending.next() => Some(answer),
            () = sleep_until(deadline) => return WriteOutcome::Unknown,
            () = sleep_until(resend_at), if sent < ATTEMPTS => None,
        };
        match answer {
            Some(Answer::Stored(version)) => return WriteOutcome::Stored(version),
            Some(Answer::Conflict) if unclear || !pending.is_empty() => {
                return WriteOutcome::Unknown;
            }
            Some(Answer::Conflict) => return WriteOutcome::Conflict,
            Some(Answer::Refused) if !pending.is_empty() => continue,
            Some(Answer::Refused) if unclear => return WriteOutcome::Unknown,
            Some(Answer::Refused) => return WriteOutcome::Refused,
            // The connection broke, or the server that it led to is going down: another may do better, at once.
            Some(Answer::Unclear) => unclear = true,
            None => {}
        }
        if sent < ATTEMPTS {
            let again = door.enter_anew(&visit);
            if sent == 1 || again.leads_elsewhere_than(&visit) {
                pending.push(attempt(again.clone(), namespace, swap));
                sent += 1;
                visit = again;
            }
            resend_at = Instant::now() + patience.resend;
        }
        if pending.is_empty() {
            return WriteOutcome::Unknown;
        }
    }
}

async fn attempt(visit: Visit, namespace: &str, swap: &Swap) -> Answer {
    let api: Api<Lease> = Api::namespaced(visit.client, namespace);
    let result = match swap {
        Swap::Create(lease) => api.create(&PostParams::default(), lease).await.map(Some),
        Swap::Replace(lease) => {
            let name = lease.metadata.name.as_deref().unwrap_or_default();
            api.replace(name, &PostParams::default(), lease).await.map(Some)
        }
        Swap::Delete(name, version) => {
            let preconditions = Preconditions {
                uid: Some(version.uid.to_string()),
                resource_version: Some(version.resource.to_string()),
            };
            let params = DeleteParams::default().preconditions(preconditions);
            api.delete(name, &params).await.map(|_| None)
        }
    };
    match result {
        Ok(stored) => Answer::Stored(stored.and_then(|lease| version_of(&lease.metadata))),
        Err(error) => judge(&error, matches!(swap, Swap::Create(_))),
    }
}

fn judge(error: &kube::Error, creating: bool) -> Answer {
    let kube::Error::Api(status) = error else {
        tracing::debug!(%error, "no clear answer to a Lease write");
        return Answer::Unclear;
    };
    match status.code {
        409 => Answer::Conflict,
        // What was to be replaced or deleted is gone; but to a creation it says that the namespace is.
        404 if !creating => Answer::Conflict,
        code @ 400..500 => {
            tracing::warn!(code, why = status.message, "a Lease write was refused");
            Answer::Refused
        }
        code => {
            tracing::debug!(code, why = status.message, "no clear answer to a Lease write");
            Answer::Unclear
        }
    }
}
