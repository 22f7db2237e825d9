//! Why a Service has no address, or not the one that it had or asked for.

use std::fmt;
use std::net::IpAddr;

use crate::address::Family;
use crate::config::Refusal;
use crate::name::{PoolName, ServiceId};
use crate::port::Port;

/// How many pools, or Services in the way, a [`Why`] names before it only counts them.
///
/// A reason ends in an Event and a condition, and ten thousand waiting Services may each have one.
pub const NAMED_AT_MOST: usize = 8;

/// Why a Service's address could not be given, kept or added to.
///
/// `Display` is a sentence that names what was tried and contains the words that users of MetalLB know and match;
/// [`Why::reason`] is the same in one bounded word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// No pool is configured at all.
    NoPools,
    /// Not every pool is known, and no known one holds the address: nothing is taken away on a guess, and nothing refused
    /// for good.
    PoolsNotKnown,
    /// The Service holds these of a pool of which no version is in force, or holds them and asks for such a pool. They stay
    /// with it, and whether anybody answers for them is not known.
    PoolNotInForce {
        /// The addresses.
        addresses: Vec<IpAddr>,
        /// The pool.
        pool: PoolName,
        /// What is wrong with it.
        refusal: Box<Refusal>,
    },
    /// The Service is headless, or has no cluster IP yet.
    NoClusterIp,
    /// Two families are required, and the Service itself has fewer.
    NotEnoughClusterIps {
        /// The cluster IPs it has.
        cluster_ips: Vec<String>,
    },
    /// No pool holds these, or some of them.
    NotInPools {
        /// The addresses.
        addresses: Vec<IpAddr>,
        /// Those that no pool holds.
        strays: Vec<IpAddr>,
    },
    /// Each of these is of a pool, and all of a Service's addresses must be of one.
    OfSeveralPools {
        /// The addresses.
        addresses: Vec<IpAddr>,
        /// Their pools, in the same order.
        pools: Vec<PoolName>,
    },
    /// The pool that holds it leaves out addresses that end in .0 or .255.
    Avoided {
        /// The address.
        address: IpAddr,
        /// The pool.
        pool: PoolName,
    },
    /// The pool is pinned to other Services.
    PoolNotForService {
        /// The pool.
        pool: PoolName,
    },
    /// The pool that was asked for does not exist, or no version of it is in force.
    UnknownPool {
        /// Its name.
        pool: PoolName,
        /// What is wrong with the object of that name, if there is one.
        refusal: Option<Box<Refusal>>,
    },
    /// The addresses that were asked for lie in another pool than the one that was asked for.
    AddressesNotInRequestedPool {
        /// The addresses.
        addresses: Vec<IpAddr>,
        /// The pool that was asked for.
        pool: PoolName,
    },
    /// The addresses are not one of each family that the Service has.
    FamilyMismatch {
        /// The addresses.
        addresses: Vec<IpAddr>,
        /// The Service's families.
        families: &'static [Family],
    },
    /// What the Service holds is not one of each family that it now has.
    FamiliesChanged {
        /// What it holds.
        addresses: Vec<IpAddr>,
        /// The Service's families.
        families: &'static [Family],
    },
    /// The Service holds addresses of one pool and now asks for another.
    OtherPoolRequested {
        /// The pool that it now asks for.
        requested: PoolName,
        /// The pool of what it holds.
        current: PoolName,
    },
    /// The Service holds one set of addresses and now asks for another.
    OtherAddressesRequested {
        /// What it now asks for.
        requested: Vec<IpAddr>,
        /// What it holds.
        current: Vec<IpAddr>,
    },
    /// Another Service has the address, and the two do not share.
    AddressInUse {
        /// The Service that asks.
        service: ServiceId,
        /// The address.
        address: IpAddr,
        /// Who has it, at most [`NAMED_AT_MOST`] of them.
        by: Vec<ServiceId>,
    },
    /// A Service that shares the address has the same port.
    PortInUse {
        /// The address.
        address: IpAddr,
        /// The port that clashes.
        port: Port,
        /// The Service that has it.
        by: ServiceId,
    },
    /// Of the pool that was asked for, or that a second address must come from, every address of that family is taken.
    PoolExhausted {
        /// The pool.
        pool: PoolName,
        /// The family.
        family: Family,
    },
    /// The pool that was asked for, or that a second address must come from, has no range of that family.
    PoolLacksFamily {
        /// The pool.
        pool: PoolName,
        /// The family that it lacks.
        family: Family,
    },
    /// No pool could serve it.
    NoneAvailable {
        /// What each pool said, at most [`NAMED_AT_MOST`] of them: those that are for the Service first, then those that may
        /// be when they are in force, then the others.
        tried: Vec<(PoolName, PoolRefusal)>,
        /// How many more pools there are.
        more: usize,
    },
    /// Addresses were asked for in two places.
    RequestedTwice {
        /// The annotation's key.
        annotation: String,
    },
    /// What was asked for is not an address.
    InvalidRequest {
        /// The field or annotation.
        field: String,
        /// Its text.
        text: String,
        /// What is wrong with it.
        fault: RequestFault,
    },
}

/// What is wrong with a list of addresses that a Service asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFault {
    /// A part of it is no address.
    NotAnAddress,
    /// More than one of each family can never be given.
    MoreThanTwo,
    /// Both are of one family.
    SameFamily,
}

/// Why one pool could not serve a Service that asked for nothing by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolRefusal {
    /// Every address of this family is taken.
    Exhausted(Family),
    /// It has no range of this family.
    LacksFamily(Family),
    /// It is there, and no version of it is in force.
    NotInForce,
    /// Pinned to other Services.
    NotForService,
    /// `autoAssign: false`.
    NotAutomatic,
}

impl Why {
    /// One bounded CamelCase word: a condition's reason and a metric's label.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoPools => "NoPools",
            Self::PoolsNotKnown => "PoolsNotKnown",
            Self::PoolNotInForce { .. } => "PoolNotInForce",
            Self::NoClusterIp => "NoClusterIP",
            Self::NotEnoughClusterIps { .. } => "NotEnoughClusterIPs",
            Self::NotInPools { .. } => "AddressNotInPools",
            Self::OfSeveralPools { .. } => "AddressesOfSeveralPools",
            Self::Avoided { .. } => "AddressAvoided",
            Self::PoolNotForService { .. } => "PoolNotForService",
            Self::UnknownPool { .. } => "UnknownPool",
            Self::AddressesNotInRequestedPool { .. } => "AddressesNotInRequestedPool",
            Self::FamilyMismatch { .. } => "FamilyMismatch",
            Self::FamiliesChanged { .. } => "FamiliesChanged",
            Self::OtherPoolRequested { .. } => "OtherPoolRequested",
            Self::OtherAddressesRequested { .. } => "OtherAddressesRequested",
            Self::AddressInUse { .. } => "AddressInUse",
            Self::PortInUse { .. } => "PortInUse",
            Self::PoolExhausted { .. } => "PoolExhausted",
            Self::PoolLacksFamily { .. } => "PoolLacksFamily",
            Self::NoneAvailable { .. } => "NoneAvailable",
            Self::RequestedTwice { .. } => "RequestedTwice",
            Self::InvalidRequest { .. } => "InvalidRequest",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPools => f.write_str("no available IPs: no pool is configured"),
            Self::PoolsNotKnown => {
                f.write_str("not every pool could be read, and none that could holds its IP")
            }
            Self::PoolNotInForce { addresses, pool, refusal } => {
                write!(f, "{} stays with the service, ", Quoted(addresses))?;
                write!(f, "and nobody promises an answer: pool {pool} is not in force: {refusal}")
            }
            Self::NoClusterIp => f.write_str("the service has no cluster IP"),
            Self::NotEnoughClusterIps { cluster_ips } => {
                let cluster_ips = cluster_ips.join(" ");
                write!(f, "Service requires dual stack but not enough clusterips [{cluster_ips}]")
            }
            Self::NotInPools { addresses, strays } => not_in_pools(f, addresses, strays),
            Self::OfSeveralPools { addresses, pools } => {
                let (addresses, pools) = (Quoted(addresses), Joined(pools));
                write!(f, "{addresses} is not allowed in config: they are of pools {pools}")
            }
            Self::Avoided { address, pool } => {
                write!(f, "[\"{address}\"] is not allowed in config: ")?;
                write!(f, "pool {pool} avoids .0 and .255")
            }
            Self::PoolNotForService { pool } => {
                write!(f, "pool {pool} not compatible for ip assignment: it serves other services")
            }
            Self::UnknownPool { pool, refusal: None } => write!(f, "unknown pool \"{pool}\""),
            Self::UnknownPool { pool, refusal: Some(refusal) } => {
                write!(f, "unknown pool \"{pool}\": it is there and not in force: {refusal}")
            }
            Self::AddressesNotInRequestedPool { addresses, pool } => {
                let addresses = Quoted(addresses);
                write!(f, "{addresses} is not compatible with requested address pool {pool}")
            }
            Self::FamilyMismatch { addresses, families } => {
                let (addresses, families) = (Quoted(addresses), Joined(families));
                write!(f, "requested loadBalancer IP(s) {addresses} ")?;
                write!(f, "does not match the ipFamily of the service: {families}")
            }
            Self::FamiliesChanged { addresses, families } => {
                write!(f, "the service needs {}, and has {}", Joined(families), Quoted(addresses))
            }
            Self::OtherPoolRequested { requested, current } => {
                write!(f, "the service asks for pool {requested}, and its IP is of pool {current}")
            }
            Self::OtherAddressesRequested { requested, current } => {
                write!(f, "the service asks for {}, and has {}", Quoted(requested), Quoted(current))
            }
            Self::AddressInUse { service, address, by } => {
                write!(f, "can't change sharing key for \"{service}\", ")?;
                write!(f, "address also in use by {}: \"{address}\"", Joined(by))
            }
            Self::PortInUse { address, port, by } => {
                write!(f, "port {port} is already in use on \"{address}\" by {by}")
            }
            Self::PoolExhausted { pool, family } => {
                write!(f, "no available IPs in pool {pool}: no {family} address is free")
            }
            Self::PoolLacksFamily { pool, family } => {
                write!(f, "no available IPs in pool {pool}: it has no {family} range")
            }
            Self::NoneAvailable { tried, more } => none_available(f, tried, *more),
            Self::RequestedTwice { annotation } => {
                write!(f, "service can not have both {annotation} and svc.Spec.LoadBalancerIP")
            }
            Self::InvalidRequest { field, text, fault } => invalid_request(f, field, text, *fault),
        }
    }
}

fn not_in_pools(
    f: &mut fmt::Formatter<'_>,
    addresses: &[IpAddr],
    strays: &[IpAddr],
) -> fmt::Result {
    write!(f, "{} is not allowed in config: no pool holds ", Quoted(addresses))?;
    if addresses.len() == 1 { f.write_str("it") } else { write!(f, "{}", Quoted(strays)) }
}

fn invalid_request(
    f: &mut fmt::Formatter<'_>,
    field: &str,
    text: &str,
    fault: RequestFault,
) -> fmt::Result {
    // Both are MetalLB's own: a colon after an annotation, none after the field.
    let colon = if field.starts_with("spec.") { "" } else { ":" };
    write!(f, "invalid {field}{colon} \"{text}\": {fault}")
}

fn none_available(
    f: &mut fmt::Formatter<'_>,
    tried: &[(PoolName, PoolRefusal)],
    more: usize,
) -> fmt::Result {
    f.write_str("no available IPs")?;
    for (position, (pool, refusal)) in tried.iter().enumerate() {
        write!(f, "{} pool {pool} {refusal}", if position == 0 { ":" } else { "," })?;
    }
    if more > 0 {
        write!(f, ", and {more} more pools")?;
    }
    Ok(())
}

impl fmt::Display for PoolRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInForce => f.write_str("is not in force"),
            Self::NotAutomatic => f.write_str("does not assign automatically"),
            Self::NotForService => f.write_str("serves other services"),
            Self::LacksFamily(family) => write!(f, "has no {family} range"),
            Self::Exhausted(family) => write!(f, "has no free {family} address"),
        }
    }
}

impl fmt::Display for RequestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnAddress => "not an IP address",
            Self::MoreThanTwo => "more than two addresses",
            Self::SameFamily => "has the same family",
        })
    }
}

/// Addresses as MetalLB's Events print them: `["192.0.2.1" "2001:db8::1"]`.
pub struct Quoted<'a>(pub &'a [IpAddr]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (position, address) in self.0.iter().enumerate() {
            write!(f, "{}\"{address}\"", if position == 0 { "" } else { " " })?;
        }
        f.write_str("]")
    }
}

struct Joined<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Joined<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if position == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}
