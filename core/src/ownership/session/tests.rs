use super::*;
use crate::ownership::fixtures::{link, name, session, version};
use crate::ownership::record::{LeaseEvent, WriteOutcome};
use crate::ownership::view::LeaseKey;

const PERIOD: Span = Span::secs(2);

/// A session of node `a` under test, with what it wishes and a view that stores all it writes.
struct Bench {
    session: OwnSession,
    view: View,
    links: Vec<Link>,
    leaving: bool,
    close: bool,
    shut_down: bool,
    node_uid: Option<Arc<str>>,
    stored: u32,
}

impl Bench {
    fn new(sessions: Vec<Session>) -> Self {
        let mut view = View::default();
        let sessions = sessions.into_iter().map(|s| (version(1), s)).collect();
        view.show(LeaseEvent::Listed(sessions, vec![]));
        Self {
            session: OwnSession::new(name("a"), "seed".into()),
            view,
            links: vec![link("a")],
            leaving: false,
            close: false,
            shut_down: false,
            node_uid: Some("node-uid".into()),
            stored: 1,
        }
    }

    fn open() -> Self {
        let mut bench = Self::new(vec![]);
        assert!(bench.write(0).is_some());
        assert!(matches!(bench.drive(0).1, Some(SessionNews::Opened(_))));
        bench
    }

    fn drive(&mut self, now: u64) -> (Option<Session>, Option<SessionNews>) {
        let wishes = Wishes {
            node_uid: self.node_uid.as_ref(),
            links: &self.links,
            leaving: self.leaving,
            close: self.close,
            shut_down: self.shut_down,
        };
        self.session.drive(&self.view, &wishes, PERIOD, Moment(now))
    }

    /// Drives, and stores and shows what is written.
    fn write(&mut self, now: u64) -> Option<Session> {
        let (session, _) = self.drive(now);
        let session = session?;
        self.view.session_register(&name("a")).send(Some(session.clone()));
        self.stored += 1;
        let outcome = WriteOutcome::Stored(Some(version(self.stored)));
        self.view.settle(&LeaseKey::Session(name("a")), &outcome);
        self.show(session.clone());
        Some(session)
    }

    fn show(&mut self, session: Session) {
        self.view.show(LeaseEvent::Session(version(self.stored), session));
        self.session.shown(&self.view);
    }

    /// Another speaker closes it, and that is shown.
    fn close_for(&mut self, why: ClosedWhy) -> Closed {
        let closed = Closed { by: name("b"), why };
        let shut = close(self.view.session(&name("a")).unwrap(), closed.clone());
        self.stored += 1;
        self.show(shut);
        closed
    }

    /// Is closed at `now` and opens again; whether it says, then, `span` later and a renewal after, that it is doubted.
    fn doubted(&mut self, why: ClosedWhy, now: u64, span: u64) -> [bool; 3] {
        self.close_for(why);
        assert!(matches!(self.drive(now).1, Some(SessionNews::Closed(_))));
        let opened = self.write(now).unwrap();
        self.drive(now);
        [
            opened.doubted,
            self.write(now + span - 1).unwrap().doubted,
            self.write(now + span + 1_999).unwrap().doubted,
        ]
    }

    fn writes(&mut self, from: u64, to: u64) -> Vec<u64> {
        (from..=to).step_by(10).filter(|now| self.write(*now).is_some()).collect()
    }
}

#[test]
fn it_opens_and_is_renewed_each_period() {
    let mut bench = Bench::open();
    assert!(bench.session.is_open());
    assert_eq!(bench.writes(10, 7_000), [2_000, 4_000, 6_000]);
}

#[test]
fn a_session_that_promised_to_be_renewed_soon_is_though_periods_are_longer_by_now() {
    let mut bench = Bench::open();
    let longer = Span::secs(20);
    let (node_uid, links) = (bench.node_uid.clone(), bench.links.clone());
    let wishes = Wishes {
        node_uid: node_uid.as_ref(),
        links: &links,
        leaving: false,
        close: false,
        shut_down: false,
    };
    let due = bench.session.next_deadline(&bench.view, &links, longer);
    assert_eq!(due, Some(Moment(2_000)));
    let (early, _) = bench.session.drive(&bench.view, &wishes, longer, Moment(1_999));
    assert_eq!(early, None);
    let (renewed, _) = bench.session.drive(&bench.view, &wishes, longer, Moment(2_000));
    assert_eq!(renewed.map(|session| session.duration), Some(Span::secs(60)));
}

#[test]
fn nothing_opens_before_the_first_list_or_without_a_part_to_take() {
    let mut bench = Bench::new(vec![]);
    bench.view = View::default();
    assert_eq!(bench.drive(0), (None, None));
    let mut bench = Bench::new(vec![]);
    bench.node_uid = None;
    assert_eq!(bench.drive(0), (None, None));
}

#[test]
fn a_second_process_is_refused_while_the_first_renews_and_told_once() {
    let mut bench = Bench::new(vec![session("a", "other-1", 1)]);
    let mut refused = 0;
    for round in 0..20_u32 {
        let now = u64::from(round) * 1_000;
        if round % 2 == 0 {
            bench.stored += 1;
            bench.show(session("a", "other-1", u64::from(round)));
        }
        let (write, news) = bench.drive(now);
        assert_eq!(write, None, "at {now}");
        refused += u32::from(matches!(news, Some(SessionNews::Refused(_))));
    }
    assert_eq!(refused, 1);
}

#[test]
fn another_process_that_is_silent_for_half_its_duration_is_replaced() {
    let mut bench = Bench::new(vec![session("a", "other-1", 1)]);
    assert_eq!(bench.drive(500), (None, None));
    let due = bench.session.next_deadline(&bench.view, &bench.links, PERIOD);
    assert_eq!(due, Some(Moment(3_500)));
    assert_eq!(bench.drive(3_499), (None, None));
    let opened = bench.write(3_500).unwrap();
    assert_eq!(opened.open_for, Some(bench.session.incarnation().clone()));
}

#[test]
fn an_opening_of_its_own_that_landed_late_is_replaced_at_once() {
    let mut bench = Bench::new(vec![]);
    let (lost, _) = bench.drive(0);
    bench.view.session_register(&name("a")).send(lost.clone());
    bench.view.settle(&LeaseKey::Session(name("a")), &WriteOutcome::Unknown);
    bench.view.show(LeaseEvent::Listed(vec![], vec![]));
    let (second, _) = bench.drive(10);
    assert_ne!(second.unwrap().open_for, lost.as_ref().unwrap().open_for);
    bench.show(Session { renewal: 1, ..lost.unwrap() });
    let (third, _) = bench.drive(20);
    assert_eq!(third.unwrap().open_for, Some(bench.session.incarnation().clone()));
}

#[test]
fn one_that_was_closed_opens_as_another_incarnation() {
    let mut bench = Bench::open();
    let first = bench.session.incarnation().clone();
    let closed = bench.close_for(ClosedWhy::Expired);
    assert_eq!(bench.drive(100), (None, Some(SessionNews::Closed(Some(closed)))));
    assert!(!bench.session.is_open());
    assert_eq!(bench.session.sure_until(), None);
    assert_ne!(bench.write(100).unwrap().open_for, Some(first));
}

#[test]
fn who_was_found_silent_is_doubted_for_ever_longer_and_after_an_hour_as_at_first() {
    let mut bench = Bench::open();
    let mut now = 10_000;
    for seconds in [10, 20, 40, 80, 160, 320, 600, 600] {
        let told = bench.doubted(ClosedWhy::Silent, now, seconds * 1_000);
        assert_eq!(told, [true, true, false], "{seconds} s");
        now += 1_000_000;
    }
    now += 3_600_000;
    assert_eq!(bench.doubted(ClosedWhy::Silent, now, 10_000), [true, true, false]);
}

#[test]
fn who_only_lost_the_api_server_is_not_doubted() {
    for why in [ClosedWhy::Expired, ClosedWhy::Left] {
        assert_eq!(Bench::open().doubted(why, 10_000, 10_000), [false; 3], "{why:?}");
    }
}

#[test]
fn changes_of_links_are_written_at_most_once_a_second() {
    let mut bench = Bench::open();
    let mut written = Vec::new();
    for now in (10..1_990).step_by(10) {
        bench.links[0].prefixes = vec![format!("10.0.{}.1/24", now / 10).parse().unwrap()];
        written.extend(bench.write(now).map(|_| now));
    }
    assert_eq!(written, [1_000]);
    let due = bench.session.next_deadline(&bench.view, &bench.links, PERIOD);
    assert_eq!(due, Some(Moment(2_000)));
}

#[test]
fn where_peers_would_ask_in_vain_is_written_at_once_and_no_more_than_once_a_second() {
    let mut bench = Bench::open();
    let mut written = Vec::new();
    for now in (10..1_990).step_by(10) {
        bench.links[0].mac.0[5] = u8::try_from(now / 10 % 250).unwrap();
        written.extend(bench.write(now).map(|_| now));
    }
    assert_eq!(written, [10, 1_010]);
    let mut bench = Bench::open();
    bench.links[0].carrier = false;
    assert!(
        bench.write(20).is_some(),
        "its peers would take it for silent before a second has passed"
    );
    bench.links[0].carrier = true;
    assert_eq!(bench.writes(30, 1_900), [1_020], "nobody asks where it is not said to answer");
}

#[test]
fn a_refused_write_is_never_shown_and_the_next_is_made_a_second_later() {
    let mut bench = Bench::new(vec![]);
    for now in [0, 1_000, 2_000] {
        assert!(bench.drive(now).0.is_some());
        bench.session.refused(Moment(now));
        assert_eq!(bench.session.overdue_at(), None);
        let due = bench.session.next_deadline(&bench.view, &bench.links, PERIOD);
        assert_eq!(due, Some(Moment(now + 1_000)));
        assert_eq!(bench.drive(now + 999), (None, None));
    }
    assert!(bench.write(3_000).is_some());
    assert!(matches!(bench.drive(3_000).1, Some(SessionNews::Opened(_))));
    assert_eq!(bench.session.sure_until(), Some(Moment(6_000)));
}

#[test]
fn a_refused_renewal_is_sent_again_a_second_later_and_the_speaker_stays_sure() {
    let mut bench = Bench::open();
    assert!(bench.drive(2_000).0.is_some());
    bench.session.refused(Moment(2_001));
    assert_eq!(bench.drive(2_999), (None, None));
    let due = bench.session.next_deadline(&bench.view, &bench.links, PERIOD);
    assert_eq!(due, Some(Moment(3_001)));
    assert!(bench.write(3_001).is_some());
    assert_eq!(bench.session.sure_until(), Some(Moment(6_001)));
}

#[test]
fn when_many_sessions_end_at_once_those_that_stay_are_as_sure_as_they_were() {
    let mut bench = Bench::open();
    let (node_uid, links) = (bench.node_uid.clone(), bench.links.clone());
    let (leaving, close, shut_down) = (false, false, false);
    let wishes = Wishes { node_uid: node_uid.as_ref(), links: &links, leaving, close, shut_down };
    let (renewed, _) = bench.session.drive(&bench.view, &wishes, Span::secs(8), Moment(2_000));
    bench.stored += 1;
    bench.show(renewed.unwrap());
    bench.drive(2_010);
    assert_eq!(bench.session.sure_until(), Some(Moment(14_000)));
}

#[test]
fn leaving_is_written_at_once_and_once() {
    let mut bench = Bench::open();
    bench.leaving = true;
    assert!(bench.write(20).is_some_and(|session| session.leaving));
    assert_eq!(bench.writes(30, 1_990), []);
}

#[test]
fn sure_lasts_one_and_a_half_periods_from_the_sending_of_what_was_shown() {
    let mut bench = Bench::open();
    assert_eq!(bench.session.sure_until(), Some(Moment(3_000)));
    let (renewal, _) = bench.drive(2_000);
    assert_eq!(bench.session.sure_until(), Some(Moment(3_000)), "not shown yet");
    bench.stored += 1;
    bench.show(renewal.unwrap());
    assert_eq!(bench.session.sure_until(), Some(Moment(5_000)), "sent at 2 s");
}

#[test]
fn a_write_that_was_only_confirmed_does_not_make_sure() {
    let mut bench = Bench::new(vec![]);
    let (opening, _) = bench.drive(0);
    bench.view.session_register(&name("a")).send(opening);
    let outcome = WriteOutcome::Stored(Some(version(9)));
    bench.view.settle(&LeaseKey::Session(name("a")), &outcome);
    bench.session.shown(&bench.view);
    bench.drive(1);
    assert!(bench.session.is_open());
    assert_eq!(bench.session.sure_until(), None);
    assert_eq!(bench.session.overdue_at(), Some(Moment(1_000)));
}

#[test]
fn it_closes_when_asked_and_stays_closed_for_good() {
    let mut bench = Bench::open();
    (bench.close, bench.shut_down) = (true, true);
    let closed = bench.write(100).unwrap();
    assert_eq!(closed.closed, Some(Closed { by: name("a"), why: ClosedWhy::Left }));
    bench.drive(110);
    assert!(bench.session.has_left());
    assert_eq!(bench.drive(60_000), (None, None));
}

#[test]
fn a_node_that_was_made_again_owns_the_session_from_the_next_renewal_on() {
    let mut bench = Bench::open();
    bench.node_uid = Some("second-uid".into());
    assert_eq!(bench.write(2_000).unwrap().node_uid, "second-uid".into());
    bench.node_uid = None;
    assert_eq!(bench.write(4_000).unwrap().node_uid, "second-uid".into());
}

#[test]
fn renewals_that_are_never_shown_are_not_hoarded() {
    let mut bench = Bench::open();
    for round in 1..=100 {
        assert!(bench.drive(round * 2_000).0.is_some());
    }
    assert_eq!(bench.session.unshown.len(), UNSHOWN);
}

#[test]
fn many_sessions_are_renewed_more_slowly() {
    assert_eq!(renew_period(3, PERIOD), Span::secs(2));
    assert_eq!(renew_period(50, PERIOD), Span::secs(2));
    assert_eq!(renew_period(500, PERIOD), Span::secs(20));
}
