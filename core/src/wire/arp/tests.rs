use etherparse::{ArpEthIpv4Packet, NetSlice, SlicedPacket};
use proptest::prelude::*;

use super::*;

const HOST: Mac = Mac([2, 0, 0, 0, 0, 1]);
const NODE: Mac = Mac([2, 0, 0, 0, 0, 2]);
const HOST_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 240);

/// A host asks for the VIP, byte by byte as RFC 826 lays it out.
const QUESTION: [u8; FRAME] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06, // Ethernet
    0, 1, 0x08, 0, 6, 4, 0, 1, // hardware, protocol, lengths, request
    2, 0, 0, 0, 0, 1, 192, 0, 2, 1, // sender
    0, 0, 0, 0, 0, 0, 192, 0, 2, 240, // target
];

#[test]
fn a_question_is_the_bytes_that_the_rfc_draws() {
    assert_eq!(Message::ask(VIP, HOST_IP, HOST).to_frame(), QUESTION);
    let view = View::parse(&QUESTION).unwrap();
    assert_eq!(view.to_message(), Message::ask(VIP, HOST_IP, HOST));
}

#[test]
fn the_answer_goes_to_the_asker_alone_and_says_where_the_vip_is() {
    let answer = Message::answer(&View::parse(&QUESTION).unwrap(), NODE).to_frame();
    let expected = [
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x06, // Ethernet
        0, 1, 0x08, 0, 6, 4, 0, 2, // hardware, protocol, lengths, reply
        2, 0, 0, 0, 0, 2, 192, 0, 2, 240, // sender
        2, 0, 0, 0, 0, 1, 192, 0, 2, 1, // target
    ];
    assert_eq!(answer, expected);
}

#[test]
fn gratuitous_messages_name_the_vip_twice_and_everybody_as_target() {
    for (operation, code) in [(Operation::Request, 1), (Operation::Reply, 2)] {
        let frame = Message::gratuitous(operation, VIP, NODE).to_frame();
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 0x08, 0x06, // Ethernet
            0, 1, 0x08, 0, 6, 4, 0, code, // hardware, protocol, lengths, operation
            2, 0, 0, 0, 0, 2, 192, 0, 2, 240, // sender
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 192, 0, 2, 240, // target
        ];
        assert_eq!(frame, expected, "{operation:?}");
    }
}

#[test]
fn a_probe_does_not_say_who_asks_and_its_answer_goes_to_no_address() {
    for destination in [Mac::BROADCAST, HOST] {
        let frame = Message::probe(VIP, NODE, destination).to_frame();
        let probe = View::parse(&frame).unwrap();
        assert_eq!(probe.destination(), destination);
        assert_eq!(probe.sender(), Ipv4Addr::UNSPECIFIED);
        assert_eq!((probe.target(), probe.target_mac()), (VIP, Mac::ZERO));
        let answer = Message::answer(&probe, HOST);
        assert_eq!((answer.target, answer.destination), (Ipv4Addr::UNSPECIFIED, NODE));
    }
}

#[test]
fn each_wrong_field_is_named() {
    let broken = |offset: usize, value: u8| {
        let mut frame = QUESTION;
        frame[offset] = value;
        View::parse(&frame).map(|_| ())
    };
    assert_eq!(broken(13, 0x00), Err(Malformed::OtherProtocol), "Ethernet type");
    assert_eq!(broken(15, 6), Err(Malformed::NotEthernetIpv4), "hardware type");
    assert_eq!(broken(17, 6), Err(Malformed::NotEthernetIpv4), "protocol type");
    assert_eq!(broken(18, 8), Err(Malformed::NotEthernetIpv4), "hardware length");
    assert_eq!(broken(19, 16), Err(Malformed::NotEthernetIpv4), "protocol length");
    assert_eq!(broken(21, 3), Err(Malformed::OtherOperation), "operation");
    assert_eq!(broken(22, 3), Err(Malformed::GroupSender), "sender hardware address");
    assert_eq!(View::parse(&QUESTION[..FRAME - 1]).map(|_| ()), Err(Malformed::Truncated));
    assert_eq!(View::parse(&[]).map(|_| ()), Err(Malformed::Truncated));
}

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

fn host_mac() -> impl Strategy<Value = Mac> {
    mac().prop_map(|Mac([first, rest @ ..])| {
        let [b, c, d, e, f] = rest;
        Mac([first & 0xfe, b, c, d, e, f])
    })
}

prop_compose! {
    fn message()(
        destination in mac(),
        source in mac(),
        operation in prop_oneof![Just(Operation::Request), Just(Operation::Reply)],
        sender_mac in host_mac(),
        sender in any::<Ipv4Addr>(),
        target_mac in mac(),
        target in any::<Ipv4Addr>(),
    ) -> Message {
        Message { destination, source, operation, sender_mac, sender, target_mac, target }
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read_back_whatever_padding_follows(
        message in message(),
        padding in prop::collection::vec(any::<u8>(), 0..32),
    ) {
        let mut frame = message.to_frame().to_vec();
        frame.extend(padding);
        prop_assert_eq!(View::parse(&frame).unwrap().to_message(), message);
    }

    #[test]
    fn another_codec_reads_the_same(message in message()) {
        let frame = message.to_frame();
        let Some(NetSlice::Arp(arp)) = SlicedPacket::from_ethernet(&frame).unwrap().net else {
            panic!("not seen as ARP");
        };
        let read = arp.to_packet().try_eth_ipv4().unwrap();
        prop_assert_eq!(read, ArpEthIpv4Packet {
            operation: etherparse::ArpOperation(message.operation.code()),
            sender_mac: message.sender_mac.0,
            sender_ipv4: message.sender.octets(),
            target_mac: message.target_mac.0,
            target_ipv4: message.target.octets(),
        });
    }

    /// Any bytes at all, and bytes that get past the first checks.
    #[test]
    fn hostile_bytes_give_a_reason_or_a_message_that_writes_itself_back(
        noise in prop::collection::vec(any::<u8>(), 0..80),
        as_arp in any::<bool>(),
    ) {
        let mut frame = noise;
        if as_arp {
            for (offset, byte) in (12..21).zip([8, 6, 0, 1, 8, 0, 6, 4, 0]) {
                if let Some(place) = frame.get_mut(offset) {
                    *place = byte;
                }
            }
        }
        if let Ok(view) = View::parse(&frame) {
            prop_assert_eq!(&view.to_message().to_frame()[..], &frame[..FRAME]);
            let answer = Message::answer(&view, NODE).to_frame();
            prop_assert!(!View::parse(&answer).unwrap().destination().is_group());
        }
    }
}
