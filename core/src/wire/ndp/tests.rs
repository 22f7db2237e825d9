use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::*;

const HOST: Mac = Mac([2, 0, 0, 0, 0, 1]);
const NODE: Mac = Mac([2, 0, 0, 0, 0, 2]);
const HOST_IP: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x2a);

/// A host asks for the VIP. The checksums in this file were computed apart from this crate.
const QUESTION: &str = "3333ff00002a 020000000001 86dd 60000000 0020 3a ff \
    fe800000000000000000000000000001 ff0200000000000000000001ff00002a \
    87 00 4b0f 00000000 20010db800000000000000000000002a 01 01 020000000001";
const ANSWER: &str = "020000000001 020000000002 86dd 60000000 0020 3a ff \
    20010db800000000000000000000002a fe800000000000000000000000000001 \
    88 00 d959 40000000 20010db800000000000000000000002a 02 01 020000000002";
const ANNOUNCEMENT: &str = "333300000001 020000000002 86dd 60000000 0020 3a ff \
    20010db800000000000000000000002a ff020000000000000000000000000001 \
    88 00 f8d7 20000000 20010db800000000000000000000002a 02 01 020000000002";
/// A host that wants to take the VIP for itself asks whether it is free.
const DUPLICATE_CHECK: &str = "3333ff00002a 020000000001 86dd 60000000 0018 3a ff \
    00000000000000000000000000000000 ff0200000000000000000001ff00002a \
    87 00 4c9b 00000000 20010db800000000000000000000002a";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Sets a right checksum, so that a test reaches what is judged after it.
fn resum(frame: &mut [u8]) {
    let source: [u8; 16] = frame[22..38].try_into().unwrap();
    let destination: [u8; 16] = frame[38..54].try_into().unwrap();
    let icmp = Icmpv6Packet::new(&frame[54..]).unwrap();
    let sum = icmpv6::checksum(&icmp, &source.into(), &destination.into());
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn a_question_and_its_answer_are_the_bytes_that_the_rfc_draws() {
    let question = bytes(QUESTION);
    assert_eq!(Message::ask(VIP, HOST_IP, HOST).to_frame(), question);
    let view = View::parse(&question).unwrap();
    assert_eq!(view.to_message(), Message::ask(VIP, HOST_IP, HOST));
    assert_eq!(Message::answer(&view, NODE).to_frame(), bytes(ANSWER));
}

#[test]
fn an_announcement_overrides_and_comes_from_the_vip_itself() {
    let frame = bytes(ANNOUNCEMENT);
    assert_eq!(Message::announcement(VIP, NODE).to_frame(), frame);
    let view = View::parse(&frame).unwrap();
    assert_eq!(
        view.kind(),
        Kind::Advertisement { router: false, solicited: false, override_cache: true }
    );
    assert_eq!(view.link_layer(), Some(NODE));
}

#[test]
fn the_answer_to_a_duplicate_check_goes_to_all_nodes_and_is_not_solicited() {
    let frame = bytes(DUPLICATE_CHECK);
    assert_eq!(Message::probe(VIP, Ipv6Addr::UNSPECIFIED, HOST, None).to_frame(), frame);
    let answer = Message::answer(&View::parse(&frame).unwrap(), NODE);
    assert_eq!(
        (answer.destination, answer.ethernet_destination),
        (ALL_NODES, group_mac(ALL_NODES))
    );
    assert_eq!(
        answer.kind,
        Kind::Advertisement { router: false, solicited: false, override_cache: false }
    );
    assert!(View::parse(&answer.to_frame()).is_ok());
}

#[test]
fn a_question_without_link_layer_option_is_answered_to_the_frames_sender() {
    let probe = Message::probe(VIP, HOST_IP, HOST, Some(NODE));
    assert_eq!(probe.link_layer, Some(HOST), "a probe with a source names its hardware address");
    let frame = Message { link_layer: None, ..probe }.to_frame();
    let view = View::parse(&frame).unwrap();
    assert_eq!((view.link_layer(), view.ethernet_destination()), (None, NODE));
    let answer = Message::answer(&view, NODE);
    assert_eq!((answer.ethernet_destination, answer.destination), (HOST, HOST_IP));
}

#[test]
fn a_group_is_made_of_the_low_24_bits_and_its_mac_of_the_low_32() {
    let address: Ipv6Addr = "4037::1:800:200e:8c6c".parse().unwrap();
    let group = solicited_node(address);
    assert_eq!(group, "ff02::1:ff0e:8c6c".parse::<Ipv6Addr>().unwrap());
    assert_eq!(group_mac(group), Mac([0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c]));
}

#[test]
fn each_wrong_field_is_named() {
    let cases: [(&str, usize, &[u8], Malformed); 12] = [
        (QUESTION, 13, &[0x00], Malformed::OtherProtocol),
        (QUESTION, 14, &[0x40], Malformed::OtherProtocol),
        (QUESTION, 20, &[17], Malformed::OtherProtocol),
        (QUESTION, 18, &[0x01, 0x00], Malformed::Truncated),
        (QUESTION, 54, &[133], Malformed::OtherOperation),
        (QUESTION, 55, &[1], Malformed::OtherOperation),
        (QUESTION, 21, &[254], Malformed::HopLimit),
        (QUESTION, 79, &[0], Malformed::Option),
        (QUESTION, 79, &[2], Malformed::Option),
        (QUESTION, 80, &[3], Malformed::GroupSender),
        (QUESTION, 62, &[0xff], Malformed::GroupTarget),
        (ANNOUNCEMENT, 58, &[0x40], Malformed::Destination),
    ];
    for (hex, offset, values, expected) in cases {
        let mut frame = bytes(hex);
        frame[offset..offset + values.len()].copy_from_slice(values);
        resum(&mut frame);
        let found = View::parse(&frame).map(|_| ());
        assert_eq!(found, Err(expected), "{values:?} at {offset} of {hex}");
    }
}

#[test]
fn a_wrong_checksum_is_named() {
    let mut frame = bytes(QUESTION);
    frame[57] ^= 1;
    assert_eq!(View::parse(&frame).map(|_| ()), Err(Malformed::Checksum));
}

#[test]
fn a_question_without_source_must_go_to_the_group_and_name_no_hardware_address() {
    let mut astray = bytes(DUPLICATE_CHECK);
    astray[38..54].copy_from_slice(&VIP.octets());
    resum(&mut astray);
    assert_eq!(View::parse(&astray).map(|_| ()), Err(Malformed::Destination));

    let named = Message {
        link_layer: Some(HOST),
        ..View::parse(&bytes(DUPLICATE_CHECK)).unwrap().to_message()
    };
    assert_eq!(View::parse(&named.to_frame()).map(|_| ()), Err(Malformed::SourceOption));
}

#[test]
fn options_that_nobody_knows_are_passed_over_whatever_their_length() {
    for length in [1u8, 31, 32, 255] {
        let mut frame = bytes(QUESTION);
        let mut options = vec![0u8; usize::from(length) * 8];
        options[..2].copy_from_slice(&[14, length]);
        options.extend_from_slice(&frame[78..]);
        frame.truncate(78);
        frame.extend(options);
        let payload = u16::try_from(frame.len() - 54).unwrap();
        frame[18..20].copy_from_slice(&payload.to_be_bytes());
        resum(&mut frame);
        assert_eq!(View::parse(&frame).unwrap().link_layer(), Some(HOST), "length {length}");
    }
}

fn host_mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(|[a, b, c, d, e, f]| Mac([a & 0xfe, b, c, d, e, f]))
}

fn host() -> impl Strategy<Value = Ipv6Addr> {
    any::<u128>().prop_map(|bits| Ipv6Addr::from_bits((bits >> 1) | 1))
}

fn kind() -> impl Strategy<Value = Kind> {
    let advertisement =
        any::<(bool, bool, bool)>().prop_map(|(router, solicited, override_cache)| {
            Kind::Advertisement { router, solicited, override_cache }
        });
    prop_oneof![Just(Kind::Solicitation), advertisement]
}

prop_compose! {
    fn message()(
        ethernet_destination in any::<[u8; 6]>().prop_map(Mac),
        ethernet_source in host_mac(),
        source in host(),
        destination in host(),
        kind in kind(),
        target in host(),
        link_layer in prop::option::of(host_mac()),
    ) -> Message {
        Message { ethernet_destination, ethernet_source, source, destination, kind, target, link_layer }
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read_back_whatever_padding_follows(
        message in message(),
        padding in prop::collection::vec(any::<u8>(), 0..32),
    ) {
        let mut frame = message.to_frame();
        frame.extend(padding);
        prop_assert_eq!(View::parse(&frame).unwrap().to_message(), message);
    }

    #[test]
    fn another_codec_reads_the_same_and_finds_the_checksum_right(message in message()) {
        let frame = message.to_frame();
        let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Ipv6(ip)) = sliced.net else { panic!("not seen as IPv6") };
        prop_assert_eq!(ip.header().source_addr(), message.source);
        prop_assert_eq!(ip.header().destination_addr(), message.destination);
        prop_assert_eq!(ip.header().hop_limit(), 255);
        let Some(TransportSlice::Icmpv6(icmp)) = sliced.transport else { panic!("not seen as ICMPv6") };
        prop_assert!(icmp.is_checksum_valid(message.source.octets(), message.destination.octets()));
        prop_assert_eq!(icmp.type_u8(), message.kind.icmp_type().0);
        prop_assert_eq!(&icmp.payload()[..16], &message.target.octets()[..]);
        if let etherparse::Icmpv6Type::NeighborAdvertisement(flags) = icmp.icmp_type() {
            let read = Kind::Advertisement {
                router: flags.router,
                solicited: flags.solicited,
                override_cache: flags.r#override,
            };
            prop_assert_eq!(read, message.kind);
        }
    }

    /// Any bytes at all; a valid message with some bytes replaced; the same with its checksum made right again.
    #[test]
    fn hostile_bytes_give_a_reason_or_a_message_that_can_be_answered(
        noise in prop::collection::vec(any::<u8>(), 0..160),
        edits in prop::collection::vec((0usize..86, any::<u8>()), 0..4),
        form in 0u8..3,
    ) {
        let mut frame = if form == 0 { noise } else { bytes(QUESTION) };
        for (offset, value) in edits {
            if let Some(place) = frame.get_mut(offset) {
                *place = value;
            }
        }
        if form == 2 {
            resum(&mut frame);
        }
        if let Ok(view) = View::parse(&frame) {
            let again = view.to_message().to_frame();
            prop_assert_eq!(View::parse(&again).unwrap().to_message(), view.to_message());
            if view.kind() == Kind::Solicitation {
                let answer = Message::answer(&view, NODE).to_frame();
                prop_assert!(answer.len() <= frame.len() + LINK_LAYER_OPTION);
            }
        }
    }
}
