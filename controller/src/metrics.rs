//! What `/metrics` shows of the controller: MetalLB's names for what MetalLB has, `herald_` for the rest.

use std::sync::{Arc, Mutex, PoisonError};

use herald_telemetry::metrics::{Counter, EncodeLabelSet, Family, Gauge, Registry};

use crate::outbox::Outcome;
use crate::plan::{Figures, PoolFigures};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct OfPool {
    pool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct ForReason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithResult {
    result: &'static str,
}

/// The controller's metrics. Clones share them.
#[derive(Clone, Default)]
pub struct Metrics {
    /// Objects read from the API server.
    pub updates: Counter,
    errors: Counter,
    loaded: Gauge,
    stale: Gauge,
    leading: Gauge,
    plans: Counter,
    untouched: Gauge,
    writes: Family<WithResult, Counter>,
    healed: Counter,
    lacking: Family<ForReason, Gauge>,
    pools: [Family<OfPool, Gauge>; 7],
    shown: Arc<Mutex<Figures>>,
}

/// In the order of `Metrics::pools`.
const OF_POOLS: [(&str, &str); 7] = [
    ("addresses_total", "Number of usable IP addresses, per pool"),
    ("ipv4_addresses_total", "Number of usable IPv4 addresses, per pool"),
    ("ipv6_addresses_total", "Number of usable IPv6 addresses, per pool"),
    ("addresses_in_use_total", "Number of IP addresses in use, per pool"),
    ("ipv4_addresses_in_use_total", "Number of IPv4 addresses in use, per pool"),
    ("ipv6_addresses_in_use_total", "Number of IPv6 addresses in use, per pool"),
    ("services_allocated_total", "Number of services with an address, per pool"),
];

impl Metrics {
    /// New metrics, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let allocator = registry.sub_registry_with_prefix("metallb_allocator");
        for ((name, help), family) in OF_POOLS.iter().zip(&metrics.pools) {
            allocator.register(*name, *help, family.clone());
        }
        let client = registry.sub_registry_with_prefix("metallb_k8s_client");
        client.register("updates", "Objects read from the API server", metrics.updates.clone());
        client.register("update_errors", "Writes that failed", metrics.errors.clone());
        client.register(
            "config_loaded_bool",
            "1 once a configuration is in force",
            metrics.loaded.clone(),
        );
        let help = "1 while an object's present version is not in force";
        client.register("config_stale_bool", help, metrics.stale.clone());
        let herald = registry.sub_registry_with_prefix("herald_controller");
        herald.register("leading", "1 while this replica leads", metrics.leading.clone());
        herald.register("plans", "Plans made of the whole world", metrics.plans.clone());
        herald.register("writes", "Writes by how they ended", metrics.writes.clone());
        let help = "Services that lost an address which an older one has too";
        herald.register("doubles_healed", help, metrics.healed.clone());
        let help = "Services that lack an address, by reason";
        herald.register("services_lacking", help, metrics.lacking.clone());
        let help = "Services left as they are because no pool in force is theirs";
        herald.register("services_untouched", help, metrics.untouched.clone());
        metrics
    }

    /// How the configuration stands.
    pub fn configuration(&self, loaded: bool, stale: bool) {
        if loaded {
            self.loaded.set(1);
        }
        self.stale.set(i64::from(stale));
    }

    /// Whether this replica leads. One that does not shows no pool: dashboards add replicas up.
    pub fn leading(&self, leading: bool) {
        self.leading.set(i64::from(leading));
        if !leading {
            self.planned(&Figures::default());
        }
    }

    /// A write ended.
    pub fn wrote(&self, outcome: Outcome) {
        let result = match outcome {
            Outcome::Landed => "landed",
            Outcome::Unchanged => "unchanged",
            Outcome::Overtaken => "overtaken",
            Outcome::Refused => "refused",
            Outcome::Unclear => "unclear",
        };
        self.writes.get_or_create(&WithResult { result }).inc();
        if matches!(outcome, Outcome::Refused | Outcome::Unclear) {
            self.errors.inc();
        }
    }

    /// So many Services more lost an address that another has by rights.
    pub fn healed(&self, services: u64) {
        self.healed.inc_by(services);
    }

    /// One more plan.
    pub fn count_plan(&self) {
        self.plans.inc();
    }

    /// Shows these figures, and forgets the series of pools and reasons that are not among them.
    pub fn planned(&self, figures: &Figures) {
        // Replaced in one assignment: whole also after a panic elsewhere.
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown == *figures {
            return;
        }
        let gone = |pool: &&PoolFigures| figures.pools.iter().all(|now| now.pool != pool.pool);
        for pool in shown.pools.iter().filter(gone) {
            let label = OfPool { pool: pool.pool.to_string() };
            for family in &self.pools {
                family.remove(&label);
            }
        }
        for pool in &figures.pools {
            let label = OfPool { pool: pool.pool.to_string() };
            for (family, value) in self.pools.iter().zip(values(pool)) {
                family.get_or_create(&label).set(gauge(value));
            }
        }
        for reason in shown.lacking.keys().filter(|reason| !figures.lacking.contains_key(*reason)) {
            self.lacking.remove(&ForReason { reason });
        }
        for (reason, count) in &figures.lacking {
            self.lacking.get_or_create(&ForReason { reason }).set(gauge(*count));
        }
        self.untouched.set(gauge(figures.untouched));
        *shown = figures.clone();
    }
}

/// In the order of `OF_POOLS`.
fn values(pool: &PoolFigures) -> [u64; 7] {
    let ([v4, v6], [used_v4, used_v6]) = (pool.capacity, pool.in_use);
    let both = |a: u64, b: u64| a.saturating_add(b);
    [both(v4, v6), v4, v6, both(used_v4, used_v6), used_v4, used_v6, pool.services]
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(pools: &[&str]) -> Figures {
        let pool = |name: &&str| PoolFigures {
            pool: (*name).into(),
            capacity: [10, 1 << 63],
            in_use: [3, 1],
            services: 4,
        };
        let lacking = [("NoPools", 1)].into();
        Figures { pools: pools.iter().map(pool).collect(), lacking, ..Figures::default() }
    }

    #[test]
    fn the_dashboards_of_metallb_find_their_series_and_none_of_a_pool_that_is_gone() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.planned(&figures(&["gold", "iron"]));
        metrics.planned(&figures(&["gold"]));
        metrics.configuration(true, true);
        metrics.healed(2);
        metrics.wrote(Outcome::Landed);
        let text = herald_telemetry::metrics::encode(&registry).unwrap();
        for line in [
            "metallb_allocator_addresses_total{pool=\"gold\"} 9223372036854775807",
            "metallb_allocator_ipv4_addresses_total{pool=\"gold\"} 10",
            "metallb_allocator_addresses_in_use_total{pool=\"gold\"} 4",
            "metallb_allocator_ipv4_addresses_in_use_total{pool=\"gold\"} 3",
            "metallb_allocator_ipv6_addresses_in_use_total{pool=\"gold\"} 1",
            "metallb_allocator_services_allocated_total{pool=\"gold\"} 4",
            "metallb_k8s_client_updates_total 0",
            "metallb_k8s_client_update_errors_total 0",
            "metallb_k8s_client_config_loaded_bool 1",
            "metallb_k8s_client_config_stale_bool 1",
            "herald_controller_doubles_healed_total 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(!text.contains("iron"), "{text}");
        let guide = include_str!("../../docs/operating.md");
        let words = guide.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let told: Vec<&str> = words.filter(|word| word.starts_with("herald_controller_")).collect();
        assert!(told.len() > 3);
        for name in told {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} in\n{text}");
        }
        metrics.leading(false);
        let text = herald_telemetry::metrics::encode(&registry).unwrap();
        assert!(!text.contains("gold"), "{text}");
    }
}
