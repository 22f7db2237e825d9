use herald_api::condition::Status;
use herald_api::crd::Counters;
use herald_api::parse::demand::Version;
use herald_core::name::ServiceId;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core;

use super::*;

fn letter(content: Content) -> Letter {
    Letter {
        subject: Subject::Service(ServiceId::new("shop", "web")),
        version: Version { uid: "u".into(), resource_version: "9".into() },
        content,
        notes: Vec::new(),
        heals: false,
    }
}

fn allocated() -> AddressAllocated {
    AddressAllocated {
        status: Status::False,
        reason: "NoPools".into(),
        message: "none".into(),
        since: Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn one_patch_carries_the_addresses_the_words_and_the_version_it_was_planned_on() {
    let addresses = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    let (pool, terms, allocated) = (Some("gold".into()), Some("0f".into()), allocated());
    let granted = letter(Content::Addresses { addresses, pool, terms, allocated });
    let expected = json!({
        "metadata": {
            "resourceVersion": "9", "uid": "u",
            "annotations": {
                "metallb.io/ip-allocated-from-pool": "gold",
                "metallb.universe.tf/ip-allocated-from-pool": null,
                "heraldlb.io/shared-as": "0f",
            },
        },
        "status": {
            "loadBalancer": { "ingress": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }] },
            "conditions": [{
                "type": "heraldlb.io/AddressAllocated", "status": "False", "reason": "NoPools",
                "message": "none", "lastTransitionTime": "1970-01-01T00:00:00Z",
            }],
        },
    });
    assert_eq!(service_patch(&granted), expected);
}

#[test]
fn clearing_takes_the_list_and_the_annotation_and_unmarking_the_condition_instead_of_the_list() {
    let (addresses, pool, terms, allocated) = (Vec::new(), None, None, allocated());
    let patch = service_patch(&letter(Content::Addresses { addresses, pool, terms, allocated }));
    assert_eq!(patch["status"]["loadBalancer"], json!({ "ingress": null }));
    let unmark = service_patch(&letter(Content::Unmark));
    let gone = json!({ "$patch": "delete", "type": "heraldlb.io/AddressAllocated" });
    assert_eq!(unmark["status"], json!({ "conditions": [gone] }));
    for patch in [patch, unmark] {
        let annotations = patch["metadata"]["annotations"].as_object().unwrap();
        assert_eq!(annotations.len(), 3);
        assert!(annotations.values().all(Value::is_null));
    }
}

#[test]
fn only_an_answer_that_rules_storage_out_counts_as_one() {
    let cases = [
        (404, Outcome::Overtaken),
        (409, Outcome::Overtaken),
        (403, Outcome::Refused),
        (422, Outcome::Refused),
        (408, Outcome::Unclear),
        (429, Outcome::Unclear),
        (500, Outcome::Unclear),
        (504, Outcome::Unclear),
    ];
    for (code, expected) in cases {
        let error = kube::Error::Api(Box::new(core::Status { code, ..core::Status::default() }));
        assert_eq!(classify(&error), expected, "{code}");
    }
}

#[test]
fn a_write_whose_answer_shows_the_version_that_it_was_sent_to_has_changed_nothing() {
    let answer = |version: &str| {
        let mut service = Service::default();
        service.metadata.resource_version = Some(version.to_owned());
        service
    };
    let letter = letter(Content::Unmark);
    assert_eq!(stored_as(&answer("9"), &letter), Outcome::Unchanged);
    assert_eq!(stored_as(&answer("10"), &letter), Outcome::Landed);
}

#[test]
fn a_judgement_is_the_whole_status_for_the_version_it_was_made_of() {
    let condition = Condition {
        type_: "Accepted".to_owned(),
        status: "True".to_owned(),
        reason: "InForce".to_owned(),
        message: String::new(),
        observed_generation: Some(2),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    };
    let conditions = json!([{
        "type": "Accepted", "status": "True", "reason": "InForce", "message": "",
        "observedGeneration": 2, "lastTransitionTime": "1970-01-01T00:00:00Z",
    }]);
    let counters = Counters { assigned: [1, 0], available: [3, i64::MAX] };
    let counted = json!({
        "assignedIPv4": 1, "assignedIPv6": 0,
        "availableIPv4": 3, "availableIPv6": 9_223_372_036_854_775_807_i64,
        "conditions": conditions,
    });
    let cases = [(Some(counters), counted), (None, json!({ "conditions": conditions }))];
    for (counters, status) in cases {
        let judgement = Judgement { counters, conditions: vec![condition.clone()] };
        let patch = judgement_patch(&letter(Content::Judgement(judgement.clone())), &judgement);
        let metadata = json!({ "resourceVersion": "9", "uid": "u" });
        assert_eq!(patch, json!({ "metadata": metadata, "status": status }));
    }
}
