//! List, then watch, and again when anything breaks: all objects of one kind, as a sequence of events.
//!
//! This is kube's `watcher` with four things that it does not give: a list can be asked for at any time and is then
//! consistent; a list or watch that nobody answers is noticed soon and sent again over fresh connections; a server whose
//! history went back, as after a restore from a backup, is listed anew; and what is wrong is an event, not only a log line.
//!
//! ```text
//!        ┌────────────── 410, unreadable event, list_anew() ◀───────────┐
//!        ▼                                                              │
//!   list, page by page ──▶ open the watch there ──▶ events, bookmarks ──┤
//!        │                        ▲                                     │
//!        └──── no answer, error ──┴── back-off, fresh connections ◀─────┘ silence, error
//! ```
//!
//! A watch that ends is opened again where it was; one that brought nothing, after a look at where the server stands.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{BoxStream, FuturesUnordered};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::ObjectList;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::{Door, Visit};

#[cfg(test)]
mod tests;

/// Objects asked for at a time: what is held of a large list at once.
const PAGE: u32 = 500;
/// The first wait after something failed; it doubles with each failure in a row. Up to half of each wait is spared, at
/// random: a hundred speakers that lost the same server must not come back in step.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// A watch that ended sooner than this, and brought nothing, counts as failed: a server that ends each at once must
/// not be asked in a tight loop.
const SHORT_WATCH: Duration = Duration::from_secs(1);

/// What a feed reads, and how long it waits for it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Only objects with these labels.
    pub labels: Option<String>,
    /// Only objects with these fields.
    pub fields: Option<String>,
    /// How long the server is asked to hold one watch open, in whole seconds, and at random up to a quarter less, as
    /// watches that began together must not all end together. One that is not closed 3 s after that is dead.
    pub watch: Duration,
    /// How long one page of a list, or the opening of a watch, may take.
    pub answer: Duration,
    /// After how long without an answer a list is sent again on a fresh connection.
    pub resend: Duration,
    /// The longest wait between two attempts.
    pub longest_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            labels: None,
            fields: None,
            watch: Duration::from_secs(30),
            answer: Duration::from_secs(10),
            resend: Duration::from_secs(2),
            longest_wait: Duration::from_secs(5),
        }
    }
}

/// A page is asked for so often: a fresh connection may lead to a machine that is dead as well.
const ATTEMPTS: usize = 3;
/// How long after its due end a watch is given up.
const WATCH_GRACE: Duration = Duration::from_secs(3);

/// What happened.
#[derive(Debug)]
pub enum Event<K> {
    /// A list begins: forget an earlier one that did not end.
    Began,
    /// An object of the list.
    Item(K),
    /// The list is complete: what it did not bring does not exist.
    Listed,
    /// An object was created or changed.
    Applied(K),
    /// An object was deleted; this is its last state.
    Deleted(K),
    /// Something failed. The feed goes on by itself, after a wait.
    Trouble(Trouble),
}

/// What is wrong between us and the API server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The kind is not known there: its CRD is not installed.
    #[error("the API server does not know the kind: is its CRD installed?")]
    UnknownKind,
    /// The server refused.
    #[error("the API server refuses: {0}")]
    Refused(String),
    /// The server answered that it cannot.
    #[error("the API server fails: {0}")]
    Failing(String),
    /// No connection, or one that broke.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer from the API server for {0:?}")]
    Silent(Duration),
    /// The answer makes no sense.
    #[error("an answer that cannot be read: {0}")]
    Unreadable(String),
}

impl Trouble {
    /// What `error` tells about the connection.
    pub(crate) fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                404 => Self::UnknownKind,
                401 | 403 => Self::Refused(status.message.clone()),
                _ => Self::Failing(format!("{} {}", status.code, status.message)),
            },
            kube::Error::SerdeError(error) => Self::Unreadable(error.to_string()),
            other => Self::Unreachable(chain(other)),
        }
    }

    fn needs_fresh_connection(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Silent(_))
    }
}

/// An error with its causes: the outermost alone says little more than that something failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The objects of one kind, as events.
pub struct Feed<K> {
    door: Door,
    api: Arc<dyn Fn(Client) -> Api<K> + Send + Sync>,
    settings: Settings,
    visit: Visit,
    step: Step<K>,
    /// The version that the next watch begins at; `None` when a list must come first.
    version: Option<String>,
    failures: u32,
    ready: VecDeque<Event<K>>,
}

enum Step<K> {
    /// Nothing is asked before this moment.
    Rest(Instant),
    List {
        continue_token: Option<String>,
    },
    Open,
    /// The last watch brought nothing at all.
    Check,
    Watch {
        stream: BoxStream<'static, kube::Result<WatchEvent<K>>>,
        dead_at: Instant,
        opened: Instant,
        brought: bool,
    },
}

impl<K> Feed<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// A feed of what `api` names, such as `|client| Api::namespaced(client, "herald-system")`.
    pub fn new(
        door: Door,
        api: impl Fn(Client) -> Api<K> + Send + Sync + 'static,
        settings: Settings,
    ) -> Self {
        let visit = door.enter();
        Self {
            door,
            api: Arc::new(api),
            settings,
            visit,
            step: Step::List { continue_token: None },
            version: None,
            failures: 0,
            ready: VecDeque::new(),
        }
    }

    /// Gives up the watch and lists anew, consistently: what was stored before this call will be in that list. If another
    /// user of the door had to look for an answer elsewhere, the list is asked for there.
    pub fn list_anew(&mut self) {
        self.visit = self.door.enter();
        self.ready.clear();
        self.begin_list();
    }

    /// Whether a list is under way or about to begin: [`Event::Listed`] is yet to come.
    pub fn is_listing(&self) -> bool {
        self.version.is_none() || !self.ready.is_empty()
    }

    /// The next event. May be dropped before it is ready: nothing is lost.
    pub async fn next(&mut self) -> Event<K> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            let result = match &mut self.step {
                Step::Rest(until) => {
                    sleep_until(*until).await;
                    self.resume();
                    Ok(())
                }
                Step::List { continue_token } => {
                    let token = continue_token.clone();
                    self.list_page(token).await
                }
                Step::Open => self.open().await,
                Step::Check => self.check().await,
                Step::Watch { .. } => self.watch().await,
            };
            if let Err(trouble) = result {
                self.fail(trouble);
            }
        }
    }

    fn begin_list(&mut self) {
        self.version = None;
        self.step = Step::List { continue_token: None };
    }

    fn resume(&mut self) {
        self.step = match self.version {
            Some(_) => Step::Open,
            None => Step::List { continue_token: None },
        };
    }

    fn fail(&mut self, trouble: Trouble) {
        if trouble.needs_fresh_connection() {
            self.visit = self.door.enter_anew(&self.visit);
        }
        self.rest();
        self.ready.push_back(Event::Trouble(trouble));
    }

    fn rest(&mut self) {
        let doubled = FIRST_WAIT.saturating_mul(1 << self.failures.min(16));
        let longest = doubled.min(self.settings.longest_wait);
        self.failures += 1;
        self.step = Step::Rest(Instant::now() + longest - self.door.up_to(longest / 2));
    }

    async fn list_page(&mut self, token: Option<String>) -> Result<(), Trouble> {
        let first = token.is_none();
        let params = ListParams { limit: Some(PAGE), continue_token: token, ..self.selected() };
        let page = match self.ask_for_page(&params).await {
            Ok(page) => page,
            Err(trouble) => {
                // Pages of two lists must not be mixed: the next attempt begins with the first page.
                self.begin_list();
                return Err(trouble);
            }
        };
        if first {
            self.ready.push_back(Event::Began);
        }
        self.ready.extend(page.items.into_iter().map(Event::Item));
        let next = page.metadata.continue_.filter(|token| !token.is_empty());
        if next.is_some() {
            self.step = Step::List { continue_token: next };
            return Ok(());
        }
        self.version = Some(page.metadata.resource_version.unwrap_or_default());
        self.step = Step::Open;
        self.ready.push_back(Event::Listed);
        Ok(())
    }

    async fn ask_for_page(&mut self, params: &ListParams) -> Result<ObjectList<K>, Trouble> {
        let asked = Instant::now();
        let list = |visit: Visit| {
            let api = (self.api)(visit.client.clone());
            async move { (visit, api.list(params).await) }
        };
        let mut last = self.visit.clone();
        let mut pending = FuturesUnordered::from_iter([list(last.clone())]);
        let mut resend_at = asked + self.settings.resend;
        loop {
            tokio::select! {
                biased;
                Some((visit, answer)) = pending.next() => {
                    self.visit = visit;
                    return answer.map_err(|error| Trouble::of(&error));
                }
                () = sleep_until(asked + self.settings.answer) => {
                    self.visit = last;
                    return Err(Trouble::Silent(self.settings.answer));
                }
                () = sleep_until(resend_at), if pending.len() < ATTEMPTS => {
                    let again = self.door.enter_anew(&last);
                    if pending.len() == 1 || again.leads_elsewhere_than(&last) {
                        pending.push(list(again.clone()));
                        last = again;
                    }
                    resend_at = Instant::now() + self.settings.resend;
                }
            }
        }
    }

    /// A watch ended that brought nothing, not even a bookmark. Nothing of the kind may have happened. Or the server's
    /// history begins anew before the place where that watch began: it takes such a watch, and says nothing until it is past
    /// that place again, which may be hours. Versions are compared as numbers, as Kubernetes promises that they may be.
    async fn check(&mut self) -> Result<(), Trouble> {
        let page = self.ask_for_page(&ListParams { limit: Some(1), ..self.selected() }).await?;
        let number = |version: Option<&String>| version?.parse::<u64>().ok();
        let stands = number(page.metadata.resource_version.as_ref());
        let went_back = stands.zip(number(self.version.as_ref())).is_some_and(|(is, was)| is < was);
        match went_back {
            true => self.begin_list(),
            false => self.step = Step::Open,
        }
        Ok(())
    }

    fn selected(&self) -> ListParams {
        ListParams {
            label_selector: self.settings.labels.clone(),
            field_selector: self.settings.fields.clone(),
            ..ListParams::default()
        }
    }

    async fn open(&mut self) -> Result<(), Trouble> {
        let whole = self.settings.watch;
        let lasting = (whole - self.door.up_to(whole / 4)).as_secs().max(1);
        let params = WatchParams {
            label_selector: self.settings.labels.clone(),
            field_selector: self.settings.fields.clone(),
            timeout: Some(u32::try_from(lasting).unwrap_or(u32::MAX)),
            bookmarks: true,
            ..WatchParams::default()
        };
        let opened = Instant::now();
        let api = (self.api)(self.visit.client.clone());
        let version = self.version.clone().unwrap_or_default();
        let answer = timeout_at(opened + self.settings.answer, api.watch(&params, &version)).await;
        let stream = match answer {
            Err(_) => return Err(Trouble::Silent(self.settings.answer)),
            Ok(Err(error)) => return self.broken(&error),
            Ok(Ok(stream)) => stream.boxed(),
        };
        let dead_at = opened + Duration::from_secs(lasting) + WATCH_GRACE;
        self.step = Step::Watch { stream, dead_at, opened, brought: false };
        Ok(())
    }

    async fn watch(&mut self) -> Result<(), Trouble> {
        let Step::Watch { stream, dead_at, opened, brought } = &mut self.step else {
            return Ok(());
        };
        let Ok(next) = timeout_at(*dead_at, stream.next()).await else {
            return Err(Trouble::Silent(*dead_at - *opened));
        };
        let (event, version) = match next {
            None if !*brought && opened.elapsed() < SHORT_WATCH => {
                self.rest();
                return Ok(());
            }
            None => {
                self.failures = 0;
                self.step = if *brought { Step::Open } else { Step::Check };
                return Ok(());
            }
            Some(Ok(WatchEvent::Error(status))) => {
                return self.broken(&kube::Error::Api(status));
            }
            Some(Err(error)) => return self.broken(&error),
            Some(Ok(WatchEvent::Bookmark(mark))) => (None, Some(mark.metadata.resource_version)),
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                let version = object.resource_version();
                (Some(Event::Applied(object)), version)
            }
            Some(Ok(WatchEvent::Deleted(object))) => {
                let version = object.resource_version();
                (Some(Event::Deleted(object)), version)
            }
        };
        *brought = true;
        self.failures = 0;
        if version.is_some() {
            self.version = version;
        }
        self.ready.extend(event);
        Ok(())
    }

    /// A watch that failed: what it needs before the next one.
    fn broken(&mut self, error: &kube::Error) -> Result<(), Trouble> {
        match error {
            kube::Error::Api(status) if status.code == 410 => {
                self.begin_list();
                // A server that answers 410 to every watch must not be listed in a tight loop.
                if self.failures > 0 {
                    self.rest();
                }
                self.failures += 1;
                Ok(())
            }
            // An event that cannot be read is lost; only a list can show what it said. kube takes any such line for a
            // Status, whose fields are all optional: one without a code is none.
            kube::Error::Api(status) if status.code == 0 => {
                self.begin_list();
                Err(Trouble::Unreadable("a watch event of another shape".to_owned()))
            }
            kube::Error::SerdeError(_) => {
                self.begin_list();
                Err(Trouble::of(error))
            }
            _ => Err(Trouble::of(error)),
        }
    }
}
