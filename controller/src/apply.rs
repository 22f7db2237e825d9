//! Letters → the API server, each as one conditional write.

use std::time::Duration;

use herald_api::annotation::{IP_ALLOCATED_FROM_POOL, SHARED_AS};
use herald_api::condition::{ADDRESS_ALLOCATED, ALLOCATED, AddressAllocated};
use herald_api::crd::{Guarded, IPAddressPool, IPAddressPoolStatus, L2Advertisement};
use herald_api::sparse::Sparse;
use herald_core::config::Object;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::outbox::{Content, Judgement, Letter, Outcome, Subject};

/// Writes under way at a time. The API server gives each of its clients a share; more of them would only wait there.
pub const WRITES_IN_FLIGHT: usize = 16;
/// How long a write may take before nobody waits for its answer any more. The server may still carry it out: its end is
/// unclear until the watch shows a newer version.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Who writes, in `metadata.managedFields`.
const FIELD_MANAGER: &str = "herald-controller";

/// Carries out one letter. `namespace` is that of the objects of configuration.
pub async fn deliver(client: Client, namespace: &str, letter: &Letter) -> Outcome {
    let writing = async {
        match &letter.subject {
            Subject::Service(id) => {
                let api: Api<Sparse<Service>> = Api::namespaced(client, &id.namespace);
                // Strategic: conditions that others keep in the same status stay.
                let patch = Patch::Strategic(service_patch(letter));
                let params = PatchParams {
                    field_manager: Some(FIELD_MANAGER.into()),
                    ..PatchParams::default()
                };
                let stored = api.patch_status(&id.name, &params, &patch).await?;
                Ok(stored_as(&stored, letter))
            }
            Subject::Configuration(object) => {
                let Content::Judgement(judgement) = &letter.content else {
                    return Ok(Outcome::Unchanged);
                };
                match object {
                    Object::Pool(name) => {
                        let api: Api<Guarded<IPAddressPool>> = Api::namespaced(client, namespace);
                        judge(&api, name.as_str(), letter, judgement).await
                    }
                    Object::Advertisement(name) => {
                        let api: Api<Guarded<L2Advertisement>> = Api::namespaced(client, namespace);
                        judge(&api, name.as_str(), letter, judgement).await
                    }
                }
            }
        }
    };
    match timeout(ANSWER_WITHIN, writing).await {
        Ok(Ok(outcome)) => {
            log_lacking(letter);
            outcome
        }
        Ok(Err(error)) => {
            let outcome = classify(&error);
            tracing::warn!(subject = ?letter.subject, ?outcome, %error, "a write failed");
            outcome
        }
        Err(_) => {
            tracing::warn!(subject = ?letter.subject, within = ?ANSWER_WITHIN, "a write got no answer");
            Outcome::Unclear
        }
    }
}

/// The same words as in the condition and the Event.
fn log_lacking(letter: &Letter) {
    let (Subject::Service(id), Content::Addresses { allocated, .. }) =
        (&letter.subject, &letter.content)
    else {
        return;
    };
    if &*allocated.reason != ALLOCATED {
        let AddressAllocated { reason, message, .. } = allocated;
        tracing::info!(service = %id, reason, why = message, "a Service lacks something");
    }
}

/// The whole status, as a merge: server-side apply fails altogether where a schema lacks one of the fields, as MetalLB's own
/// lack the conditions. Nothing of others' is lost, because the server takes the patch for the version that it was made of.
async fn judge<K>(
    api: &Api<K>,
    name: &str,
    letter: &Letter,
    judgement: &Judgement,
) -> kube::Result<Outcome>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let params =
        PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let patch = Patch::Merge(judgement_patch(letter, judgement));
    let stored = api.patch_status(name, &params, &patch).await?;
    Ok(stored_as(&stored, letter))
}

/// What the letter made of the object, by the answer to it. The server stores no version that says what the last one did: what
/// is new may have no room in the schema, or an admission webhook may have taken it out.
fn stored_as(answer: &impl ResourceExt, letter: &Letter) -> Outcome {
    let same = answer.resource_version().as_deref() == Some(&*letter.version.resource_version);
    if same { Outcome::Unchanged } else { Outcome::Landed }
}

/// The patch that puts a judgement into the status, for the version it was made of alone.
pub fn judgement_patch(letter: &Letter, judgement: &Judgement) -> Value {
    let conditions = judgement.conditions.clone();
    json!({
        "metadata": {
            "resourceVersion": letter.version.resource_version,
            "uid": letter.version.uid.as_ref(),
        },
        "status": match judgement.counters {
            Some(counters) => json!(IPAddressPoolStatus::new(counters, conditions)),
            None => json!({ "conditions": conditions }),
        },
    })
}

/// The strategic merge patch of a Service's letter, for its `status` subresource: one write carries the addresses, the
/// annotations and the condition. The version makes the API server refuse it when the Service has changed since it was planned.
pub fn service_patch(letter: &Letter) -> Value {
    let (pool, terms, status) = match &letter.content {
        Content::Addresses { addresses, pool, terms, allocated } => {
            let ingress: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
            let ingress = if ingress.is_empty() { Value::Null } else { Value::Array(ingress) };
            let conditions = [condition(allocated)];
            let ingress = json!({ "ingress": ingress });
            (
                pool.as_ref(),
                terms.as_deref(),
                json!({ "loadBalancer": ingress, "conditions": conditions }),
            )
        }
        Content::Unmark | Content::Judgement(_) => {
            let gone = json!({ "$patch": "delete", "type": ADDRESS_ALLOCATED });
            (None, None, json!({ "conditions": [gone] }))
        }
    };
    json!({
        "metadata": {
            "resourceVersion": letter.version.resource_version,
            "uid": letter.version.uid.as_ref(),
            "annotations": {
                IP_ALLOCATED_FROM_POOL.current: pool.map(|pool| pool.as_str()),
                IP_ALLOCATED_FROM_POOL.deprecated: Value::Null,
                SHARED_AS: terms,
            },
        },
        "status": status,
    })
}

/// One of the list that strategic merge keys by `type`: others' conditions stay.
fn condition(allocated: &AddressAllocated) -> Value {
    json!({
        "type": ADDRESS_ALLOCATED,
        "status": allocated.status.as_str(),
        "reason": allocated.reason,
        "message": allocated.message,
        "lastTransitionTime": allocated.since.to_string(),
    })
}

/// Whether a failed write was stored, as far as its answer tells.
fn classify(error: &kube::Error) -> Outcome {
    match error {
        kube::Error::Api(status) => match status.code {
            404 | 409 => Outcome::Overtaken,
            // 408 and 429: not now; a proxy may say either of a request that went on.
            408 | 429 => Outcome::Unclear,
            400..500 => Outcome::Refused,
            _ => Outcome::Unclear,
        },
        _ => Outcome::Unclear,
    }
}

#[cfg(test)]
mod tests;
