use std::net::IpAddr;

use super::*;

fn range(first: &str, last: &str) -> AddressRange {
    AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
}

#[test]
fn a_range_refuses_mixed_families_and_the_wrong_order() {
    let parse = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(AddressRange::new(parse("10.0.0.2"), parse("10.0.0.1")), None);
    assert_eq!(AddressRange::new(parse("10.0.0.1"), parse("::a00:2")), None);
    assert!(AddressRange::new(parse("10.0.0.1"), parse("10.0.0.1")).is_some());
}

#[test]
fn contains_and_overlaps_keep_the_families_apart() {
    let v4 = range("10.0.0.0", "10.0.0.9");
    let v6 = range("::a00:0", "::a00:9");
    assert!(v4.contains("10.0.0.9".parse().unwrap()));
    assert!(!v4.contains("10.0.0.10".parse().unwrap()));
    assert!(!v4.contains("::a00:5".parse().unwrap()));
    assert!(v4.overlaps(&range("10.0.0.9", "10.0.0.20")));
    assert!(!v4.overlaps(&range("10.0.0.10", "10.0.0.20")));
    assert!(!v4.overlaps(&v6));
}

#[test]
fn the_count_leaves_out_exactly_what_is_buggy() {
    let ranges = [
        range("10.0.0.0", "10.0.0.255"),
        range("10.0.0.1", "10.0.0.254"),
        range("10.0.0.255", "10.0.1.0"),
        range("10.0.0.0", "10.0.0.0"),
        range("10.0.3.7", "10.0.9.0"),
        range("10.0.3.255", "10.0.9.254"),
    ];
    for range in ranges {
        let usable = range.bits().filter(|bits| !is_buggy(from_bits(Family::V4, *bits))).count();
        assert_eq!(range.count(true), u64::try_from(usable).unwrap(), "{range}");
        assert_eq!(u128::from(range.count(false)), range.last - range.first + 1, "{range}");
    }
    assert_eq!(range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").count(true), u64::MAX);
}
