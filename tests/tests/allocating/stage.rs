//! What the stories have in common: Services and pools as users write them, and what is to be seen of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use herald_api::crd::IPAddressPool;
use herald_tests::lab::Lab;
use herald_tests::lab::process::Process;
use k8s_openapi::api::core::v1::{Event, Namespace, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::history::History;

/// Where Herald is installed.
pub(crate) const SYSTEM: &str = "herald-system";
/// For what is not measured: long enough for a machine that compiles beside.
pub(crate) const SETTLE: Duration = Duration::from_secs(30);
/// Objects of configuration are written to no more often.
pub(crate) const PACE: Duration = Duration::from_millis(500);
/// How long a controller may take to end when it is asked to: well within a pod's grace.
const GRACE: Duration = Duration::from_secs(10);
/// The output: which pool addresses are from.
pub(crate) const FROM_POOL: &str = "metallb.io/ip-allocated-from-pool";

/// The controller's port for each path.
pub(crate) const METRICS: (u16, &str) = (9120, "/metrics");
pub(crate) const HEALTHY: (u16, &str) = (17472, "/healthz");
pub(crate) const READY: (u16, &str) = (17472, "/readyz");

/// An Event, as far as people match it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Told {
    pub(crate) kind: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) count: i32,
}

/// Herald is installed, without pools and without a controller.
pub(crate) struct Stage<'l> {
    pub(crate) lab: &'l Lab,
    pub(crate) services: Api<Service>,
    pub(crate) pools: Api<IPAddressPool>,
    controllers: Mutex<BTreeMap<u8, Process>>,
}

impl<'l> Stage<'l> {
    pub(crate) async fn set(lab: &'l Lab) -> anyhow::Result<Self> {
        lab.install().await?;
        let pools: Api<IPAddressPool> = Api::namespaced(lab.client(), SYSTEM);
        lab.await_condition("the kinds are served", SETTLE, async || {
            pools.list(&ListParams::default()).await.context("list pools")
        })
        .await?;
        let services = Api::default_namespaced(lab.client());
        Ok(Self { lab, services, pools, controllers: Mutex::default() })
    }

    /// Starts replica `replica` of the controller, called `controller-<replica>`.
    pub(crate) fn controller(&self, replica: u8) -> anyhow::Result<Process> {
        self.controller_with(replica, &[])
    }

    /// As [`Stage::controller`], with these flags besides.
    pub(crate) fn controller_with(&self, replica: u8, flags: &[&str]) -> anyhow::Result<Process> {
        let name = format!("controller-{replica}");
        let mut all = vec!["--pod-name", &name, "--log-level", "debug"];
        all.extend(flags);
        let process = self.lab.start_controller(replica, &all)?;
        self.controllers().insert(replica, process.clone());
        Ok(process)
    }

    /// The process that was last started as replica `replica`.
    pub(crate) fn running(&self, replica: u8) -> anyhow::Result<Process> {
        let found = self.controllers().get(&replica).cloned();
        found.with_context(|| format!("no controller {replica} was started"))
    }

    /// Asks replica `replica` to end, and waits until it has, of its own accord and in good time.
    pub(crate) async fn end(&self, replica: u8) -> anyhow::Result<()> {
        let process = self.running(replica)?;
        process.sigterm()?;
        let status = process.exited(GRACE).await?;
        ensure!(status.success(), "{status}");
        Ok(())
    }

    /// Waits until replica `replica` leads.
    pub(crate) async fn leads(&self, replica: u8) -> anyhow::Result<()> {
        let what = format!("controller {replica} leads");
        self.lab
            .await_condition(&what, SETTLE, async || {
                let leading = self.series(replica, "herald_controller_leading").await?;
                ensure!(leading > 0.5, "it does not");
                Ok(())
            })
            .await
    }

    fn controllers(&self) -> MutexGuard<'_, BTreeMap<u8, Process>> {
        self.controllers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells one story and puts away its Services.
    pub(crate) async fn story(
        &self,
        what: &str,
        tell: impl AsyncFnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        tell(self).await.with_context(|| what.to_owned())?;
        self.clear().await.with_context(|| format!("after {what}"))?;
        eprintln!("{what}: {:.1?}", began.elapsed());
        Ok(())
    }

    /// Deletes every Service of the namespace `default` but the API server's own.
    pub(crate) async fn clear(&self) -> anyhow::Result<()> {
        let all = self.services.list(&ListParams::default()).await.context("list Services")?;
        let names = all.items.iter().map(kube::ResourceExt::name_any);
        let stories: Vec<String> = names.filter(|name| name != "kubernetes").collect();
        // A user's client works on several at once too.
        for several in stories.chunks(16) {
            try_join_all(several.iter().map(|name| self.delete(name))).await?;
        }
        Ok(())
    }

    pub(crate) async fn delete(&self, name: &str) -> anyhow::Result<()> {
        let deleted = self.services.delete(name, &DeleteParams::default()).await;
        deleted.with_context(|| format!("delete the Service {name}"))?;
        Ok(())
    }

    /// Creates the Service `name` of type LoadBalancer with port 80; `more` is laid over it.
    pub(crate) async fn ask(&self, name: &str, more: Value) -> anyhow::Result<Service> {
        let told = || format!("create the Service {name}");
        let mut service = json!({
            "metadata": { "name": name },
            "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
        });
        lay_over(&mut service, more);
        let service = serde_json::from_value(service).with_context(told)?;
        self.services.create(&PostParams::default(), &service).await.with_context(told)
    }

    /// Changes the Service `name`, as `kubectl patch --type=merge` does.
    pub(crate) async fn change(&self, name: &str, patch: Value) -> anyhow::Result<Service> {
        let params = PatchParams::default();
        let patched = self.services.patch(name, &params, &Patch::Merge(patch)).await;
        patched.with_context(|| format!("patch the Service {name}"))
    }

    /// Changes its status, as other controllers do, or a hand.
    pub(crate) async fn change_status(&self, name: &str, status: Value) -> anyhow::Result<Service> {
        let patch = Patch::Merge(json!({ "status": status }));
        let patched = self.services.patch_status(name, &PatchParams::default(), &patch).await;
        patched.with_context(|| format!("patch the status of the Service {name}"))
    }

    /// Waits until the Service has exactly these addresses, in this order, and returns it.
    pub(crate) async fn has(&self, name: &str, expected: &[&str]) -> anyhow::Result<Service> {
        self.has_within(name, expected, SETTLE).await
    }

    /// As [`Stage::has`], by this deadline.
    pub(crate) async fn has_within(
        &self,
        name: &str,
        expected: &[&str],
        deadline: Duration,
    ) -> anyhow::Result<Service> {
        let expected = expected.iter().map(|text| Ok(text.parse()?));
        let expected = expected.collect::<anyhow::Result<Vec<IpAddr>>>()?;
        let what = format!("{name} has {expected:?}");
        self.sees(&what, deadline, name, |service| addresses(service) == expected).await
    }

    /// Waits until the Service has any address, and returns it.
    pub(crate) async fn has_any(&self, name: &str) -> anyhow::Result<Service> {
        self.has_any_within(name, SETTLE).await
    }

    /// As [`Stage::has_any`], by this deadline.
    pub(crate) async fn has_any_within(
        &self,
        name: &str,
        deadline: Duration,
    ) -> anyhow::Result<Service> {
        let what = format!("{name} has an address");
        self.sees(&what, deadline, name, |service| !addresses(service).is_empty()).await
    }

    /// Waits until the Service is as `wanted`, and returns it.
    pub(crate) async fn sees(
        &self,
        what: &str,
        deadline: Duration,
        name: &str,
        wanted: impl Fn(&Service) -> bool,
    ) -> anyhow::Result<Service> {
        self.lab
            .await_condition(what, deadline, async || {
                let service = self.services.get(name).await?;
                ensure!(wanted(&service), "{:?} {:?}", addresses(&service), pool(&service));
                Ok(service)
            })
            .await
    }

    /// Deletes every pool but these, writes these, and waits until each bears its condition.
    pub(crate) async fn configure(&self, pools: &[(&str, Value)]) -> anyhow::Result<()> {
        let present = self.pools.list(&ListParams::default()).await.context("list pools")?;
        for pool in &present.items {
            let name = pool.name_any();
            if pools.iter().all(|(wanted, _)| *wanted != name) {
                self.unpool(&name).await?;
            }
        }
        for (name, spec) in pools {
            self.pool(name, spec.clone()).await?;
        }
        for (name, _) in pools {
            self.judged(name).await?;
        }
        Ok(())
    }

    /// Writes the pool `name`, without waiting for anything.
    pub(crate) async fn pool(&self, name: &str, spec: Value) -> anyhow::Result<IPAddressPool> {
        let pool = json!({
            "apiVersion": "metallb.io/v1beta1",
            "kind": "IPAddressPool",
            "metadata": { "name": name },
            "spec": spec,
        });
        let apply = PatchParams::apply("lab").force();
        let applied = self.pools.patch(name, &apply, &Patch::Apply(pool)).await;
        applied.with_context(|| format!("write the pool {name}"))
    }

    pub(crate) async fn unpool(&self, name: &str) -> anyhow::Result<()> {
        let deleted = self.pools.delete(name, &DeleteParams::default()).await;
        deleted.with_context(|| format!("delete the pool {name}"))?;
        Ok(())
    }

    /// What the controller thinks of the present version of the pool, once it says so.
    pub(crate) async fn judged(&self, name: &str) -> anyhow::Result<Condition> {
        let what = format!("the pool {name} is judged");
        self.lab
            .await_condition(&what, SETTLE, async || {
                let pool = self.pools.get(name).await?;
                let conditions = pool.status.unwrap_or_default().conditions;
                let accepted = conditions.into_iter().find(|one| one.type_ == "Accepted");
                let accepted = accepted.context("no condition")?;
                ensure!(accepted.observed_generation == pool.metadata.generation, "{accepted:?}");
                Ok(accepted)
            })
            .await
    }

    /// Waits until the pool is judged so: the condition's status and reason.
    pub(crate) async fn judged_as(
        &self,
        name: &str,
        status: &str,
        reason: &str,
    ) -> anyhow::Result<Condition> {
        let what = format!("the pool {name} is {status} for {reason}");
        self.lab
            .await_condition(&what, SETTLE, async || {
                let accepted = self.judged(name).await?;
                let is = accepted.status == status && accepted.reason == reason;
                ensure!(is, "{accepted:?}");
                Ok(accepted)
            })
            .await
    }

    /// What the controller tells of the object `name` in `namespace`, sorted. Other components may tell of
    /// it too.
    pub(crate) async fn told_in(&self, namespace: &str, name: &str) -> anyhow::Result<Vec<Told>> {
        let events: Api<Event> = Api::namespaced(self.lab.client(), namespace);
        let about = ListParams::default().fields(&format!("involvedObject.name={name}"));
        let events = events.list(&about).await.context("list Events")?.items;
        let ours = events.into_iter().filter(|event| {
            let source = event.source.as_ref().and_then(|source| source.component.as_deref());
            source == Some("metallb-controller")
        });
        let told = ours.map(|event| {
            let (first, last) = (event.first_timestamp, event.last_timestamp);
            ensure!(first.is_some() && last >= first, "{first:?} to {last:?}");
            Ok(Told {
                kind: event.type_.unwrap_or_default(),
                reason: event.reason.unwrap_or_default(),
                message: event.message.unwrap_or_default(),
                count: event.count.unwrap_or_default(),
            })
        });
        let mut told = told.collect::<anyhow::Result<Vec<_>>>()?;
        told.sort();
        Ok(told)
    }

    /// Waits until the object was told of in just these words, each once, and of nothing else.
    pub(crate) async fn is_told(
        &self,
        namespace: &str,
        name: &str,
        expected: &[(&str, &str, &str)],
    ) -> anyhow::Result<()> {
        let expected = expected.iter().map(|(kind, reason, message)| Told {
            kind: (*kind).to_owned(),
            reason: (*reason).to_owned(),
            message: (*message).to_owned(),
            count: 1,
        });
        let mut expected: Vec<_> = expected.collect();
        expected.sort();
        let what = format!("{name} is told {expected:#?}");
        self.lab
            .await_condition(&what, SETTLE, async || {
                let told = self.told_in(namespace, name).await?;
                ensure!(told == expected, "{told:#?}");
                Ok(())
            })
            .await
    }

    /// What replica `replica` answers at one of its endpoints: status and text.
    pub(crate) async fn reads(
        &self,
        replica: u8,
        (port, path): (u16, &'static str),
    ) -> anyhow::Result<(u16, String)> {
        let answer = self.lab.ask_controller(replica, port, path).await?;
        Ok((answer.status, answer.body))
    }

    /// The value of a series of replica `replica`: its name with its labels as written.
    pub(crate) async fn series(&self, replica: u8, series: &str) -> anyhow::Result<f64> {
        let (_, text) = self.reads(replica, METRICS).await?;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = value.with_context(|| format!("no {series} in:\n{text}"))?;
        Ok(value.parse()?)
    }

    /// Has replica `replica` look at the whole world `times` times more: labels of a namespace change, which might
    /// matter to a pool.
    pub(crate) async fn looks_again(&self, replica: u8, times: u32) -> anyhow::Result<()> {
        const PLANS: &str = "herald_controller_plans_total";
        // A label that is there already would be no change, and no reason to look.
        static LOOKS: AtomicU64 = AtomicU64::new(0);
        let namespaces: Api<Namespace> = Api::all(self.lab.client());
        for _ in 0..times {
            let before = self.series(replica, PLANS).await?;
            let look = LOOKS.fetch_add(1, Ordering::Relaxed).to_string();
            let labels = json!({ "metadata": { "labels": { "look": look } } });
            let patch = Patch::Merge(labels);
            namespaces.patch("kube-public", &PatchParams::default(), &patch).await?;
            self.lab
                .await_condition("there is one plan more", SETTLE, async || {
                    let now = self.series(replica, PLANS).await?;
                    ensure!(now > before, "{now} plans");
                    Ok(())
                })
                .await?;
        }
        Ok(())
    }

    /// As [`Stage::looks_again`], until a second letter to an object of configuration would have gone out, were there one.
    pub(crate) async fn looks_on(&self, replica: u8) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < 2 * PACE {
            self.looks_again(replica, 1).await?;
        }
        // What was held back until then follows in the next plan.
        self.looks_again(replica, 1).await
    }

    /// An error if a Service that is as it should be is written to when the world is looked at again.
    pub(crate) async fn stays(&self, service: &Service) -> anyhow::Result<()> {
        self.looks_again(0, 5).await?;
        let now = self.services.get(&service.name_any()).await?;
        ensure!(now == *service, "{service:#?} became {now:#?}");
        Ok(())
    }

    /// From now on.
    pub(crate) async fn history(&self) -> anyhow::Result<History> {
        History::begin(self.lab.client()).await
    }
}

/// The addresses of its status, in their order.
pub(crate) fn addresses(service: &Service) -> Vec<IpAddr> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    ingress.iter().filter_map(|entry| entry.ip.as_deref()?.parse().ok()).collect()
}

/// Where its annotation says that its addresses are from.
pub(crate) fn pool(service: &Service) -> Option<String> {
    service.annotations().get(FROM_POOL).cloned()
}

/// What its condition says: status, reason and message.
pub(crate) fn said(service: &Service) -> Option<String> {
    let conditions = service.status.as_ref()?.conditions.as_ref()?;
    let said = conditions.iter().find(|one| one.type_ == "heraldlb.io/AddressAllocated")?;
    Some(format!("{} {}: {}", said.status, said.reason, said.message))
}

/// A Service's metadata with one annotation.
pub(crate) fn annotated(key: &str, value: &str) -> Value {
    json!({ "metadata": { "annotations": { key: value } } })
}

/// A pool's spec with just these addresses.
pub(crate) fn of(entries: &[&str]) -> Value {
    json!({ "addresses": entries })
}

fn lay_over(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                lay_over(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}
