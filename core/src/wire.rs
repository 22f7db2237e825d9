//! What goes over the wire: ARP (RFC 826) and Neighbour Discovery (RFC 4861), each as view and value.
//!
//! A view borrows a received Ethernet frame and is total: any bytes give either a view whose every field was checked,
//! or the reason why not. A value owns its fields and becomes a whole Ethernet frame. Bytes from the network never
//! panic and never allocate by their own say-so.

pub mod arp;
pub mod ndp;

use std::fmt;

/// A hardware (Ethernet) address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Every host of a segment.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// No address: what the target of an ARP request carries while it is being asked for.
    pub const ZERO: Self = Self([0; 6]);

    /// Whether it names a group of hosts (multicast or broadcast) and therefore cannot be anybody's own.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a frame is not a message of this room: what a receiver must ignore, silently (RFC 4861 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Malformed {
    /// It ends before its headers say so.
    Truncated,
    /// Its Ethernet type, IP version or next header is of another protocol.
    OtherProtocol,
    /// ARP for hardware other than Ethernet, or for a protocol other than IPv4.
    NotEthernetIpv4,
    /// An ARP operation, or an ICMPv6 type or code, that means something else.
    OtherOperation,
    /// An IPv6 hop limit other than 255: it crossed a router, or pretends not to have.
    HopLimit,
    /// The ICMPv6 checksum is wrong.
    Checksum,
    /// An option of length zero, beyond the end, or whose address is not of Ethernet's length.
    Option,
    /// A sender's hardware address that names a group of hosts (RFC 1812 §3.3.2).
    GroupSender,
    /// A target address that is a multicast group.
    GroupTarget,
    /// A destination that does not go with the rest: a solicitation without source to other than a solicited-node
    /// group, or a solicited advertisement to a group.
    Destination,
    /// A solicitation without source address that names a source's hardware address.
    SourceOption,
}

impl Malformed {
    /// The word for logs and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::OtherProtocol => "other-protocol",
            Self::NotEthernetIpv4 => "not-ethernet-ipv4",
            Self::OtherOperation => "other-operation",
            Self::HopLimit => "hop-limit",
            Self::Checksum => "checksum",
            Self::Option => "option",
            Self::GroupSender => "group-sender",
            Self::GroupTarget => "group-target",
            Self::Destination => "destination",
            Self::SourceOption => "source-option",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Malformed {}

/// Bytes of an Ethernet header without tag: destination, source, type.
const ETHERNET_HEADER: usize = 14;
