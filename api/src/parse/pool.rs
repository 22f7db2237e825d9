//! IPAddressPool → pool.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use herald_core::address::{AddressRange, Family, bits, from_bits};
use herald_core::config::{EntryFault, Offer, Pool, Refusal, ServiceAllocation};
use herald_core::name::PoolName;
use kube::ResourceExt;

use super::selector;
use crate::crd::{self, IPAddressPool};

/// What the object offers: the pool that it means, or all that is wrong with it.
///
/// A pool with one bad entry is no pool: its other entries may not be what its author wants without the bad one.
pub fn offer(object: &IPAddressPool) -> (PoolName, Offer<Pool>) {
    let name = PoolName::from(object.name_any());
    let mut refusals = Vec::new();
    let ranges = ranges(&object.spec.addresses, &mut refusals);
    let allocation =
        object.spec.service_allocation.as_ref().map(|spec| allocation(spec, &mut refusals));
    let says = if refusals.is_empty() {
        Ok(Arc::new(Pool {
            name: name.clone(),
            labels: object.labels().clone(),
            ranges,
            auto_assign: object.spec.auto_assign,
            avoid_buggy: object.spec.avoid_buggy_ips,
            allocation,
        }))
    } else {
        Err(refusals)
    };
    let labels = object.labels().clone();
    let conditions = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let accepted = super::accepted(&object.metadata, conditions);
    (name, Offer { created: super::created(&object.metadata), labels, accepted, says })
}

/// The ranges of all entries, in their order. No two may have an address in common.
fn ranges(entries: &[String], refusals: &mut Vec<Refusal>) -> Vec<AddressRange> {
    if entries.is_empty() {
        refusals.push(Refusal::NoPrefixes);
    }
    let mut ranges = Vec::with_capacity(entries.len());
    for entry in entries {
        match range(entry) {
            Ok(range) => ranges.push(range),
            Err(fault) => refusals.push(Refusal::InvalidEntry { entry: entry.clone(), fault }),
        }
    }
    if let Some(overlap) = overlap(&ranges) {
        refusals.push(overlap);
    }
    ranges
}

/// Two of `ranges` that overlap, if any do.
fn overlap(ranges: &[AddressRange]) -> Option<Refusal> {
    // Sorted by first address, a range that overlaps any other overlaps one beside it.
    let mut sorted: Vec<(AddressRange, usize)> =
        ranges.iter().enumerate().map(|(at, range)| (*range, at)).collect();
    sorted.sort_unstable();
    let pair = sorted.windows(2).find(|pair| pair[0].0.overlaps(&pair[1].0))?;
    let (earlier, later) =
        if pair[0].1 < pair[1].1 { (pair[0], pair[1]) } else { (pair[1], pair[0]) };
    Some(Refusal::OverlapsItself { range: later.0, with: earlier.0 })
}

/// An entry: a CIDR, whose bits beyond the mask do not count, or the two ends of a range with blanks around them.
fn range(entry: &str) -> Result<AddressRange, EntryFault> {
    if let Some((first, last)) = entry.split_once('-') {
        let (first, last) = (address(first.trim())?, address(last.trim())?);
        if Family::of(first) != Family::of(last) {
            return Err(EntryFault::MixedFamilies);
        }
        return AddressRange::new(first, last).ok_or(EntryFault::Backwards);
    }
    match entry.split_once('/') {
        Some((address, mask)) => cidr(address, mask),
        None if entry.parse::<IpAddr>().is_ok() => Err(EntryFault::NoMask),
        None => Err(EntryFault::NotAnAddress),
    }
}

/// An IPv4 address written as IPv6 (`::ffff:192.0.2.1`, RFC 4291 §2.5.5.2) is that IPv4 address, as it is to MetalLB: no
/// Service's status could hold it in the other form.
fn address(text: &str) -> Result<IpAddr, EntryFault> {
    let address: IpAddr = text.parse().map_err(|_| EntryFault::NotAnAddress)?;
    Ok(address.to_canonical())
}

fn cidr(address: &str, mask: &str) -> Result<AddressRange, EntryFault> {
    let address: IpAddr = address.parse().map_err(|_| EntryFault::NotAnAddress)?;
    // Digits alone: `parse` would take a sign.
    if mask.is_empty() || !mask.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(EntryFault::InvalidMask);
    }
    let length: u32 = mask.parse().map_err(|_| EntryFault::InvalidMask)?;
    let (address, length) = match address {
        IpAddr::V6(v6) => unmapped(v6, length),
        IpAddr::V4(_) => (address, length),
    };
    let width = match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let host =
        width - Some(length).filter(|length| *length <= width).ok_or(EntryFault::InvalidMask)?;
    // A shift by all 128 bits leaves nothing, which is the network of ::/0.
    let ones = 1_u128.checked_shl(host).map_or(u128::MAX, |size| size - 1);
    let first = bits(address) & !ones;
    let family = Family::of(address);
    AddressRange::new(from_bits(family, first), from_bits(family, first | ones))
        .ok_or(EntryFault::InvalidMask)
}

/// `::ffff:192.0.2.0/120` is 192.0.2.0/24; with a mask that is wider than the mapped part it is a network of IPv6.
fn unmapped(address: Ipv6Addr, length: u32) -> (IpAddr, u32) {
    match (address.to_ipv4_mapped(), length.checked_sub(96)) {
        (Some(v4), Some(rest)) => (IpAddr::V4(v4), rest),
        _ => (IpAddr::V6(address), length),
    }
}

fn allocation(spec: &crd::ServiceAllocation, refusals: &mut Vec<Refusal>) -> ServiceAllocation {
    let mut namespaces = BTreeSet::new();
    for namespace in &spec.namespaces {
        if !namespaces.insert(namespace.clone()) {
            let value = namespace.clone();
            refusals.push(Refusal::Duplicate { field: "namespaces", value });
        }
    }
    let mut selectors = |field, selectors| {
        let (selectors, faults) = selector::list(field, selectors);
        refusals.extend(faults);
        selectors
    };
    // Only the order of priorities means anything, and 2³² of them are enough to keep it.
    let outermost = if spec.priority < 0 { i32::MIN } else { i32::MAX };
    ServiceAllocation {
        priority: i32::try_from(spec.priority).unwrap_or(outermost),
        namespaces,
        namespace_selectors: selectors("namespaceSelectors", &spec.namespace_selectors),
        service_selectors: selectors("serviceSelectors", &spec.service_selectors),
    }
}

#[cfg(test)]
mod tests;
