//! Whether neighbours find an address where it is, and nowhere else.

use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use herald_core::wire::Mac;
use herald_speaker::net::count::Dropped;
use herald_speaker::net::exclusion::Exclusion;
use herald_speaker::net::links::Watcher;
use herald_speaker::net::responder::{Reach, Responder, Settings};
use herald_speaker::net::socket::Protocol;

use super::host::{Host, LAN, eventually, pair};
use super::prober::Prober;
use super::speaker::{Speaker, everywhere, nowhere};

const VIPS: [&str; 2] = ["192.0.2.240", "2001:db8::240"];
const OTHERS: [&str; 2] = ["192.0.2.241", "2001:db8::241"];
const PROTOCOLS: [Protocol; 2] = [Protocol::Arp, Protocol::Ndp];

/// A node without any address, and a neighbour in the prefixes of the addresses.
fn pair_with_prefixes() -> (Host, Host) {
    let (node, neighbour) = pair();
    neighbour.assign("192.0.2.1/24");
    neighbour.assign("2001:db8::1/64");
    (node, neighbour)
}

/// What the kernel of `host` knows of `address`: where it is, and how sure it is.
fn neighbour_entry(host: &Host, address: &str) -> Option<(String, String)> {
    let text = host.ip(&format!("neighbour show to {address} dev {LAN}"));
    let words: Vec<_> = text.split_whitespace().collect();
    let place = words.iter().position(|word| *word == "lladdr")?;
    Some((words.get(place + 1)?.to_string(), words.last()?.to_string()))
}

fn await_entry(host: &Host, address: &str, mac: Mac, states: &[&str]) {
    eventually(&format!("{address} is at {mac}, {states:?}"), || {
        let (found, state) = neighbour_entry(host, address)?;
        (found == mac.to_string() && states.contains(&state.as_str())).then_some(())
    });
}

/// Makes the kernel of `host` look for `address`, as any client does.
fn send_datagram(host: &Host, address: &str) {
    let address = SocketAddr::new(address.parse().unwrap(), 9);
    host.block(move || {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        UdpSocket::bind(any).unwrap().send_to(b"?", address).unwrap();
    });
}

#[test]
fn a_neighbours_kernel_resolves_the_address_and_reaches_it_here() {
    let (node, neighbour) = pair_with_prefixes();
    let speaker = Speaker::start(&node);
    speaker.answer(&node, &VIPS);
    for vip in VIPS {
        send_datagram(&neighbour, vip);
        await_entry(&neighbour, vip, node.mac, &["REACHABLE"]);
    }
    for (address, counts) in speaker.counts.addresses() {
        assert!(counts.requests_received > 0, "{address}");
        assert_eq!(counts.requests_received, counts.responses_sent, "{address}");
    }
}

#[test]
fn an_announcement_moves_what_a_neighbour_already_knew() {
    let (node, neighbour) = pair_with_prefixes();
    let speaker = Speaker::start(&node);
    speaker.answer(&node, &VIPS);
    for (vip, frames) in VIPS.into_iter().zip([2, 1]) {
        neighbour
            .ip(&format!("neighbour replace {vip} lladdr 02:00:00:00:00:99 dev {LAN} nud stale"));
        speaker.announce(&node, vip, false);
        await_entry(&neighbour, vip, node.mac, &["STALE", "REACHABLE"]);
        let address: std::net::IpAddr = vip.parse().unwrap();
        let counts = speaker.counts.addresses();
        let (_, counts) = counts.iter().find(|(of, _)| *of == address).unwrap();
        assert_eq!(counts.gratuitous_sent, frames, "{vip}");
    }
}

#[test]
fn the_first_announcement_teaches_the_gateway_which_ignores_gratuitous_ones() {
    let (node, neighbour) = pair_with_prefixes();
    node.assign("192.0.2.10/24");
    node.assign("2001:db8::10/64");
    node.ip(&format!("route add default via 192.0.2.1 dev {LAN}"));
    node.ip(&format!("-6 route add default via 2001:db8::1 dev {LAN}"));
    let speaker = Speaker::start(&node);
    speaker.answer(&node, &[VIPS[0], VIPS[1], OTHERS[0], OTHERS[1]]);
    for (vip, other) in VIPS.into_iter().zip(OTHERS) {
        speaker.announce(&node, other, false);
        speaker.announce(&node, vip, true);
        await_entry(&neighbour, vip, node.mac, &["STALE", "REACHABLE", "DELAY"]);
        // It left before, by the same socket.
        assert_eq!(neighbour_entry(&neighbour, other), None, "gratuitous ones are ignored");
    }
}

#[test]
fn after_a_withdrawal_no_answer_leaves() {
    let (node, neighbour) = pair_with_prefixes();
    let speaker = Speaker::start(&node);
    for ((vip, other), protocol) in VIPS.into_iter().zip(OTHERS).zip(PROTOCOLS) {
        let prober = Prober::open(&neighbour, protocol);
        speaker.answer(&node, &[vip, other]);
        prober.ask(&neighbour, vip);
        assert_eq!(prober.next_claim(&neighbour), (vip.parse().unwrap(), node.mac));

        speaker.withdraw(&node, &[vip]);
        prober.ask(&neighbour, vip);
        prober.ask(&neighbour, other);
        // Questions are taken in order, so an answer to the first would come first.
        assert_eq!(prober.next_claim(&neighbour), (other.parse().unwrap(), node.mac));
    }
}

#[test]
fn an_announcement_that_is_still_queued_when_its_address_is_withdrawn_never_leaves() {
    let (node, neighbour) = pair_with_prefixes();
    let speaker = Speaker::start(&node);
    for ((vip, other), protocol) in VIPS.into_iter().zip(OTHERS).zip(PROTOCOLS) {
        let prober = Prober::open(&neighbour, protocol);
        speaker.at_once(&node, move |responder| {
            responder.answer(everywhere(&[vip, other]));
            responder.announce(vip.parse().unwrap(), &Reach::Every, true);
            responder.announce(other.parse().unwrap(), &Reach::Every, true);
            responder.answer(nowhere(&[vip]));
        });
        assert_eq!(prober.next_claim(&neighbour), (other.parse().unwrap(), node.mac));
    }
}

#[test]
fn an_address_is_answered_only_on_the_links_of_its_reach() {
    let (node, neighbour) = pair_with_prefixes();
    let speaker = Speaker::start(&node);
    let [vip, other] = [VIPS[0], OTHERS[0]];
    let elsewhere = Reach::Only(std::sync::Arc::new(["lan1".into()].into()));
    let mut addresses = everywhere(&[other]);
    addresses.insert(vip.parse().unwrap(), Some(elsewhere));
    speaker.at_once(&node, move |responder| responder.answer(addresses));
    let prober = Prober::open(&neighbour, Protocol::Arp);
    prober.ask(&neighbour, vip);
    prober.ask(&neighbour, other);
    assert_eq!(prober.next_claim(&neighbour), (other.parse().unwrap(), node.mac));
    assert_eq!(speaker.counts.dropped(Dropped::NotOnLink), 1);
}

#[test]
fn a_link_that_comes_back_is_answered_on_again_without_being_asked_for() {
    let (node, neighbour) = pair_with_prefixes();
    let speaker = Speaker::start(&node);
    speaker.answer(&node, &VIPS);
    for vip in VIPS {
        speaker.answers_on(1);
        node.ip(&format!("link set {LAN} down"));
        speaker.answers_on(0);
        node.ip(&format!("link set {LAN} up"));
        speaker.answers_on(1);
        send_datagram(&neighbour, vip);
        await_entry(&neighbour, vip, node.mac, &["REACHABLE"]);
    }
}

#[test]
fn a_question_that_waited_too_long_in_the_socket_is_not_answered() {
    let (node, neighbour) = pair_with_prefixes();
    let answer_within = Duration::from_millis(500);
    let settings = Settings { answer_within, stalled_after: Duration::MAX };
    let speaker = Speaker::with(&node, settings);
    let [vip, other] = [VIPS[0], OTHERS[0]];
    speaker.answer(&node, &[vip, other]);
    let prober = Prober::open(&neighbour, Protocol::Arp);
    // More than once, because the kernel turns its time stamps on only a moment after they were asked for.
    eventually("a late question is dropped", || {
        ask_while_still(&node, 2 * answer_within, || prober.ask(&neighbour, vip));
        (speaker.counts.dropped(Dropped::Late) > 0).then_some(())
    });
    prober.ask(&neighbour, other);
    let address: std::net::IpAddr = vip.parse().unwrap();
    let answers = std::iter::repeat_with(|| prober.next_claim(&neighbour).0)
        .take_while(|claimed| *claimed == address)
        .count();
    let counts = speaker.counts.addresses()[0].1;
    let in_time = counts.requests_received - speaker.counts.dropped(Dropped::Late);
    assert_eq!(u64::try_from(answers).unwrap(), in_time, "only what came in time was answered");
}

/// Lets the thread of `node` stand still, as if it had been stopped, from before `ask` until `pause` after it.
fn ask_while_still(node: &Host, pause: Duration, ask: impl FnOnce()) {
    let (asked, is_asked) = std::sync::mpsc::channel::<Instant>();
    let (stopped, is_stopped) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            node.block(move || {
                stopped.send(()).unwrap();
                let asked = is_asked.recv().unwrap();
                while asked.elapsed() <= pause {
                    std::thread::yield_now();
                }
            });
        });
        is_stopped.recv().unwrap();
        ask();
        asked.send(Instant::now()).unwrap();
    });
}

#[test]
fn nothing_is_answered_or_announced_while_the_speakers_loop_stands_still() {
    let (node, neighbour) = pair_with_prefixes();
    let stalled_after = Duration::from_millis(100);
    let speaker = Speaker::with(&node, Settings { stalled_after, ..Settings::default() });
    let vip = VIPS[0];
    speaker.answer(&node, &[vip]);
    let prober = Prober::open(&neighbour, Protocol::Arp);
    eventually("a question meets a loop that stands still", || {
        prober.ask(&neighbour, vip);
        (speaker.counts.dropped(Dropped::Stalled) > 0).then_some(())
    });
    let stalled = speaker.counts.dropped(Dropped::Stalled);
    speaker.announce(&node, vip, true);
    eventually("an announcement meets it, too", || {
        (speaker.counts.dropped(Dropped::Stalled) > stalled).then_some(())
    });
    assert_eq!(speaker.counts.addresses()[0].1.gratuitous_sent, 0);
    eventually("a question is answered after a beat", || {
        let before = speaker.counts.addresses()[0].1.responses_sent;
        speaker.at_once(&node, |responder| responder.beat());
        prober.ask(&neighbour, vip);
        (speaker.counts.addresses()[0].1.responses_sent > before).then_some(())
    });
}

/// Not a test of its own: the speaker of the next one, in a process of its own. It answers until its input ends.
#[test]
#[ignore = "started by a_speaker_needs_no_right_but_net_raw"]
fn speaker_process() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let watcher = Watcher::open(Exclusion::default()).await.unwrap();
        let (mut responder, _heard) =
            Responder::new(Settings { stalled_after: Duration::MAX, ..Settings::default() });
        responder.set_links(&watcher.links().borrow()).unwrap();
        responder.answer(everywhere(&VIPS));
        let input = || std::io::stdin().read_to_end(&mut Vec::new());
        tokio::task::spawn_blocking(input).await.unwrap().unwrap();
    });
}

#[test]
fn a_speaker_needs_no_right_but_net_raw() {
    let (node, neighbour) = pair_with_prefixes();
    let mut speaker = node.block(|| {
        Command::new("setpriv")
            .args(["--bounding-set=-all,+net_raw", "--inh-caps=-all"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "answers::speaker_process", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("util-linux is installed")
    });
    let rights = format!("/proc/{}/status", speaker.id());
    eventually("the process has one right", || {
        let status = std::fs::read_to_string(&rights).unwrap();
        // CAP_NET_RAW is number 13.
        status.contains("CapEff:\t0000000000002000").then_some(())
    });
    for vip in VIPS {
        eventually("it is resolved", || {
            send_datagram(&neighbour, vip);
            let (mac, state) = neighbour_entry(&neighbour, vip)?;
            (mac == node.mac.to_string() && state == "REACHABLE").then_some(())
        });
    }
    let group = "ff0200000000000000000001ff000240";
    assert!(node.read("/proc/thread-self/net/igmp6").contains(group), "its group is joined");
    drop(speaker.stdin.take());
    assert!(speaker.wait().unwrap().success());
}
