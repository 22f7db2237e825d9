//! A pool that is renamed: deleted under one name, created a moment later under another.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::ensure;
use herald_api::crd::IPAddressPool;
use herald_tests::lab::Lab;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, PostParams};

use crate::readings::Metrics;
use crate::scene::{ASKS, NAMESPACE, SETTLE, Scene};

const EVERYTHING: &str = r#"
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan, namespace: herald-system}
spec: {}
"#;

/// The range runs backwards, which only the programs can see.
const BACKWARDS: &str = "192.168.113.9-192.168.113.1";

/// Longer than the second for which a pool that went is answered on, and the writes of a claim that goes.
const AFTERWARDS: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_pool_that_is_renamed_silences_nothing_and_one_that_went_is_silent_soon()
-> anyhow::Result<()> {
    Lab::run(1, async |lab| {
        let scene = Scene::set(lab).await?;
        lab.apply(EVERYTHING).await?;
        let pools: Api<IPAddressPool> = Api::namespaced(lab.client(), NAMESPACE);
        let mut net = pools.get("lan").await?;
        let named =
            |name: &str| ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        net.metadata = named("net");
        let mut backwards = net.clone();
        backwards.metadata = named("backwards");
        backwards.spec.addresses = vec![BACKWARDS.to_owned()];
        let node = &lab.nodes()[0];
        let backend = node.start_backend("backend").await?;
        let vips: Vec<IpAddr> = vec!["192.168.112.1".parse()?, "fd00:99::112:1".parse()?];
        scene.serve("web", "Cluster", &vips, &[&backend]).await?;
        scene.speak()?;
        scene.await_sessions(lab.nodes()).await?;
        let prober = lab.probe(&vips, ASKS).await?;
        scene.await_owner(&prober, &vips).await?;
        let claims = scene.claims().await?;
        ensure!(claims.len() == vips.len(), "{claims:?}");
        let began = SystemTime::now();
        pools.delete("lan", &DeleteParams::default()).await?;
        // The watch tells what happens in its order: who has seen this one come has seen the other go.
        pools.create(&PostParams::default(), &backwards).await?;
        lab.await_condition("the speaker has seen that there is no pool", SETTLE, async || {
            let stale = Metrics::read(node).await?.value("metallb_k8s_client_config_stale_bool")?;
            ensure!(stale > 0.5, "it has seen no broken one");
            Ok(())
        })
        .await?;
        pools.create(&PostParams::default(), &net).await?;
        scene.observe(&prober, vips[0], AFTERWARDS).await?;
        ensure!(scene.claims().await? == claims, "claims changed");
        scene.all_answered(&prober, &vips, began).await?;
        // Not for good, though.
        pools.delete("net", &DeleteParams::default()).await?;
        lab.await_condition("nobody answers, and the claims are gone", SETTLE, async || {
            ensure!(scene.claims().await?.is_empty(), "claimed");
            for &vip in &vips {
                ensure!(prober.answered_now(vip).is_err(), "{vip} is answered");
            }
            Ok(())
        })
        .await?;
        prober.finish().await?;
        Ok(())
    })
    .await
}
