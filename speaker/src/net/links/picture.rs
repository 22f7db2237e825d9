//! What the kernel has told about links so far: each message applied to what was known.
//!
//! Applying is idempotent, and of several messages about one thing the last wins. So events may be older than a dump
//! that was read after they were queued: when all are applied, the picture is the kernel's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use herald_core::wire::Mac;
use ipnetwork::IpNetwork;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage, State};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::super::exclusion::Exclusion;
use super::{Interface, Links};

/// What a message changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that anybody asks for.
    Nothing,
    /// A link or an address.
    Links,
    /// A default route. Its message does not say which route it replaces, so all must be read anew.
    Routes,
}

/// One interface's own attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    name: String,
    mac: Option<Mac>,
    flags: LinkFlags,
    state: Option<State>,
    enslaved: bool,
}

/// One address of the node, with the prefix that it makes on-link and whether it can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Assigned {
    prefix: IpNetwork,
    usable: bool,
}

/// Everything known. Interfaces that are excluded by name are not kept.
#[derive(Debug)]
pub(super) struct Picture {
    exclusion: Exclusion,
    devices: BTreeMap<u32, Device>,
    addresses: BTreeMap<(u32, IpAddr), Assigned>,
    gateways: BTreeSet<(u32, IpAddr)>,
}

impl Picture {
    pub(super) fn new(exclusion: Exclusion) -> Self {
        Self {
            exclusion,
            devices: BTreeMap::new(),
            addresses: BTreeMap::new(),
            gateways: BTreeSet::new(),
        }
    }

    /// Forgets everything that a dump will tell again.
    pub(super) fn clear(&mut self) {
        self.devices.clear();
        self.addresses.clear();
        self.gateways.clear();
    }

    /// Applies an event, or a part of a dump of links and addresses.
    pub(super) fn apply(&mut self, message: &RouteNetlinkMessage) -> Change {
        match message {
            RouteNetlinkMessage::NewLink(link) => self.new_link(link),
            RouteNetlinkMessage::DelLink(link) => self.del_link(link),
            RouteNetlinkMessage::NewAddress(address) => self.new_address(address),
            RouteNetlinkMessage::DelAddress(address) => self.del_address(address),
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route)
                if is_default(route) =>
            {
                Change::Routes
            }
            _ => Change::Nothing,
        }
    }

    /// Replaces all gateways by those of `routes`, a whole dump.
    pub(super) fn set_routes<'a>(&mut self, routes: impl Iterator<Item = &'a RouteMessage>) {
        self.gateways = routes.filter(|route| is_default(route)).flat_map(gateways).collect();
    }

    /// What is known, link by link.
    pub(super) fn links(&self) -> Links {
        self.devices.iter().map(|(&index, device)| self.interface(index, device)).collect()
    }

    fn interface(&self, index: u32, device: &Device) -> Interface {
        let has = |flag| device.flags.contains(flag);
        let lowest = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        let assigned: Vec<_> = self
            .addresses
            .range((index, lowest)..)
            .take_while(|((of, _), _)| *of == index)
            .map(|(&(_, address), &assigned)| (address, assigned))
            .collect();
        let link_local = |&(address, of): &(IpAddr, Assigned)| match address {
            IpAddr::V6(v6) if v6.is_unicast_link_local() && of.usable => Some(v6),
            _ => None,
        };
        let passes = matches!(device.state, None | Some(State::Up | State::Unknown));
        Interface {
            index,
            name: device.name.as_str().into(),
            mac: device.mac,
            up: has(LinkFlags::Up),
            carrier: has(LinkFlags::Up) && has(LinkFlags::LowerUp) && passes,
            broadcast: has(LinkFlags::Broadcast),
            no_arp: has(LinkFlags::Noarp),
            enslaved: device.enslaved,
            addresses: assigned.iter().map(|(address, _)| *address).collect(),
            prefixes: assigned.iter().map(|(_, of)| of.prefix).filter(is_on_link).collect(),
            link_local: assigned.iter().filter_map(link_local).min(),
            gateways: self
                .gateways
                .iter()
                .filter(|(of, _)| *of == index)
                .map(|(_, gateway)| *gateway)
                .collect(),
        }
    }

    fn new_link(&mut self, link: &LinkMessage) -> Change {
        if !is_whole(link) {
            return Change::Nothing;
        }
        let index = link.header.index;
        let before = self.devices.remove(&index);
        let after = device(link).filter(|device| !self.exclusion.excludes(&device.name));
        let changed = before != after;
        if let Some(device) = after {
            self.devices.insert(index, device);
        }
        if changed { Change::Links } else { Change::Nothing }
    }

    /// The kernel deletes addresses by events of their own, but not those of a link that moves to another namespace.
    fn del_link(&mut self, link: &LinkMessage) -> Change {
        if !is_whole(link) {
            return Change::Nothing;
        }
        let index = link.header.index;
        self.addresses.retain(|(of, _), _| *of != index);
        self.gateways.retain(|(of, _)| *of != index);
        match self.devices.remove(&index) {
            Some(_) => Change::Links,
            None => Change::Nothing,
        }
    }

    fn new_address(&mut self, message: &AddressMessage) -> Change {
        let Some((address, prefix)) = assigned(message) else { return Change::Nothing };
        let index = message.header.index;
        let usable = !message.header.flags.contains(AddressHeaderFlags::Dadfailed);
        let now = Assigned { prefix, usable };
        let before = self.addresses.insert((index, address), now);
        self.address_change(index, before != Some(now))
    }

    fn del_address(&mut self, message: &AddressMessage) -> Change {
        let Some((address, prefix)) = assigned(message) else { return Change::Nothing };
        let index = message.header.index;
        let key = (index, address);
        let same = self.addresses.get(&key).is_some_and(|known| known.prefix == prefix);
        if same {
            self.addresses.remove(&key);
        }
        self.address_change(index, same)
    }

    fn address_change(&self, index: u32, changed: bool) -> Change {
        if changed && self.devices.contains_key(&index) { Change::Links } else { Change::Nothing }
    }
}

/// Whether `link` tells of the link itself. A bridge tells of its ports in the same words (and calls the leaving of
/// one a deletion), and so do wireless events, which carry no attributes of the link.
fn is_whole(link: &LinkMessage) -> bool {
    let wireless = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::Wireless(_));
    link.header.interface_family == AddressFamily::Unspec && !link.attributes.iter().any(wireless)
}

fn device(link: &LinkMessage) -> Option<Device> {
    let mut name = None;
    let mut mac = None;
    let mut state = None;
    let mut enslaved = false;
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            LinkAttribute::OperState(now) => state = Some(*now),
            LinkAttribute::Controller(index) => enslaved = *index != 0,
            _ => {}
        }
    }
    let ethernet = link.header.link_layer_type == LinkLayerType::Ether;
    Some(Device {
        name: name?,
        mac: mac.filter(|_| ethernet),
        flags: link.header.flags,
        state,
        enslaved,
    })
}

/// The node's address in `message` and the prefix that it makes on-link: its own, or its peer's where it has one.
fn assigned(message: &AddressMessage) -> Option<(IpAddr, IpNetwork)> {
    let mut local = None;
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(of) => local = Some(*of),
            AddressAttribute::Address(of) => address = Some(*of),
            _ => {}
        }
    }
    let of = address.or(local)?;
    let network = IpNetwork::new(of, message.header.prefix_len).ok()?;
    let prefix = IpNetwork::new(network.network(), network.prefix()).ok()?;
    Some((local.unwrap_or(of), prefix))
}

fn is_on_link(prefix: &IpNetwork) -> bool {
    match prefix {
        IpNetwork::V4(v4) => v4.prefix() < 32,
        IpNetwork::V6(v6) => v6.prefix() < 128 && !v6.network().is_unicast_link_local(),
    }
}

/// Whether `route` is a default route of the main table.
fn is_default(route: &RouteMessage) -> bool {
    let main = u32::from(RouteHeader::RT_TABLE_MAIN);
    let table = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    route.header.destination_prefix_length == 0
        && table.unwrap_or(u32::from(route.header.table)) == main
}

/// The gateways of `route`, each with the index of the link that it is reached by.
fn gateways(route: &RouteMessage) -> Vec<(u32, IpAddr)> {
    let mut found: Vec<_> = hop(None, &route.attributes).into_iter().collect();
    for attribute in &route.attributes {
        if let RouteAttribute::MultiPath(hops) = attribute {
            found
                .extend(hops.iter().filter_map(|of| hop(Some(of.interface_index), &of.attributes)));
        }
    }
    found
}

fn hop(mut index: Option<u32>, attributes: &[RouteAttribute]) -> Option<(u32, IpAddr)> {
    let mut gateway = None;
    for attribute in attributes {
        match attribute {
            RouteAttribute::Oif(of) => index = Some(*of),
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) => gateway = Some(IpAddr::V4(*v4)),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
            RouteAttribute::Via(RouteVia::Inet(v4)) => gateway = Some(IpAddr::V4(*v4)),
            RouteAttribute::Via(RouteVia::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
            _ => {}
        }
    }
    Some((index?, gateway?))
}
