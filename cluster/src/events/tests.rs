//! Against the in-process server, in virtual time.

use serde_json::Value;
use tokio::time::timeout;

use super::*;
use crate::fake::{Fake, Fault};

fn note(name: &str, message: &str) -> Note {
    Note {
        about: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            namespace: Some("shop".to_owned()),
            name: Some(name.to_owned()),
            uid: Some("uid-1".to_owned()),
            ..ObjectReference::default()
        },
        severity: Severity::Normal,
        reason: "IPAllocated",
        message: message.to_owned(),
    }
}

/// Writes these notes to the end.
async fn written(fake: &Fake, notes: impl IntoIterator<Item = Note>) -> (Vec<Value>, Recorder) {
    let (recorder, task) = recorder(fake.client(), "metallb-controller", "host-1");
    for note in notes {
        recorder.publish(note);
    }
    // A recorder of its own keeps the count after the queue is closed.
    let counter = Recorder { queue: mpsc::channel(1).0, ..recorder.clone() };
    drop(recorder);
    timeout(Duration::from_secs(3600), task).await.expect("it ends when its queue is closed");
    (fake.objects(), counter)
}

#[tokio::test(start_paused = true)]
async fn an_event_says_all_that_people_and_scripts_read() {
    let fake = Fake::new();
    let (events, recorder) = written(&fake, [note("web", "Assigned IP [\"192.0.2.1\"]")]).await;
    let [event] = events.as_slice() else { panic!("one event, not {events:?}") };
    assert_eq!(event["metadata"]["namespace"], "shop");
    assert!(event["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("web.")));
    assert_eq!(event["involvedObject"]["uid"], "uid-1");
    assert_eq!(event["type"], "Normal");
    assert_eq!(event["reason"], "IPAllocated");
    assert_eq!(event["message"], "Assigned IP [\"192.0.2.1\"]");
    assert_eq!(event["source"]["component"], "metallb-controller");
    assert_eq!(event["source"]["host"], "host-1");
    assert_eq!(event["count"], 1);
    assert!(event["lastTimestamp"].is_string());
    assert_eq!(event["firstTimestamp"], event["lastTimestamp"]);
    assert_eq!(recorder.dropped().get(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_same_again_is_counted_and_another_is_another_event() {
    let fake = Fake::new();
    let notes = [note("web", "a"), note("web", "a"), note("web", "b"), note("web", "a")];
    let (mut events, _) = written(&fake, notes).await;
    events.sort_by_key(|event| event["message"].to_string());
    let counts: Vec<(&Value, &Value)> =
        events.iter().map(|e| (&e["message"], &e["count"])).collect();
    assert_eq!(format!("{counts:?}"), r#"[(String("a"), Number(3)), (String("b"), Number(1))]"#);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_has_expired_is_written_anew() {
    let fake = Fake::new();
    let (recorder, task) = recorder(fake.client(), "metallb-speaker", "host-1");
    let task = tokio::spawn(task);
    recorder.publish(note("web", "a"));
    while fake.objects().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    let name = fake.objects()[0]["metadata"]["name"].as_str().expect("a name").to_owned();
    fake.delete(&format!("/api/v1/namespaces/shop/events/{name}"));
    recorder.publish(note("web", "a"));
    drop(recorder);
    task.await.expect("no panic");
    assert_eq!(fake.objects()[0]["count"], 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_are_written_in_a_second_than_the_rate() {
    let fake = Fake::new();
    let begun = Instant::now();
    let count = RATE * 3;
    written(&fake, (0..count).map(|n| note(&format!("web-{n}"), "a"))).await;
    let time = begun.elapsed();
    assert_eq!(fake.objects().len(), count as usize);
    assert!(time > Duration::from_millis(2900) && time < Duration::from_secs(4), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn what_finds_the_queue_full_is_dropped_and_counted_and_nobody_waits() {
    let fake = Fake::new();
    let (recorder, task) = recorder(fake.client(), "metallb-speaker", "host-1");
    for n in 0..QUEUE_CAPACITY + 5 {
        recorder.publish(note(&format!("web-{n}"), "a"));
    }
    assert_eq!(recorder.dropped().get(), 5);
    drop(task);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_is_asked_again_and_one_that_refuses_is_not() {
    let fake = Fake::new();
    fake.fault_next_writes([Fault::Code(500), Fault::Code(429), Fault::Code(503)]);
    let (events, recorder) = written(&fake, [note("web", "a")]).await;
    assert_eq!((events.len(), recorder.dropped().get()), (1, 0));
    let fake = Fake::new();
    fake.fault_next_writes([Fault::Code(403)]);
    let (events, recorder) = written(&fake, [note("web", "a"), note("web", "b")]).await;
    assert_eq!((events.len(), recorder.dropped().get()), (1, 1));
    let fake = Fake::new();
    fake.fault_next_writes([Fault::Code(500); ATTEMPTS as usize]);
    let (events, recorder) = written(&fake, [note("web", "a")]).await;
    assert_eq!((events.len(), recorder.dropped().get()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_very_long_name_is_cut_where_a_character_ends() {
    let fake = Fake::new();
    let (events, _) = written(&fake, [note(&"ä".repeat(126), "a")]).await;
    let name = events[0]["metadata"]["name"].as_str().expect("a name");
    assert!(name.len() <= 253, "{} bytes", name.len());
}

#[test]
fn the_least_recently_used_is_forgotten_first() {
    let mut recent = Recent::holding(2);
    let known = |name: &str| Known { name: name.to_owned(), count: 1 };
    recent.put(&note("a", ""), known("a"));
    recent.put(&note("b", ""), known("b"));
    recent.put(&note("a", ""), known("a2"));
    recent.put(&note("c", ""), known("c"));
    assert_eq!(recent.get(&note("a", "")), Some(known("a2")));
    assert_eq!(recent.get(&note("b", "")), None);
    recent.forget(&note("a", ""));
    recent.put(&note("d", ""), known("d"));
    assert_eq!(recent.get(&note("c", "")), Some(known("c")), "there was room");
}

#[tokio::test(start_paused = true)]
async fn events_stand_back_for_what_users_wait_for_and_bear_the_time_of_what_they_tell() {
    let fake = Fake::new();
    let (recorder, task) = recorder(fake.client(), "metallb-speaker", "host-1");
    let task = tokio::spawn(task);
    let urgent = recorder.precedence().urgent();
    recorder.publish(note("web", "a"));
    let published = Timestamp::now();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(fake.objects(), Vec::<Value>::new());
    drop(urgent);
    while fake.objects().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    let told: Timestamp =
        serde_json::from_value(fake.objects()[0]["firstTimestamp"].clone()).expect("a time");
    assert!(told <= published, "{told}, not {published}");
    drop(recorder);
    task.await.expect("it ends when its queue is closed");
}
