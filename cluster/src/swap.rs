//! One compare-and-swap on one Lease, within a deadline, sent once more when nobody answers.

use std::pin::pin;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use tokio::time::{Instant, sleep_until, timeout_at};

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
    /// After this it is sent once more, over a fresh connection.
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

/// Carries out `swap` in `namespace`. A second attempt cannot do harm: of two equal compare-and-swaps one at most
/// succeeds. But it makes a conflict ambiguous: what stands in the way may be the first attempt's own success.
pub(crate) async fn swap(
    door: &Door,
    namespace: &str,
    swap: &Swap,
    patience: Patience,
) -> WriteOutcome {
    let asked = Instant::now();
    let deadline = asked + patience.deadline;
    let visit = door.enter();
    let mut first = pin!(attempt(&visit, namespace, swap));
    match timeout_at(asked + patience.resend, &mut first).await {
        // The connection broke, or the server that it led to is going down: another may do better, at once.
        Ok(Answer::Unclear) => {
            let again = door.enter_anew(&visit);
            let second = timeout_at(deadline, attempt(&again, namespace, swap)).await;
            return after_unclear(second.unwrap_or(Answer::Unclear));
        }
        Ok(answer) => return alone(answer),
        Err(_) => {}
    }
    let again = door.enter_anew(&visit);
    let mut second = pin!(attempt(&again, namespace, swap));
    let (one, other_pending) = tokio::select! {
        answer = &mut first => (answer, Pending::Second),
        answer = &mut second => (answer, Pending::First),
        () = sleep_until(deadline) => return WriteOutcome::Unknown,
    };
    match one {
        Answer::Stored(_) => return alone(one),
        Answer::Conflict => return WriteOutcome::Unknown,
        Answer::Refused | Answer::Unclear => {}
    }
    let other = match other_pending {
        Pending::First => timeout_at(deadline, first).await,
        Pending::Second => timeout_at(deadline, second).await,
    };
    both(one, other.unwrap_or(Answer::Unclear))
}

enum Pending {
    First,
    Second,
}

fn alone(answer: Answer) -> WriteOutcome {
    match answer {
        Answer::Stored(version) => WriteOutcome::Stored(version),
        Answer::Conflict => WriteOutcome::Conflict,
        Answer::Refused => WriteOutcome::Refused,
        Answer::Unclear => WriteOutcome::Unknown,
    }
}

fn after_unclear(second: Answer) -> WriteOutcome {
    both(Answer::Unclear, second)
}

/// What two attempts came to, neither of which is under way any more.
fn both(one: Answer, other: Answer) -> WriteOutcome {
    match (one, other) {
        (Answer::Stored(version), _) | (_, Answer::Stored(version)) => {
            WriteOutcome::Stored(version)
        }
        (Answer::Unclear, _) | (_, Answer::Unclear) => WriteOutcome::Unknown,
        (Answer::Conflict, _) | (_, Answer::Conflict) => WriteOutcome::Conflict,
        (Answer::Refused, Answer::Refused) => WriteOutcome::Refused,
    }
}

async fn attempt(visit: &Visit, namespace: &str, swap: &Swap) -> Answer {
    let api: Api<Lease> = Api::namespaced(Client::clone(&visit.client), namespace);
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
            tracing::warn!(code, message = status.message, "a Lease write was refused");
            Answer::Refused
        }
        code => {
            tracing::debug!(code, message = status.message, "no clear answer to a Lease write");
            Answer::Unclear
        }
    }
}
