use super::*;
use crate::ownership::fixtures::{address, host, incarnation, mac, name};

const BEGIN: Moment = Moment(10_000);

/// One prober of node `b`, which holds address 1, on a link where node `c` is the third host.
struct Prober {
    evidence: Evidence,
    now: Moment,
    /// Whether each of these answers: the peer's speaker, the third host.
    peer: bool,
    third: bool,
    asked: Vec<(u64, Question)>,
    found: Vec<(u64, Finding)>,
}

fn lan() -> LinkName {
    "lan0".into()
}

fn duty() -> Duty {
    Duty {
        incarnation: incarnation("1"),
        mac: mac("b"),
        macs: vec![mac("b")],
        addresses: vec![address(1)],
        anywhere: false,
        second: false,
    }
}

fn hosts() -> Hosts {
    Hosts::from([(host("b"), Some(mac("b"))), (host("c"), Some(mac("c")))])
}

impl Prober {
    fn new(duty: Duty) -> Self {
        let mut evidence = Evidence::default();
        let hosts = BTreeMap::from([(lan(), hosts())]);
        evidence.assign(Duties::from([((lan(), name("b")), duty)]), hosts, BEGIN);
        let (asked, found) = (Vec::new(), Vec::new());
        Self { evidence, now: BEGIN, peer: true, third: true, asked, found }
    }

    fn hear(&mut self, address: IpAddr, mac: Mac) {
        let voice = Voice { address, mac, link: lan(), answer: true };
        self.evidence.hear(&voice, self.now);
    }

    /// Lets time pass, each question answered at once by who answers.
    fn pass(&mut self, millis: u64) {
        let until = self.now + Span(millis);
        while let Some(at) = self.evidence.next_deadline().filter(|at| *at <= until) {
            self.look(at.max(self.now));
        }
        self.now = until;
    }

    fn look(&mut self, at: Moment) {
        self.now = at;
        for finding in self.evidence.look(at) {
            match finding {
                Finding::Ask(question) => {
                    self.answer(&question);
                    self.asked.push((at.0, question));
                }
                other => self.found.push((at.0, other)),
            }
        }
    }

    fn answer(&mut self, question: &Question) {
        let reaches = |node: &str| question.to.is_none_or(|to| to == mac(node));
        if question.address == address(1) && self.peer && reaches("b") {
            self.hear(address(1), mac("b"));
        }
        if question.address == host("c") && self.third && reaches("c") {
            self.hear(host("c"), mac("c"));
        }
    }

    fn silent_at(&self) -> Vec<u64> {
        let silent = |(at, of): &(u64, Finding)| matches!(of, Finding::Silent(_)).then_some(*at);
        self.found.iter().filter_map(silent).collect()
    }
}

#[test]
fn a_peer_that_answers_is_asked_each_interval_by_one_frame_to_it_alone() {
    let mut prober = Prober::new(duty());
    prober.pass(60_000);
    let probes: Vec<&(u64, Question)> =
        prober.asked.iter().filter(|(_, of)| of.address == address(1)).collect();
    assert_eq!(probes.len(), 60_000 / 150 + 1);
    assert!(prober.asked.iter().all(|(_, of)| of.to.is_some()), "no broadcast while all is well");
    // Answers to probes show that the link hears: nothing else need be asked.
    assert!(prober.asked.len() <= probes.len() + 2, "{}", prober.asked.len());
    assert_eq!(prober.found, []);
}

#[test]
fn a_peer_that_falls_silent_while_others_answer_is_found_within_seven_tenths_of_a_second() {
    let mut prober = Prober::new(duty());
    prober.pass(1_000);
    let died = prober.now.0;
    prober.peer = false;
    prober.pass(700);
    let [found] = prober.silent_at()[..] else { panic!("{:?}", prober.found) };
    assert!((550..=700).contains(&(found - died)), "{}", found - died);
    let everybody = |of: &&(u64, Question)| of.1.to.is_none() && of.1.address == address(1);
    assert_eq!(prober.asked.iter().filter(everybody).count(), usize::from(ASKS));
}

#[test]
fn the_second_prober_leaves_the_first_time_to_close_it() {
    let mut times = Vec::new();
    for second in [false, true] {
        let mut prober = Prober::new(Duty { second, ..duty() });
        prober.pass(1_000);
        prober.peer = false;
        prober.pass(800);
        times.push(prober.silent_at()[0]);
    }
    assert_eq!(times[1] - times[0], 50);
}

#[test]
fn a_prober_that_hears_nobody_finds_nobody_silent_but_itself_deaf() {
    let mut prober = Prober::new(duty());
    prober.pass(1_000);
    (prober.peer, prober.third) = (false, false);
    let cut = prober.now.0;
    prober.pass(60_000);
    let [(at, deaf)] = &prober.found[..] else { panic!("{:?}", prober.found) };
    assert_eq!(*deaf, Finding::Deaf(lan(), true));
    assert!(at - cut <= 1_700, "{}", at - cut);

    prober.third = true;
    prober.pass(2_000);
    let back = prober.found.iter().any(|(_, of)| *of == Finding::Deaf(lan(), false));
    assert!(back, "{:?}", prober.found);
}

#[test]
fn a_third_host_heard_after_the_last_question_says_nothing_of_what_was_asked_before() {
    for peer_lives in [true, false] {
        let mut prober = Prober::new(duty());
        prober.pass(1_000);
        (prober.peer, prober.third) = (false, false);
        let everybody = |of: &(u64, Question)| of.1.to.is_none() && of.1.address == address(1);
        while prober.asked.iter().filter(|of| everybody(of)).count() < usize::from(ASKS) {
            let due = prober.evidence.next_deadline().unwrap();
            prober.look(due);
        }
        // The cable is whole again.
        (prober.peer, prober.third) = (peer_lives, true);
        prober.hear(host("c"), mac("c"));
        prober.pass(100);
        assert_eq!(prober.silent_at().is_empty(), peer_lives, "{:?}", prober.found);
    }
}

#[test]
fn the_kernel_of_a_node_whose_speaker_is_dead_is_no_third_host() {
    let mut prober = Prober::new(duty());
    prober.pass(1_000);
    (prober.peer, prober.third) = (false, false);
    for _ in 0..100 {
        prober.pass(10);
        prober.hear(host("b"), mac("b"));
    }
    assert_eq!(prober.silent_at(), []);
}

#[test]
fn who_was_never_heard_here_cannot_fall_silent() {
    let mut prober = Prober::new(duty());
    prober.peer = false;
    prober.pass(60_000);
    assert_eq!(prober.silent_at(), []);
    // Nor the next life of a speaker whose last one was.
    let mut prober = Prober::new(duty());
    prober.pass(1_000);
    prober.peer = false;
    let next = Duty { incarnation: incarnation("2"), ..duty() };
    let duties = Duties::from([((lan(), name("b")), next)]);
    prober.evidence.assign(duties, BTreeMap::from([(lan(), hosts())]), prober.now);
    prober.pass(60_000);
    assert_eq!(prober.silent_at(), []);
}

#[test]
fn one_answer_in_three_probes_is_life() {
    let mut prober = Prober::new(duty());
    for probe in 0..400 {
        prober.peer = probe % 3 == 0;
        prober.pass(150);
    }
    assert_eq!(prober.silent_at(), []);
}

#[test]
fn an_answer_while_everybody_is_asked_is_life() {
    let mut prober = Prober::new(duty());
    prober.pass(1_000);
    prober.peer = false;
    let asked_everybody = |prober: &Prober| prober.asked.iter().any(|(_, of)| of.to.is_none());
    while !asked_everybody(&prober) {
        prober.pass(1);
    }
    prober.hear(address(1), mac("b"));
    prober.peer = true;
    prober.pass(10_000);
    assert_eq!(prober.found, []);
}

#[test]
fn a_prober_that_slept_has_not_waited() {
    let mut prober = Prober::new(duty());
    prober.pass(1_000);
    prober.peer = false;
    // It looks up every quarter of a second only: each time late by more than half an interval.
    for _ in 0..40 {
        prober.look(prober.now + Span(250));
    }
    assert_eq!(prober.silent_at(), []);
}

#[test]
fn what_could_not_be_sent_is_not_missed() {
    let mut prober = Prober::new(duty());
    prober.pass(1_000);
    prober.peer = false;
    for _ in 0..100 {
        prober.pass(150);
        prober.evidence.unsent(&lan(), prober.now);
    }
    assert_eq!(prober.silent_at(), []);
}

#[test]
fn a_peer_that_could_not_be_closed_is_asked_about_again() {
    let mut prober = Prober::new(duty());
    prober.pass(1_000);
    prober.peer = false;
    prober.pass(2_000);
    let found = prober.silent_at();
    assert!(found.len() > 2 && found[1] - found[0] == 600, "{found:?}");
}

#[test]
fn at_most_sixteen_addresses_are_asked_of_everybody_at_a_time() {
    let addresses = (1..=100).map(address).collect();
    let mut prober = Prober::new(Duty { addresses, ..duty() });
    // Asked for others than the one that the peer here knows of.
    prober.peer = false;
    prober.third = true;
    prober.hear(address(7), mac("b"));
    prober.pass(600);
    let everybody = prober.asked.iter().filter(|(_, of)| of.to.is_none()).count();
    assert_eq!(everybody, 16 * usize::from(ASKS));
}

#[test]
fn a_link_where_nobody_ever_answered_is_not_deaf() {
    let mut prober = Prober::new(duty());
    (prober.peer, prober.third) = (false, false);
    prober.pass(60_000);
    assert_eq!(prober.found, []);
}

#[test]
fn a_third_host_on_another_link_says_nothing_of_this_one() {
    for anywhere in [false, true] {
        let mut prober = Prober::new(Duty { anywhere, ..duty() });
        prober.pass(1_000);
        (prober.peer, prober.third) = (false, false);
        for _ in 0..100 {
            prober.pass(10);
            let (address, mac) = (host("c"), mac("c"));
            let voice = Voice { address, mac, link: "mgmt0".into(), answer: true };
            prober.evidence.hear(&voice, prober.now);
        }
        assert_eq!(prober.silent_at(), []);
    }
}

#[test]
fn a_gateway_that_nobody_has_met_is_asked_as_a_third_host() {
    let mut prober = Prober::new(duty());
    let hosts = Hosts::from([(host("b"), Some(mac("b"))), (host("c"), None)]);
    let duties = Duties::from([((lan(), name("b")), duty())]);
    prober.evidence.assign(duties, BTreeMap::from([(lan(), hosts)]), BEGIN);
    prober.pass(1_000);
    prober.peer = false;
    prober.pass(700);
    assert_eq!(prober.silent_at().len(), 1);
}

#[test]
fn who_is_silent_on_purpose_answers_what_is_asked_of_it_alone_while_all_are_asked() {
    let mut prober = Prober::new(duty());
    prober.pass(1_000);
    prober.peer = false;
    while !prober.asked.iter().any(|(_, of)| of.to.is_none()) {
        prober.pass(1);
    }
    let asked = prober.asked.len();
    prober.pass(99);
    let alone = |of: &&(u64, Question)| of.1.to == Some(mac("b")) && of.1.address == address(1);
    let round = prober.asked[asked..].iter().filter(alone).count();
    assert_eq!(round, usize::from(ASKS) - 1, "one in each round that followed");
}

#[test]
fn who_only_announces_has_not_shown_that_it_hears_questions() {
    let mut prober = Prober::new(duty());
    prober.peer = false;
    let voice = Voice { address: address(1), mac: mac("b"), link: lan(), answer: false };
    prober.evidence.hear(&voice, prober.now);
    prober.pass(60_000);
    assert_eq!(prober.silent_at(), []);
}

#[test]
fn a_host_that_changed_its_hardware_address_is_found_before_the_link_is_deaf() {
    let hosts = Hosts::from([(host("c"), Some(mac("c")))]);
    let mut evidence = Evidence::default();
    evidence.assign(Duties::new(), BTreeMap::from([(lan(), hosts)]), BEGIN);
    let voice = |mac| Voice { address: host("c"), mac, link: lan(), answer: true };
    evidence.hear(&voice(mac("c")), BEGIN);
    let mut now = BEGIN;
    for _ in 0..20 {
        now = evidence.next_deadline().unwrap();
        for finding in evidence.look(now) {
            let Finding::Ask(question) = finding else { panic!("{finding:?} at {now:?}") };
            if question.to.is_none_or(|to| to == mac("d")) {
                evidence.hear(&voice(mac("d")), now);
            }
        }
    }
    assert!(now.since(BEGIN) > Span::secs(3));
}

#[test]
fn a_link_is_not_deaf_while_most_of_its_hosts_live_whichever_died() {
    for dead in [1..=40, 61..=100] {
        let all = 1..=100;
        let host_mac = |n: u8| Mac([2, 0, 0, 0, 1, n]);
        let hosts: Hosts = all.clone().map(|n| (address(n), Some(host_mac(n)))).collect();
        let mut evidence = Evidence::default();
        evidence.assign(Duties::new(), BTreeMap::from([(lan(), hosts)]), BEGIN);
        let voice = |n| Voice { address: address(n), mac: host_mac(n), link: lan(), answer: true };
        for n in all.clone() {
            evidence.hear(&voice(n), BEGIN);
        }
        let mut now = BEGIN;
        let mut everybody = 0;
        while now < BEGIN + Span::secs(120) {
            now = evidence.next_deadline().unwrap();
            for finding in evidence.look(now) {
                let Finding::Ask(question) = finding else { panic!("{finding:?} at {now:?}") };
                everybody += usize::from(question.to.is_none());
                let asked = all.clone().find(|n| address(*n) == question.address).unwrap();
                if !dead.contains(&asked) {
                    evidence.hear(&voice(asked), now);
                }
            }
        }
        assert!(everybody > 0, "those that are asked at first answered each time");
    }
}

fn defence() -> Defence {
    Defence { addresses: vec![(address(1), lan(), mac("b"))], macs: vec![mac("b")] }
}

#[test]
fn an_expired_peer_that_answers_lives_and_one_that_does_not_has_a_tenth_of_a_second() {
    for (answers, verdict) in
        [(true, Finding::Alive(name("b"))), (false, Finding::Unanswering(name("b")))]
    {
        let mut evidence = Evidence::default();
        evidence.hear_out(name("b"), defence(), BEGIN);
        let (mut asked, mut verdicts) = (0, Vec::new());
        while let Some(at) = evidence.next_deadline() {
            for finding in evidence.look(at) {
                if let Finding::Ask(question) = finding {
                    asked += 1;
                    assert_eq!(question.to, Some(mac("b")));
                    let voice =
                        Voice { address: address(1), mac: mac("b"), link: lan(), answer: true };
                    if answers {
                        evidence.hear(&voice, at);
                    }
                } else {
                    verdicts.push((at, finding));
                }
            }
        }
        let [(at, found)] = &verdicts[..] else { panic!("{verdicts:?}") };
        assert_eq!(*found, verdict);
        assert!(
            at.since(BEGIN) <= Periods::default().ask
                && (answers || at.since(BEGIN) == Periods::default().ask)
        );
        assert_eq!(asked, if answers { 1 } else { usize::from(ASKS) });
    }
}

/// What is found of an expired peer that does not answer, when its questions are put `after` a time in which the
/// `third` host answered no more either.
fn verdicts(after: u64, third: bool) -> Vec<Finding> {
    let mut prober = Prober::new(duty());
    prober.pass(1_000);
    (prober.peer, prober.third) = (false, third);
    prober.pass(after);
    prober.evidence.hear_out(name("b"), defence(), prober.now);
    prober.pass(200);
    let of_veto = |of: &Finding| matches!(of, Finding::Unanswering(_) | Finding::Undecided(_));
    prober.found.into_iter().map(|(_, found)| found).filter(of_veto).collect()
}

#[test]
fn an_expired_peer_is_not_judged_where_nobody_answers_since_it_was_asked() {
    for after in [0, 10, 800, 1_100] {
        assert_eq!(verdicts(after, false), [Finding::Undecided(name("b"))], "{after} ms");
        assert_eq!(verdicts(after, true), [Finding::Unanswering(name("b"))], "{after} ms");
    }
}

#[test]
fn the_kernel_of_an_expired_peers_node_shows_that_the_link_hears() {
    let mut prober = Prober::new(duty());
    prober.pass(1_000);
    (prober.peer, prober.third) = (false, false);
    prober.evidence.hear_out(name("b"), defence(), prober.now);
    prober.pass(10);
    prober.hear(host("b"), mac("b"));
    prober.pass(100);
    assert_eq!(prober.found.last().unwrap().1, Finding::Unanswering(name("b")));
}

#[test]
fn an_expired_peer_is_asked_once_more_after_the_first_voice() {
    for lives in [true, false] {
        let mut prober = Prober::new(duty());
        prober.pass(1_000);
        (prober.peer, prober.third) = (false, false);
        prober.evidence.hear_out(name("b"), defence(), prober.now);
        prober.pass(99);
        // The cable is whole again.
        prober.peer = lives;
        prober.hear(host("c"), mac("c"));
        prober.pass(100);
        let verdict = if lives { Finding::Alive } else { Finding::Unanswering };
        assert_eq!(prober.found.last().unwrap().1, verdict(name("b")));
    }
}

#[test]
fn an_expired_peer_is_judged_by_the_links_that_hear() {
    let link = |n: u8| LinkName::from(format!("lan{n}"));
    let hosts = (0..2).map(|n| (link(n), hosts())).collect();
    let mut evidence = Evidence::default();
    evidence.assign(Duties::new(), hosts, BEGIN);
    let voice = |address, node, on| Voice { address, mac: mac(node), link: link(on), answer: true };
    for on in 0..2 {
        evidence.hear(&voice(host("c"), "c", on), BEGIN);
    }
    // It should answer for one address on each link; only the first link hears, and there it answers, or does not.
    for answers in [true, false] {
        let now = BEGIN + Span(10);
        let addresses = (0..2).map(|n| (address(n), link(n), mac("b"))).collect();
        let defence = Defence { addresses, macs: vec![mac("b")] };
        evidence.hear_out(name("b"), defence, now);
        let mut found = Vec::new();
        for round in 0..=u64::from(ASKS) {
            let at = now + Span(34 * round);
            found.extend(evidence.look(at));
            evidence.hear(&voice(host("c"), "c", 0), at);
            if answers {
                evidence.hear(&voice(address(0), "b", 0), at);
            }
        }
        let verdict = if answers { Finding::Undecided } else { Finding::Unanswering };
        assert_eq!(found.last(), Some(&verdict(name("b"))));
    }
}

#[test]
fn a_peer_that_renews_while_it_is_asked_is_asked_no_more() {
    let mut evidence = Evidence::default();
    evidence.hear_out(name("b"), defence(), BEGIN);
    evidence.look(BEGIN);
    evidence.acquit(&name("b"));
    assert_eq!(evidence.next_deadline(), None);
}

#[test]
fn a_voice_on_another_link_counts_only_where_no_link_is_the_addresses_own() {
    for anywhere in [false, true] {
        let mut prober = Prober::new(Duty { anywhere, ..duty() });
        prober.pass(1_000);
        prober.peer = false;
        for _ in 0..20 {
            prober.pass(100);
            let voice =
                Voice { address: address(1), mac: mac("b"), link: "mgmt0".into(), answer: true };
            prober.evidence.hear(&voice, prober.now);
        }
        assert_eq!(prober.silent_at().is_empty(), anywhere);
    }
}
