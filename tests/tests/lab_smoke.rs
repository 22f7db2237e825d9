//! The lab itself, without Herald: whatever fails here is not Herald's fault.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use herald_tests::lab::controlplane::assets;
use herald_tests::lab::endpoint::Endpoint;
use herald_tests::lab::process::Program;
use herald_tests::lab::wait::await_condition;
use herald_tests::lab::{Lab, namespace};
use tokio::io::{AsyncBufReadExt, BufReader};

const PATIENCE: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_secs(20);

/// GETs from `vip` as the client, until the first line of the answer is `backend`; returns the second line.
async fn reach(lab: &Lab, vip: IpAddr, backend: &str) -> anyhow::Result<String> {
    let what = format!("{backend} answers at {vip}");
    lab.await_condition(&what, SETTLE, async || {
        let answer = lab.get(SocketAddr::new(vip, 80), PATIENCE).await?;
        ensure!(answer.status == 200, "{answer:?}");
        let (name, client) = answer.body.trim().split_once('\n').context("two lines")?;
        ensure!(name == backend, "{answer:?}");
        Ok(client.to_owned())
    })
    .await
}

#[tokio::test]
async fn a_client_reaches_vips_through_kube_proxy_and_nothing_is_left_behind() -> anyhow::Result<()>
{
    let began = Instant::now();
    let lab = Lab::boot(3).await?;
    eprintln!("booted in {:?}", began.elapsed());
    let pids = [lab.control_plane().etcd().pid(), lab.control_plane().apiserver().pid()];
    reached_through_every_kind_of_service(&lab).await?;
    faults_are_felt(&lab).await?;
    let (name, folder) = (lab.name().to_owned(), lab.folder().to_owned());
    ensure!(namespace::existing(&name)?.len() == 6, "switch, api, client and three nodes");
    drop(lab);
    ensure!(!folder.exists(), "{} is left", folder.display());
    let left = namespace::existing(&name)?;
    ensure!(left.is_empty(), "namespaces are left: {left:?}");
    for pid in pids {
        ensure!(!std::fs::exists(format!("/proc/{pid}"))?, "process {pid} is left");
    }
    Ok(())
}

async fn reached_through_every_kind_of_service(lab: &Lab) -> anyhow::Result<()> {
    let [first, second, _] = lab.nodes() else { anyhow::bail!("three nodes") };
    let far = second.start_backend("far").await?;
    let near = first.start_backend("near").await?;
    let v4: IpAddr = "192.168.112.1".parse()?;
    let v6: IpAddr = "fd00:99::112:1".parse()?;
    let local: IpAddr = "192.168.112.2".parse()?;
    lab.serve("v4", "Cluster", &[v4]).await?;
    lab.serve("v6", "Cluster", &[v6]).await?;
    lab.serve("local", "Local", &[local]).await?;
    for vip in [v4, v6, local] {
        lab.pretend_owner(vip, first)?;
    }
    for service in ["v4", "v6"] {
        lab.set_endpoints("default", service, &[Endpoint::ready(&far)]).await?;
    }
    let both = [Endpoint::ready(&near), Endpoint::ready(&far)];
    lab.set_endpoints("default", "local", &both).await?;
    // The node that a Service of Cluster policy is entered by hides the client; Local keeps it.
    let (node_v4, node_v6) = first.addresses();
    ensure!(reach(lab, v4, "far").await? == node_v4.to_string());
    ensure!(reach(lab, v6, "far").await? == node_v6.to_string());
    ensure!(reach(lab, local, "near").await? == "192.168.99.200");
    // An endpoint that is not ready gets nothing: then the other one must answer.
    lab.set_endpoints("default", "v4", &[Endpoint::unready(&far), Endpoint::ready(&near)]).await?;
    reach(lab, v4, "near").await?;
    Ok(())
}

async fn faults_are_felt(lab: &Lab) -> anyhow::Result<()> {
    let vip = SocketAddr::new("192.168.112.2".parse()?, 80);
    let node = &lab.nodes()[0];
    lab.cut_lan(node)?;
    let cut = lab.get(vip, PATIENCE).await;
    ensure!(cut.is_err(), "a node that is cut off answered: {cut:?}");
    lab.heal_lan(node)?;
    reach(lab, vip.ip(), "near").await?;
    lab.power_loss(node)?;
    let dark = lab.get(vip, PATIENCE).await;
    ensure!(dark.is_err(), "a node without power answered: {dark:?}");
    lab.stop_api()?;
    let nodes = tokio::time::timeout(PATIENCE, lab.kubectl(&["get", "nodes"])).await;
    ensure!(!matches!(nodes, Ok(Ok(_))), "a dead API server answered: {nodes:?}");
    lab.start_api().await?;
    let nodes = lab.kubectl(&["get", "nodes", "--no-headers"]).await?;
    ensure!(nodes.lines().filter(|line| line.contains(" Ready ")).count() == 3, "{nodes}");
    Ok(())
}

#[tokio::test]
async fn components_have_the_rights_of_their_own_identity_only() -> anyhow::Result<()> {
    Lab::run(1, async |lab| {
        identities_are_apart(lab).await?;
        capabilities_are_dropped(lab).await
    })
    .await
}

async fn identities_are_apart(lab: &Lab) -> anyhow::Result<()> {
    let speaker = ["--token=herald-system-herald-speaker-token"];
    let me = lab.kubectl(&[&["auth", "whoami", "-o", "yaml"], &speaker[..]].concat()).await?;
    ensure!(me.contains("username: system:serviceaccount:herald-system:herald-speaker"), "{me}");
    for group in ["herald-system", "authenticated"] {
        ensure!(me.lines().any(|line| line.ends_with(&format!(":{group}"))), "{group}: {me}");
    }
    let denied = lab.kubectl(&[&["get", "secrets"], &speaker[..]].concat()).await;
    let error = format!("{:#}", denied.err().context("a speaker read secrets")?);
    ensure!(error.contains("Forbidden"), "{error}");
    Ok(())
}

/// Runs `cat /proc/self/status` as `program` says, and returns the set of capabilities that it has.
async fn effective(lab: &Lab, program: Program) -> anyhow::Result<String> {
    let node = &lab.nodes()[0];
    let shown = program.args(["/proc/self/status"]).start(node.namespace(), lab.folder())?;
    let status = shown.exited(SETTLE).await?;
    let text = shown.tail(100);
    ensure!(status.success(), "{status}: {text}");
    let line = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
    Ok(line.context("a line of capabilities")?.trim().to_owned())
}

async fn capabilities_are_dropped(lab: &Lab) -> anyhow::Result<()> {
    let cat = |name| Program::new(name, "/bin/cat");
    // CAP_NET_RAW is bit 13.
    ensure!(effective(lab, cat("raw").with_net_raw_only()).await? == "0000000000002000");
    ensure!(effective(lab, cat("none").without_capabilities()).await? == "0000000000000000");
    let root = effective(lab, cat("root")).await?;
    ensure!(u64::from_str_radix(&root, 16)?.count_ones() > 1, "the lab itself has few: {root}");
    Ok(())
}

#[tokio::test]
async fn a_process_is_told_to_pause_to_go_on_and_to_end() -> anyhow::Result<()> {
    Lab::run(1, async |lab| {
        let node = &lab.nodes()[0];
        let sleep = Program::new("sleep", "/bin/sleep").args(["600"]);
        let process = sleep.start(node.namespace(), lab.folder())?;
        let state = async |wanted: char| {
            await_condition(&format!("its state is {wanted}"), SETTLE, async || {
                let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid()))?;
                ensure!(stat.contains(&format!(" (sleep) {wanted} ")), "{stat}");
                Ok(())
            })
            .await
        };
        state('S').await?;
        ensure!(process.resident_bytes()? > 0 && process.status()?.is_none());
        process.stop()?;
        state('T').await?;
        process.cont()?;
        state('S').await?;
        process.sigterm()?;
        let status = process.exited(SETTLE).await?;
        ensure!(status.signal() == Some(15), "{status}");
        ensure!(process.sigterm().is_err(), "it has ended");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_lab_whose_process_was_killed_leaves_nothing_for_the_next() -> anyhow::Result<()> {
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_lab"))
        .arg("1")
        .env("KUBEBUILDER_ASSETS", assets()?)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("it is piped")?).lines();
    let kubeconfig = lines.next_line().await?.context("its kubeconfig")?;
    let folder = Path::new(kubeconfig.strip_prefix("export KUBECONFIG=").context("a path")?)
        .parent()
        .context("in a folder")?;
    let name = lines.next_line().await?.context("its name")?;
    let places = namespace::existing(&name)?;
    let inhabitants = || -> anyhow::Result<usize> {
        places.iter().map(|place| Ok(namespace::inhabitants(place)?.len())).sum()
    };
    // kube-proxy calls others, and is healthy while it begins.
    await_condition(
        "etcd, an API server, a controller manager and a kube-proxy run",
        SETTLE,
        async || {
            let count = inhabitants()?;
            ensure!(count == 4, "{count} processes");
            Ok(())
        },
    )
    .await?;
    ensure!(folder.exists(), "{} is not there", folder.display());
    // It cleans nothing; the next lab may be another test's, that waited for its turn.
    child.kill().await?;
    await_condition("nobody is left in its namespaces", SETTLE, async || {
        let count = inhabitants()?;
        ensure!(count == 0, "{count} processes");
        Ok(())
    })
    .await?;
    let _next = Lab::boot(1).await?;
    ensure!(!folder.exists(), "{} is left", folder.display());
    ensure!(namespace::existing(&name)?.is_empty(), "its namespaces are left");
    Ok(())
}
