//! The table of the module's documentation, row by row, and what may go wrong with a write.

use super::*;

const T: Timing =
    Timing { duration: Span::secs(4), renew_every: Span::secs(1), renew_deadline: Span::secs(3) };

fn version(n: u64) -> Version {
    Version { uid: "u".into(), resource: n.to_string().into() }
}

fn seen(n: u64, holder: Option<&str>) -> Option<Seen> {
    let holder = holder.map(str::to_owned);
    Some(Seen { version: version(n), holder, duration: Span::secs(4), transitions: 7 })
}

fn candidate() -> Machine {
    Machine::new("me".to_owned(), T)
}

fn at(ms: u64) -> Moment {
    Moment(ms)
}

/// A candidate that took version 10 from nobody, by a write sent at 1 s, and holds version 11.
fn leader() -> Machine {
    let mut machine = candidate();
    machine.observe(seen(10, None), at(1000));
    assert!(matches!(machine.action(at(1000)), Action::Write(_)));
    machine.wrote(WriteOutcome::Stored(Some(version(11))), at(1050));
    assert_eq!(machine.leads_until(), Some(at(4000)), "counted from when it was sent");
    machine
}

fn write(action: Action) -> Write {
    match action {
        Action::Write(write) => write,
        other => panic!("a write, not {other:?}"),
    }
}

#[test]
fn a_candidate_waits_or_takes_as_the_table_says() {
    let take = |over, transitions| {
        let holder = Some("me".to_owned());
        Action::Write(Write { over, holder, duration: T.duration, transitions, takes: true })
    };
    let table: [(&str, Option<Option<Seen>>, u64, Action); 7] = [
        ("nothing is known", None, 99_000, Action::Wait(None)),
        ("there is no Lease", Some(None), 1000, take(None, 0)),
        ("nobody holds it", Some(seen(10, None)), 1000, take(Some(version(10)), 8)),
        ("another holds it", Some(seen(10, Some("x"))), 2499, Action::Wait(Some(at(2500)))),
        ("it is not renewed", Some(seen(10, Some("x"))), 2500, Action::List),
        ("it is expired", Some(seen(10, Some("x"))), 5000, take(Some(version(10)), 8)),
        ("an earlier write of ours", Some(seen(10, Some("me"))), 1000, take(Some(version(10)), 8)),
    ];
    for (case, known, now, expected) in table {
        let mut machine = candidate();
        if let Some(known) = known {
            machine.observe(known, at(1000));
        }
        assert_eq!(machine.action(at(now)), expected, "{case}");
    }
}

#[test]
fn only_a_change_is_a_sign_of_life() {
    let mut machine = candidate();
    machine.observe(seen(10, Some("x")), at(0));
    assert_eq!(machine.action(at(1500)), Action::List);
    assert_eq!(machine.action(at(1501)), Action::Wait(Some(at(4000))), "once is enough");
    machine.observe(seen(10, Some("x")), at(3900));
    assert_eq!(machine.action(at(3950)), Action::Wait(Some(at(4000))), "listed, but not changed");
    machine.observe(seen(11, Some("x")), at(3960));
    assert_eq!(machine.action(at(4000)), Action::Wait(Some(at(5460))));
    assert_eq!(machine.action(at(5460)), Action::List);
    assert_eq!(machine.action(at(5461)), Action::Wait(Some(at(7960))));
}

#[test]
fn a_leader_renews_over_its_own_version_and_leads_on() {
    let mut machine = leader();
    assert_eq!(machine.action(at(1999)), Action::Wait(Some(at(2000))));
    let renewal = write(machine.action(at(2000)));
    assert_eq!((renewal.over, renewal.takes), (Some(version(11)), false));
    assert_eq!(machine.action(at(2010)), Action::Wait(None), "one write at a time");
    machine.wrote(WriteOutcome::Stored(Some(version(12))), at(2040));
    assert_eq!(machine.leads_until(), Some(at(5000)));
}

#[test]
fn a_leader_whose_renewals_come_to_nothing_has_stopped_before_others_may_take() {
    let mut machine = leader();
    let mut now = 2000;
    while machine.leads_until().is_some_and(|until| at(now) < until) {
        if let Action::Write(renewal) = machine.action(at(now)) {
            assert_eq!(renewal.over, Some(version(11)));
            machine.wrote(WriteOutcome::Unknown, at(now + 200));
        }
        now += 10;
    }
    assert_eq!(now, 4000);
    assert!(at(1000) + T.duration > at(now), "others waited for the duration, from later on");
    // Its own last version may be taken back: where it still stands, nobody has led since.
    let take = write(machine.action(at(now + 300)));
    assert_eq!((take.over, take.takes), (Some(version(11)), true));
    assert_eq!(machine.leads_until(), None);
}

#[test]
fn a_renewal_whose_answer_was_lost_counts_once_it_is_seen() {
    let mut machine = leader();
    write(machine.action(at(2000)));
    machine.wrote(WriteOutcome::Unknown, at(2900));
    machine.observe(seen(12, Some("me")), at(2950));
    assert_eq!(machine.leads_until(), Some(at(5000)), "from when it was sent");
    assert_eq!(write(machine.action(at(3000))).over, Some(version(12)));
}

#[test]
fn a_take_whose_answer_was_lost_leads_once_it_is_seen() {
    let mut machine = candidate();
    machine.observe(None, at(1000));
    write(machine.action(at(1000)));
    machine.wrote(WriteOutcome::Unknown, at(1900));
    assert_eq!(machine.action(at(1950)), Action::Wait(None));
    machine.observe(seen(10, Some("me")), at(2000));
    assert_eq!(machine.leads_until(), Some(at(4000)));
}

#[test]
fn after_a_conflict_only_what_is_seen_decides() {
    let mut machine = candidate();
    machine.observe(seen(10, None), at(1000));
    write(machine.action(at(1000)));
    machine.wrote(WriteOutcome::Conflict, at(1020));
    assert_eq!(machine.action(at(60_000)), Action::Wait(None));
    machine.observe(seen(11, Some("x")), at(60_000));
    assert_eq!(machine.action(at(60_001)), Action::Wait(Some(at(61_500))));
    assert_eq!(machine.leads_until(), None);
}

#[test]
fn a_leader_that_sees_another_in_its_place_or_its_lease_gone_stops_at_once() {
    for other in [seen(12, Some("x")), seen(12, None), None] {
        let mut machine = leader();
        machine.observe(other.clone(), at(1500));
        assert_eq!(machine.leads_until(), None, "{other:?}");
    }
}

#[test]
fn a_list_from_before_its_last_write_takes_nothing_from_a_leader() {
    let mut machine = leader();
    machine.observe(seen(10, None), at(1100));
    machine.observe(seen(11, Some("me")), at(1200));
    assert_eq!(machine.leads_until(), Some(at(4000)));
    assert_eq!(write(machine.action(at(2000))).over, Some(version(11)));
}

#[test]
fn what_is_refused_is_tried_again_a_period_later() {
    let mut machine = candidate();
    machine.observe(None, at(1000));
    write(machine.action(at(1000)));
    machine.wrote(WriteOutcome::Refused, at(1010));
    assert_eq!(machine.action(at(1011)), Action::Wait(Some(at(2010))));
    write(machine.action(at(2010)));
}

#[test]
fn a_release_lets_go_and_ends() {
    let mut machine = leader();
    machine.release();
    assert_eq!(machine.leads_until(), None, "it has stopped before it lets go");
    let release = write(machine.action(at(1100)));
    assert_eq!((release.over, release.holder), (Some(version(11)), None));
    machine.wrote(WriteOutcome::Stored(Some(version(12))), at(1150));
    assert_eq!(machine.action(at(1150)), Action::Done);
}

#[test]
fn a_release_that_meets_its_own_lost_renewal_lets_go_of_that() {
    let mut machine = leader();
    write(machine.action(at(2000)));
    machine.release();
    assert_eq!(machine.action(at(2001)), Action::Wait(None), "the renewal is under way");
    machine.wrote(WriteOutcome::Unknown, at(2500));
    machine.observe(seen(12, Some("me")), at(2510));
    assert_eq!(write(machine.action(at(2510))).over, Some(version(12)));
}

#[test]
fn a_standby_has_nothing_to_release() {
    let mut machine = candidate();
    machine.observe(seen(10, Some("x")), at(1000));
    machine.release();
    assert_eq!(machine.action(at(99_000)), Action::Done, "also when the Lease is expired");
}
