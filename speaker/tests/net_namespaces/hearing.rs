//! Whether the speaker hears what others claim, and does not mistake itself for another.

use herald_core::ownership::evidence::Question;
use herald_core::wire::{Mac, arp, ndp};
use herald_speaker::net::responder::How;
use herald_speaker::net::socket::Protocol;

use super::host::{LAN, pair};
use super::prober::Prober;
use super::speaker::Speaker;

const VIP4: &str = "192.0.2.240";
const VIP6: &str = "2001:db8::240";
const STRANGER: Mac = Mac([2, 0, 0, 0, 0, 0x77]);

#[test]
fn every_way_of_announcing_an_address_is_heard_and_our_own_mac_is_not() {
    let (node, neighbour) = pair();
    let mut speaker = Speaker::start(&node);
    speaker.listen_for(&node, &[VIP4, VIP6]);
    let (v4, v6) = (VIP4.parse().unwrap(), VIP6.parse().unwrap());
    let gateway4 = "192.0.2.1".parse().unwrap();
    let gateway6 = "2001:db8::1".parse().unwrap();

    let prober = Prober::open(&neighbour, Protocol::Arp);
    for mac in [node.mac, STRANGER] {
        for operation in [arp::Operation::Request, arp::Operation::Reply] {
            prober.send(&arp::Message::gratuitous(operation, v4, mac).to_frame());
        }
        prober.send(&arp::Message::ask(gateway4, v4, mac).to_frame());
    }
    for _ in 0..3 {
        let heard = speaker.hears();
        assert_eq!((heard.address, heard.mac, heard.how), (v4.into(), STRANGER, How::Announced));
        assert_eq!(heard.link.as_str(), LAN);
    }

    let prober = Prober::open(&neighbour, Protocol::Ndp);
    for mac in [node.mac, STRANGER] {
        prober.send(&ndp::Message::announcement(v6, mac).to_frame());
        // Sent to all nodes: this host has not joined the gateway's group.
        let question = ndp::Message::ask(gateway6, v6, mac);
        let ethernet_destination = ndp::group_mac("ff02::1".parse().unwrap());
        prober.send(&ndp::Message { ethernet_destination, ..question }.to_frame());
    }
    for _ in 0..2 {
        let heard = speaker.hears();
        assert_eq!((heard.address, heard.mac, heard.how), (v6.into(), STRANGER, How::Announced));
    }
}

#[test]
fn who_answers_our_question_is_heard() {
    let (node, neighbour) = pair();
    neighbour.assign(&format!("{VIP4}/24"));
    neighbour.assign(&format!("{VIP6}/64"));
    node.assign("fe80::a/64");
    neighbour.assign("fe80::b/64");
    let mut speaker = Speaker::start(&node);
    speaker.listen_for(&node, &[VIP4, VIP6]);
    for vip in [VIP4, VIP6] {
        for host in [None, Some(neighbour.mac)] {
            let address = vip.parse().unwrap();
            let question = Question { address, link: LAN.into(), to: host };
            speaker.at_once(&node, move |responder| {
                responder.ask(&question);
                assert!(responder.take_losses().is_empty());
                responder.ask(&Question { link: "lan9".into(), ..question });
                assert_eq!(
                    responder.take_losses(),
                    ["lan9".into()].into(),
                    "there is no such link"
                );
                assert!(responder.take_losses().is_empty(), "told once");
            });
            let heard = speaker.hears();
            assert_eq!((heard.address, heard.mac), (address, neighbour.mac));
            assert_eq!(heard.how, How::Answered, "{vip} asked of {host:?}");
        }
    }
}

#[test]
fn claims_to_other_addresses_are_not_reported() {
    let (node, neighbour) = pair();
    let mut speaker = Speaker::start(&node);
    speaker.listen_for(&node, &[VIP4]);
    let prober = Prober::open(&neighbour, Protocol::Arp);
    for address in ["192.0.2.99", VIP4] {
        let address = address.parse().unwrap();
        let operation = arp::Operation::Request;
        prober.send(&arp::Message::gratuitous(operation, address, STRANGER).to_frame());
    }
    assert_eq!(speaker.hears().address, VIP4.parse::<std::net::IpAddr>().unwrap());
}
