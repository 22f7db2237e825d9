//! What only a real API server can show: that it keeps the promises the rest is built on.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt as _;
use herald_api::crd::IPAddressPool;
use herald_cluster::cache::{Dirty, follow};
use herald_cluster::client::Clients;
use herald_cluster::events::{Note, Severity, recorder};
use herald_cluster::feed::{Event as FeedEvent, Feed, Settings};
use herald_cluster::leader::bound::{self, SERVED_WITHIN};
use herald_cluster::leader::{Candidacy, Leadership, Timing, elect};
use herald_cluster::leases::{LeaseWatch, LeaseWriter, watch_leases};
use herald_core::ownership::record::{
    Claim, Holder, Incarnation, LeaseEvent, LeaseWrite, PROTOCOL, Session, Version, WriteOutcome,
};
use herald_core::time::Span;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, ObjectReference};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::{Api, CustomResourceExt as _, ResourceExt as _};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use self::api::server::Server;

mod api {
    pub(crate) mod server;
}

const DEADLINE: Duration = Duration::from_secs(30);
/// How often something that a slow machine makes unclear is tried.
const TRIES: usize = 5;
/// What a slow machine may add.
const SLACK: Duration = Duration::from_secs(4);

/// One server for all: starting one takes as long as everything that is asked of it.
#[tokio::test]
async fn a_real_api_server_keeps_the_promises_that_this_crate_builds_on() -> Result<()> {
    let server = Server::start().await?;
    let clients = server.clients().await?;
    conflicts_are_told_apart(&clients).await.context("conflicts are told apart")?;
    one_of_eight_takes(&clients).await.context("one of eight takes a claim")?;
    the_watch_shows_each_change(&clients).await.context("the watch shows each change")?;
    one_of_eight_leads(&clients).await.context("one of eight leads")?;
    events_are_counted(&clients).await.context("Events are counted")?;
    a_missing_kind_is_waited_for(&clients).await.context("a missing kind is waited for")?;
    a_list_of_several_pages_is_whole(&clients).await.context("a list of several pages is whole")?;
    a_watch_from_the_future_is_silent(&clients)
        .await
        .context("a watch from the future is silent")?;
    a_bound_write_is_given_up_by_the_server(&server, &clients)
        .await
        .context("a bound write is given up by the server")?;
    a_silent_server_costs_no_more_than_the_deadline(&server, &clients)
        .await
        .context("a silent server costs no more than the deadline")
}

fn session(node: &str, renewal: u64) -> Session {
    Session {
        node: node.into(),
        node_uid: "11111111-1111-1111-1111-111111111111".into(),
        open_for: Some(Incarnation("i1".into())),
        renewal,
        duration: Span::secs(6),
        protocol: PROTOCOL,
        links: vec![],
        leaving: false,
        doubted: false,
        closed: None,
    }
}

fn claim(address: &str, node: &str, transitions: u32) -> Claim {
    Claim {
        address: address.parse().expect("an address"),
        holder: Holder { node: node.into(), incarnation: Incarnation("i1".into()) },
        transitions,
        handing_over_to: None,
        contested: false,
    }
}

fn writer(clients: &Clients) -> LeaseWriter {
    LeaseWriter::new(clients.leases.clone(), "herald")
}

async fn stored(writer: &LeaseWriter, write: LeaseWrite) -> Result<Version> {
    match writer.write(&write).await.outcome {
        WriteOutcome::Stored(Some(version)) => Ok(version),
        other => bail!("{write:?}: {other:?}"),
    }
}

/// What becomes of a write that comes to nothing however often it is tried; one that was slow is sent twice, and says less.
async fn decided(writer: &LeaseWriter, write: &LeaseWrite) -> WriteOutcome {
    for _ in 0..TRIES {
        let outcome = writer.write(write).await.outcome;
        if outcome != WriteOutcome::Unknown {
            return outcome;
        }
    }
    WriteOutcome::Unknown
}

async fn conflicts_are_told_apart(clients: &Clients) -> Result<()> {
    let writer = writer(clients);
    let created = stored(&writer, LeaseWrite::Session(None, session("n1", 1))).await?;
    let replaced = LeaseWrite::Session(Some(created.clone()), session("n1", 2));
    let replaced = stored(&writer, replaced).await?;
    let closed = Session { open_for: None, ..session("n1", 2) };
    let replaced = stored(&writer, LeaseWrite::Session(Some(replaced), closed)).await?;
    let six = claim("2001:db8::1", "n1", 0);
    let claimed = stored(&writer, LeaseWrite::Claim(None, six.clone())).await?;
    let elsewhere = |version: &Version| Version {
        uid: "22222222-2222-2222-2222-222222222222".into(),
        ..version.clone()
    };
    let absent = claim("192.0.2.9", "n1", 0);
    let conflicts = [
        ("exists already", LeaseWrite::Session(None, session("n1", 3))),
        ("an older version", LeaseWrite::Session(Some(created.clone()), session("n1", 3))),
        ("another object", LeaseWrite::Session(Some(elsewhere(&replaced)), session("n1", 3))),
        ("gone", LeaseWrite::Claim(Some(created.clone()), absent.clone())),
        ("gone already", LeaseWrite::DeleteClaim(created.clone(), absent.address)),
        ("not this version", LeaseWrite::DeleteClaim(created, six.address)),
        ("not this object", LeaseWrite::DeleteClaim(elsewhere(&claimed), six.address)),
    ];
    for (case, write) in conflicts {
        let outcome = decided(&writer, &write).await;
        ensure!(outcome == WriteOutcome::Conflict, "{case}: {outcome:?}");
    }
    let nowhere = LeaseWriter::new(clients.leases.clone(), "nowhere");
    let outcome = decided(&nowhere, &LeaseWrite::Session(None, session("n1", 1))).await;
    ensure!(outcome == WriteOutcome::Refused, "no such namespace: {outcome:?}");
    let outcome = writer.write(&LeaseWrite::DeleteClaim(claimed, six.address)).await.outcome;
    ensure!(outcome == WriteOutcome::Stored(None), "deleted: {outcome:?}");
    Ok(())
}

/// The version of a Lease as it stands.
async fn stored_version(clients: &Clients, name: &str) -> Result<Version> {
    let leases: Api<Lease> = Api::namespaced(clients.writes.clone(), "herald");
    let metadata = leases.get(name).await?.metadata;
    Ok(Version {
        uid: metadata.uid.context("a uid")?.into(),
        resource: metadata.resource_version.context("a version")?.into(),
    })
}

async fn one_of_eight_takes(clients: &Clients) -> Result<()> {
    let writer = writer(clients);
    let mut version = None;
    let mut unclear = 0;
    for round in 0..30 {
        let mut writes = JoinSet::new();
        for n in 0..8 {
            let claim = claim("192.0.2.1", &format!("n{n}"), round);
            let write = LeaseWrite::Claim(version.clone(), claim);
            let writer = writer.clone();
            writes.spawn(async move { writer.write(&write).await.outcome });
        }
        let outcomes = writes.join_all().await;
        if outcomes.contains(&WriteOutcome::Unknown) {
            // One was slow, was sent twice, and cannot tell which of both came to nothing.
            unclear += 1;
            ensure!(unclear < TRIES, "round {round}: {outcomes:?}");
            version = Some(stored_version(clients, "vip-192-0-2-1").await?);
            continue;
        }
        let mut winners = outcomes.iter().filter_map(|outcome| match outcome {
            WriteOutcome::Stored(version) => Some(version.clone()),
            _ => None,
        });
        version = winners.next().flatten();
        ensure!(version.is_some() && winners.next().is_none(), "round {round}: {outcomes:?}");
        let lost = outcomes.iter().filter(|outcome| **outcome == WriteOutcome::Conflict).count();
        ensure!(lost == 7, "round {round}: {outcomes:?}");
    }
    Ok(())
}

async fn next(watch: &mut LeaseWatch) -> Result<LeaseEvent> {
    timeout(DEADLINE, watch.events.recv()).await?.context("the watch has ended")
}

async fn the_watch_shows_each_change(clients: &Clients) -> Result<()> {
    let writer = writer(clients);
    let (mut watch, task) = watch_leases(&clients.watches, "herald");
    let task = tokio::spawn(task);
    let LeaseEvent::Listed(sessions, claims) = next(&mut watch).await? else {
        bail!("a list comes first")
    };
    ensure!((sessions.len(), claims.len()) == (1, 1), "{sessions:?} {claims:?}");
    let mut version = None;
    for renewal in 0..20 {
        let wanted = session("n2", renewal);
        version = Some(stored(&writer, LeaseWrite::Session(version, wanted.clone())).await?);
        let event = next(&mut watch).await?;
        let expected = version.clone().map(|version| LeaseEvent::Session(version, wanted));
        ensure!(Some(&event) == expected.as_ref(), "{event:?}");
    }
    let address = claims.first().context("one claim")?.1.address;
    let claimed = claims.first().context("one claim")?.0.clone();
    writer.write(&LeaseWrite::DeleteClaim(claimed, address)).await;
    ensure!(next(&mut watch).await? == LeaseEvent::ClaimGone(address));
    watch.relist.ask();
    let LeaseEvent::Listed(sessions, claims) = next(&mut watch).await? else {
        bail!("a list was asked for")
    };
    ensure!((sessions.len(), claims.len()) == (2, 0), "{sessions:?} {claims:?}");
    task.abort();
    Ok(())
}

struct Replica {
    leadership: Leadership,
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

fn replica(clients: &Clients, identity: &str) -> Replica {
    let candidacy = Candidacy {
        namespace: "herald".to_owned(),
        name: "herald-controller".to_owned(),
        identity: identity.to_owned(),
        timing: Timing::default(),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async {
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let (leadership, task) = elect(clients.leases.clone(), candidacy, stopped);
    Replica { leadership, task: tokio::spawn(task), stop }
}

/// Waits until one of them leads, and takes it out.
async fn leader(replicas: &mut Vec<Replica>) -> Result<Replica> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let led: Vec<usize> =
            (0..replicas.len()).filter(|n| replicas[*n].leadership.held_now()).collect();
        ensure!(led.len() <= 1, "{} lead at once", led.len());
        if let [leader] = led[..] {
            return Ok(replicas.swap_remove(leader));
        }
        ensure!(Instant::now() < deadline, "nobody leads");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn one_of_eight_leads(clients: &Clients) -> Result<()> {
    let mut replicas: Vec<Replica> = (0..8).map(|n| replica(clients, &format!("r{n}"))).collect();
    for round in 0..6 {
        let first = leader(&mut replicas).await?;
        let ended = Instant::now();
        first.stop.send(()).ok().context("the election goes on")?;
        timeout(DEADLINE, first.task).await??;
        let next = leader(&mut replicas).await?;
        let took = ended.elapsed();
        ensure!(took < Duration::from_secs(1), "round {round}: a standby led after {took:?}");
        replicas.push(next);
    }
    let first = leader(&mut replicas).await?;
    first.task.abort();
    let crashed = Instant::now();
    let next = leader(&mut replicas).await?;
    let took = crashed.elapsed();
    ensure!(took < Duration::from_secs(5), "a crash was replaced after {took:?}");
    ensure!(!first.leadership.held_now(), "two lead");
    for replica in replicas.into_iter().chain([next]) {
        replica.task.abort();
    }
    Ok(())
}

async fn events_are_counted(clients: &Clients) -> Result<()> {
    let (recorder, task) = recorder(clients.writes.clone(), "metallb-controller", "host-1");
    for _ in 0..3 {
        recorder.publish(Note {
            about: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Service".to_owned()),
                namespace: Some("default".to_owned()),
                name: Some("web".to_owned()),
                ..ObjectReference::default()
            },
            severity: Severity::Warning,
            reason: "AllocationFailed",
            message: "no pool".to_owned(),
        });
    }
    ensure!(recorder.dropped().get() == 0);
    drop(recorder);
    timeout(DEADLINE, task).await?;
    let events: Api<Event> = Api::namespaced(clients.writes.clone(), "default");
    let selector = ListParams::default().fields("involvedObject.name=web");
    let events = events.list(&selector).await?.items;
    let [event] = events.as_slice() else { bail!("one Event, not {events:?}") };
    ensure!(event.count == Some(3), "{event:?}");
    ensure!(event.last_timestamp.is_some() && event.first_timestamp.is_some());
    Ok(())
}

async fn a_missing_kind_is_waited_for(clients: &Clients) -> Result<()> {
    let feed: Feed<IPAddressPool> = Feed::new(
        clients.watches.clone(),
        |client| Api::namespaced(client, "herald"),
        Settings::default(),
    );
    let (cache, task) =
        follow("IPAddressPool", feed, IPAddressPool::name_any, |_| (), Dirty::new());
    let task: JoinHandle<Infallible> = tokio::spawn(task);
    let deadline = Instant::now() + DEADLINE;
    while cache.trouble().is_none() {
        ensure!(Instant::now() < deadline, "nothing was said about it");
        sleep(Duration::from_millis(10)).await;
    }
    let reason = cache.readiness().err().context("it is not installed")?;
    ensure!(reason.contains("is its CRD installed?"), "{reason}");
    let definitions: Api<CustomResourceDefinition> = Api::all(clients.writes.clone());
    definitions.create(&PostParams::default(), &IPAddressPool::crd()).await?;
    timeout(DEADLINE, cache.synced()).await.context("installed, and not listed")?;
    ensure!(cache.readiness() == Ok(()), "{:?}", cache.readiness());
    task.abort();
    Ok(())
}

/// Objects of a list that takes more than one page.
const MANY: usize = 600;

async fn a_list_of_several_pages_is_whole(clients: &Clients) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(clients.writes.clone(), "herald");
    let mut writers = JoinSet::new();
    for writer in 0..10 {
        let maps = maps.clone();
        writers.spawn(async move {
            for number in (writer..MANY).step_by(10) {
                let metadata = json!({
                    "name": format!("many-{number:03}"), "labels": { "of": "many" },
                });
                let map = serde_json::from_value(json!({ "metadata": metadata }))?;
                maps.create(&PostParams::default(), &map).await?;
            }
            anyhow::Ok(())
        });
    }
    writers.join_all().await.into_iter().collect::<Result<()>>()?;
    let settings = Settings { labels: Some("of=many".to_owned()), ..Settings::default() };
    let namespaced = |client| Api::<ConfigMap>::namespaced(client, "herald");
    let mut feed = Feed::new(clients.watches.clone(), namespaced, settings);
    let mut seen = Vec::new();
    loop {
        match timeout(DEADLINE, feed.next()).await? {
            // Between the first page and the next: it is still the list of one moment.
            FeedEvent::Began => drop(maps.delete("many-599", &DeleteParams::default()).await?),
            FeedEvent::Item(map) => seen.push(map.name_any()),
            FeedEvent::Listed => break,
            other => bail!("{other:?}"),
        }
    }
    let all: Vec<String> = (0..MANY).map(|number| format!("many-{number:03}")).collect();
    ensure!(seen == all, "{seen:?}");
    match timeout(DEADLINE, feed.next()).await? {
        FeedEvent::Deleted(map) if map.name_any() == "many-599" => Ok(()),
        other => bail!("what came between two pages comes after them, not {other:?}"),
    }
}

async fn a_silent_server_costs_no_more_than_the_deadline(
    server: &Server,
    clients: &Clients,
) -> Result<()> {
    let writer = writer(clients);
    let version = stored(&writer, LeaseWrite::Session(None, session("n3", 1))).await?;
    let (mut watch, task) = watch_leases(&clients.watches, "herald");
    let task = tokio::spawn(task);
    next(&mut watch).await?;
    let suspended = server.suspend()?;
    let written = writer.write(&LeaseWrite::Session(Some(version), session("n3", 2))).await;
    ensure!(written.outcome == WriteOutcome::Unknown, "{written:?}");
    ensure!(written.took < Duration::from_secs(2), "{written:?}");
    watch.relist.ask();
    drop(suspended);
    let LeaseEvent::Listed(sessions, _) = next(&mut watch).await? else {
        bail!("a list was asked for")
    };
    ensure!(sessions.iter().any(|(_, session)| session.node.as_str() == "n3"), "{sessions:?}");
    task.abort();
    Ok(())
}

/// As one is that began before a restore from a backup: it is taken, and told nothing of what happens.
async fn a_watch_from_the_future_is_silent(clients: &Clients) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(clients.writes.clone(), "herald");
    let params = WatchParams { timeout: Some(2), ..WatchParams::default() };
    let mut events = pin!(maps.watch(&params, "1000000000").await?);
    let map = serde_json::from_value(json!({ "metadata": { "name": "unseen" } }))?;
    maps.create(&PostParams::default(), &map).await?;
    let told = timeout(DEADLINE, events.next()).await?;
    ensure!(told.is_none(), "{told:?}");
    Ok(())
}

/// A request may wait for the store for half a minute otherwise, and be stored then.
async fn a_bound_write_is_given_up_by_the_server(server: &Server, clients: &Clients) -> Result<()> {
    let candidacy = Candidacy {
        namespace: "herald".to_owned(),
        name: "bound".to_owned(),
        identity: "me".to_owned(),
        timing: Timing::default(),
    };
    let (leadership, task) = elect(clients.leases.clone(), candidacy, std::future::pending());
    let task = tokio::spawn(task);
    timeout(DEADLINE, leadership.gained()).await.context("it leads")?;
    let maps: Api<ConfigMap> =
        Api::namespaced(bound::door(clients, &leadership)?.enter().client, "herald");
    let map = serde_json::from_value(json!({ "metadata": { "name": "bound" } }))?;
    maps.create(&PostParams::default(), &map).await.context("a term's write is stored")?;
    let suspended = server.suspend_store()?;
    let began = Instant::now();
    let patch = Patch::Merge(json!({ "data": { "written": "late" } }));
    let params = PatchParams::default();
    let answer = timeout(DEADLINE, maps.patch("bound", &params, &patch)).await;
    drop(suspended);
    let Ok(Err(kube::Error::Api(status))) = answer else { bail!("{answer:?}") };
    ensure!(status.code == 504, "{status:?}");
    let took = began.elapsed();
    ensure!((SERVED_WITHIN..SERVED_WITHIN + SLACK).contains(&took), "{took:?}");
    task.abort();
    Ok(())
}
