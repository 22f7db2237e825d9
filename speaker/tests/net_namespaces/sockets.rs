//! Packet sockets and groups: what the kernel lets through, when it came, and what it tells switches.

use std::net::Ipv6Addr;
use std::time::SystemTime;

use herald_core::wire::{Mac, arp, ndp};
use herald_speaker::net::groups::{Groups, Membership};
use herald_speaker::net::socket::{PacketSocket, Protocol};

use super::host::{Host, LAN, eventually, pair};
use super::prober::Prober;

#[test]
fn the_arp_filter_lets_only_through_what_could_concern_us() {
    let (node, neighbour) = pair();
    let here = Prober::open(&node, Protocol::Arp);
    let there = Prober::open(&neighbour, Protocol::Arp);
    let (from, to) = ("192.0.2.1".parse().unwrap(), "192.0.2.240".parse().unwrap());
    let good = arp::Message::ask(to, from, neighbour.mac);
    let broken = |offset: usize, value: u8| {
        let mut frame = good.to_frame();
        frame[offset] = value;
        frame
    };
    // Another Ethernet type, hardware, protocol, two other lengths, two other operations.
    for (offset, value) in [(13, 0), (15, 6), (16, 9), (18, 8), (19, 16), (21, 0), (21, 3)] {
        there.send(&broken(offset, value));
    }
    let to_another = Mac([2, 0, 0, 0, 0, 0x99]);
    there.send(&arp::Message { destination: to_another, ..good }.to_frame());
    there.send(&good.to_frame()[..40]);
    // Our own frame, of which the neighbour must hear but we must not.
    here.send(&arp::Message::ask(from, to, node.mac).to_frame());
    there.send(&good.to_frame());
    assert_eq!(here.next(&node), good.to_frame());
}

#[test]
fn the_ndp_filter_lets_only_through_what_could_concern_us() {
    let (node, neighbour) = pair();
    let here = Prober::open(&node, Protocol::Ndp);
    let there = Prober::open(&neighbour, Protocol::Ndp);
    let (from, to) = ("2001:db8::1".parse().unwrap(), "2001:db8::240".parse().unwrap());
    let good = ndp::Message::ask(to, from, neighbour.mac);
    let broken = |offset: usize, value: u8| {
        let mut frame = good.to_frame();
        frame[offset] = value;
        frame
    };
    // Another Ethernet type, next header, hop limit, two other ICMPv6 types, another code.
    for (offset, value) in [(13, 0), (20, 17), (21, 64), (54, 134), (54, 137), (55, 1)] {
        there.send(&broken(offset, value));
    }
    let ethernet_destination = Mac([2, 0, 0, 0, 0, 0x99]);
    there.send(&ndp::Message { ethernet_destination, ..good }.to_frame());
    here.send(&ndp::Message::ask(from, to, node.mac).to_frame());
    there.send(&good.to_frame());
    assert_eq!(here.next(&node), good.to_frame());
}

#[test]
fn a_frame_carries_the_time_of_its_arrival_however_late_it_is_read() {
    let (node, neighbour) = pair();
    let index = node.index(LAN);
    let socket = node.block(move || PacketSocket::open(index, Protocol::Arp).unwrap());
    let there = Prober::open(&neighbour, Protocol::Arp);
    let (from, to) = ("192.0.2.1".parse().unwrap(), "192.0.2.240".parse().unwrap());
    let frame = arp::Message::ask(to, from, neighbour.mac).to_frame();
    // The kernel turns its time stamps on a moment after they were asked for; until then a frame gets the time at
    // which it is read. So it is asked until it shows one that lies before the reading.
    let socket = std::sync::Arc::new(socket);
    eventually("a frame is stamped on arrival", || {
        let before = SystemTime::now();
        there.send(&frame);
        let arrived = SystemTime::now();
        while arrived.elapsed().is_ok_and(|waited| waited.as_millis() < 5) {
            std::thread::yield_now();
        }
        let reading = SystemTime::now();
        let socket = std::sync::Arc::clone(&socket);
        let received = node.run(async move { socket.recv(&mut [0; 64]).await.unwrap() });
        assert!(received.at >= before, "stamped before it was sent");
        assert_eq!(received.length, frame.len());
        (received.at < reading).then_some(())
    });
}

#[test]
fn frames_that_the_buffer_could_not_hold_are_counted() {
    let (node, neighbour) = pair();
    let index = node.index(LAN);
    let socket = node.block(move || PacketSocket::open(index, Protocol::Arp).unwrap());
    let there = Prober::open(&neighbour, Protocol::Arp);
    let (from, to) = ("192.0.2.1".parse().unwrap(), "192.0.2.240".parse().unwrap());
    let frame = arp::Message::ask(to, from, neighbour.mac).to_frame();
    let sent = 5000;
    for _ in 0..sent {
        there.send(&frame);
    }
    // The count comes with the first frame that found room again.
    let (read, lost) = node.run(async move {
        let mut buffer = [0; 64];
        let mut read = 0;
        loop {
            let received = socket.recv(&mut buffer).await.unwrap();
            read += 1;
            if read == 1 {
                there.send(&frame);
            }
            if received.lost > 0 {
                return (read, received.lost);
            }
        }
    });
    assert_eq!(read + lost, sent + 1, "read and lost are all that were sent");
}

fn joined(host: &Host, group: Ipv6Addr) -> bool {
    let digits: String = group.octets().iter().map(|byte| format!("{byte:02x}")).collect();
    let table = host.read("/proc/thread-self/net/igmp6");
    table.lines().any(|line| line.contains(LAN) && line.contains(&digits))
}

#[test]
fn groups_are_left_when_nobody_wants_them_and_lie_on_as_many_sockets_as_it_takes() {
    let (node, _neighbour) = pair();
    // Room for some forty memberships on each socket.
    node.set("net/core/optmem_max", "2048");
    let index = node.index(LAN);
    let group = |n: u16| ndp::solicited_node(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n));
    let of = move |range: std::ops::Range<u16>| {
        range.map(move |n| Membership { index, group: group(n) })
    };
    let groups = node.block(move || {
        let mut groups = Groups::default();
        groups.want(of(0..300)).map(|()| groups).unwrap()
    });
    assert!((0..300).all(|n| joined(&node, group(n))), "all are joined");

    let groups = node.block(move || {
        let mut groups = groups;
        groups.want(of(200..310)).unwrap();
        groups.release(of(0..300));
        groups
    });
    assert_eq!(groups.len(), 110);
    assert!(!joined(&node, group(0)) && !joined(&node, group(199)), "what is not wanted is left");
    assert!(joined(&node, group(200)) && joined(&node, group(309)), "the rest is kept or joined");
}
