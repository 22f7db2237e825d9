//! The Address Resolution Protocol for IPv4 on Ethernet (RFC 826), with probes and announcements (RFC 5227).

use std::net::Ipv4Addr;

use pnet_packet::arp::{ArpHardwareTypes, ArpOperation, ArpPacket, MutableArpPacket};
use pnet_packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};

use super::{ETHERNET_HEADER, Mac, Malformed};

/// Bytes of a whole frame. What follows in a received one is Ethernet's padding.
pub const FRAME: usize = ETHERNET_HEADER + 28;

/// What a message does (RFC 826, `ar$op`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Asks who has the target address.
    Request,
    /// Tells that the sender has the sender address.
    Reply,
}

impl Operation {
    const fn code(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Reply => 2,
        }
    }

    const fn of(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Request),
            2 => Some(Self::Reply),
            _ => None,
        }
    }
}

/// A received frame that holds an ARP message for IPv4 on Ethernet.
#[derive(Debug)]
pub struct View<'a> {
    ethernet: EthernetPacket<'a>,
    arp: ArpPacket<'a>,
    operation: Operation,
}

impl<'a> View<'a> {
    /// Looks at the Ethernet frame `frame`.
    ///
    /// # Errors
    /// Says what is wrong with it when it is no request or reply for IPv4 on Ethernet from one host.
    pub fn parse(frame: &'a [u8]) -> Result<Self, Malformed> {
        let ethernet = EthernetPacket::new(frame).ok_or(Malformed::Truncated)?;
        if ethernet.get_ethertype() != EtherTypes::Arp {
            return Err(Malformed::OtherProtocol);
        }
        let body = frame.get(ETHERNET_HEADER..FRAME).ok_or(Malformed::Truncated)?;
        let arp = ArpPacket::new(body).ok_or(Malformed::Truncated)?;
        let for_ethernet =
            arp.get_hardware_type() == ArpHardwareTypes::Ethernet && arp.get_hw_addr_len() == 6;
        let for_ipv4 = arp.get_protocol_type() == EtherTypes::Ipv4 && arp.get_proto_addr_len() == 4;
        if !(for_ethernet && for_ipv4) {
            return Err(Malformed::NotEthernetIpv4);
        }
        let ArpOperation(code) = arp.get_operation();
        let operation = Operation::of(code).ok_or(Malformed::OtherOperation)?;
        let view = Self { ethernet, arp, operation };
        if view.sender_mac().is_group() {
            return Err(Malformed::GroupSender);
        }
        Ok(view)
    }

    /// Whom the frame was sent to.
    pub fn destination(&self) -> Mac {
        Mac(self.ethernet.get_destination().octets())
    }

    /// Who sent the frame.
    pub fn source(&self) -> Mac {
        Mac(self.ethernet.get_source().octets())
    }

    /// Whether it asks or tells.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The hardware address that the sender says is its own; never a group's.
    pub fn sender_mac(&self) -> Mac {
        Mac(self.arp.get_sender_hw_addr().octets())
    }

    /// The address that the sender says is its own; unspecified in a probe.
    pub fn sender(&self) -> Ipv4Addr {
        self.arp.get_sender_proto_addr()
    }

    /// The target's hardware address, where the sender knows it; anything in a request.
    pub fn target_mac(&self) -> Mac {
        Mac(self.arp.get_target_hw_addr().octets())
    }

    /// The address asked for, or of whom a reply is for.
    pub fn target(&self) -> Ipv4Addr {
        self.arp.get_target_proto_addr()
    }

    /// Its fields as a value.
    pub fn to_message(&self) -> Message {
        Message {
            destination: self.destination(),
            source: self.source(),
            operation: self.operation,
            sender_mac: self.sender_mac(),
            sender: self.sender(),
            target_mac: self.target_mac(),
            target: self.target(),
        }
    }
}

/// An ARP message for IPv4 on Ethernet, with the Ethernet header around it.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-------------------------------+-------------------------------+
/// |       hardware type = 1       |     protocol type = 0x0800    |
/// +---------------+---------------+-------------------------------+
/// |  hw length 6  | prot length 4 |    operation: 1 ask, 2 tell   |
/// +---------------+---------------+-------------------------------+
/// |                      sender hardware address                  |
/// |                               +-------------------------------+
/// |                               |     sender IPv4 address       |
/// +-------------------------------+-------------------------------+
/// |                               |    target hardware address    |
/// +-------------------------------+                               |
/// |                                                               |
/// +---------------------------------------------------------------+
/// |                       target IPv4 address                     |
/// +---------------------------------------------------------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// Whom the frame goes to.
    pub destination: Mac,
    /// Who sends the frame.
    pub source: Mac,
    /// Whether it asks or tells.
    pub operation: Operation,
    /// The sender's hardware address.
    pub sender_mac: Mac,
    /// The sender's address; unspecified in a probe.
    pub sender: Ipv4Addr,
    /// The target's hardware address.
    pub target_mac: Mac,
    /// The address asked for, or of whom a reply is for.
    pub target: Ipv4Addr,
}

impl Message {
    /// The answer to `request`: its target address is at `mac`. It goes to the asker alone (RFC 826, "Packet
    /// Reception"); one to a probe carries the probe's unspecified address back (RFC 5227 §1.1).
    pub fn answer(request: &View<'_>, mac: Mac) -> Self {
        Self {
            destination: request.sender_mac(),
            source: mac,
            operation: Operation::Reply,
            sender_mac: mac,
            sender: request.target(),
            target_mac: request.sender_mac(),
            target: request.sender(),
        }
    }

    /// A gratuitous message: everybody hears that `address` is at `mac`.
    ///
    /// Both operations are in use (RFC 5227 §3, RFC 5944 §4.6) and some neighbours heed only one of them.
    pub const fn gratuitous(operation: Operation, address: Ipv4Addr, mac: Mac) -> Self {
        Self {
            destination: Mac::BROADCAST,
            source: mac,
            operation,
            sender_mac: mac,
            sender: address,
            target_mac: Mac::BROADCAST,
            target: address,
        }
    }

    /// The ordinary question who has `target`, asked of everybody by `sender` at `mac`. The target learns the
    /// sender from it (RFC 826, "Packet Reception"), also where it heeds no gratuitous message.
    pub const fn ask(target: Ipv4Addr, sender: Ipv4Addr, mac: Mac) -> Self {
        Self {
            destination: Mac::BROADCAST,
            source: mac,
            operation: Operation::Request,
            sender_mac: mac,
            sender,
            target_mac: Mac::ZERO,
            target,
        }
    }

    /// The question who has `target` without saying who asks, so that nobody's cache changes (RFC 5227 §2.1.1),
    /// asked of `destination`: one host, or [`Mac::BROADCAST`].
    pub const fn probe(target: Ipv4Addr, mac: Mac, destination: Mac) -> Self {
        Self { destination, ..Self::ask(target, Ipv4Addr::UNSPECIFIED, mac) }
    }

    /// The whole Ethernet frame, without padding.
    pub fn to_frame(&self) -> [u8; FRAME] {
        let mut frame = [0; FRAME];
        let (header, body) = frame.split_at_mut(ETHERNET_HEADER);
        let mut ethernet = MutableEthernetPacket::new(header).expect("an Ethernet header's length");
        ethernet.set_destination(self.destination.0.into());
        ethernet.set_source(self.source.0.into());
        ethernet.set_ethertype(EtherTypes::Arp);
        let mut arp = MutableArpPacket::new(body).expect("an ARP message's length");
        arp.set_hardware_type(ArpHardwareTypes::Ethernet);
        arp.set_protocol_type(EtherTypes::Ipv4);
        arp.set_hw_addr_len(6);
        arp.set_proto_addr_len(4);
        arp.set_operation(ArpOperation(self.operation.code()));
        arp.set_sender_hw_addr(self.sender_mac.0.into());
        arp.set_sender_proto_addr(self.sender);
        arp.set_target_hw_addr(self.target_mac.0.into());
        arp.set_target_proto_addr(self.target);
        frame
    }
}

#[cfg(test)]
mod tests;
