//! A pool whose object was broken by an edit, and speakers that are updated meanwhile.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use herald_tests::lab::Lab;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::readings::{HEALTH, METRICS, read};
use crate::scene::{ASKS, SETTLE, Scene};

/// The range runs backwards, which only the programs can see.
const BROKEN: &str = r#"
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: herald-system}
spec: {addresses: ["192.168.112.9-192.168.112.1"]}
"#;

/// Longer than the second for which a pool that went is answered on.
const AFTERWARDS: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_speaker_that_starts_while_a_pool_is_broken_answers_for_its_addresses()
-> anyhow::Result<()> {
    Lab::run(1, async |lab| {
        let scene = Scene::set(lab).await?;
        let node = &lab.nodes()[0];
        let backend = node.start_backend("backend").await?;
        let vips: Vec<IpAddr> = vec!["192.168.112.1".parse()?];
        scene.serve("web", "Cluster", &vips, &[&backend]).await?;
        let from =
            json!({"metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": "lan"}}});
        scene.services().patch("web", &PatchParams::default(), &Patch::Merge(&from)).await?;
        scene.speak()?;
        let prober = lab.probe(&vips, ASKS).await?;
        scene.await_owner(&prober, &vips).await?;
        let began = SystemTime::now();
        lab.apply(BROKEN).await?;
        let speaker = lab.speaker(node).context("runs")?;
        lab.await_condition("the speaker has seen it", SETTLE, async || {
            let metrics = read(node, METRICS, "/metrics").await?.body;
            metrics
                .contains("metallb_k8s_client_config_stale_bool 1")
                .then_some(())
                .context(metrics)
        })
        .await?;
        scene.observe(&prober, vips[0], AFTERWARDS).await?;
        scene.all_answered(&prober, &vips, began).await?;
        speaker.sigterm()?;
        speaker.exited(SETTLE).await?;
        lab.await_condition("nobody answers", SETTLE, async || {
            prober.answered_now(vips[0]).err().map(drop).context("somebody does")
        })
        .await?;
        scene.speak()?;
        scene.await_owner(&prober, &vips).await?;
        let health = read(node, HEALTH, "/readyz").await?;
        anyhow::ensure!(health.status == 200, "{health:?}");
        prober.finish().await?;
        Ok(())
    })
    .await
}
