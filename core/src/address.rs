//! Addresses as pools hold them: ranges in the order that the user wrote.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// The two families of addresses, in the order in which a new dual-stack Service gets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `address`.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Whether `address` is one that some clients' stacks take for a network's or a broadcast address whatever its mask:
/// IPv4 that ends in .0 or .255.
pub const fn is_buggy(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => matches!(v4.octets()[3], 0 | 255),
        IpAddr::V6(_) => false,
    }
}

/// Addresses from `first` to `last`, both included, of one family.
///
/// A CIDR and a `start-end` range both become this. `first <= last` always holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    family: Family,
    first: u128,
    last: u128,
}

impl AddressRange {
    /// The range from `first` to `last`; `None` when they differ in family or are in the wrong order.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        let family = Family::of(first);
        let (low, high) = (bits(first), bits(last));
        (family == Family::of(last) && low <= high).then_some(Self {
            family,
            first: low,
            last: high,
        })
    }

    /// The family of every address in it.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The lowest address.
    pub fn first(&self) -> IpAddr {
        from_bits(self.family, self.first)
    }

    /// The highest address.
    pub fn last(&self) -> IpAddr {
        from_bits(self.family, self.last)
    }

    /// The integers (see [`bits`]) from the lowest to the highest address.
    pub const fn bits(&self) -> RangeInclusive<u128> {
        self.first..=self.last
    }

    /// How many addresses it has, those of [`is_buggy`] left out if `avoid_buggy`; saturates at `u64::MAX`.
    pub fn count(&self, avoid_buggy: bool) -> u64 {
        let all = (self.last - self.first).saturating_add(1);
        let buggy = match self.family {
            // Of 256 addresses two are left out; those below x are counted by the multiples of 256 and the one before each.
            Family::V4 if avoid_buggy => {
                let below = |x: u128| x.div_ceil(256) + x / 256;
                below(self.last + 1) - below(self.first)
            }
            Family::V4 | Family::V6 => 0,
        };
        u64::try_from(all - buggy).unwrap_or(u64::MAX)
    }

    /// Whether `address` lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.family == Family::of(address) && (self.first..=self.last).contains(&bits(address))
    }

    /// Whether any address lies in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first(), self.last())
    }
}

/// An address as an integer: IPv4 in the low 32 bits.
pub fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address of `family` whose integer is `bits`; of IPv4 only the low 32 bits count.
pub fn from_bits(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => {
            let [.., a, b, c, d] = bits.to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

#[cfg(test)]
mod tests;
