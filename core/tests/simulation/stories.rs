//! One fault at a time, with its expectation.

use herald_core::name::NodeName;
use herald_core::ownership::choices::Choices;
use herald_core::ownership::order;
use herald_core::ownership::view::LeaseKey;
use herald_core::why::announcement::Unfit;

use crate::cluster::{Cluster, vip};

/// Three nodes that have settled on all VIPs.
fn settled(vips: u8) -> Cluster {
    let mut cluster = Cluster::new(3, vips, 7);
    cluster.start_all();
    cluster.run_for(10_000);
    for n in 1..=vips {
        assert_eq!(cluster.answering(vip(n)).len(), 1, "vip {n}");
    }
    cluster
}

#[test]
fn a_cold_start_puts_every_address_where_metallb_would() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(3, 30, seed);
        cluster.start_all();
        cluster.run_for(3_000);
        for n in 1..=30 {
            let mut names: Vec<NodeName> = cluster.nodes.iter().map(|n| n.name.clone()).collect();
            names.sort_by_key(|name| order::hash(name, vip(n)));
            let owner = cluster.owner(vip(n)).map(|i| cluster.nodes[i].name.clone());
            assert_eq!(owner.as_ref(), names.first(), "seed {seed}, vip {n}");
            assert_eq!(cluster.answering(vip(n)).len(), 1);
        }
    }
}

#[test]
fn the_first_speaker_of_a_cold_start_waits_two_periods_for_the_others() {
    let mut cluster = Cluster::new(3, 5, 1);
    cluster.start(0);
    cluster.run_for(3_900);
    assert!(cluster.stretches.is_empty());
    cluster.run_for(600);
    assert!((1..=5).all(|n| cluster.answering(vip(n)) == [0]));
}

#[test]
fn an_owner_that_crashes_or_loses_power_is_replaced_in_less_than_a_second() {
    for seed in 0..20 {
        for power in [true, false] {
            let mut cluster = Cluster::new(3, 10, seed);
            cluster.start_all();
            cluster.run_for(10_000 + seed * 17);
            let victim = cluster.answering(vip(1))[0];
            match power {
                true => cluster.crash(victim),
                false => cluster.power_off(victim),
            }
            let died = cluster.now;
            cluster.run_for(12_000);
            for n in 1..=10 {
                assert_eq!(cluster.answering(vip(n)).len(), 1);
                let gap = cluster.longest_gap(vip(n), died);
                assert!(gap <= 800, "seed {seed}: vip {n} unanswered for {gap} ms");
                assert_eq!(cluster.longest_overlap(vip(n)), 0);
            }
        }
    }
}

#[test]
fn two_nodes_alone_fall_back_on_expiry() {
    let mut cluster = Cluster::new(2, 10, 7);
    cluster.start_all();
    cluster.run_for(10_000);
    let victim = cluster.answering(vip(1))[0];
    cluster.power_off(victim);
    let died = cluster.now;
    cluster.run_for(12_000);
    for n in 1..=10 {
        assert_eq!(cluster.answering(vip(n)), [1 - victim]);
        assert!(cluster.longest_gap(vip(n), died) <= 7_000);
    }
}

#[test]
fn an_owner_whose_port_of_the_switch_is_dead_is_replaced_and_stays_last_for_a_while() {
    let mut cluster = settled(10);
    let victim = cluster.answering(vip(1))[0];
    let had: Vec<u8> = (1..=10).filter(|n| cluster.answering(vip(*n)) == [victim]).collect();
    cluster.nodes[victim].unplugged = true;
    cluster.run_for(1_200);
    for n in &had {
        let answering = cluster.answering(vip(*n));
        assert!(answering.len() == 1 && answering != [victim], "vip {n}: {answering:?}");
    }
    cluster.run_for(30_000);
    assert!((1..=10).all(|n| cluster.answering(vip(n)).len() == 1));
    cluster.nodes[victim].unplugged = false;
    cluster.run_for(30_000);
    assert!(had.iter().all(|n| cluster.answering(vip(*n)) != [victim]), "owners are sticky");
}

#[test]
fn a_prober_whose_own_port_is_dead_closes_nobody() {
    for prober in 0..3 {
        let mut cluster = settled(1);
        let owner = cluster.answering(vip(1))[0];
        if prober == owner {
            continue;
        }
        cluster.nodes[prober].unplugged = true;
        cluster.run_for(30_000);
        assert_eq!(cluster.answering(vip(1)), [owner]);
        assert_eq!(cluster.stretches.len(), 1);
    }
}

#[test]
fn an_owner_suspended_for_a_while_is_replaced_and_answers_nothing_when_it_wakes() {
    for pause in [460, 600, 1_000, 2_900, 3_500, 15_000] {
        let mut cluster = settled(10);
        let owner = cluster.answering(vip(1))[0];
        let began = cluster.now;
        cluster.suspend(owner);
        cluster.run_for(pause);
        cluster.resume(owner);
        cluster.run_for(10_000);
        for n in 1..=10 {
            assert_eq!(cluster.answering(vip(n)).len(), 1, "vip {n} after {pause} ms");
            assert_eq!(cluster.longest_overlap(vip(n)), 0, "vip {n} after {pause} ms");
            let gap = cluster.longest_gap(vip(n), began);
            assert!(gap <= 900, "vip {n} after {pause} ms: {gap}");
        }
    }
}

#[test]
fn an_address_that_a_stranger_uses_is_not_answered_until_the_stranger_is_gone() {
    let mut cluster = Cluster::new(3, 2, 7);
    cluster.strangers.insert(vip(1), herald_core::wire::Mac([2, 9, 9, 9, 9, 9]));
    cluster.start_all();
    cluster.run_for(20_000);
    assert!(cluster.answering(vip(1)).is_empty() && cluster.answering(vip(2)).len() == 1);
    assert!(cluster.announced.iter().all(|(_, _, address)| *address == vip(2)));
    assert!(cluster.owner(vip(1)).is_some(), "its claim says who asks");
    cluster.strangers.clear();
    cluster.run_for(5_000);
    assert_eq!(cluster.answering(vip(1)).len(), 1);
}

#[test]
fn probing_costs_two_frames_an_interval_for_each_node() {
    let mut cluster = Cluster::new(10, 100, 7);
    cluster.start_all();
    cluster.run_for(10_000);
    let before = cluster.asked;
    cluster.run_for(15_000);
    let frames = cluster.asked - before;
    assert!(frames <= 2 * 10 * 100, "{frames} questions in 100 intervals");
}

#[test]
fn a_failover_costs_one_write_for_each_address_and_one_for_the_session() {
    let mut cluster = settled(30);
    let victim = cluster.answering(vip(1))[0];
    let moved = (1..=30).filter(|n| cluster.answering(vip(*n)) == [victim]).count();
    let before = cluster.writes.len();
    let name = cluster.nodes[victim].name.clone();
    cluster.crash(victim);
    cluster.run_for(12_000);
    let since = &cluster.writes[before..];
    let claims = since.iter().filter(|(_, _, key)| matches!(key, LeaseKey::Claim(_))).count();
    let closings =
        since.iter().filter(|(_, _, key)| *key == LeaseKey::Session(name.clone())).count();
    assert_eq!((claims, closings), (moved, 1));
}

#[test]
fn a_steady_cluster_writes_only_renewals() {
    let mut cluster = settled(100);
    let before = cluster.writes.len();
    cluster.run_for(60_000);
    let since = &cluster.writes[before..];
    assert!(since.iter().all(|(_, _, key)| matches!(key, LeaseKey::Session(_))));
    assert!(since.len() <= 3 * 31, "{} writes a minute", since.len());
}

#[test]
fn a_graceful_stop_leaves_no_gap_and_two_answer_for_a_moment_only() {
    let mut cluster = settled(30);
    let leaver = cluster.answering(vip(1))[0];
    let began = cluster.now;
    cluster.stop(leaver);
    cluster.run_for(3_000);
    assert!(cluster.nodes[leaver].has_left);
    for n in 1..=30 {
        assert_eq!(cluster.longest_gap(vip(n), began), 0, "vip {n}");
        assert!(cluster.longest_overlap(vip(n)) <= 20, "{}", cluster.longest_overlap(vip(n)));
        assert_ne!(cluster.answering(vip(n)), [leaver]);
    }
}

#[test]
fn a_lone_speaker_stops_at_once_and_takes_its_addresses_again() {
    let mut cluster = Cluster::new(1, 5, 3);
    cluster.start(0);
    cluster.run_for(8_000);
    cluster.stop(0);
    cluster.run_for(500);
    assert!(cluster.nodes[0].has_left);
    cluster.crash(0);
    cluster.start(0);
    cluster.run_for(300);
    assert!((1..=5).all(|n| cluster.answering(vip(n)) == [0]));
}

#[test]
fn a_drain_leaves_no_gap_and_costs_one_write_more_than_it_moves() {
    let mut cluster = settled(30);
    let drained = cluster.answering(vip(1))[0];
    let moved = (1..=30).filter(|n| cluster.answering(vip(*n)) == [drained]).count();
    let (began, before) = (cluster.now, cluster.writes.len());
    cluster.nodes[drained].unfit = Some(Unfit::Excluded);
    cluster.replan();
    cluster.run_for(1_500);
    for n in 1..=30 {
        assert_eq!(cluster.longest_gap(vip(n), began), 0, "vip {n}");
        assert!(!cluster.answering(vip(n)).contains(&drained));
    }
    let claims = cluster.writes[before..].iter().filter(|w| matches!(w.2, LeaseKey::Claim(_)));
    assert_eq!(claims.count(), moved);
    cluster.nodes[drained].unfit = None;
    cluster.replan();
    cluster.run_for(20_000);
    let back = (1..=30).filter(|n| cluster.answering(vip(*n)) == [drained]).count();
    assert_eq!(back, 0, "owners are sticky");
}

#[test]
fn the_last_local_endpoint_takes_the_address_along() {
    let mut cluster = settled(1);
    let owner = cluster.answering(vip(1))[0];
    let began = cluster.now;
    cluster.vips.insert(vip(1), [(owner + 1) % 3].into());
    cluster.replan();
    cluster.run_for(1_000);
    assert_eq!(cluster.answering(vip(1)), [(owner + 1) % 3]);
    assert_eq!(cluster.longest_gap(vip(1), began), 0);
    cluster.vips.insert(vip(1), [].into());
    cluster.replan();
    cluster.run_for(200);
    assert!(cluster.answering(vip(1)).is_empty());
    assert_eq!(cluster.owner(vip(1)), None, "the claim is deleted");
}

#[test]
fn an_address_that_no_service_has_loses_its_claim_even_if_its_owner_died() {
    let mut cluster = settled(2);
    let owner = cluster.answering(vip(1))[0];
    cluster.crash(owner);
    cluster.vips.remove(&vip(1));
    cluster.replan();
    cluster.run_for(15_000);
    assert_eq!(cluster.owner(vip(1)), None);
}

#[test]
fn an_api_server_that_is_away_stops_nothing_and_moves_nothing() {
    let mut cluster = settled(10);
    let owners: Vec<_> = (1..=10).map(|n| cluster.answering(vip(n))).collect();
    let began = cluster.now;
    cluster.api_up = false;
    cluster.run_for(20_000);
    cluster.heal_api();
    cluster.run_for(20_000);
    for n in 1..=10 {
        assert_eq!(cluster.answering(vip(n)), owners[usize::from(n) - 1]);
        assert_eq!(cluster.longest_gap(vip(n), began), 0);
    }
    assert!(cluster.nodes.iter().all(|node| node.machine.as_ref().is_some_and(|m| m.is_sure())));
}

#[test]
fn an_owner_that_lost_only_the_api_keeps_its_addresses_for_a_minute_and_then_yields() {
    let mut cluster = settled(1);
    let owner = cluster.answering(vip(1))[0];
    let began = cluster.now;
    cluster.nodes[owner].api = false;
    cluster.run_for(60_000);
    assert_eq!(cluster.answering(vip(1)), [owner], "it answers peers' probes: a veto (R7, I4)");
    cluster.run_for(10_000);
    assert_eq!(cluster.answering(vip(1)).len(), 1);
    assert_ne!(cluster.answering(vip(1)), [owner]);
    assert_eq!(cluster.longest_gap(vip(1), began), 0);
    assert!(cluster.longest_overlap(vip(1)) <= 2, "{}", cluster.longest_overlap(vip(1)));
    cluster.heal_api();
    cluster.run_for(5_000);
    assert_eq!(cluster.answering(vip(1)).len(), 1);
    assert!(cluster.nodes[owner].machine.as_ref().is_some_and(|m| m.is_sure() && m.is_open()));
}

#[test]
fn a_restart_after_a_crash_leaves_the_addresses_where_they_went() {
    let mut cluster = settled(10);
    let owner = cluster.answering(vip(1))[0];
    let had: Vec<u8> = (1..=10).filter(|n| cluster.answering(vip(*n)) == [owner]).collect();
    let died = cluster.now;
    cluster.crash(owner);
    // Before they went it would have them back: clients notice nothing.
    cluster.run_for(1_000);
    cluster.start(owner);
    cluster.run_for(12_000);
    for n in had {
        assert_ne!(cluster.answering(vip(n)), [owner], "vip {n}");
        assert!(cluster.longest_gap(vip(n), died) <= 800, "vip {n}");
        let moves = cluster.stretches.iter().filter(|s| s.address == vip(n) && s.from > died);
        assert_eq!(moves.count(), 1, "vip {n}");
    }
}

#[test]
fn a_strictly_better_node_gets_the_address_after_a_settling_time() {
    let mut cluster = settled(1);
    let owner = cluster.answering(vip(1))[0];
    let better = (owner + 1) % 3;
    let began = cluster.now;
    cluster.scores.insert(better, 50);
    cluster.replan();
    cluster.run_for(4_500);
    assert_eq!(cluster.answering(vip(1)), [owner]);
    cluster.run_for(1_500);
    assert_eq!(cluster.answering(vip(1)), [better]);
    assert_eq!(cluster.longest_gap(vip(1), began), 0);
}

#[test]
fn an_announcement_follows_every_taking_within_ten_milliseconds() {
    let mut cluster = settled(30);
    let victim = cluster.answering(vip(1))[0];
    cluster.crash(victim);
    cluster.run_for(12_000);
    for stretch in &cluster.stretches {
        let told = cluster.announced.iter().any(|(at, node, address)| {
            (*node, *address) == (stretch.node, stretch.address)
                && (stretch.from..=stretch.from + 10).contains(at)
        });
        assert!(told, "{} by node {} at {}", stretch.address, stretch.node, stretch.from);
    }
}

#[test]
fn no_address_moves_to_a_node_that_hears_nobody_whatever_speaks_for_it() {
    for choices in [
        Choices::default(),
        Choices { failback: true, ..Choices::default() },
        Choices { rebalance: true, ..Choices::default() },
    ] {
        let mut cluster = Cluster::new(3, 10, 7);
        cluster.choices = choices;
        let deaf = 2;
        cluster.start(0);
        cluster.start(1);
        cluster.run_for(10_000);
        cluster.start(deaf);
        cluster.run_for(1_000);
        cluster.nodes[deaf].unplugged = true;
        cluster.run_for(4_000);
        let owners: Vec<_> = (1..=10).map(|n| cluster.answering(vip(n))).collect();
        let began = cluster.now;
        cluster.scores.insert(deaf, 50);
        cluster.replan();
        cluster.run_for(60_000);
        for n in 1..=10 {
            assert_eq!(cluster.answering(vip(n)), owners[usize::from(n) - 1], "{choices:?}");
            assert_eq!(cluster.longest_gap(vip(n), began), 0);
        }
        cluster.nodes[deaf].unplugged = false;
        cluster.run_for(30_000);
        assert!((1..=10).all(|n| cluster.answering(vip(n)) == [deaf]), "{choices:?}");
    }
}

#[test]
fn with_failback_every_address_goes_home_without_a_gap() {
    let mut cluster = Cluster::new(3, 10, 7);
    cluster.choices.failback = true;
    cluster.start_all();
    cluster.run_for(10_000);
    let owners: Vec<_> = (1..=10).map(|n| cluster.answering(vip(n))).collect();
    let victim = owners[0][0];
    cluster.crash(victim);
    cluster.run_for(12_000);
    cluster.start(victim);
    let began = cluster.now;
    cluster.run_for(20_000);
    for n in 1..=10 {
        assert_eq!(cluster.answering(vip(n)), owners[usize::from(n) - 1], "vip {n}");
        assert_eq!(cluster.longest_gap(vip(n), began), 0, "vip {n}");
    }
}

#[test]
fn with_rebalance_counts_even_out_one_move_at_a_time_and_then_rest() {
    let mut cluster = Cluster::new(3, 12, 7);
    cluster.choices.rebalance = true;
    cluster.start(0);
    cluster.run_for(10_000);
    assert!((1..=12).all(|n| cluster.answering(vip(n)) == [0]));
    cluster.start(1);
    cluster.start(2);
    let began = cluster.now;
    cluster.run_for(120_000);
    let count = |cluster: &Cluster, node: usize| {
        (1..=12).filter(|n| cluster.answering(vip(*n)) == [node]).count()
    };
    assert_eq!([0, 1, 2].map(|node| count(&cluster, node)), [4, 4, 4]);
    assert!((1..=12).all(|n| cluster.longest_gap(vip(n), began) == 0));
    let moves = cluster.stretches.iter().filter(|stretch| stretch.from > began).count();
    assert_eq!(moves, 8, "none moves twice");
}
