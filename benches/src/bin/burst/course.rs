//! The course of one measurement, from an empty cluster to an empty cluster.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use herald_api::crd::{Counters, IPAddressPool, IPAddressPoolStatus};
use herald_benches::requests::Requests;
use herald_benches::table::{Table, Target, between, spread};
use herald_tests::lab::Lab;
use herald_tests::lab::http;
use herald_tests::lab::listener::Listener;
use herald_tests::lab::node::Node;
use herald_tests::lab::process::Process;
use k8s_openapi::api::core::v1::{Event, Service};
use kube::Api;
use kube::api::ListParams;
use tokio::time::{Instant, sleep};

use crate::leases;
use crate::load::{self, Created};
use crate::meter::Work;
use crate::sight::Sight;
use crate::world::{self, Kind};

/// For what is waited for and not measured, besides some time for each Service.
const SETTLE: Duration = Duration::from_secs(60);
/// How long nothing may be written or announced before the cluster counts as at rest.
const REST: Duration = Duration::from_secs(3);
/// How long a cluster at rest is watched.
const STEADY: Duration = Duration::from_secs(30);
/// How long after an edit of the pool is looked for what it causes: both rounds of announcements and more.
const EDIT: Duration = Duration::from_secs(10);
/// What the bench asks for itself, and what the API server then asks of itself for a Service's cluster IP.
const NOT_HERALDS: [&str; 6] = [
    "POST services",
    "DELETE services",
    "GET ipaddresses",
    "LIST ipaddresses",
    "POST ipaddresses",
    "DELETE ipaddresses",
];
/// Of what is reported a second, for a pool and for all ConfigurationStates.
const REPORTS: f64 = 2.0;
const NONE: Target = Target::Most(0.0);
/// Steady writes: sessions of speakers and the controller's Lease.
const RENEWALS: &str = "PUT leases";

/// Boots a cluster of `nodes`, runs the whole course in it with `count` Services of `kind`, and tells of it in `table`.
pub(crate) async fn run(
    nodes: u8,
    count: u16,
    kind: Kind,
    table: &mut Table,
) -> anyhow::Result<()> {
    let lab = Lab::boot_bare(nodes).await?;
    let course = Course::prepare(&lab, usize::from(count), kind).await?;
    let outcome = course.walk(table).await;
    if outcome.is_err() {
        lab.keep_folder();
    }
    outcome.with_context(|| lab.tails())
}

struct Course<'l> {
    lab: &'l Lab,
    client: kube::Client,
    count: usize,
    kind: Kind,
}

/// Herald at work.
struct Herald {
    controller: Process,
    speakers: Vec<Process>,
}

impl Herald {
    /// Asks all of it to end, and waits until it has.
    async fn stop(self) -> anyhow::Result<()> {
        for process in self.speakers.iter().chain([&self.controller]) {
            process.sigterm()?;
        }
        for process in self.speakers.iter().chain([&self.controller]) {
            process.exited(SETTLE).await?;
        }
        Ok(())
    }
}

impl<'l> Course<'l> {
    /// Installs Herald's objects and the endpoints, and starts nothing.
    async fn prepare(lab: &'l Lab, count: usize, kind: Kind) -> anyhow::Result<Self> {
        lab.install().await?;
        // The API server serves a new kind a moment after it took its definition.
        let configure = async || lab.apply(&world::configuration()).await;
        lab.await_condition("the pool is taken", SETTLE, configure).await?;
        let client = lab.client();
        let nodes: Vec<_> = lab.nodes().iter().map(Node::name).collect();
        load::back(&client, count, &nodes).await?;
        Ok(Self { lab, client, count, kind })
    }

    async fn walk(&self, table: &mut Table) -> anyhow::Result<()> {
        let (count, kind) = (self.count, self.kind.name());
        let nodes = self.lab.nodes().len();
        table.remark(&format!("{count} Services, {kind}, {nodes} nodes"));
        let sight = Sight::open(self.client.clone());
        let mut listener = self.lab.listen().await?;
        let before = self.alone().await?;
        let herald = self.start().await?;
        memory(table, &herald, 0)?;
        let with = self.burst(table, &herald, &sight, &mut listener).await?;
        memory(table, &herald, count)?;
        self.steady(table, &mut listener).await?;
        self.edit(table, &mut listener).await?;
        self.clear(table, &herald, &sight).await?;
        memory_after(table, &herald)?;
        herald.stop().await?;
        table.told("creates a second", with, "/s");
        // A machine is not as fast at all times: what came before and what comes after count alike.
        if let Some(before) = before
            && let Some(after) = self.alone().await?
        {
            table.told("  without Herald, before", before, "/s");
            table.told("  without Herald, after", after, "/s");
            let share = 100.0 * with / before.midpoint(after);
            table.beside("  of those without", share, "%", Target::Least(50.0), Some(20.0));
        }
        Ok(())
    }

    /// Creates and deletes the Services without Herald; creations per second. Not for more Services or nodes than the
    /// target speaks of: more speakers than three leave nothing of this one machine.
    async fn alone(&self) -> anyhow::Result<Option<f64>> {
        if self.count > 1000 || self.lab.nodes().len() > 3 {
            return Ok(None);
        }
        let created = load::create(&self.client, self.kind, self.count).await?;
        load::delete(&self.client, self.count).await?;
        Ok(Some(created.rate()))
    }

    /// Starts Herald and waits until it is ready for Services.
    async fn start(&self) -> anyhow::Result<Herald> {
        let controller = self.lab.start_controller(0, &["--pod-name", "controller-0"])?;
        let nodes = self.lab.nodes().iter();
        let speakers = nodes.map(|node| self.lab.start_speaker(node, &[]));
        let speakers = speakers.collect::<anyhow::Result<Vec<_>>>()?;
        let leads = async || {
            let answer = self.lab.ask_controller(0, 9120, "/metrics").await?;
            ensure!(answer.body.contains("herald_controller_leading 1"), "it does not");
            Ok(())
        };
        self.lab.await_condition("the controller leads", SETTLE, leads).await?;
        for node in self.lab.nodes() {
            let ready = async || {
                let health = SocketAddr::from(([127, 0, 0, 1], 17472));
                let get = http::get(health, "/readyz", Duration::from_secs(1));
                let answer = node.namespace().spawn(get).await??;
                ensure!(answer.status == 200, "{answer:?}");
                Ok(())
            };
            self.lab.await_condition("its speaker is ready", SETTLE, ready).await?;
        }
        Ok(Herald { controller, speakers })
    }

    /// The burst itself, until nothing follows from it any more; creations per second.
    async fn burst(
        &self,
        table: &mut Table,
        herald: &Herald,
        sight: &Sight,
        listener: &mut Listener,
    ) -> anyhow::Result<f64> {
        listener.forget();
        let requests = Requests::read(&self.client).await?;
        let groups = self.groups(herald);
        let work = Work::read(&groups)?;
        let created = load::create(&self.client, self.kind, self.count).await?;
        let patience = SETTLE + self.patience();
        self.lab
            .await_condition("every Service has its address", patience, async || {
                let addressed = sight.count();
                ensure!(addressed == self.count, "{addressed} of {} have one", self.count);
                Ok(())
            })
            .await?;
        self.lab
            .await_condition("every address was announced", patience, async || {
                let heard = listener.heard().await?.first.len();
                ensure!(heard == self.count, "{heard} of {} were", self.count);
                Ok(())
            })
            .await?;
        let work = Work::read(&groups)?.since(&work);
        let reported = Requests::read(&self.client).await?.writes_since(&requests);
        let lasted = between(created.began(), SystemTime::now());
        self.waited(table, &created, sight, listener).await?;
        table.remark(&format!("until the last announcement: {work}"));
        self.rest(listener).await?;
        let settled = between(created.ended, SystemTime::now()).saturating_sub(REST);
        table.told("last create → at rest", settled.as_secs_f64(), "s");
        let all = Requests::read(&self.client).await?.since(&requests);
        self.requested(table, &all).await?;
        self.reported(table, &reported, lasted).await?;
        Ok(created.rate())
    }

    /// What clients waited for.
    async fn waited(
        &self,
        table: &mut Table,
        created: &Created,
        sight: &Sight,
        listener: &mut Listener,
    ) -> anyhow::Result<()> {
        let (seen, heard) = (sight.addressed(), listener.heard().await?);
        let (mut to_address, mut to_wire) = (Vec::new(), Vec::new());
        let mut last = created.ended;
        for (number, &asked) in created.asked.iter().enumerate() {
            let (address, at) = seen.get(&world::name(number)).context("its address")?;
            let announced = heard.first.get(address).context("its announcement")?;
            to_address.push(between(asked, *at));
            to_wire.push(between(asked, *announced));
            last = last.max(*at);
        }
        let (what, metallb) = ("last create → last address", self.kind.metallb());
        let last = between(created.ended, last).as_secs_f64();
        table.beside(what, last, "s", Target::Most(1.0), metallb);
        let [median, late, most] = spread(to_address);
        table.told("create → address, median", median, "s");
        table.told("  99 of 100", late, "s");
        table.told("  longest", most, "s");
        let [median, late, most] = spread(to_wire);
        table.told("create → first announcement on the wire, median", median, "s");
        table.beside("  99 of 100", late, "s", Target::Most(1.5), Some(5.5));
        table.told("  longest", most, "s");
        if heard.lost > 0 {
            table.told("  frames that the bench has lost", f64::from(heard.lost), "");
        }
        Ok(())
    }

    /// What the burst made the API server do.
    async fn requested(&self, table: &mut Table, asked: &Requests) -> anyhow::Result<()> {
        let services = self.count as f64;
        let all = asked.all_but(&NOT_HERALDS) / services;
        let metallb = match self.lab.nodes().len() {
            3 => Some(11.0),
            10 => Some(17.0),
            _ => None,
        };
        let what = "API requests for each Service, reads among them";
        table.beside(what, all, "", Target::Most(7.0), metallb);
        for (what, count) in &asked.0 {
            if !NOT_HERALDS.contains(&what.as_str()) {
                table.told(&format!("  {what}"), *count, "");
            }
        }
        let events: Api<Event> = Api::default_namespaced(self.client.clone());
        let events = events.list(&ListParams::default()).await.context("list the Events")?;
        for component in ["metallb-controller", "metallb-speaker"] {
            let by = |event: &&Event| {
                let source = event.source.as_ref().and_then(|source| source.component.as_deref());
                source == Some(component)
            };
            let count = events.items.iter().filter(by).count();
            table.told(&format!("  Events by {component}"), count as f64, "");
        }
        Ok(())
    }

    /// What was written of the pool and of the configuration while the burst lasted, and whether it is true in the end.
    async fn reported(
        &self,
        table: &mut Table,
        written: &Requests,
        lasted: Duration,
    ) -> anyhow::Result<()> {
        let rows = [
            ("ipaddresspools", "writes of the pool's status during the burst"),
            ("configurationstates", "writes of ConfigurationStates during the burst"),
        ];
        for (kind, what) in rows {
            // The first goes at once; those after it have their pace.
            let later = (written.about(kind) - 1.0).max(0.0);
            table.judged(what, later / lasted.as_secs_f64(), "/s", Target::Most(REPORTS));
        }
        let pools: Api<IPAddressPool> = Api::namespaced(self.client.clone(), world::SYSTEM);
        let status = pools.get(world::POOL).await.context("read the pool")?.status;
        let counters = status.as_ref().and_then(IPAddressPoolStatus::counters);
        let Counters { assigned, available } = counters.context("the pool's counters")?;
        let count = i64::try_from(self.count)?;
        let off = assigned[0].abs_diff(count) + available[0].abs_diff(world::MOST - count);
        let off = off + assigned[1].unsigned_abs() + available[1].unsigned_abs();
        table.judged("  addresses by which its counters are wrong", off as f64, "", NONE);
        Ok(())
    }

    /// A cluster at rest.
    async fn steady(&self, table: &mut Table, listener: &mut Listener) -> anyhow::Result<()> {
        listener.forget();
        let requests = Requests::read(&self.client).await?;
        let claims = leases::claims(&self.client).await?;
        sleep(STEADY).await;
        let written = Requests::read(&self.client).await?.writes_since(&requests);
        let what = format!("{} s at rest: writes but renewals of Leases", STEADY.as_secs());
        table.judged(&what, written.all_but(&[RENEWALS]), "", NONE);
        let changed = leases::claims(&self.client).await?.changed_since(&claims);
        table.judged("  claims written", changed as f64, "", NONE);
        table.told("  renewals", written.of(RENEWALS), "");
        let frames = listener.heard().await?.frames as f64;
        table.judged("  announcements", frames, "", NONE);
        Ok(())
    }

    /// A range is added to the pool in use.
    async fn edit(&self, table: &mut Table, listener: &mut Listener) -> anyhow::Result<()> {
        listener.forget();
        let requests = Requests::read(&self.client).await?;
        self.lab.apply(&world::larger_pool()).await?;
        sleep(EDIT).await;
        let written = Requests::read(&self.client).await?.writes_since(&requests);
        let of_services = written.0.iter().filter(|(what, _)| what.contains(" services"));
        let of_services: f64 = of_services.map(|(_, count)| count).sum();
        let what = "a range added to the pool: writes of Services";
        table.beside(what, of_services, "", NONE, Some(1_000.0));
        let frames = listener.heard().await?.frames as f64;
        table.beside("  announcements", frames, "", NONE, Some(10_000.0));
        table.told("  all writes but renewals", written.all_but(&[RENEWALS]), "");
        Ok(())
    }

    /// Everything is deleted.
    async fn clear(&self, table: &Table, herald: &Herald, sight: &Sight) -> anyhow::Result<()> {
        let requests = Requests::read(&self.client).await?;
        let groups = self.groups(herald);
        let work = Work::read(&groups)?;
        let began = Instant::now();
        load::delete(&self.client, self.count).await?;
        let deleted = began.elapsed();
        self.lab
            .await_condition("the Services are gone", SETTLE, async || {
                ensure!(sight.count() == 0, "{} are there", sight.count());
                let services: Api<Service> = Api::default_namespaced(self.client.clone());
                let left = services.list(&ListParams::default()).await?.items.len();
                ensure!(left == 1, "{left} beside the API server's own");
                Ok(())
            })
            .await?;
        self.lab
            .await_condition("no claim is left", SETTLE + self.patience(), async || {
                let left = leases::claims(&self.client).await?.count();
                ensure!(left == 0, "{left} are");
                Ok(())
            })
            .await?;
        table.told("all deleted in", deleted.as_secs_f64(), "s");
        table.told("  the last claim gone after", began.elapsed().as_secs_f64(), "s");
        let written = Requests::read(&self.client).await?.writes_since(&requests);
        let caused = written.all_but(&NOT_HERALDS) / self.count as f64;
        table.told("  API requests for each Service", caused, "");
        table.remark(&format!(
            "until the last claim was gone: {}",
            Work::read(&groups)?.since(&work)
        ));
        Ok(())
    }

    /// Waits until for a while nothing was written but renewals, and nothing announced.
    async fn rest(&self, listener: &mut Listener) -> anyhow::Result<()> {
        let end = Instant::now() + SETTLE + self.patience();
        loop {
            let (requests, frames) = self.so_far(listener).await?;
            sleep(REST).await;
            let (now, frames_now) = self.so_far(listener).await?;
            let written = now.writes_since(&requests).all_but(&[RENEWALS]);
            if written == 0.0 && frames == frames_now {
                return Ok(());
            }
            ensure!(Instant::now() < end, "it never comes to rest: {written} writes in {REST:?}");
        }
    }

    async fn so_far(&self, listener: &mut Listener) -> anyhow::Result<(Requests, u64)> {
        Ok((Requests::read(&self.client).await?, listener.heard().await?.frames))
    }

    /// Time for each Service, were everything slow.
    fn patience(&self) -> Duration {
        Duration::from_millis(30) * u32::try_from(self.count).unwrap_or(u32::MAX)
    }

    fn groups(&self, herald: &Herald) -> [(&'static str, Vec<Process>); 4] {
        let plane = self.lab.control_plane();
        [
            ("controller", vec![herald.controller.clone()]),
            ("speakers", herald.speakers.clone()),
            ("API server", vec![plane.apiserver()]),
            ("etcd", vec![plane.etcd().clone()]),
        ]
    }
}

/// Megabytes resident that the controller may have, and what MetalLB's had.
const fn allowed(services: usize) -> (f64, Option<f64>) {
    match services {
        0 => (15.0, Some(57.0)),
        1000 => (30.0, Some(76.0)),
        1..1000 => (30.0, None),
        _ => (120.0, None),
    }
}

fn memory(table: &mut Table, herald: &Herald, services: usize) -> anyhow::Result<()> {
    let (controller, speakers) = resident(herald)?;
    let what = format!("controller resident, {services} Services");
    let (most, metallb) = allowed(services);
    table.beside(&what, controller, "MB", Target::Most(most), metallb);
    table.told("  the largest speaker", speakers, "MB");
    Ok(())
}

fn memory_after(table: &Table, herald: &Herald) -> anyhow::Result<()> {
    let (controller, speakers) = resident(herald)?;
    table.told("controller resident after all", controller, "MB");
    table.told("  the largest speaker", speakers, "MB");
    Ok(())
}

/// Of the controller and of the largest speaker, in megabytes.
fn resident(herald: &Herald) -> anyhow::Result<(f64, f64)> {
    let of = |process: &Process| anyhow::Ok(process.resident_bytes()? as f64 / 1e6);
    let speakers = herald.speakers.iter().map(of).collect::<anyhow::Result<Vec<_>>>()?;
    Ok((of(&herald.controller)?, speakers.into_iter().fold(0.0, f64::max)))
}
