//! Neighbour Discovery's solicitations and advertisements (RFC 4861 §4.3, §4.4) on Ethernet (RFC 2464).

use std::net::Ipv6Addr;

use pnet_packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet_packet::icmpv6::ndp::{
    MutableNeighborAdvertPacket, NdpOptionTypes, NeighborAdvertFlags, NeighborAdvertPacket,
};
use pnet_packet::icmpv6::{self, Icmpv6Packet, Icmpv6Type, Icmpv6Types};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv6::{Ipv6Packet, MutableIpv6Packet};

use super::{ETHERNET_HEADER, Mac, Malformed};

const IPV6_HEADER: usize = 40;
/// A solicitation or advertisement before its options.
const BODY: usize = 24;
/// A link-layer address option for Ethernet: type, length 1 (eight bytes), address.
const LINK_LAYER_OPTION: usize = 8;
/// Bytes of a whole frame without options: no valid one is shorter.
pub const SHORTEST_FRAME: usize = ETHERNET_HEADER + IPV6_HEADER + BODY;
/// What a message must carry to show that no router forwarded it (RFC 4861 §7.1).
const HOP_LIMIT: u8 = 255;
/// All nodes of the link: ff02::1.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The first 104 bits of every solicited-node group: ff02::1:ff00:0/104.
const SOLICITED_NODE: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;

/// The group whose members are asked for `address`: ff02::1:ff00:0/104 and its low 24 bits (RFC 4291 §2.7.1).
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(SOLICITED_NODE | (address.to_bits() & 0x00ff_ffff))
}

/// The Ethernet address of the IPv6 multicast group `group`: 33:33 and its low 32 bits (RFC 2464 §7).
pub const fn group_mac(group: Ipv6Addr) -> Mac {
    let bytes = group.octets();
    Mac([0x33, 0x33, bytes[12], bytes[13], bytes[14], bytes[15]])
}

/// Which of the two messages, with what only that one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Asks for the target's hardware address; its link-layer option is the source's.
    Solicitation,
    /// Tells the target's hardware address; its link-layer option is the target's.
    Advertisement {
        /// R: the sender is a router.
        router: bool,
        /// S: it answers a solicitation from the destination, and so proves reachability.
        solicited: bool,
        /// O: it replaces what a cache already holds.
        override_cache: bool,
    },
}

impl Kind {
    const fn icmp_type(self) -> Icmpv6Type {
        match self {
            Self::Solicitation => Icmpv6Types::NeighborSolicit,
            Self::Advertisement { .. } => Icmpv6Types::NeighborAdvert,
        }
    }

    const fn option_type(self) -> u8 {
        match self {
            Self::Solicitation => NdpOptionTypes::SourceLLAddr.0,
            Self::Advertisement { .. } => NdpOptionTypes::TargetLLAddr.0,
        }
    }

    fn flags(self) -> u8 {
        let Self::Advertisement { router, solicited, override_cache } = self else { return 0 };
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        flag(router, NeighborAdvertFlags::Router)
            | flag(solicited, NeighborAdvertFlags::Solicited)
            | flag(override_cache, NeighborAdvertFlags::Override)
    }

    fn of(icmp_type: Icmpv6Type, flags: u8) -> Option<Self> {
        match icmp_type {
            Icmpv6Types::NeighborSolicit => Some(Self::Solicitation),
            Icmpv6Types::NeighborAdvert => Some(Self::Advertisement {
                router: flags & NeighborAdvertFlags::Router != 0,
                solicited: flags & NeighborAdvertFlags::Solicited != 0,
                override_cache: flags & NeighborAdvertFlags::Override != 0,
            }),
            _ => None,
        }
    }
}

/// A received frame that holds a solicitation or an advertisement which RFC 4861 §7.1.1 and §7.1.2 let pass.
#[derive(Debug)]
pub struct View<'a> {
    ethernet: EthernetPacket<'a>,
    ip: Ipv6Packet<'a>,
    body: NeighborAdvertPacket<'a>,
    kind: Kind,
    link_layer: Option<Mac>,
}

impl<'a> View<'a> {
    /// Looks at the Ethernet frame `frame`.
    ///
    /// A message behind IPv6 extension headers is not looked for: nobody sends one, and RFC 6980 forbids the only
    /// header that would matter.
    ///
    /// # Errors
    /// Says what is wrong with it when it is no valid solicitation or advertisement.
    pub fn parse(frame: &'a [u8]) -> Result<Self, Malformed> {
        let (ethernet, ip, message) = ipv6(frame)?;
        let icmp = Icmpv6Packet::new(message).ok_or(Malformed::Truncated)?;
        // The two messages have one layout; the solicitation's four reserved bytes are the advertisement's flags.
        let body = NeighborAdvertPacket::new(message).ok_or(Malformed::Truncated)?;
        let kind = Kind::of(icmp.get_icmpv6_type(), body.get_flags())
            .filter(|_| icmp.get_icmpv6_code().0 == 0)
            .ok_or(Malformed::OtherOperation)?;
        if ip.get_hop_limit() != HOP_LIMIT {
            return Err(Malformed::HopLimit);
        }
        let sum = icmpv6::checksum(&icmp, &ip.get_source(), &ip.get_destination());
        if sum != icmp.get_checksum() {
            return Err(Malformed::Checksum);
        }
        let options = message.get(BODY..).ok_or(Malformed::Truncated)?;
        let link_layer = link_layer_option(options, kind.option_type())?;
        let view = Self { ethernet, ip, body, kind, link_layer };
        view.validate()?;
        Ok(view)
    }

    fn validate(&self) -> Result<(), Malformed> {
        if self.target().is_multicast() {
            return Err(Malformed::GroupTarget);
        }
        if self.ethernet_source().is_group() || self.link_layer.is_some_and(Mac::is_group) {
            return Err(Malformed::GroupSender);
        }
        let destination = self.destination();
        match self.kind {
            Kind::Solicitation if self.source().is_unspecified() => {
                if destination != solicited_node(destination) {
                    Err(Malformed::Destination)
                } else if self.link_layer.is_some() {
                    Err(Malformed::SourceOption)
                } else {
                    Ok(())
                }
            }
            Kind::Advertisement { solicited: true, .. } if destination.is_multicast() => {
                Err(Malformed::Destination)
            }
            Kind::Solicitation | Kind::Advertisement { .. } => Ok(()),
        }
    }

    /// Whom the frame was sent to.
    pub fn ethernet_destination(&self) -> Mac {
        Mac(self.ethernet.get_destination().octets())
    }

    /// Who sent the frame; never a group.
    pub fn ethernet_source(&self) -> Mac {
        Mac(self.ethernet.get_source().octets())
    }

    /// The IPv6 source; unspecified in a question of duplicate address detection.
    pub fn source(&self) -> Ipv6Addr {
        self.ip.get_source()
    }

    /// The IPv6 destination.
    pub fn destination(&self) -> Ipv6Addr {
        self.ip.get_destination()
    }

    /// Whether it asks or tells.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The address asked for or told of; never a group.
    pub fn target(&self) -> Ipv6Addr {
        self.body.get_target_addr()
    }

    /// The link-layer address option of its kind, where there is one: the source's in a solicitation, the target's
    /// in an advertisement.
    pub fn link_layer(&self) -> Option<Mac> {
        self.link_layer
    }

    /// Its fields as a value; options that this room does not know are left out.
    pub fn to_message(&self) -> Message {
        Message {
            ethernet_destination: self.ethernet_destination(),
            ethernet_source: self.ethernet_source(),
            source: self.source(),
            destination: self.destination(),
            kind: self.kind,
            target: self.target(),
            link_layer: self.link_layer,
        }
    }
}

/// The frame's two headers, and exactly the bytes that the IPv6 header says are its ICMPv6 message.
fn ipv6(frame: &[u8]) -> Result<(EthernetPacket<'_>, Ipv6Packet<'_>, &[u8]), Malformed> {
    let ethernet = EthernetPacket::new(frame).ok_or(Malformed::Truncated)?;
    if ethernet.get_ethertype() != EtherTypes::Ipv6 {
        return Err(Malformed::OtherProtocol);
    }
    let packet = frame.get(ETHERNET_HEADER..).ok_or(Malformed::Truncated)?;
    let ip = Ipv6Packet::new(packet).ok_or(Malformed::Truncated)?;
    if ip.get_version() != 6 || ip.get_next_header() != IpNextHeaderProtocols::Icmpv6 {
        return Err(Malformed::OtherProtocol);
    }
    let end = IPV6_HEADER + usize::from(ip.get_payload_length());
    let message = packet.get(IPV6_HEADER..end).ok_or(Malformed::Truncated)?;
    Ok((ethernet, ip, message))
}

/// The address in the first option of `wanted` type. Every option is walked, because one bad option spoils the
/// message (RFC 4861 §7.1.1). Not the codec's iterator: it multiplies the length in eight bits, and overflows.
fn link_layer_option(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, Malformed> {
    let mut found = None;
    while let [kind, length, ..] = *options {
        let whole = usize::from(length) * 8;
        if length == 0 || whole > options.len() {
            return Err(Malformed::Option);
        }
        let (option, rest) = options.split_at(whole);
        if kind == wanted && found.is_none() {
            let address: [u8; 6] =
                option.get(2..).and_then(|a| a.try_into().ok()).ok_or(Malformed::Option)?;
            found = Some(Mac(address));
        }
        options = rest;
    }
    if options.is_empty() { Ok(found) } else { Err(Malformed::Option) }
}

/// A solicitation or an advertisement, with the Ethernet and IPv6 headers around it.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +---------------+---------------+-------------------------------+
/// | type 135, 136 |   code = 0    |           checksum            |
/// +-+-+-+---------+---------------+-------------------------------+
/// |R|S|O|       reserved (all of it in a solicitation)            |
/// +-+-+-+---------------------------------------------------------+
/// |                                                               |
/// +                        target address                         +
/// |                          (16 bytes)                           |
/// +---------------+---------------+-------------------------------+
/// |  option 1, 2  |  length = 1   |                               |
/// +---------------+---------------+     link-layer address        +
/// |                                                               |
/// +---------------------------------------------------------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// Whom the frame goes to.
    pub ethernet_destination: Mac,
    /// Who sends the frame.
    pub ethernet_source: Mac,
    /// The IPv6 source; unspecified in a question of duplicate address detection.
    pub source: Ipv6Addr,
    /// The IPv6 destination.
    pub destination: Ipv6Addr,
    /// Whether it asks or tells.
    pub kind: Kind,
    /// The address asked for or told of.
    pub target: Ipv6Addr,
    /// The source's (solicitation) or target's (advertisement) hardware address.
    pub link_layer: Option<Mac>,
}

impl Message {
    /// The answer to `solicitation`: its target is at `mac` (RFC 4861 §7.2.4).
    ///
    /// To the asker alone, solicited; without override, as by one of several that could answer. It goes to the
    /// hardware address that the asker names, or to the frame's sender where it names none. A question of duplicate
    /// address detection has nobody to answer to: all nodes hear the answer, unsolicited.
    pub fn answer(solicitation: &View<'_>, mac: Mac) -> Self {
        let asker = solicitation.source();
        let (ethernet_destination, destination, solicited) = if asker.is_unspecified() {
            (group_mac(ALL_NODES), ALL_NODES, false)
        } else {
            let host = solicitation.link_layer().unwrap_or(solicitation.ethernet_source());
            (host, asker, true)
        };
        Self {
            ethernet_destination,
            ethernet_source: mac,
            source: solicitation.target(),
            destination,
            kind: Kind::Advertisement { router: false, solicited, override_cache: false },
            target: solicitation.target(),
            link_layer: Some(mac),
        }
    }

    /// The unsolicited advertisement: everybody hears that `address` is at `mac` now (RFC 4861 §7.2.6).
    ///
    /// Its source is `address` itself, which §4.4 wants to be an address of the sending interface: receivers judge
    /// an advertisement by its hop limit and target, not its source, and it so needs no link-local address.
    pub const fn announcement(address: Ipv6Addr, mac: Mac) -> Self {
        Self {
            ethernet_destination: group_mac(ALL_NODES),
            ethernet_source: mac,
            source: address,
            destination: ALL_NODES,
            kind: Kind::Advertisement { router: false, solicited: false, override_cache: true },
            target: address,
            link_layer: Some(mac),
        }
    }

    /// The ordinary question where `target` is, asked by `source` at `mac`. The target learns the source from it
    /// (RFC 4861 §7.2.3), also where it heeds no unsolicited advertisement.
    pub const fn ask(target: Ipv6Addr, source: Ipv6Addr, mac: Mac) -> Self {
        let group = solicited_node(target);
        Self {
            ethernet_destination: group_mac(group),
            ethernet_source: mac,
            source,
            destination: group,
            kind: Kind::Solicitation,
            target,
            link_layer: Some(mac),
        }
    }

    /// The question where `target` is, asked by a host for itself. `source` is an address of its own that the answer
    /// can come to, and that is named with its hardware address as §4.3 demands; when it is unspecified no cache
    /// changes anywhere, and the answer goes to all nodes. `host` gets the frame alone; `None` is everybody in the
    /// target's group.
    pub const fn probe(target: Ipv6Addr, source: Ipv6Addr, mac: Mac, host: Option<Mac>) -> Self {
        let question = Self::ask(target, source, mac);
        let link_layer = if source.is_unspecified() { None } else { Some(mac) };
        match host {
            Some(host) => Self { ethernet_destination: host, link_layer, ..question },
            None => Self { link_layer, ..question },
        }
    }

    /// The whole Ethernet frame: 78 bytes, 86 with a link-layer option.
    pub fn to_frame(&self) -> Vec<u8> {
        let option = if self.link_layer.is_some() { LINK_LAYER_OPTION } else { 0 };
        let length = BODY + option;
        let mut frame = vec![0; ETHERNET_HEADER + IPV6_HEADER + length];
        let (header, packet) = frame.split_at_mut(ETHERNET_HEADER);
        let (ip_header, message) = packet.split_at_mut(IPV6_HEADER);
        let mut ethernet = MutableEthernetPacket::new(header).expect("an Ethernet header's length");
        ethernet.set_destination(self.ethernet_destination.0.into());
        ethernet.set_source(self.ethernet_source.0.into());
        ethernet.set_ethertype(EtherTypes::Ipv6);
        let mut ip = MutableIpv6Packet::new(ip_header).expect("an IPv6 header's length");
        ip.set_version(6);
        ip.set_payload_length(u16::try_from(length).expect("32 bytes at most"));
        ip.set_next_header(IpNextHeaderProtocols::Icmpv6);
        ip.set_hop_limit(HOP_LIMIT);
        ip.set_source(self.source);
        ip.set_destination(self.destination);
        if let Some(mac) = self.link_layer {
            let option = &mut message[BODY..];
            option[..2].copy_from_slice(&[self.kind.option_type(), 1]);
            option[2..].copy_from_slice(&mac.0);
        }
        self.fill_body(message);
        frame
    }

    /// Writes everything but the options, which must be there: the checksum covers them.
    fn fill_body(&self, message: &mut [u8]) {
        let mut body = MutableNeighborAdvertPacket::new(message).expect("a message's length");
        body.set_icmpv6_type(self.kind.icmp_type());
        body.set_flags(self.kind.flags());
        body.set_target_addr(self.target);
        let icmp = Icmpv6Packet::new(message).expect("a message's length");
        let sum = icmpv6::checksum(&icmp, &self.source, &self.destination);
        let mut body = MutableNeighborAdvertPacket::new(message).expect("a message's length");
        body.set_checksum(sum);
    }
}

#[cfg(test)]
mod tests;
