//! A foreign host has an address of the pool before a Service gets it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use herald_benches::table::{Table, Target, between, spread};
use herald_tests::lab::Lab;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use tokio::time::sleep;

use crate::histogram::histogram;
use crate::stage::{SETTLE, Stage};

const ASKS: Duration = Duration::from_millis(20);
/// How long the host stays after it was told of.
const STAYS: Duration = Duration::from_secs(3);

/// The client has an address, run by run another; who tells of it, when, and when it is announced once it is free.
pub(crate) async fn run(lab: &Lab, runs: u16, table: &mut Table) -> anyhow::Result<()> {
    ensure!(runs <= 200, "a run takes an address, of which there are 200");
    let stage = Stage::set(lab).await?;
    stage.speak()?;
    stage.sessions_open().await?;
    let (mut told, mut announced, mut early) = (Vec::new(), Vec::new(), 0);
    for number in 1..=runs {
        let host = u8::try_from(number).context("a small number")?;
        let vip = IpAddr::from(Ipv4Addr::new(192, 168, 112, host));
        let (after, again, before) = one(&stage, &format!("c{number}"), vip).await?;
        told.push(after);
        announced.push(again);
        early += before;
    }
    table.remark(&format!("a foreign host has the address, {runs} runs"));
    table.remark("until it is told:");
    table.remark(&histogram(&told));
    table.remark("until it is announced, once the host has left:");
    table.remark(&histogram(&announced));
    let [median, late, longest] = spread(told);
    table.told("address in the Service → AddressConflict, median", median, "s");
    table.judged("  99 of 100", late, "s", Target::Most(1.0));
    table.told("  longest", longest, "s");
    table.judged("announcements while it stays", early as f64, "", Target::Most(0.0));
    let [median, late, longest] = spread(announced);
    table.told("it leaves → announced, median", median, "s");
    table.judged("  99 of 100", late, "s", Target::Most(5.0));
    table.told("  longest", longest, "s");
    Ok(())
}

/// How long it took until the conflict was told, from the leaving to the announcement, and announcements before that.
async fn one(
    stage: &Stage<'_>,
    name: &str,
    vip: IpAddr,
) -> anyhow::Result<(Duration, Duration, usize)> {
    let lab = stage.lab;
    let squat = |verb: &str| {
        lab.client_namespace().ip_batch(&[format!("address {verb} {vip}/32 dev lan0")])
    };
    squat("add")?;
    let prober = lab.probe(&[vip], ASKS).await?;
    stage.serve(name, &[vip]).await?;
    let served = SystemTime::now();
    let events: Api<Event> = Api::default_namespaced(lab.client());
    lab.await_condition("the conflict is told", SETTLE, async || {
        let listed = events.list(&ListParams::default()).await?;
        let told = listed.items.iter().any(|event| {
            event.reason.as_deref() == Some("AddressConflict")
                && event.involved_object.name.as_deref() == Some(name)
        });
        ensure!(told, "it is not");
        Ok(())
    })
    .await?;
    let told = between(served, SystemTime::now());
    sleep(STAYS).await;
    let early = prober.seen(vip)?.announcements.len();
    squat("del")?;
    let left = SystemTime::now();
    let announced = lab
        .await_condition("it is announced", SETTLE, async || {
            let seen = prober.seen(vip)?;
            let first = seen.announcements.iter().find(|one| one.at >= left);
            Ok(first.context("it is not")?.at)
        })
        .await?;
    stage.services().delete(name, &DeleteParams::default()).await.context("delete it")?;
    Ok((told, between(left, announced), early))
}
