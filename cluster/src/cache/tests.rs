//! Against the in-process server, in virtual time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::fake::Fake;
use crate::feed::Settings;

const MAPS: &str = "/api/v1/namespaces/herald/configmaps";

/// A cache of what ConfigMaps say under `v`.
struct Rig {
    fake: Fake,
    cache: Cache<String, String>,
    dirty: Dirty,
    parsed: Arc<AtomicUsize>,
}

fn rig(fake: Fake) -> Rig {
    let door = fake.door();
    let feed: Feed<ConfigMap> =
        Feed::new(door, |client| Api::namespaced(client, "herald"), Settings::default());
    let (dirty, parsed) = (Dirty::new(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&parsed);
    let parse = move |map: ConfigMap| {
        count.fetch_add(1, Ordering::Relaxed);
        map.data.and_then(|data| data.get("v").cloned()).unwrap_or_default()
    };
    let (cache, task) = follow("ConfigMap", feed, ConfigMap::name_any, parse, dirty.clone());
    tokio::spawn(task);
    Rig { fake, cache, dirty, parsed }
}

fn put(fake: &Fake, name: &str, value: &str, other: &str) {
    let metadata = json!({ "name": name, "annotations": { "other": other } });
    fake.put(MAPS, json!({ "metadata": metadata, "data": { "v": value } }));
}

impl Rig {
    async fn changed(&self) -> bool {
        timeout(Duration::from_secs(60), self.dirty.changed()).await.is_ok()
    }

    fn shown(&self) -> Vec<(String, String)> {
        let snapshot = self.cache.snapshot();
        snapshot.iter().map(|(key, value)| (key.clone(), (**value).clone())).collect()
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn an_empty_cluster_is_synced_and_marks_once() {
    let rig = rig(Fake::new());
    assert_eq!(rig.cache.readiness(), Err("ConfigMap: not listed yet".to_owned()));
    assert!(rig.changed().await);
    rig.cache.synced().await;
    assert_eq!(rig.cache.readiness(), Ok(()));
    assert!(!rig.changed().await, "nothing changes after that");
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_one_mark() {
    let rig = rig(Fake::new());
    assert!(rig.changed().await);
    for n in 0..1000 {
        put(&rig.fake, &format!("m{n}"), "1", "");
    }
    assert!(rig.changed().await);
    while rig.shown().len() < 1000 {
        tokio::task::yield_now().await;
    }
    // The mark that was set while this waited; then no more.
    rig.changed().await;
    assert!(!rig.changed().await);
}

#[tokio::test(start_paused = true)]
async fn what_parse_does_not_keep_wakes_nobody() {
    let rig = rig(Fake::new());
    assert!(rig.changed().await);
    put(&rig.fake, "a", "1", "x");
    assert!(rig.changed().await);
    put(&rig.fake, "a", "1", "y");
    assert!(!rig.changed().await);
    assert_eq!(rig.parsed.load(Ordering::Relaxed), 2);
    put(&rig.fake, "a", "2", "y");
    assert!(rig.changed().await);
    assert_eq!(rig.shown(), pairs(&[("a", "2")]));
    rig.fake.delete(&format!("{MAPS}/a"));
    assert!(rig.changed().await);
    assert_eq!(rig.shown(), []);
}

#[tokio::test(start_paused = true)]
async fn a_new_list_parses_only_what_is_new_and_drops_what_is_gone() {
    let rig = rig(Fake::new());
    for name in ["a", "b", "c"] {
        put(&rig.fake, name, "1", "");
    }
    while rig.shown().len() < 3 {
        assert!(rig.changed().await);
    }
    let before = rig.parsed.load(Ordering::Relaxed);
    // While nothing comes through, one goes and one changes; then history is gone.
    rig.fake.cut_connections();
    rig.fake.delete(&format!("{MAPS}/a"));
    put(&rig.fake, "b", "2", "");
    rig.fake.compact();
    assert!(rig.changed().await);
    assert_eq!(rig.shown(), pairs(&[("b", "2"), ("c", "1")]));
    assert_eq!(rig.parsed.load(Ordering::Relaxed) - before, 1, "c is of the version it was");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_stays_as_it_was_taken() {
    let rig = rig(Fake::new());
    put(&rig.fake, "a", "1", "");
    while rig.shown().is_empty() {
        assert!(rig.changed().await);
    }
    let taken = rig.cache.snapshot();
    put(&rig.fake, "a", "2", "");
    assert!(rig.changed().await);
    assert_eq!(*taken["a"], "1");
    assert_eq!(rig.shown(), pairs(&[("a", "2")]));
}

/// Waits, in paused time, until the cache says that it cannot follow.
async fn in_trouble<K, V>(cache: &Cache<K, V>) {
    let trouble = async {
        while cache.trouble().is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(300), trouble).await.expect("it is told within five minutes");
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_installed_keeps_unready_and_an_outage_afterwards_does_not() {
    let fake = Fake::new();
    fake.answer_reads(Some(404));
    let rig = rig(fake);
    in_trouble(&rig.cache).await;
    assert!(rig.changed().await, "who can do without the kind is woken");
    let reason = rig.cache.readiness().expect_err("nothing is listed");
    assert!(reason.contains("is its CRD installed?"), "{reason}");
    rig.fake.answer_reads(None);
    timeout(Duration::from_secs(10), rig.cache.synced()).await.expect("asked again within 10 s");
    rig.fake.cut_connections();
    rig.fake.answer_reads(Some(500));
    in_trouble(&rig.cache).await;
    assert_eq!(rig.cache.readiness(), Ok(()));
}

async fn passed(rig: &Rig, fence: &Fence) {
    while !fence.is_passed() {
        assert!(rig.changed().await, "passing marks");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fence_is_passed_when_all_that_was_stored_before_is_there_though_the_watch_hangs() {
    let rig = rig(Fake::new());
    assert!(rig.changed().await);
    rig.fake.hang_watches();
    put(&rig.fake, "a", "1", "");
    assert!(!rig.changed().await, "the watch should have brought nothing");
    let fence = rig.cache.list_anew();
    assert!(!fence.is_passed());
    passed(&rig, &fence).await;
    assert_eq!(rig.shown(), pairs(&[("a", "1")]));
    let next = rig.cache.list_anew();
    assert!(!next.is_passed() && fence.is_passed());
    passed(&rig, &next).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_was_under_way_when_the_fence_was_asked_for_does_not_count() {
    let fake = Fake::new();
    let rig = rig(fake.clone());
    assert!(rig.changed().await);
    // The first attempt is stuck on its way; what it would have shown is older than the fence.
    rig.fake.cut_connections();
    let first = rig.cache.list_anew();
    assert!(timeout(Duration::from_secs(1), passed(&rig, &first)).await.is_err());
    put(&rig.fake, "a", "1", "");
    let lists = || fake.asked().iter().filter(|asked| asked.is_list()).count();
    let before = lists();
    let second = rig.cache.list_anew();
    // In paused time this is over before anybody's patience is.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(lists(), before + 1, "it is asked anew at once");
    passed(&rig, &second).await;
    assert!(first.is_passed());
    assert_eq!(rig.shown(), pairs(&[("a", "1")]));
}

#[tokio::test(start_paused = true)]
async fn a_fence_is_not_passed_while_lists_fail_and_what_was_known_stays() {
    let rig = rig(Fake::new());
    put(&rig.fake, "a", "1", "");
    while rig.shown().is_empty() {
        assert!(rig.changed().await);
    }
    rig.fake.answer_reads(Some(500));
    let fence = rig.cache.list_anew();
    in_trouble(&rig.cache).await;
    assert!(!fence.is_passed());
    assert_eq!(rig.shown(), pairs(&[("a", "1")]));
    rig.fake.answer_reads(None);
    passed(&rig, &fence).await;
}
