//! The two segments of a lab, their addresses, and what can happen to their cables.
//!
//! ```text
//!  node1 ─ lan0 ─┐                    ┌─ mgmt0 ─ node1
//!  node2 ─ lan0 ─┤ lan          mgmt  ├─ mgmt0 ─ node2
//!  client ─ lan0 ┘ (clients, VIPs)    └─ mgmt0 ─ api
//! ```
//!
//! Both bridges lie in a namespace of their own, so that the machine's addresses and firewall play no part.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Context;
use herald_core::wire::Mac;

use super::namespace::Namespace;

/// One of the two segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Where nodes and clients meet and the VIPs lie: 192.168.0.0/16 and fd00:99::/64. Pods are routed over it.
    Lan,
    /// Where the API server is reached: 10.99.0.0/24.
    Management,
}

impl Segment {
    const ALL: [Self; 2] = [Self::Lan, Self::Management];

    /// The bridge's name.
    const fn bridge(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Management => "mgmt",
        }
    }

    /// The name of the interface that each host has on it.
    pub const fn interface(self) -> &'static str {
        match self {
            Self::Lan => "lan0",
            Self::Management => "mgmt0",
        }
    }

    /// The bridge's port to the host called `host`.
    fn port(self, host: &str) -> String {
        format!("{}-{host}", self.bridge())
    }

    /// The hardware address of host number `host` on it.
    pub const fn mac(self, host: u8) -> Mac {
        match self {
            Self::Lan => Mac([0x02, 0, 0, 0, 0x99, host]),
            Self::Management => Mac([0x02, 0, 0, 0, 0x10, host]),
        }
    }

    /// The addresses of host number `host` on it, with their prefix lengths.
    fn addresses(self, host: u8) -> Vec<String> {
        match self {
            Self::Lan => vec![format!("{}/16", lan_v4(host)), format!("{}/64", lan_v6(host))],
            Self::Management => vec![format!("{}/24", management(host))],
        }
    }
}

/// The IPv4 address of host number `host` on the LAN.
pub const fn lan_v4(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 99, host)
}

/// The IPv6 address of host number `host` on the LAN.
pub const fn lan_v6(host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, host as u16)
}

/// The address of host number `host` on the management network.
pub const fn management(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, host)
}

/// The addresses of pod number `pod` on node number `node`.
pub const fn pod(node: u8, pod: u8) -> (Ipv4Addr, Ipv6Addr) {
    let v6 = Ipv6Addr::new(0xfd00, 0x244, node as u16, 0, 0, 0, 0, pod as u16);
    (Ipv4Addr::new(10, 244, node, pod), v6)
}

/// The pod prefixes of node number `node`.
pub fn pod_prefixes(node: u8) -> [String; 2] {
    let (v4, v6) = pod(node, 0);
    [format!("{v4}/24"), format!("{v6}/64")]
}

/// What a namespace must be told before its interfaces are made: IPv6 addresses serve at once, not after the second
/// that duplicate address detection takes.
const HOST: [(&str, &str); 2] =
    [("net/ipv6/conf/all/accept_dad", "0"), ("net/ipv6/conf/default/accept_dad", "0")];

/// The switches of both segments.
#[derive(Debug)]
pub struct Network {
    switch: Namespace,
}

impl Network {
    /// Makes both bridges, in a namespace called `name`.
    pub fn create(name: String) -> anyhow::Result<Self> {
        let switch = Namespace::create(name)?;
        switch.ip_batch(&Segment::ALL.map(|segment| {
            format!("link add {} up type bridge stp_state 0 forward_delay 0", segment.bridge())
        }))?;
        Ok(Self { switch })
    }

    /// Gives `host`, which gets number `number` and the namespace `namespace`, an interface on each of `segments`.
    pub fn plug(
        &self,
        host: &str,
        number: u8,
        namespace: &Namespace,
        segments: &[Segment],
    ) -> anyhow::Result<()> {
        namespace.sysctl(&HOST)?;
        let (mut switch, mut inside) = (Vec::new(), Vec::new());
        for segment in segments {
            let (port, interface) = (segment.port(host), segment.interface());
            let mac = segment.mac(number);
            switch.push(format!(
                "link add {port} type veth peer name {interface} address {mac} netns {}",
                namespace.name()
            ));
            switch.push(format!("link set {port} master {} up", segment.bridge()));
            inside.push(format!("link set {interface} up"));
            for address in segment.addresses(number) {
                let no_wait = if address.contains(':') { " nodad" } else { "" };
                inside.push(format!("addr add {address} dev {interface}{no_wait}"));
            }
        }
        self.switch.ip_batch(&switch)?;
        namespace.ip_batch(&inside)
    }

    /// Takes `host` off `segment` at the switch, without its noticing: it keeps its carrier, and hears nothing.
    pub fn cut(&self, segment: Segment, host: &str) -> anyhow::Result<()> {
        self.switch.ip_batch(&[format!("link set {} nomaster", segment.port(host))])
    }

    /// Undoes [`Network::cut`].
    pub fn heal(&self, segment: Segment, host: &str) -> anyhow::Result<()> {
        let port = segment.port(host);
        self.switch.ip_batch(&[format!("link set {port} master {}", segment.bridge())])
    }

    /// Switches off the switch's end of a cable: `host` loses its carrier on `segment`.
    pub fn unplug(&self, segment: Segment, host: &str) -> anyhow::Result<()> {
        self.switch.ip_batch(&[format!("link set {} down", segment.port(host))])
    }

    /// As [`Network::unplug`], on both segments at once.
    pub fn unplug_wholly(&self, host: &str) -> anyhow::Result<()> {
        self.switch.ip_batch(&Segment::ALL.map(|of| format!("link set {} down", of.port(host))))
    }

    /// Undoes [`Network::unplug`].
    pub fn replug(&self, segment: Segment, host: &str) -> anyhow::Result<()> {
        self.switch.ip_batch(&[format!("link set {} up", segment.port(host))])
    }

    /// Undoes [`Network::unplug_wholly`].
    pub fn replug_wholly(&self, host: &str) -> anyhow::Result<()> {
        self.switch.ip_batch(&Segment::ALL.map(|of| format!("link set {} up", of.port(host))))
    }

    /// The namespace that holds both bridges.
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }
}

/// The hardware address that `namespace` remembers for its neighbour `address` on the LAN, set for good.
pub fn remember_neighbour(namespace: &Namespace, address: IpAddr, mac: Mac) -> anyhow::Result<()> {
    let interface = Segment::Lan.interface();
    namespace
        .ip_batch(&[format!("neigh replace {address} lladdr {mac} dev {interface} nud permanent")])
        .with_context(|| format!("tell {} that {address} is at {mac}", namespace.name()))
}
