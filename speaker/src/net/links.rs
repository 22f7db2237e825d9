//! The node's links, by the kernel's events: never polled, and never guessed after an event was lost.

mod kernel;
mod picture;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use herald_core::name::LinkName;
use herald_core::ownership::record;
use herald_core::wire::Mac;
use ipnetwork::IpNetwork;

pub use kernel::{LinksError, Watcher};

/// Why an interface carries no announcements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ineligible {
    /// It is administratively down.
    Down,
    /// It belongs to a bridge, bond or the like, which is used in its place; or to a VRF, whose networks carry none.
    Enslaved,
    /// It does not resolve addresses (a tunnel, say).
    NoArp,
    /// It has no broadcast.
    NoBroadcast,
    /// It has no Ethernet address.
    NotEthernet,
}

impl Ineligible {
    /// The word for logs and conditions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Enslaved => "enslaved",
            Self::NoArp => "no-arp",
            Self::NoBroadcast => "no-broadcast",
            Self::NotEthernet => "not-ethernet",
        }
    }
}

/// One network interface that is not excluded by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's index: another one after it was deleted and made again.
    pub index: u32,
    /// Its name.
    pub name: LinkName,
    /// Its Ethernet address; `None` on other hardware.
    pub mac: Option<Mac>,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it is up, has carrier and may pass traffic.
    pub carrier: bool,
    /// Whether it has broadcast.
    pub broadcast: bool,
    /// Whether it does without address resolution.
    pub no_arp: bool,
    /// Whether it belongs to another interface (a bridge, a bond, a VRF).
    pub enslaved: bool,
    /// The node's own addresses on it.
    pub addresses: BTreeSet<IpAddr>,
    /// The prefixes that are on-link there: those of its addresses, without host routes and without fe80::/10.
    pub prefixes: BTreeSet<IpNetwork>,
    /// Its usable link-local address, the lowest of several.
    pub link_local: Option<Ipv6Addr>,
    /// The gateways of default routes that leave by it.
    pub gateways: BTreeSet<IpAddr>,
}

impl Interface {
    /// Whether addresses can be answered and announced there.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn eligibility(&self) -> Result<Mac, Ineligible> {
        if self.enslaved {
            Err(Ineligible::Enslaved)
        } else if self.no_arp {
            Err(Ineligible::NoArp)
        } else if !self.broadcast {
            Err(Ineligible::NoBroadcast)
        } else if !self.up {
            Err(Ineligible::Down)
        } else {
            self.mac.ok_or(Ineligible::NotEthernet)
        }
    }
}

/// All interfaces of the node that are not excluded by name, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    interfaces: BTreeMap<LinkName, Interface>,
}

impl Interface {
    /// The node's addresses with the prefix that each makes on-link, sorted.
    fn assigned(&self) -> Vec<IpNetwork> {
        let of = |prefix: &IpNetwork| {
            let own = self.addresses.iter().filter(|address| prefix.contains(**address));
            own.filter_map(|address| IpNetwork::new(*address, prefix.prefix()).ok()).collect()
        };
        let mut assigned: Vec<IpNetwork> = self
            .prefixes
            .iter()
            .flat_map(|prefix| {
                let own: Vec<IpNetwork> = of(prefix);
                // Of a point-to-point link the prefix is the other end's.
                if own.is_empty() { vec![*prefix] } else { own }
            })
            .collect();
        assigned.sort();
        assigned.dedup();
        assigned
    }
}

impl Links {
    /// The default gateways of each link.
    pub fn gateways(&self) -> BTreeMap<LinkName, Vec<IpAddr>> {
        let of = |interface: &Interface| {
            (interface.name.clone(), interface.gateways.iter().copied().collect())
        };
        self.iter().map(of).collect()
    }

    /// The interface `name`.
    pub fn get(&self, name: &LinkName) -> Option<&Interface> {
        self.interfaces.get(name)
    }

    /// All of them, by name, eligible or not: an advertisement may name any of these.
    pub fn iter(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.values()
    }

    /// Those that can carry announcements now, each with its Ethernet address.
    pub fn eligible(&self) -> impl Iterator<Item = (&Interface, Mac)> {
        self.iter().filter_map(|interface| Some((interface, interface.eligibility().ok()?)))
    }

    /// The Ethernet addresses of all of them: frames from these are our own, whichever link they come in by.
    pub fn macs(&self) -> BTreeSet<Mac> {
        self.iter().filter_map(|interface| interface.mac).collect()
    }

    /// The links as the node's session describes them: those that carry announcements, or would if they were up.
    /// Whether one is deaf the machine knows.
    pub fn records(&self) -> Vec<record::Link> {
        let record = |interface: &Interface| match interface.eligibility() {
            Ok(_) | Err(Ineligible::Down) => Some(record::Link {
                name: interface.name.clone(),
                mac: interface.mac?,
                prefixes: interface.assigned(),
                carrier: interface.carrier,
                deaf: false,
            }),
            Err(_) => None,
        };
        self.iter().filter_map(record).collect()
    }
}

impl FromIterator<Interface> for Links {
    fn from_iter<I: IntoIterator<Item = Interface>>(interfaces: I) -> Self {
        let by_name = |interface: Interface| (interface.name.clone(), interface);
        Self { interfaces: interfaces.into_iter().map(by_name).collect() }
    }
}

#[cfg(test)]
mod tests;
