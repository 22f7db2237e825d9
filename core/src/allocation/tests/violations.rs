//! What the checker finds in plans that are wrong. That it finds nothing in those that are right, every other test here shows.

use super::check::Violation;
use super::scenarios::world;
use super::*;

/// `pool address,address`, `nothing` or `untouched`, and then `lost` and `lacks` where there is a reason.
fn verdict(text: &str) -> Verdict {
    let mut words = text.split_whitespace();
    let outcome = match words.next().unwrap() {
        "nothing" => Outcome::Nothing,
        "untouched" => Outcome::Untouched,
        pool => {
            let addresses = addresses(words.next().unwrap());
            Outcome::Granted(Grant { pool: pool.into(), addresses })
        }
    };
    let words: Vec<&str> = words.collect();
    let why = |word| words.contains(&word).then_some(Why::NoPools);
    Verdict { outcome, lost: why("lost"), lacks: why("lacks") }
}

fn usage(owned: &Owned, verdicts: &[Verdict]) -> Vec<Usage> {
    let mut had = BTreeSet::new();
    for (demand, verdict) in owned.demands.iter().zip(verdicts) {
        match &verdict.outcome {
            Outcome::Granted(grant) => had.extend(&grant.addresses),
            Outcome::Untouched => had.extend(&demand.held),
            Outcome::Nothing => {}
        }
    }
    let count = |pool: &Pool, family| {
        let of_pool = had.iter().filter(|address| {
            Family::of(**address) == family && pool.ranges.iter().any(|one| one.contains(**address))
        });
        of_pool.count() as u64
    };
    let usage = |pool: &Arc<Pool>| Usage {
        pool: pool.name.clone(),
        v4: count(pool, Family::V4),
        v6: count(pool, Family::V6),
    };
    owned.pools.iter().map(usage).collect()
}

/// What the checker says of this plan: each violation, and whose it is. Strays are kept where somebody is left untouched.
fn found(pools: &[&str], services: &[(&str, &str)]) -> Vec<String> {
    let lines: Vec<&str> = services.iter().map(|(service, _)| *service).collect();
    let untouched = services.iter().any(|(_, text)| text.starts_with("untouched"));
    let stray = if untouched { Stray::Keep } else { Stray::Clear };
    let owned = world(stray, pools, &lines);
    let verdicts: Vec<Verdict> = services.iter().map(|(_, text)| verdict(text)).collect();
    let usage = usage(&owned, &verdicts);
    owned.with(|world| check(world, &Plan { verdicts, usage }).iter().map(render).collect())
}

fn render(violation: &Violation) -> String {
    let (what, whose) = match violation {
        Violation::Incomplete => return "Incomplete".to_owned(),
        Violation::Doubled(_, one, other) => return format!("Doubled {} {}", one.name, other.name),
        Violation::Shown(_, id) => ("Shown", id),
        Violation::NotAllowed(id, _) => ("NotAllowed", id),
        Violation::WrongFamilies(id, _) => ("WrongFamilies", id),
        Violation::NotAsked(id, _) => ("NotAsked", id),
        Violation::NotAutomatic(id, _) => ("NotAutomatic", id),
        Violation::Moved(id) => ("Moved", id),
        Violation::OutOfTurn(id, _) => ("OutOfTurn", id),
        Violation::Waits(id) => ("Waits", id),
        Violation::Shunned(id) => ("Shunned", id),
        Violation::Unexplained(id) => ("Unexplained", id),
        Violation::Miscounted(pool) => return format!("Miscounted {pool}"),
    };
    format!("{what} {}", whose.name)
}

macro_rules! violations {
    ($($name:ident [$($pool:literal),*] { $($service:literal => $verdict:literal)* } $found:expr;)*) => {
        $(#[test]
        fn $name() {
            assert_eq!(found(&[$($pool),*], &[$(($service, $verdict)),*]), $found);
        })*
    };
}

violations! {
    two_that_do_not_share_are_given_one_address
    ["a 10.0.0.1-10.0.0.9"] { "s1" => "a 10.0.0.1" "s2" => "a 10.0.0.1" } ["Doubled s1 s2"];
    two_that_share_are_given_one_address_and_one_port
    ["a 10.0.0.1-10.0.0.9"] { "s1 share=k" => "a 10.0.0.1" "s2 share=k" => "a 10.0.0.1" } ["Doubled s1 s2"];
    one_is_given_what_an_untouched_one_has
    ["a 10.0.0.1"] {
        "s1 holds=10.0.0.1,10.9.9.9" => "untouched lacks"
        "s2" => "a 10.0.0.1"
    } ["Doubled s1 s2"];
    what_both_had_while_one_is_untouched_is_not_held_against_anybody
    ["a 10.0.0.1"] {
        "s1 holds=10.0.0.1" => "a 10.0.0.1"
        "s2 holds=10.0.0.1,10.9.9.9" => "untouched lacks"
    } Vec::<String>::new();
    an_address_is_given_on_while_a_status_shows_it
    ["a 10.0.0.1-10.0.0.2"] {
        "s1 holds=10.0.0.1 asks=10.0.0.2" => "a 10.0.0.2 lost"
        "s2" => "a 10.0.0.1"
    } ["Shown s2"];
    an_address_is_not_of_its_pool
    ["a 10.0.0.1", "b 10.0.1.1"] { "s1" => "a 10.0.1.1" } ["NotAllowed s1"];
    an_address_is_of_no_pool
    ["a 10.0.0.1"] { "s1" => "b 10.0.1.1" } ["NotAllowed s1"];
    an_address_is_one_that_its_pool_avoids
    ["a 10.0.0.255-10.0.1.0 avoid"] { "s1" => "a 10.0.0.255" } ["NotAllowed s1"];
    a_pool_gives_to_another_namespace
    ["a 10.0.0.1 namespace=red"] { "s1" => "a 10.0.0.1" } ["NotAllowed s1"];
    a_pool_gives_to_a_namespace_without_the_label
    ["a 10.0.0.1 team=blue"] { "s1" => "a 10.0.0.1" } ["NotAllowed s1"];
    a_pool_gives_to_a_service_without_the_label
    ["a 10.0.0.1 app=web"] { "s1" => "a 10.0.0.1" } ["NotAllowed s1"];
    a_service_gets_the_other_family
    ["a 10.0.0.1,fd00::1"] { "s1" => "a fd00::1" } ["WrongFamilies s1"];
    a_service_gets_one_family_twice
    ["a 10.0.0.1-10.0.0.2"] { "s1 prefer4" => "a 10.0.0.1,10.0.0.2" } ["WrongFamilies s1"];
    a_service_gets_another_pool_than_it_asks_for
    ["a 10.0.0.1", "b 10.0.1.1"] { "s1 pool=b" => "a 10.0.0.1" } ["NotAsked s1"];
    a_service_gets_another_address_than_it_asks_for
    ["a 10.0.0.1-10.0.0.2"] { "s1 asks=10.0.0.2" => "a 10.0.0.1" } ["NotAsked s1"];
    a_pool_gives_unasked
    ["a 10.0.0.1 manual"] { "s1" => "a 10.0.0.1" } ["NotAutomatic s1"];
    a_service_loses_what_fits
    ["a 10.0.0.1-10.0.0.2"] { "s1 holds=10.0.0.2" => "a 10.0.0.1 lost" } ["Moved s1"];
    the_younger_takes_it_from_the_older
    ["a 10.0.0.1"] {
        "s1 holds=10.0.0.1" => "nothing lost lacks"
        "s2 holds=10.0.0.1" => "a 10.0.0.1"
    } ["Moved s1"];
    a_service_loses_the_address_that_fits_with_the_one_that_does_not
    ["a 10.0.0.0-10.0.0.1,fd00::1-fd00::2 avoid"] {
        "s1 prefer4 holds=10.0.0.0,fd00::1" => "a 10.0.0.1,fd00::2 lost"
        "s2 v6 holds=10.0.9.9,fd00::2" => "nothing lost lacks"
    } ["Shown s1", "Moved s1", "Moved s2"];
    a_service_waits_while_an_address_is_free
    ["a 10.0.0.0-10.0.0.1 avoid"] { "s1" => "nothing lacks" } ["Waits s1"];
    a_service_waits_while_it_could_share
    ["a 10.0.0.1"] {
        "s1 share=k" => "a 10.0.0.1"
        "s2 share=k port=81" => "nothing lacks"
    } ["Waits s2"];
    a_service_waits_for_a_second_family_that_its_pool_has
    ["a 10.0.0.1,fd00::1"] { "s1 prefer4 holds=10.0.0.1" => "a 10.0.0.1 lacks" } ["Waits s1"];
    a_service_stays_with_one_family_of_two_though_another_pool_has_both
    ["a fd00::1", "b 10.0.1.1,fd00::b"] {
        "s1 prefer4 holds=10.0.0.1,fd00::1" => "a fd00::1 lost lacks"
    } ["Waits s1"];
    a_later_pool_gives
    ["a 10.0.0.1", "b 10.0.1.1"] { "s1" => "b 10.0.1.1" } ["OutOfTurn s1"];
    a_later_priority_gives
    ["a 10.0.0.1 priority=2", "b 10.0.1.1 priority=1"] { "s1" => "a 10.0.0.1" } ["OutOfTurn s1"];
    a_general_pool_gives_both_families_before_a_pinned_one_has_given_its_one
    ["a 10.0.0.1,fd00::1", "b fd00::2 namespace=default"] { "s1 prefer4" => "a 10.0.0.1,fd00::1" } ["OutOfTurn s1"];
    a_pool_gives_one_family_where_another_could_give_both
    ["a 10.0.0.1", "b 10.0.1.1,fd00::1"] { "s1 prefer4" => "a 10.0.0.1 lacks" } ["OutOfTurn s1"];
    a_pool_gives_the_other_family_where_one_could_give_the_primary
    ["a 10.0.0.1", "b fd00::1"] { "s1 prefer6" => "a 10.0.0.1 lacks" } ["OutOfTurn s1"];
    a_service_is_left_alone_although_all_is_known
    ["a 10.0.0.1"] { "s1 holds=10.0.0.1" => "untouched lacks" } ["Shunned s1"];
    a_service_lacks_nothing_and_is_told_so
    ["a 10.0.0.1"] { "s1" => "a 10.0.0.1 lacks" } ["Unexplained s1"];
    a_service_loses_an_address_and_is_not_told_why
    ["a 10.0.0.1"] { "s1 holds=10.9.9.9" => "a 10.0.0.1" } ["Unexplained s1"];
}

#[test]
fn a_verdict_is_missing() {
    let owned = world(Stray::Clear, &["a 10.0.0.1"], &["s1"]);
    let found = owned.with(|world| check(world, &Plan::default()));
    assert_eq!(found, [Violation::Incomplete]);
}

#[test]
fn the_use_of_a_pool_is_miscounted() {
    let owned = world(Stray::Clear, &["a 10.0.0.1", "b 10.0.1.1"], &["s1"]);
    let mut plan = owned.plan();
    plan.usage[1].v6 = 1;
    assert_eq!(owned.with(|world| check(world, &plan)), [Violation::Miscounted("b".into())]);
}
