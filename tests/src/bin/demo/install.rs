//! The first chapters: Herald is installed and started, and Services get addresses that a client reaches.

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;

use anyhow::{Context, bail, ensure};
use herald_api::lease::KIND_LABEL;
use herald_tests::lab::node::Backend;
use herald_tests::lab::wait::await_condition;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::manifests;
use super::stage::{HERALD, HOME, SETTLE, Stage, listed};
use super::watch::Watch;

/// Where Services' ports are.
pub(crate) const PORT: u16 = 80;
/// The Service of another controller's class.
pub(crate) const FOREIGN: &str = "web-elsewhere";
/// What another controller gives it: an address of our very pool.
pub(crate) const FOREIGN_ADDRESS: &str = "192.168.112.250";
/// The Service whose clients' addresses reach its pods.
const LOCAL: &str = "web-local";
/// The Service that asks for one address by annotation, and that address.
const FIXED: &str = "web-fixed";
const FIXED_ADDRESS: &str = "192.168.112.245";
/// Asks for each address, one every 10 ms, by which it is judged who answers.
const ASKS: usize = 100;

/// What a Service is to get.
struct Wish {
    service: &'static str,
    kind: &'static str,
    /// How many addresses, of IPv4 and of IPv6.
    families: (usize, usize),
    /// What the client must find.
    expected: &'static str,
}

/// The Services that Herald is to serve.
const WISHES: [Wish; 5] = [
    Wish { service: "web", kind: "IPv4", families: (1, 0), expected: "reached" },
    Wish { service: "web-ipv6", kind: "IPv6", families: (0, 1), expected: "reached" },
    Wish { service: "web-dual-stack", kind: "both", families: (1, 1), expected: "both reached" },
    Wish {
        service: LOCAL,
        kind: "externalTrafficPolicy Local",
        families: (1, 0),
        expected: "reached, pod sees client",
    },
    Wish {
        service: FIXED,
        kind: "this very address",
        families: (1, 0),
        expected: "192.168.112.245 reached",
    },
];

/// An address of a Service.
#[derive(Clone, Debug)]
pub(crate) struct Vip {
    pub(crate) service: &'static str,
    pub(crate) address: IpAddr,
}

impl Vip {
    /// Where a client connects to.
    pub(crate) fn server(&self) -> SocketAddr {
        SocketAddr::new(self.address, PORT)
    }
}

/// Installs Herald and starts its programs.
pub(crate) async fn install(stage: &Stage<'_>) -> anyhow::Result<()> {
    let (lab, screen) = (&stage.lab, stage.screen);
    screen.chapter("Herald is installed as on any cluster");
    screen.step("$ kubectl apply -k manifests", lab.install()).await?;
    let configuration = format!("{}\n---\n{}", manifests::pool(), manifests::advertisement());
    let apply = async {
        // Right after their CRDs, objects may not be known yet.
        await_condition("pool and advertisement are taken", SETTLE, async || {
            lab.apply(&configuration).await
        })
        .await
    };
    let what = "$ kubectl apply -f pool.yaml -f advertisement.yaml (manifests/examples)";
    screen.step(what, apply).await?;
    screen.gap();
    screen.show(&manifests::without_comments(&configuration));
    screen.gap();
    screen.show(
        "No kubelet runs here, so the demo starts what the workloads name, under their accounts:",
    );
    let start = async {
        for replica in 0..2 {
            start_controller(stage, replica)?;
        }
        await_condition("one of them leads", SETTLE, async || stage.leader().await).await
    };
    let leader =
        screen.step("two replicas of herald-controller, without capabilities", start).await?;
    screen.show(&format!("{leader} leads; the other stands by."));
    let start = async {
        for node in lab.nodes() {
            lab.start_speaker(node, &[])?;
        }
        stage.speakers_ready().await
    };
    screen.step("herald-speaker on each node, with NET_RAW alone", start).await
}

/// Starts replica `replica` of the controller.
pub(crate) fn start_controller(stage: &Stage<'_>, replica: u8) -> anyhow::Result<()> {
    let name = format!("herald-controller-{replica}");
    let process = stage.lab.start_controller(replica, &["--pod-name", &name])?;
    stage.controllers.borrow_mut().insert(name, process);
    Ok(())
}

/// Creates pods and Services, and returns every address that they got from Herald.
pub(crate) async fn serve(stage: &Stage<'_>) -> anyhow::Result<Vec<Vip>> {
    let (lab, screen) = (&stage.lab, stage.screen);
    screen.chapter("Services ask for addresses");
    let pods = async {
        for (number, node) in (1..=2).zip(lab.nodes()) {
            run_pod(stage, &node.start_backend(&format!("web-{number}")).await?).await?;
        }
        Ok(())
    };
    screen.step("a pod on node1, one on node2, none on node3", pods).await?;
    let yaml = manifests::services();
    let what = "$ kubectl apply -f services.yaml (manifests/examples, and two more)";
    screen.step(what, lab.apply(&yaml)).await?;
    let vips = screen.step("each Service has its addresses", granted(stage)).await?;
    let addresses: Vec<_> = vips.iter().map(|vip| vip.address).collect();
    let owned = await_condition("each address has an owner", SETTLE, async || {
        stage.claimed(&addresses).await
    });
    screen.step("each address has an owner", owned).await?;
    stage.show_kubectl(&["get", "services"]).await?;
    give_from_elsewhere(stage).await?;
    Ok(vips)
}

/// Plays the kubelet for `backend`: its Pod exists, and is ready.
async fn run_pod(stage: &Stage<'_>, backend: &Backend) -> anyhow::Result<()> {
    stage.lab.apply(&manifests::pod(backend).to_string()).await?;
    let pods: Api<Pod> = Api::namespaced(stage.lab.client(), HOME);
    let status = Patch::Merge(manifests::pod_status(backend));
    let told = || format!("write the status of the Pod {}", backend.name);
    pods.patch_status(&backend.name, &PatchParams::default(), &status).await.with_context(told)?;
    Ok(())
}

/// Waits until each Service has what it asks for.
async fn granted(stage: &Stage<'_>) -> anyhow::Result<Vec<Vip>> {
    let mut vips = Vec::new();
    for Wish { service, families, .. } in WISHES {
        let what = format!("{service} has its addresses");
        let addresses = await_condition(&what, SETTLE, async || {
            let addresses = stage.addresses(service).await?;
            let v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
            ensure!((v4, addresses.len() - v4) == families, "it has {addresses:?}");
            Ok(addresses)
        })
        .await?;
        vips.extend(addresses.into_iter().map(|address| Vip { service, address }));
    }
    Ok(vips)
}

/// Plays the other controller: its Service gets an address of our very pool, which nobody may answer for.
async fn give_from_elsewhere(stage: &Stage<'_>) -> anyhow::Result<()> {
    let had = stage.addresses(FOREIGN).await?;
    ensure!(had.is_empty(), "Herald gave {had:?} to the Service of another controller's class");
    let services: Api<Service> = Api::namespaced(stage.lab.client(), HOME);
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": FOREIGN_ADDRESS}]}}});
    services.patch_status(FOREIGN, &PatchParams::default(), &Patch::Merge(&status)).await?;
    stage.screen.show(&format!(
        "{FOREIGN} belongs to another controller. The demo plays that one and gives it {FOREIGN_ADDRESS}, \
         which lies in Herald's pool all the same."
    ));
    Ok(())
}

/// Reaches every address as the client, and shows who answers for which.
pub(crate) async fn reach(stage: &Stage<'_>, vips: &[Vip]) -> anyhow::Result<()> {
    stage.screen.chapter("A client on the same network reaches them");
    let fixed: IpAddr = FIXED_ADDRESS.parse().context("an address")?;
    for wish in WISHES {
        let own: Vec<_> = vips.iter().filter(|vip| vip.service == wish.service).collect();
        let mut seen = Vec::new();
        // No more than one: see its families.
        let mut ok = wish.service != FIXED || own.iter().all(|vip| vip.address == fixed);
        for vip in own {
            let url = url(vip.address);
            let what = format!("{url} answers");
            let reached = await_condition(&what, SETTLE, async || {
                let body = curl(stage, &url).await?;
                judged(stage, vip, &body)
            });
            match stage.screen.step(&format!("$ curl {url}"), reached).await {
                Ok(answer) => seen.push(format!("{}, {answer}", vip.address)),
                Err(error) => {
                    ok = false;
                    seen.push(format!("{error:#}"));
                }
            }
        }
        let what = format!("{}: {}", wish.service, wish.kind);
        stage.judge(ok, &what, wish.expected, &listed(seen));
    }
    owners(stage, vips).await
}

/// Where a client finds the Service at `address`, at the port that needs no name.
pub(crate) fn url(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("http://{address}/"),
        IpAddr::V6(address) => format!("http://[{address}]/"),
    }
}

/// GETs `url` from the client's place by the real curl.
pub(crate) async fn curl(stage: &Stage<'_>, url: &str) -> anyhow::Result<String> {
    let client = stage.lab.client_namespace().name();
    let output = tokio::process::Command::new("ip")
        .args(["netns", "exec", client, "curl", "--silent", "--show-error", "--fail"])
        .args(["--max-time", "1", url])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("run curl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What the pod that answered for `vip` tells, if it is as it must be.
fn judged(stage: &Stage<'_>, vip: &Vip, body: &str) -> anyhow::Result<String> {
    let (pod, client) = body.trim().split_once('\n').with_context(|| format!("got {body:?}"))?;
    let client: IpAddr = client.parse().with_context(|| format!("got {body:?}"))?;
    let from_node = stage.lab.nodes().iter().any(|node| {
        let (v4, v6) = node.addresses();
        client == IpAddr::from(v4) || client == IpAddr::from(v6)
    });
    match (vip.service == LOCAL, from_node) {
        (true, true) => bail!("the pod {pod} sees the node {client}, not the client"),
        (true, false) => Ok(format!("{pod} sees {client}")),
        (false, _) => Ok(pod.to_owned()),
    }
}

/// Who answers for each address, on the wire and by the Leases.
async fn owners(stage: &Stage<'_>, vips: &[Vip]) -> anyhow::Result<()> {
    stage.screen.chapter("Who answers for what");
    let foreign: IpAddr = FOREIGN_ADDRESS.parse().context("an address")?;
    let addresses: Vec<_> = vips.iter().map(|vip| vip.address).collect();
    let watch = Watch::begin(stage, &[&addresses[..], &[foreign]].concat(), &[]).await?;
    let what = format!("{ASKS} ARP and NDP questions for each address, one every 10 ms");
    stage.screen.step(&what, watch.asked(ASKS)).await?;
    let claimed = stage.claimed(&addresses).await?;
    let seen = watch.end(stage, 0).await?;
    let mut right = 0;
    stage.screen.gap();
    stage
        .screen
        .show(&format!("{:<18}{:<16}{:<14}{}", "address", "Service", "answered by", "Lease"));
    for vip in vips {
        let answering = seen.nodes(stage, vip.address)?;
        let lease = &claimed[&vip.address];
        let one = answering == [lease.clone()] && seen.unanswered(&[vip.address]) == 0;
        right += usize::from(one);
        let Vip { service, address } = vip;
        let (address, answering) = (address.to_string(), listed(&answering));
        stage.screen.show(&format!("{address:<18}{service:<16}{answering:<14}{lease}"));
    }
    stage.show_kubectl(&["get", "leases", "--namespace", HERALD, "--selector", KIND_LABEL]).await?;
    stage.screen.show("The rules by which they decide, R1 to R10, are those of docs/ownership.md:");
    show_events(stage, "involvedObject.kind=Service").await?;
    let all = vips.len();
    let expected = "one node, its Lease's";
    let what = "who answers for each address";
    stage.judge(right == all, what, expected, &format!("so for {right} of {all}"));
    let (asked, silent) = (seen.asked(&[foreign]), seen.unanswered(&[foreign]));
    let still = stage.addresses(FOREIGN).await?;
    let answers = asked - silent;
    let said = format!("{answers} of {asked} asks answered");
    let ok = answers == 0 && asked >= ASKS && still == [foreign];
    stage.judge(ok, "another controller's class", "never answered", &said);
    Ok(())
}

/// Shows the cluster's Events of the objects that the field selector `of` selects.
pub(crate) async fn show_events(stage: &Stage<'_>, of: &str) -> anyhow::Result<()> {
    let columns = "custom-columns=REASON:.reason,SERVICE:.involvedObject.name,MESSAGE:.message";
    let (select, sort) = (format!("--field-selector={of}"), "--sort-by=.lastTimestamp");
    stage.show_kubectl(&["get", "events", &select, sort, "--output", columns]).await
}
