//! What the lab sees of the wire, against hosts whose behaviour is known: the kernel's own, and frames by hand.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use herald_core::wire::{arp, ndp};
use herald_speaker::net::socket::{PacketSocket, Protocol};
use herald_tests::lab::Lab;
use herald_tests::lab::node::{BACKEND_PORT, Node};
use herald_tests::lab::observation::{Form, later};
use herald_tests::lab::prober::Prober;
use herald_tests::lab::wait::await_condition;

const PERIOD: Duration = Duration::from_millis(10);
const SETTLE: Duration = Duration::from_secs(10);
const V4: Ipv4Addr = Ipv4Addr::new(192, 168, 112, 7);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0x112, 7);
const VIPS: [IpAddr; 2] = [IpAddr::V4(V4), IpAddr::V6(V6)];

/// Adds or deletes (`what`) both VIPs as addresses of `node`, for which its kernel then answers or no longer does.
fn addresses(node: &Node, what: &str) -> anyhow::Result<()> {
    node.namespace().ip_batch(&[
        format!("addr {what} {V4}/32 dev lan0"),
        format!("addr {what} {V6}/128 dev lan0 nodad"),
    ])
}

/// Waits until `count` more questions for each VIP were asked, the last of them answered by `owner` alone or nobody.
async fn answered(prober: &Prober, owner: Option<&Node>, count: usize) -> anyhow::Result<()> {
    for vip in VIPS {
        let before = prober.seen(vip)?.asks.len();
        let what = format!("{vip} is answered by {:?}", owner.map(Node::name));
        await_condition(&what, SETTLE, async || {
            let seen = prober.seen(vip)?;
            // The very last question may still be on its way.
            let asks = &seen.asks[before..];
            ensure!(asks.len() > count, "{} questions", asks.len());
            let last = asks.iter().nth_back(1).context("no question")?;
            let macs: Vec<_> = last.answers.iter().map(|answer| answer.mac).collect();
            ensure!(macs == Vec::from_iter(owner.map(Node::lan_mac)), "{macs:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn gaps_double_answers_and_announcements_are_seen() -> anyhow::Result<()> {
    Lab::run(2, wire_is_seen).await
}

async fn wire_is_seen(lab: &Lab) -> anyhow::Result<()> {
    let [first, second] = lab.nodes() else { anyhow::bail!("two nodes") };
    let prober = lab.probe(&VIPS, PERIOD).await?;
    answered(&prober, None, 3).await?;
    addresses(first, "add")?;
    answered(&prober, Some(first), 20).await?;
    let alone = SystemTime::now();
    addresses(first, "del")?;
    let deleted = SystemTime::now();
    answered(&prober, None, 20).await?;
    addresses(second, "add")?;
    answered(&prober, Some(second), 20).await?;
    let both = SystemTime::now();
    addresses(first, "add")?;
    announce(first).await?;
    await_condition("both nodes answer", SETTLE, async || {
        for vip in VIPS {
            let seen = prober.seen(vip)?.between(both, SystemTime::now());
            ensure!(seen.answered_by_several().len() > 3, "{vip}: {:?}", seen.asks.last());
            ensure!(seen.announced_after(both, first.lan_mac()).is_some(), "{vip}: none announced");
        }
        Ok(())
    })
    .await?;
    let seen = prober.finish().await?;
    for vip in VIPS {
        let seen = &seen[&vip];
        // The last question of before may have been on its way.
        let by_several = seen.answered_by_several();
        ensure!(by_several.iter().all(|ask| ask.at + 5 * PERIOD >= both), "{vip}: too early");
        let owners: Vec<_> = seen.between(seen.began, both).owners();
        let macs: Vec<_> = owners.iter().map(|owner| owner.mac).collect();
        ensure!(macs == [first.lan_mac(), second.lan_mac()], "{vip}: {owners:?}");
        let silence = seen.between(alone, both).longest_gap();
        let least = later(deleted, owners[1].at);
        ensure!(silence >= least && least >= 20 * PERIOD, "{vip}: {silence:?} < {least:?}");
        ensure!(silence <= later(alone, owners[1].at) + 5 * PERIOD, "{vip}: {silence:?}");
    }
    let forms =
        |vip: IpAddr| seen[&vip].announcements.iter().map(|one| one.form).collect::<Vec<_>>();
    ensure!(forms(VIPS[0]) == [Form::Request, Form::Reply], "{:?}", forms(VIPS[0]));
    ensure!(forms(VIPS[1]).contains(&Form::Advertisement), "{:?}", forms(VIPS[1]));
    Ok(())
}

/// Announces both VIPs for `node`, in every form.
async fn announce(node: &Node) -> anyhow::Result<()> {
    let mac = node.lan_mac();
    let send = async move {
        let index = nix::net::if_::if_nametoindex("lan0")?;
        let socket = PacketSocket::open(index, Protocol::Arp)?;
        for operation in [arp::Operation::Request, arp::Operation::Reply] {
            socket.try_send(&arp::Message::gratuitous(operation, V4, mac).to_frame())?;
        }
        let socket = PacketSocket::open(index, Protocol::Ndp)?;
        socket.try_send(&ndp::Message::announcement(V6, mac).to_frame())?;
        Ok(())
    };
    node.namespace().spawn(send).await?
}

#[tokio::test]
async fn an_address_that_nobody_has_is_unanswered_and_a_closed_port_is_refused()
-> anyhow::Result<()> {
    Lab::run(1, absence_is_seen).await
}

async fn absence_is_seen(lab: &Lab) -> anyhow::Result<()> {
    let (closed, _) = lab.nodes()[0].addresses();
    // Shorter than the second after which the kernel itself gives up asking for a neighbour.
    let patience = Duration::from_millis(200);
    let connect =
        |to: Ipv4Addr| lab.connect_steadily(SocketAddr::from((to, BACKEND_PORT)), PERIOD, patience);
    let clients = [connect(V4), connect(closed)];
    // Both are seen to ask before either is told to stop.
    let prober = lab.probe(&VIPS[..1], PERIOD).await?;
    await_condition("twenty questions", SETTLE, async || {
        ensure!(prober.seen(VIPS[0])?.asks.len() >= 20);
        Ok(())
    })
    .await?;
    let [nobody, closed] = clients;
    let (nobody, closed) = (nobody.finish().await?, closed.finish().await?);
    ensure!(nobody.unanswered() > 0 && nobody.unanswered() == nobody.0.len(), "{nobody:?}");
    ensure!(closed.refused() > 0 && closed.refused() == closed.0.len(), "{closed:?}");
    Ok(())
}
