//! Against the in-process server, in virtual time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::coordination::v1::Lease;
use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::fake::{Asked, Fake};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/herald/leases";

fn feed(fake: &Fake) -> Feed<Lease> {
    Feed::new(fake.door(), |client| Api::namespaced(client, "herald"), Settings::default())
}

fn put(fake: &Fake, name: &str, holder: &str) {
    let object = json!({ "metadata": { "name": name }, "spec": { "holderIdentity": holder } });
    fake.put(LEASES, object);
}

fn shown(event: &Event<Lease>) -> String {
    let of = |lease: &Lease| {
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        format!("{}={}", lease.name_any(), holder.unwrap_or_default())
    };
    match event {
        Event::Began => "began".to_owned(),
        Event::Item(lease) => format!("item {}", of(lease)),
        Event::Listed => "listed".to_owned(),
        Event::Applied(lease) => format!("applied {}", of(lease)),
        Event::Deleted(lease) => format!("deleted {}", of(lease)),
        Event::Trouble(trouble) => format!("trouble {trouble}"),
    }
}

async fn next(feed: &mut Feed<Lease>) -> String {
    let event = timeout(Duration::from_secs(120), feed.next()).await;
    shown(&event.expect("an event within two minutes"))
}

/// Nothing comes for `time`, and the feed has meanwhile done what it had to do.
async fn nothing_for(feed: &mut Feed<Lease>, time: Duration) {
    if let Ok(event) = timeout(time, feed.next()).await {
        panic!("nothing should have come, but {}", shown(&event));
    }
}

async fn listed(fake: &Fake) -> Feed<Lease> {
    let mut feed = feed(fake);
    while next(&mut feed).await != "listed" {}
    feed
}

#[tokio::test(start_paused = true)]
async fn a_list_comes_first_and_then_each_change_in_its_order() {
    let fake = Fake::new();
    put(&fake, "a", "1");
    let mut feed = feed(&fake);
    for expected in ["began", "item a=1", "listed"] {
        assert_eq!(next(&mut feed).await, expected);
    }
    put(&fake, "b", "1");
    put(&fake, "a", "2");
    fake.delete(&format!("{LEASES}/b"));
    for expected in ["applied b=1", "applied a=2", "deleted b=1"] {
        assert_eq!(next(&mut feed).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_list_comes_in_pages_of_one_list() {
    let fake = Fake::new();
    for n in 0..=PAGE * 2 {
        put(&fake, &format!("l{n:05}"), "1");
    }
    let mut feed = feed(&fake);
    let mut seen = Vec::new();
    loop {
        match next(&mut feed).await {
            end if end == "listed" => break,
            other => seen.push(other),
        }
    }
    assert_eq!(seen.iter().filter(|event| *event == "began").count(), 1);
    assert_eq!(seen.len() - 1, PAGE as usize * 2 + 1);
    assert_eq!(fake.asked().iter().filter(|asked| asked.is_list()).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_list_whose_history_is_gone_between_two_pages_begins_anew_and_mixes_nothing() {
    let fake = Fake::new();
    for n in 0..=PAGE {
        put(&fake, &format!("l{n:05}"), "1");
    }
    let mut feed = feed(&fake);
    assert_eq!(next(&mut feed).await, "began");
    for n in 0..PAGE {
        assert_eq!(next(&mut feed).await, format!("item l{n:05}=1"));
    }
    fake.delete(&format!("{LEASES}/l00000"));
    put(&fake, "l99999", "2");
    fake.compact();
    assert_eq!(next(&mut feed).await, "trouble the API server fails: 410 Expired");
    assert!(feed.is_listing(), "half a list is none");
    assert_eq!(next(&mut feed).await, "began");
    let mut items = Vec::new();
    loop {
        match next(&mut feed).await {
            end if end == "listed" => break,
            item => items.push(item),
        }
    }
    let kept = (1..=PAGE).map(|n| format!("item l{n:05}=1"));
    let expected: Vec<String> = kept.chain(["item l99999=2".to_owned()]).collect();
    assert_eq!(items, expected);
    put(&fake, "l00001", "2");
    assert_eq!(next(&mut feed).await, "applied l00001=2");
    let pages: Vec<Asked> = fake.asked().into_iter().filter(Asked::is_list).collect();
    let first: Vec<bool> =
        pages.iter().map(|asked| !asked.query.contains_key("continue")).collect();
    assert_eq!(first, [true, false, true, false], "the token that expired is not tried again");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_is_opened_again_where_it_was_and_misses_nothing() {
    let fake = Fake::new();
    let mut feed = listed(&fake).await;
    nothing_for(&mut feed, Duration::from_secs(31)).await;
    put(&fake, "a", "1");
    assert_eq!(next(&mut feed).await, "applied a=1");
    let asked = fake.asked();
    let limits: Vec<_> =
        asked.iter().filter(|asked| asked.is_list()).map(|asked| &*asked.query["limit"]).collect();
    assert_eq!(limits, ["500", "1"], "a list, and a look at where the server stands");
    assert_eq!(asked.iter().filter(|asked| asked.is_watch()).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_restored_from_a_backup_is_listed_anew_when_its_watch_ends() {
    let fake = Fake::new();
    put(&fake, "a", "1");
    put(&fake, "b", "1");
    let mut feed = listed(&fake).await;
    fake.go_back_to(100);
    put(&fake, "a", "2");
    let begun = Instant::now();
    for expected in ["began", "item a=2", "item b=1", "listed"] {
        assert_eq!(next(&mut feed).await, expected);
    }
    assert!(begun.elapsed() < Duration::from_secs(31), "{:?}", begun.elapsed());
    put(&fake, "a", "3");
    assert_eq!(next(&mut feed).await, "applied a=3");
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_moves_the_place_where_the_next_watch_begins() {
    let fake = Fake::new();
    let mut feed = listed(&fake).await;
    nothing_for(&mut feed, Duration::from_secs(1)).await;
    fake.bookmark();
    nothing_for(&mut feed, Duration::from_secs(31)).await;
    let asked = fake.asked();
    let places: Vec<&str> = asked
        .iter()
        .filter(|asked| asked.is_watch())
        .map(|asked| asked.query["resourceVersion"].as_str())
        .collect();
    assert_eq!(places, ["100", "101"]);
}

#[tokio::test(start_paused = true)]
async fn history_that_is_gone_costs_a_new_list() {
    let fake = Fake::new();
    put(&fake, "a", "1");
    let mut feed = listed(&fake).await;
    nothing_for(&mut feed, Duration::from_secs(1)).await;
    fake.delete(&format!("{LEASES}/a"));
    put(&fake, "b", "1");
    fake.compact();
    for expected in ["began", "item b=1", "listed"] {
        assert_eq!(next(&mut feed).await, expected);
    }
    put(&fake, "b", "2");
    assert_eq!(next(&mut feed).await, "applied b=2");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_calls_every_place_gone_is_not_asked_in_a_tight_loop() {
    let fake = Fake::new();
    let mut feed = listed(&fake).await;
    let before = fake.asked().len();
    // Each list names a version that is compacted by the time that the watch is opened there.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        fake.compact();
        let wait = Duration::from_millis(5);
        drop(timeout(wait, feed.next()).await);
    }
    let asked = fake.asked().len() - before;
    assert!((4..200).contains(&asked), "{asked} requests in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_noticed_and_asked_again_over_a_fresh_connection() {
    let fake = Fake::new();
    let mut feed = listed(&fake).await;
    nothing_for(&mut feed, Duration::from_secs(5)).await;
    fake.cut_connections();
    put(&fake, "a", "1");
    let begun = Instant::now();
    assert_eq!(next(&mut feed).await, "trouble no answer from the API server for 33s");
    assert_eq!(next(&mut feed).await, "applied a=1");
    assert!(begun.elapsed() < Duration::from_secs(34), "{:?}", begun.elapsed());
    assert_eq!(fake.asked().last().expect("the watch").client, 1);
}

#[tokio::test(start_paused = true)]
async fn listing_anew_shows_what_a_silent_watch_kept_back_within_the_resend_time() {
    let fake = Fake::new();
    let mut feed = listed(&fake).await;
    nothing_for(&mut feed, Duration::from_secs(5)).await;
    fake.cut_connections();
    put(&fake, "a", "1");
    nothing_for(&mut feed, Duration::from_secs(1)).await;
    let begun = Instant::now();
    feed.list_anew();
    for expected in ["began", "item a=1", "listed"] {
        assert_eq!(next(&mut feed).await, expected);
    }
    let resend = Settings::default().resend;
    assert!(begun.elapsed() <= resend + Duration::from_millis(1), "{:?}", begun.elapsed());
    let list = fake.asked().into_iter().rfind(Asked::is_list).expect("one was asked");
    assert_eq!(list.query.get("resourceVersion"), None, "only an unset version is consistent");
    put(&fake, "a", "2");
    assert_eq!(next(&mut feed).await, "applied a=2");
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_installed_is_said_and_waited_for() {
    let fake = Fake::new();
    fake.answer_reads(Some(404));
    let mut feed = feed(&fake);
    let told = next(&mut feed).await;
    assert!(told.contains("is its CRD installed?"), "{told}");
    fake.answer_reads(None);
    assert_eq!(next(&mut feed).await, "began");
    assert_eq!(next(&mut feed).await, "listed");
}

#[tokio::test(start_paused = true)]
async fn the_waits_between_failures_grow_to_their_bound() {
    let fake = Fake::new();
    fake.answer_reads(Some(500));
    let mut feed = feed(&fake);
    let begun = Instant::now();
    let mut at = Vec::new();
    for _ in 0..9 {
        assert_eq!(next(&mut feed).await, "trouble the API server fails: 500 Injected");
        at.push(begun.elapsed().as_millis());
    }
    let waits: Vec<u128> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // tokio's timer rounds up to the next millisecond.
    let rounded: Vec<u128> = waits.iter().map(|wait| wait / 100 * 100).collect();
    assert_eq!(rounded, [100, 200, 400, 800, 1600, 3200, 5000, 5000], "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_together_does_not_come_back_together() {
    let fake = Fake::new();
    // An odd number of thousandths more each time, as dice that never fall the same.
    let door = fake.door_that_draws(|| {
        static DRAWN: AtomicU32 = AtomicU32::new(0);
        DRAWN.fetch_add(387, Ordering::Relaxed)
    });
    let api = |client| Api::<Lease>::namespaced(client, "herald");
    let mut feeds: Vec<_> =
        (0..5).map(|_| Feed::new(door.clone(), api, Settings::default())).collect();
    fake.answer_reads(Some(500));
    let mut waits = BTreeSet::new();
    for feed in &mut feeds {
        next(feed).await;
        let begun = Instant::now();
        next(feed).await;
        waits.insert(begun.elapsed().as_millis());
    }
    assert!(waits.iter().all(|wait| (50..=101).contains(wait)), "{waits:?}");
    assert!(waits.len() > 3, "{waits:?}");
    fake.answer_reads(None);
    for feed in &mut feeds {
        while next(feed).await != "listed" {}
        nothing_for(feed, Duration::from_millis(10)).await;
    }
    let asked = fake.asked();
    let watches = asked.iter().filter_map(|asked| asked.query.get("timeoutSeconds"));
    let lasting: BTreeSet<u64> = watches.map(|text| text.parse().expect("seconds")).collect();
    assert!(lasting.iter().all(|seconds| (22..=30).contains(seconds)), "{lasting:?}");
    assert!(lasting.len() > 3, "{lasting:?}");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_costs_a_list_and_is_said() {
    let fake = Fake::new();
    let mut feed = listed(&fake).await;
    nothing_for(&mut feed, Duration::from_secs(1)).await;
    let odd = json!({ "metadata": { "name": "a" }, "spec": { "leaseTransitions": "many" } });
    fake.put(LEASES, odd);
    let told = next(&mut feed).await;
    assert!(told.starts_with("trouble an answer that cannot be read"), "{told}");
    put(&fake, "a", "1");
    for expected in ["began", "item a=1", "listed"] {
        assert_eq!(next(&mut feed).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_is_dropped_and_taken_up_again_at_every_moment_loses_nothing() {
    let fake = Fake::new();
    for n in 0..30 {
        put(&fake, &format!("l{n:02}"), "1");
    }
    let mut feed = feed(&fake);
    let mut seen = Vec::new();
    for n in 0..2000 {
        if n == 1000 {
            put(&fake, "l00", "2");
        }
        let next = feed.next();
        tokio::select! {
            biased;
            event = next => seen.push(shown(&event)),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(seen.iter().filter(|event| event.starts_with("item")).count(), 30);
    assert_eq!(seen.last().map(String::as_str), Some("applied l00=2"));
}
