//! All objects of one kind, parsed once for each of their versions.
//!
//! What is kept is what `parse` made of an object, not the object: managedFields and all else that nobody asks for
//! go at once. A value that comes out equal to the one before changes nothing and wakes nobody, so a Node's heartbeat
//! or an annotation of another controller costs no plan.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};

use crate::feed::{Event, Feed, Trouble};

#[cfg(test)]
mod tests;

/// A mark that something has changed, shared by all caches of a process: a thousand marks before the planner looks
/// are one.
#[derive(Clone, Debug, Default)]
pub struct Dirty(Arc<Notify>);

impl Dirty {
    /// A clean one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Something has changed.
    pub fn mark(&self) {
        self.0.notify_one();
    }

    /// Waits until something has changed since this last returned, and cleans the mark. For one waiter.
    pub async fn changed(&self) {
        self.0.notified().await;
    }
}

/// What a cache holds at one moment. Costs nothing to take.
pub type Snapshot<K, V> = Arc<BTreeMap<K, Arc<V>>>;

/// The parsed objects of one kind. Clones share them.
pub struct Cache<K, V> {
    kind: &'static str,
    shared: Arc<Mutex<Shared<K, V>>>,
    synced: watch::Receiver<bool>,
    /// How many fences were asked for, and up to which of them what is held was listed.
    fences: Arc<watch::Sender<u64>>,
    listed: watch::Receiver<u64>,
}

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self {
            kind: self.kind,
            shared: Arc::clone(&self.shared),
            synced: self.synced.clone(),
            fences: Arc::clone(&self.fences),
            listed: self.listed.clone(),
        }
    }
}

/// A moment that a cache has yet to reach: see [`Cache::list_anew`]. Clones are of the same moment.
#[derive(Clone, Debug)]
pub struct Fence {
    kind: &'static str,
    number: u64,
    listed: watch::Receiver<u64>,
}

impl Fence {
    /// Whether the cache holds all that was stored before the fence was asked for. Stays so.
    pub fn is_passed(&self) -> bool {
        *self.listed.borrow() >= self.number
    }

    /// The kind of the cache.
    pub fn kind(&self) -> &'static str {
        self.kind
    }
}

struct Shared<K, V> {
    /// Shared with the snapshots: the first change after one was taken copies the map, the next ones do not.
    values: Snapshot<K, V>,
    trouble: Option<Trouble>,
}

impl<K, V> Cache<K, V> {
    /// What there is now. Before the first list has ended: nothing.
    pub fn snapshot(&self) -> Snapshot<K, V> {
        Arc::clone(&lock(&self.shared).values)
    }

    /// Waits for the first complete list; returns at once ever after, also while the API server is away.
    pub async fn synced(&self) {
        let mut synced = self.synced.clone();
        // The sender goes with the cache's task, when the process ends: nothing will come then.
        if synced.wait_for(|synced| *synced).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the first complete list is there.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Has everything listed anew, consistently. The fence is passed once the cache holds a list that was begun after this
    /// call, and so all that was stored before, whatever became of the watch. The list is tried until it succeeds; what
    /// the cache holds stays readable meanwhile. Passing marks [`Dirty`].
    pub fn list_anew(&self) -> Fence {
        let mut number = 0;
        self.fences.send_modify(|asked| {
            *asked += 1;
            number = *asked;
        });
        Fence { kind: self.kind, number, listed: self.listed.clone() }
    }

    /// The kind that it was made for, as in logs.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// For `/readyz`: an error until the first list is there, with the reason. An API server that goes away later
    /// makes nobody unready.
    pub fn readiness(&self) -> Result<(), String> {
        if self.is_synced() {
            return Ok(());
        }
        Err(match &lock(&self.shared).trouble {
            None => format!("{}: not listed yet", self.kind),
            Some(trouble) => format!("{}: not listed yet: {trouble}", self.kind),
        })
    }

    /// What keeps the cache from following the API server at present, if anything.
    pub fn trouble(&self) -> Option<Trouble> {
        lock(&self.shared).trouble.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under the lock is one assignment or one insertion: a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A cache of what `feed` brings, and the task that keeps it: the caller spawns it, and ends it by dropping it.
///
/// `key` must not depend on anything about an object that can change. `parse` runs once for each version of an object.
/// `dirty` is marked when the first list is complete, when a fence is passed, whenever a value appears, goes or becomes
/// another, and when the first list meets trouble.
pub fn follow<O, K, V>(
    kind: &'static str,
    mut feed: Feed<O>,
    key: impl Fn(&O) -> K + Send + 'static,
    parse: impl Fn(O) -> V + Send + 'static,
    dirty: Dirty,
) -> (Cache<K, V>, impl Future<Output = Infallible> + Send + 'static)
where
    O: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K: Ord + Clone + Send + Sync + 'static,
    V: PartialEq + Send + Sync + 'static,
{
    let shared = Arc::new(Mutex::new(Shared { values: Snapshot::default(), trouble: None }));
    let (synced_tx, synced) = watch::channel(false);
    let (fences, mut asked) = watch::channel(0);
    let (listed_tx, listed) = watch::channel(0);
    let mut keeper = Keeper {
        kind,
        shared: Arc::clone(&shared),
        versions: BTreeMap::new(),
        listed: BTreeMap::new(),
        key,
        parse,
        dirty,
        synced: synced_tx,
        fence: 0,
        passed: listed_tx,
    };
    let task = async move {
        loop {
            tokio::select! {
                biased;
                // An error says that nobody has the cache any more, and so nobody will ask.
                Ok(()) = asked.changed() => {
                    keeper.fence = *asked.borrow_and_update();
                    feed.list_anew();
                }
                event = feed.next() => keeper.take(event),
            }
        }
    };
    (Cache { kind, shared, synced, fences: Arc::new(fences), listed }, task)
}

/// The resourceVersion that a value was parsed from.
type Stored = Box<str>;

struct Keeper<K, V, F, P> {
    kind: &'static str,
    shared: Arc<Mutex<Shared<K, V>>>,
    versions: BTreeMap<K, Stored>,
    /// The list that is coming in.
    listed: BTreeMap<K, (Stored, Arc<V>)>,
    key: F,
    parse: P,
    dirty: Dirty,
    synced: watch::Sender<bool>,
    /// The last fence before the list that is coming in, or that comes next.
    fence: u64,
    passed: watch::Sender<u64>,
}

impl<K: Ord + Clone, V: PartialEq, F, P> Keeper<K, V, F, P> {
    fn take<O>(&mut self, event: Event<O>)
    where
        O: Resource,
        F: Fn(&O) -> K,
        P: Fn(O) -> V,
    {
        match event {
            Event::Began => self.listed.clear(),
            Event::Item(object) => self.listed(object),
            Event::Listed => self.replace_all(),
            Event::Applied(object) => self.applied(object),
            Event::Deleted(object) => self.deleted(&(self.key)(&object)),
            Event::Trouble(trouble) => self.troubled(trouble),
        }
    }

    fn listed<O>(&mut self, object: O)
    where
        O: Resource,
        F: Fn(&O) -> K,
        P: Fn(O) -> V,
    {
        let (key, version) = ((self.key)(&object), version_of(&object));
        let known = self.versions.get(&key) == Some(&version);
        let kept = known.then(|| lock(&self.shared).values.get(&key).cloned()).flatten();
        let value = kept.unwrap_or_else(|| Arc::new((self.parse)(object)));
        self.listed.insert(key, (version, value));
    }

    fn replace_all(&mut self) {
        let mut values = BTreeMap::new();
        self.versions.clear();
        for (key, (version, value)) in std::mem::take(&mut self.listed) {
            self.versions.insert(key.clone(), version);
            values.insert(key, value);
        }
        let mut shared = lock(&self.shared);
        let first = !*self.synced.borrow();
        let changed = *shared.values != values;
        shared.trouble = None;
        if changed {
            shared.values = Arc::new(values);
        }
        drop(shared);
        tracing::debug!(kind = self.kind, objects = self.versions.len(), changed, "listed");
        self.synced.send_replace(true);
        let fence = self.passed.send_replace(self.fence) != self.fence;
        if first || changed || fence {
            self.dirty.mark();
        }
    }

    fn applied<O>(&mut self, object: O)
    where
        O: Resource,
        F: Fn(&O) -> K,
        P: Fn(O) -> V,
    {
        let (key, version) = ((self.key)(&object), version_of(&object));
        let value = (self.parse)(object);
        self.versions.insert(key.clone(), version);
        let mut shared = lock(&self.shared);
        shared.trouble = None;
        if shared.values.get(&key).is_some_and(|old| **old == value) {
            return;
        }
        Arc::make_mut(&mut shared.values).insert(key, Arc::new(value));
        drop(shared);
        self.dirty.mark();
    }

    fn deleted(&mut self, key: &K) {
        self.versions.remove(key);
        let mut shared = lock(&self.shared);
        shared.trouble = None;
        if shared.values.contains_key(key) {
            Arc::make_mut(&mut shared.values).remove(key);
            drop(shared);
            self.dirty.mark();
        }
    }

    fn troubled(&mut self, trouble: Trouble) {
        let known = lock(&self.shared).trouble.replace(trouble.clone());
        // Said once, not at each attempt.
        if known.as_ref() != Some(&trouble) {
            tracing::warn!(kind = self.kind, %trouble, "cannot follow; trying again");
            if !*self.synced.borrow() {
                self.dirty.mark();
            }
        }
    }
}

fn version_of(object: &impl Resource) -> Stored {
    object.resource_version().unwrap_or_default().into()
}
