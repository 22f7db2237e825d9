//! What holds in every world. `Owned::plan` checks each plan that is made here.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::worlds::{NAMESPACES, anonymous, named, pools, world};
use super::*;

fn by_service(world: &Owned, plan: &Plan) -> BTreeMap<ServiceId, Verdict> {
    let ids = world.demands.iter().map(|demand| demand.id.clone());
    ids.zip(plan.verdicts.iter().cloned()).collect()
}

fn outcomes(plan: &Plan) -> Vec<Outcome> {
    plan.verdicts.iter().map(|verdict| verdict.outcome.clone()).collect()
}

/// What happens to a world between two plans.
#[derive(Clone, Debug)]
enum Edit {
    Create(Box<Demand>),
    Delete(Index),
    /// Everything about the Service but its name, age and status is replaced.
    Change(Index, Box<Demand>),
    Pools(Vec<Arc<Pool>>),
    /// The namespace has the label that pools select by, or loses it, or is not known any more.
    Namespace(&'static str, Option<bool>),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => anonymous().prop_map(|demand| Edit::Create(Box::new(demand))),
        2 => any::<Index>().prop_map(Edit::Delete),
        3 => (any::<Index>(), anonymous()).prop_map(|(at, to)| Edit::Change(at, Box::new(to))),
        2 => pools().prop_map(Edit::Pools),
        1 => (prop::sample::select(NAMESPACES.to_vec()), any::<Option<bool>>())
            .prop_map(|(name, labelled)| Edit::Namespace(name, labelled)),
    ]
}

fn apply(world: &mut Owned, edit: Edit, number: usize) {
    let demands = &mut world.demands;
    match edit {
        Edit::Create(demand) => {
            let mut demand = named(*demand, 100 + number);
            demand.held.clear();
            demands.push(demand);
        }
        Edit::Delete(at) if !demands.is_empty() => {
            demands.remove(at.index(demands.len()));
        }
        Edit::Change(at, to) if !demands.is_empty() => {
            let at = at.index(demands.len());
            let from = demands[at].clone();
            demands[at] = Demand { id: from.id, age: from.age, held: from.held, ..*to };
        }
        Edit::Delete(_) | Edit::Change(..) => {}
        Edit::Pools(pools) => world.pools = pools,
        Edit::Namespace(name, None) => drop(world.namespaces.remove(name)),
        Edit::Namespace(name, Some(labelled)) => {
            let labels = labelled.then(|| ("team".to_owned(), "blue".to_owned()));
            world.namespaces.insert(name.into(), labels.into_iter().collect());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_world_gets_a_right_plan(world in world()) {
        world.plan();
    }

    #[test]
    fn the_order_of_services_does_not_matter(world in world(), seed in any::<u64>()) {
        let mut shuffled = world.clone();
        let mut order: Vec<usize> = (0..world.demands.len()).collect();
        order.sort_by_key(|at| (*at as u64 + 1).wrapping_mul(seed | 1).rotate_left(17));
        shuffled.demands = order.iter().map(|at| world.demands[*at].clone()).collect();
        let (plan, other) = (world.plan(), shuffled.plan());
        prop_assert_eq!(by_service(&world, &plan), by_service(&shuffled, &other));
        prop_assert_eq!(plan.usage, other.usage);
    }

    #[test]
    fn planning_again_changes_nothing_but_to_give_on_what_was_let_go(world in world()) {
        let first = world.plan();
        let second_world = world.after(&first);
        let second = second_world.plan();
        let third_world = second_world.after(&second);
        let third = third_world.plan();
        prop_assert_eq!(outcomes(&third), outcomes(&second));
        let untouched = |plan: &Plan| plan.verdicts.iter().any(|v| v.outcome == Outcome::Untouched);
        if first.verdicts.iter().all(|v| v.lost.is_none()) && !untouched(&first) && world.unechoed.is_empty() {
            prop_assert_eq!(outcomes(&second), outcomes(&first));
        }
        prop_assert!(second.verdicts.iter().all(|v| v.lost.is_none()), "{:#?}", second);
    }

    #[test]
    fn a_write_that_landed_counts_as_if_the_watch_had_shown_it(world in world()) {
        let mut lagging = world.clone();
        lagging.unechoed.values_mut().for_each(|written| written.landed = true);
        let mut shown = world.clone();
        for demand in &mut shown.demands {
            if let Some(written) = shown.unechoed.remove(&demand.id) {
                demand.held = written.addresses;
            }
        }
        prop_assert_eq!(lagging.plan(), shown.plan());
    }

    #[test]
    fn through_any_edits_every_plan_is_right(world in world(), edits in vec(edit(), 1..8)) {
        let mut world = world;
        for (number, edit) in edits.into_iter().enumerate() {
            apply(&mut world, edit, number);
            world = world.after(&world.plan());
        }
        // A restart knows nothing but the statuses, and finds nothing to change.
        let settled = world.after(&world.plan());
        prop_assert_eq!(outcomes(&settled.plan()), outcomes(&world.plan()));
    }
}

/// The partners of an address that a Service has given back for certain are no nearer to it than others'.
#[test]
fn what_a_status_showed_before_a_write_that_landed_draws_nobody() {
    let sharing = |name: &str, port: u16, held: &str| {
        let key = Sharing { key: "us".into(), backend: "".into() };
        let ports = BTreeSet::from([Port { protocol: Protocol::Tcp, number: port }]);
        let held = addresses(held);
        Demand { sharing: Some(key), ports, held, ..demand(name, i64::from(port)) }
    };
    let lagging = sharing("c", 3, "10.0.0.2");
    let gave_back = Unechoed { addresses: Vec::new(), landed: true };
    let world = Owned {
        pools: vec![pool("p", &["10.0.0.1-10.0.0.4"]).into()],
        refused: RefusedPools::default(),
        stray: Stray::Clear,
        namespaces: Namespaces::new(),
        unechoed: BTreeMap::from([(lagging.id.clone(), gave_back)]),
        demands: vec![sharing("a", 1, "10.0.0.1"), sharing("b", 2, "10.0.0.2"), lagging],
    };
    let plan = world.plan();
    let given = plan.verdicts[2].grant().map(|grant| grant.addresses.clone());
    assert_eq!(given, Some(addresses("10.0.0.1")));
}
