use herald_api::condition::Status;
use herald_cluster::events::Severity;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

fn version(resource_version: &str) -> Version {
    Version { uid: "u".into(), resource_version: resource_version.into() }
}

fn addresses(text: &str) -> Vec<IpAddr> {
    text.split_terminator(',').map(|address| address.parse().unwrap()).collect()
}

fn id() -> ServiceId {
    ServiceId::new("shop", "web")
}

fn subject() -> Subject {
    Subject::Service(id())
}

fn allocated(message: &str) -> AddressAllocated {
    AddressAllocated {
        status: Status::True,
        reason: "Allocated".into(),
        message: message.into(),
        since: Timestamp::UNIX_EPOCH,
    }
}

fn letter(resource_version: &str, list: &str) -> Letter {
    let note = Note {
        about: ObjectReference::default(),
        severity: Severity::Normal,
        reason: "IPAllocated",
        message: list.to_owned(),
    };
    Letter {
        subject: subject(),
        version: version(resource_version),
        content: Content::Addresses {
            addresses: addresses(list),
            pool: Some("p".into()),
            terms: None,
            allocated: allocated(list),
        },
        notes: vec![note],
        heals: true,
    }
}

/// What the outbox tells when the watch shows that version with these addresses, and words that go with them.
fn show(outbox: &mut Outbox, resource_version: &str, list: &str) -> usize {
    show_saying(outbox, resource_version, list, list)
}

fn show_saying(outbox: &mut Outbox, resource_version: &str, list: &str, message: &str) -> usize {
    let (version, addresses) = (version(resource_version), addresses(list));
    // Another replica may have written the same at another time.
    let since = Timestamp::from_second(7).unwrap();
    let said = AddressAllocated { since, ..allocated(message) };
    let allocated = Some(&said);
    let shown = Shown { version: &version, addresses: &addresses, allocated };
    outbox.reconcile(|_| Some(shown), Instant::now()).len()
}

fn claim(outbox: &Outbox) -> Option<(Vec<IpAddr>, bool)> {
    outbox.unechoed().remove(&id()).map(|claim| (claim.addresses, claim.landed))
}

#[tokio::test(start_paused = true)]
async fn an_address_is_claimed_from_the_sending_until_the_watch_shows_a_newer_version() {
    let mut outbox = Outbox::default();
    let (now, letter) = (Instant::now(), letter("9", "10.0.0.1"));
    outbox.send(&letter, Instant::now());
    assert_eq!(claim(&outbox), Some((addresses("10.0.0.1"), false)));
    assert!(!outbox.is_open(&subject(), now));
    assert_eq!(outbox.ended(&letter, Outcome::Landed, now).len(), 1, "told once");
    assert_eq!((outbox.take_healed(), outbox.take_healed()), (1, 0));
    // The watch lags, and a list may even go back.
    assert_eq!(show(&mut outbox, "9", "") + show(&mut outbox, "8", ""), 0);
    assert_eq!(claim(&outbox), Some((addresses("10.0.0.1"), true)));
    // "10" is later than "9", though not as text.
    assert_eq!(show(&mut outbox, "10", "10.0.0.1"), 0, "not told twice");
    assert_eq!(outbox.take_healed(), 0);
    assert_eq!(claim(&outbox), None);
    assert!(outbox.is_open(&subject(), now));
}

#[tokio::test(start_paused = true)]
async fn a_write_without_an_answer_is_sent_again_word_for_word_at_growing_intervals() {
    let mut outbox = Outbox::default();
    let letter = letter("9", "10.0.0.1");
    let mut waits = Vec::new();
    for _ in 0..9 {
        outbox.send(&letter, Instant::now());
        let now = Instant::now();
        outbox.ended(&letter, Outcome::Unclear, now);
        assert_eq!(claim(&outbox), Some((addresses("10.0.0.1"), false)));
        assert!(outbox.due(now).is_empty() && !outbox.is_open(&subject(), now));
        let wake = outbox.wake().unwrap();
        waits.push((wake - now).as_millis());
        tokio::time::advance(wake - now).await;
        assert_eq!(outbox.due(wake), std::slice::from_ref(&letter));
    }
    assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_made_good_by_what_the_watch_shows() {
    let mut outbox = Outbox::default();
    let letter = letter("9", "10.0.0.1");
    let cases = [("10.0.0.1", "10.0.0.1", 1), ("10.0.0.7", "10.0.0.7", 0), ("10.0.0.1", "", 0)];
    for (shown, message, told) in cases {
        outbox.send(&letter, Instant::now());
        outbox.ended(&letter, Outcome::Unclear, Instant::now());
        assert_eq!(show_saying(&mut outbox, "10", shown, message), told);
        assert_eq!(outbox.take_healed(), u64::from(told == 1));
        assert_eq!(claim(&outbox), None);
    }
}

#[tokio::test(start_paused = true)]
async fn an_overtaken_write_waits_for_the_version_that_overtook_it() {
    let mut outbox = Outbox::default();
    let (letter, now) = (letter("9", "10.0.0.1"), Instant::now());
    outbox.send(&letter, Instant::now());
    assert!(outbox.ended(&letter, Outcome::Overtaken, now).is_empty());
    assert!(!outbox.is_open(&subject(), now + LONGEST_WAIT));
    show(&mut outbox, "10", "");
    assert!(outbox.is_open(&subject(), now));
    assert_eq!(outbox.wake(), None);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_with_nothing_that_the_watch_shows_is_tried_again() {
    let mut outbox = Outbox::default();
    let letter = letter("9", "10.0.0.1");
    outbox.send(&letter, Instant::now());
    outbox.ended(&letter, Outcome::Overtaken, Instant::now());
    assert!(outbox.due(Instant::now()).is_empty());
    tokio::time::advance(FIRST_WAIT).await;
    assert_eq!(outbox.wake(), Some(Instant::now()));
    assert_eq!(outbox.due(Instant::now()), std::slice::from_ref(&letter));
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_claims_nothing_and_another_may_go_later() {
    let mut outbox = Outbox::default();
    let (letter, now) = (letter("9", "10.0.0.1"), Instant::now());
    outbox.send(&letter, Instant::now());
    outbox.ended(&letter, Outcome::Refused, now);
    assert_eq!(claim(&outbox), None);
    assert!(!outbox.is_open(&subject(), now));
    assert!(outbox.is_open(&subject(), outbox.wake().unwrap()));
    assert!(outbox.due(now + LONGEST_WAIT).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_and_is_wanted_no_more_asks_for_no_further_plan() {
    let mut outbox = Outbox::default();
    let (letter, now) = (letter("9", "10.0.0.1"), Instant::now());
    outbox.send(&letter, now);
    outbox.ended(&letter, Outcome::Refused, now);
    let due = outbox.wake().unwrap();
    outbox.let_be([].into_iter(), now);
    assert_eq!(outbox.wake(), Some(due), "whether it is wanted is seen when it may go");
    outbox.let_be([&letter].into_iter(), due);
    assert_eq!(outbox.wake(), Some(due), "it is about to go");
    outbox.let_be([].into_iter(), due);
    assert_eq!(outbox.wake(), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_of_a_configuration_may_go_no_sooner_than_its_pace() {
    let mut outbox = Outbox::default();
    let (letter, now) = (judging("9", &judgement(1, 0)), Instant::now());
    outbox.send(&letter, now);
    outbox.ended(&letter, Outcome::Refused, now);
    let due = outbox.wake().unwrap();
    assert!(due >= now + PACE);
    assert_eq!(outbox.opens(&letter.subject, &letter.content, due), Some(due), "and so is queued");
}

/// An admission webhook may strip all that a letter would change.
#[tokio::test(start_paused = true)]
async fn what_changes_nothing_claims_nothing_and_keeps_back_no_letter_that_says_something_else() {
    let mut outbox = Outbox::default();
    let (first, now) = (letter("9", "10.0.0.1"), Instant::now());
    outbox.send(&first, now);
    assert!(outbox.ended(&first, Outcome::Unchanged, now).is_empty(), "there is nothing to tell");
    show(&mut outbox, "9", "");
    assert_eq!((claim(&outbox), outbox.wake(), outbox.take_healed()), (None, None, 0));
    let later = now + Duration::from_secs(3600);
    assert_eq!(outbox.opens(&subject(), &first.content, later), None, "not for ever in vain");
    let second = letter("9", "10.0.0.2");
    assert!(outbox.is_open(&subject(), now));
    assert_eq!(outbox.opens(&subject(), &second.content, now), Some(now));
    outbox.send(&second, now);
    assert_eq!(outbox.ended(&second, Outcome::Landed, now).len(), 1);
    assert_eq!(claim(&outbox), Some((addresses("10.0.0.2"), true)));
    show(&mut outbox, "10", "10.0.0.2");
    assert_eq!(outbox.opens(&subject(), &first.content, now), Some(now), "it is another version");
}

/// Writes the letter as soon as it may go, and somebody undoes it. Returns how long it had to wait.
async fn write_in_vain(outbox: &mut Outbox, letter: &mut Letter) -> u128 {
    let began = Instant::now();
    let from = outbox.opens(&subject(), &letter.content, began).unwrap();
    tokio::time::advance(from - began).await;
    outbox.send(letter, Instant::now());
    outbox.ended(letter, Outcome::Landed, Instant::now());
    let number: u64 = letter.version.resource_version.parse().unwrap();
    letter.version = version(&(number + 2).to_string());
    show(outbox, &letter.version.resource_version, "");
    (from - began).as_millis()
}

#[tokio::test(start_paused = true)]
async fn what_somebody_undoes_each_time_is_written_again_at_growing_intervals() {
    let mut outbox = Outbox::default();
    let (mut letter, mut waits) = (letter("9", "10.0.0.1"), Vec::new());
    for _ in 0..11 {
        waits.push(write_in_vain(&mut outbox, &mut letter).await);
    }
    assert_eq!(waits, [0, 0, 250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
    let (now, other) = (Instant::now(), super::tests::letter("9", "10.0.0.2"));
    assert_eq!(outbox.opens(&subject(), &other.content, now), Some(now), "other words go at once");
    // Once it has been left alone for long enough it is as the first time.
    tokio::time::advance(LONGEST_WAIT * 2).await;
    show(&mut outbox, &letter.version.resource_version, "");
    for _ in 0..2 {
        assert_eq!(write_in_vain(&mut outbox, &mut letter).await, 0);
    }
}

/// The API server takes nothing of a write to a version that is not the newest.
#[tokio::test(start_paused = true)]
async fn who_is_edited_all_the_time_is_written_to_at_once_each_time() {
    let mut outbox = Outbox::default();
    let mut letter = letter("9", "10.0.0.1");
    // What was told and undone before goes on counting.
    for _ in 0..3 {
        write_in_vain(&mut outbox, &mut letter).await;
    }
    tokio::time::advance(FIRST_WAIT * 2).await;
    for number in 20..30 {
        let now = Instant::now();
        assert_eq!(outbox.opens(&subject(), &letter.content, now), Some(now), "{number}");
        letter.version = version(&number.to_string());
        outbox.send(&letter, now);
        // The watch and the answer come in either order.
        if number % 2 == 0 {
            show(&mut outbox, &(number + 1).to_string(), "");
        }
        outbox.ended(&letter, Outcome::Overtaken, now);
        show(&mut outbox, &(number + 1).to_string(), "");
    }
    letter.version = version("31");
    assert_eq!(write_in_vain(&mut outbox, &mut letter).await, 0);
    assert_eq!(write_in_vain(&mut outbox, &mut letter).await, 1000);
}

/// What overtook it may be its own first attempt.
#[tokio::test(start_paused = true)]
async fn who_is_overtaken_at_a_second_attempt_may_have_told() {
    let mut outbox = Outbox::default();
    let mut letter = letter("9", "10.0.0.1");
    outbox.send(&letter, Instant::now());
    outbox.ended(&letter, Outcome::Unclear, Instant::now());
    outbox.send(&letter, Instant::now());
    outbox.ended(&letter, Outcome::Overtaken, Instant::now());
    letter.version = version("10");
    show(&mut outbox, "10", "");
    assert_eq!(write_in_vain(&mut outbox, &mut letter).await, 0);
    assert_eq!(write_in_vain(&mut outbox, &mut letter).await, 250);
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_is_sent_again_because_nobody_answered_is_no_repetition() {
    let mut outbox = Outbox::default();
    let mut letter = letter("9", "10.0.0.1");
    for _ in 0..5 {
        outbox.send(&letter, Instant::now());
        outbox.ended(&letter, Outcome::Unclear, Instant::now());
        tokio::time::advance(LONGEST_WAIT).await;
    }
    outbox.send(&letter, Instant::now());
    outbox.ended(&letter, Outcome::Landed, Instant::now());
    letter.version = version("10");
    show(&mut outbox, "10", "");
    assert_eq!(write_in_vain(&mut outbox, &mut letter).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_gone_or_another_of_its_name_is_forgotten() {
    let mut outbox = Outbox::default();
    let letter = letter("9", "10.0.0.1");
    outbox.send(&letter, Instant::now());
    outbox.reconcile(|_| None, Instant::now());
    assert_eq!(claim(&outbox), None);
    outbox.send(&letter, Instant::now());
    let other = Version { uid: "v".into(), resource_version: "3".into() };
    let shown = Shown { version: &other, addresses: &[], allocated: None };
    outbox.reconcile(|_| Some(shown), Instant::now());
    assert_eq!(claim(&outbox), None);
    // Its carrier comes back late and finds nobody to tell.
    assert!(outbox.ended(&letter, Outcome::Landed, Instant::now()).is_empty());
}

fn judgement(assigned: i64, second: i64) -> Judgement {
    let condition = Condition {
        type_: "Accepted".to_owned(),
        status: "True".to_owned(),
        reason: "InForce".to_owned(),
        message: String::new(),
        observed_generation: Some(1),
        last_transition_time: Time(Timestamp::from_second(second).unwrap()),
    };
    let counters = Counters { assigned: [assigned, 0], available: [9, 0] };
    Judgement { counters: Some(counters), conditions: vec![condition] }
}

fn pool() -> Subject {
    Subject::Configuration(Object::Pool("gold".into()))
}

fn content(judgement: &Judgement) -> Content {
    Content::Judgement(judgement.clone())
}

fn judging(resource_version: &str, judgement: &Judgement) -> Letter {
    let content = content(judgement);
    Letter { subject: pool(), content, ..letter(resource_version, "") }
}

#[tokio::test(start_paused = true)]
async fn an_object_of_configuration_is_written_to_at_a_pace() {
    let mut outbox = Outbox::default();
    let (began, said) = (Instant::now(), judgement(1, 1));
    assert_eq!(
        outbox.opens(&pool(), &content(&said), began),
        Some(began),
        "the first goes at once"
    );
    let letter = judging("9", &said);
    outbox.send(&letter, began);
    outbox.ended(&letter, Outcome::Landed, began);
    assert_eq!(outbox.opens(&pool(), &content(&judgement(2, 1)), began), None, "the watch lags");
    show(&mut outbox, "10", "");
    assert_eq!(outbox.opens(&pool(), &content(&judgement(2, 1)), began), Some(began + PACE));
    let later = began + PACE + Duration::from_millis(1);
    assert_eq!(outbox.opens(&pool(), &content(&judgement(2, 1)), later), Some(later));
    let other = Subject::Configuration(Object::Pool("iron".into()));
    assert_eq!(
        outbox.opens(&other, &content(&said), began),
        Some(began),
        "each has a pace of its own"
    );
    assert!(outbox.is_open(&subject(), began));
}

/// The CRDs of MetalLB have no room for conditions.
#[tokio::test(start_paused = true)]
async fn what_a_schema_has_no_room_for_is_not_written_for_ever_and_keeps_nothing_else_back() {
    let mut outbox = Outbox::default();
    let (now, said) = (Instant::now(), judgement(1, 1));
    let letter = judging("9", &said);
    outbox.send(&letter, now);
    outbox.ended(&letter, Outcome::Unchanged, now);
    show(&mut outbox, "9", "");
    let later = now + Duration::from_secs(3600);
    // The condition is made anew each time, as none is ever seen.
    assert_eq!(outbox.opens(&pool(), &content(&judgement(1, 2)), later), None);
    assert_eq!(outbox.opens(&pool(), &content(&judgement(2, 2)), later), Some(later));
    assert_eq!(outbox.wake(), None);
    let letter = judging("9", &judgement(2, 2));
    outbox.send(&letter, later);
    outbox.ended(&letter, Outcome::Landed, later);
    assert_eq!(outbox.opens(&pool(), &content(&judgement(3, 3)), later + PACE), None);
}
