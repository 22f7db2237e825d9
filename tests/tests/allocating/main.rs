//! Controllers against a real API server: which Service gets which address, what that costs in writes, what people are
//! told, and what becomes of it all when pools break, controllers die and the API server fails in every way that it can.
//!
//! Speakers do not run here, but for one that only has to read: nothing depends on them.
#![forbid(unsafe_code)]

mod beginning;
mod bursts;
mod choosing;
mod configuration;
mod faults;
mod history;
mod outage;
mod readings;
mod releasing;
mod replicas;
mod shapes;
mod stage;
mod status;
mod telling;
mod writing;

use herald_tests::lab::Lab;

use crate::bursts::Fate;
use crate::stage::Stage;

#[tokio::test]
async fn one_controller_gives_keeps_and_takes_back_addresses() -> anyhow::Result<()> {
    Lab::run(1, async |lab| {
        let stage = Stage::set(lab).await?;
        stage.controller(0)?;
        stage.story("what is asked for is given", choosing::what_is_asked_for).await?;
        stage.story("a waiter is woken", choosing::a_waiter_is_woken).await?;
        stage.story("half of a dual stack", choosing::half_of_a_dual_stack).await?;
        stage.story("another class", choosing::another_class_is_not_touched).await?;
        stage.story("sharing", choosing::only_those_who_agree_share).await?;
        stage.story("one write", writing::one_write_for_each).await?;
        stage.story("conditions of others", writing::conditions_of_others_stay).await?;
        stage.story("spoiling", writing::what_others_spoil_is_mended).await?;
        stage.story("Events", telling::once_per_change).await?;
        stage.story("leaving the type", releasing::who_leaves_the_type_lets_go).await?;
        stage.story("away", releasing::what_changed_while_no_controller_ran).await?;
        stage.story("adoption", releasing::what_is_in_status_comes_first).await?;
        stage.story("a class of our own", releasing::a_class_is_lost_with_the_type).await?;
        stage.story("bad objects", configuration::the_last_good_version_stays).await?;
        stage.story("advertisements", configuration::advertisements_are_judged_too).await?;
        stage.story("bad at the start", configuration::a_restart_takes_nothing_away).await?;
        stage.story("pools go", configuration::pools_that_go_take_their_addresses).await?;
        stage.story("readings", readings::what_is_shown_is_true).await
    })
    .await
}

#[tokio::test]
async fn the_state_of_the_configuration_is_reported() -> anyhow::Result<()> {
    Lab::run(1, async |lab| {
        let stage = Stage::set(lab).await?;
        stage.controller(0)?;
        stage.story("counters", status::counters_are_exact).await?;
        stage.story("announced", status::who_is_not_announced_says_so).await?;
        stage.story("slips", status::a_slip_of_the_pen_is_named).await?;
        stage.story("the whole", status::the_whole_is_judged).await?;
        stage.story("a burst", status::a_burst_is_reported_at_a_pace).await
    })
    .await
}

#[tokio::test]
async fn two_replicas_never_double_and_never_lose() -> anyhow::Result<()> {
    Lab::run(1, async |lab| {
        let stage = Stage::set(lab).await?;
        stage.story("one replica ends", replicas::the_other_takes_over).await?;
        stage.story("a broken pool", replicas::a_standby_knows_the_last_good_version).await?;
        stage.story("a double", replicas::a_double_is_healed_by_the_next_leader).await?;
        stage.story("after an outage", replicas::a_crash_soon_after_an_outage).await?;
        let fates = [Fate::Death, Fate::Pause, Fate::Cut, Fate::Word];
        stage
            .story("bursts", async |stage| bursts::are_survived(stage, &fates, 6, 80).await)
            .await?;
        let hides = replicas::what_a_hanging_watch_hides_is_not_given_again;
        stage.story("a hanging watch", hides).await
    })
    .await
}

#[tokio::test]
#[ignore = "takes ten minutes: cargo test -p herald-tests --test allocating -- --ignored"]
async fn twenty_deaths_and_twenty_pauses_in_bursts_are_survived() -> anyhow::Result<()> {
    Lab::run(1, async |lab| {
        let stage = Stage::set(lab).await?;
        stage.controller(0)?;
        stage.leads(0).await?;
        replicas::stands_by(&stage, 1).await?;
        bursts::are_survived(&stage, &[Fate::Death, Fate::Pause], 40, 240).await
    })
    .await
}

#[tokio::test]
async fn a_controller_waits_for_what_is_not_there_and_goes_on_by_itself() -> anyhow::Result<()> {
    Lab::run(1, async |lab| {
        let stage = Stage::set(lab).await?;
        stage.story("no pools' kind", beginning::without_the_kind_of_pools_it_waits).await?;
        let no_advertisements = beginning::without_the_kind_of_advertisements_all_wait;
        stage.story("no advertisements' kind", no_advertisements).await?;
        stage.story("no pools", beginning::without_any_pool_nothing_is_cleared).await?;
        stage.story("other shapes", shapes::what_cannot_be_read_hides_nothing).await?;
        stage.story("odd Services", shapes::an_odd_service_hides_no_other).await?;
        stage.story("an editor", outage::a_service_that_is_edited_all_the_time).await?;
        stage.story("answers lost", outage::writes_whose_answers_are_lost).await?;
        stage.story("outages", outage::an_absent_api_server_is_outlived).await
    })
    .await
}

#[tokio::test]
async fn no_fault_of_the_api_server_loses_or_doubles_an_address() -> anyhow::Result<()> {
    Lab::run(1, async |lab| {
        let stage = Stage::set(lab).await?;
        stage.story("faults that end", faults::faults_that_end_are_outlived).await?;
        stage.story("a killed server", faults::a_server_that_is_killed_in_a_burst).await?;
        stage.story("silent watches", faults::silent_watches_are_given_up).await
    })
    .await
}
