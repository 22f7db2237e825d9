//! With a cache of Namespaces, whose lists are answered when the test says so, in virtual time.

use std::convert::Infallible;
use std::sync::Arc;

use herald_cluster::cache::{Cache, Dirty, follow};
use herald_cluster::client::Door;
use herald_cluster::feed::{Feed, Settings};
use http::{Request, Response};
use k8s_openapi::api::core::v1::Namespace;
use kube::client::Body;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::Semaphore;
use tokio::time::{advance, timeout};

use super::*;

/// A cache, and one permit for each list that may be answered. A watch brings nothing.
struct Rig {
    cache: Cache<String, ()>,
    dirty: Dirty,
    lists: Arc<Semaphore>,
}

fn rig() -> Rig {
    let lists = Arc::new(Semaphore::new(0));
    let permits = Arc::clone(&lists);
    let door = Door::opened_by(
        None,
        move |_| {
            let permits = Arc::clone(&permits);
            let answer = tower::service_fn(move |request: Request<Body>| {
                let permits = Arc::clone(&permits);
                async move {
                    if request.uri().query().is_some_and(|query| query.contains("watch=")) {
                        std::future::pending::<()>().await;
                    }
                    permits.acquire().await.expect("it is never closed").forget();
                    let list =
                        r#"{"kind":"NamespaceList","metadata":{"resourceVersion":"7"},"items":[]}"#;
                    Ok::<_, Infallible>(Response::new(Body::from(list.as_bytes().to_vec())))
                }
            });
            Ok(Client::new(answer, "default"))
        },
        || 0,
    );
    let feed = Feed::new(door.expect("a door"), Api::<Namespace>::all, Settings::default());
    let dirty = Dirty::new();
    let (cache, task) = follow("Namespace", feed, Namespace::name_any, |_| (), dirty.clone());
    tokio::spawn(task);
    Rig { cache, dirty, lists }
}

impl Rig {
    async fn synced() -> Self {
        let rig = rig();
        rig.lists.add_permits(1);
        rig.dirty.changed().await;
        assert!(rig.cache.is_synced());
        rig
    }

    fn is_open(&self, terms: &mut Terms) -> bool {
        terms.is_open(Instant::now(), || vec![self.cache.list_anew()])
    }
}

#[tokio::test(start_paused = true)]
async fn a_term_opens_when_a_list_of_its_own_has_come_and_says_meanwhile_what_it_waits_for() {
    let rig = Rig::synced().await;
    let mut terms = Terms::default();
    let ready = terms.readiness();
    terms.begin(1, Instant::now());
    assert!(!rig.is_open(&mut terms), "what was listed before is too old");
    assert!(timeout(Duration::from_secs(60), rig.dirty.changed()).await.is_err());
    assert!(!rig.is_open(&mut terms), "no list has been answered");
    assert_eq!(ready(), Err("it leads, and waits for a list of: Namespace".to_owned()));
    rig.lists.add_permits(1);
    rig.dirty.changed().await;
    assert!(rig.is_open(&mut terms));
    assert_eq!(ready(), Ok(()));
    assert!(rig.is_open(&mut terms), "one list is enough for a term");
    terms.end();
    assert!(!rig.is_open(&mut terms), "it leads no more");
    terms.begin(2, Instant::now());
    assert!(!rig.is_open(&mut terms), "another term, another list");
    terms.end();
    assert_eq!(ready(), Ok(()), "a standby waits for nothing");
}

#[tokio::test(start_paused = true)]
async fn writes_of_an_own_earlier_term_have_ended_before_anything_is_listed() {
    let rig = Rig::synced().await;
    let mut terms = Terms::default();
    terms.begin(1, Instant::now());
    terms.sent(Instant::now());
    terms.end();
    rig.lists.add_permits(1);
    terms.begin(2, Instant::now());
    assert!(!rig.is_open(&mut terms));
    advance(WRITE_LIFE - Duration::from_millis(1)).await;
    assert!(!rig.is_open(&mut terms));
    let listed = timeout(Duration::ZERO, rig.dirty.changed()).await;
    assert!(listed.is_err(), "a list from before the last write could be stored proves nothing");
    let wake = terms.wake().expect("it rests");
    assert_eq!(Some(wake), terms.writes_end());
    tokio::time::sleep_until(wake).await;
    assert!(!rig.is_open(&mut terms));
    rig.dirty.changed().await;
    assert!(rig.is_open(&mut terms));
}
