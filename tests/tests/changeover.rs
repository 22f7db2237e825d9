//! The installation for a cluster that changes over, judged by a real API server.
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::ensure;
use herald_tests::lab::Lab;
use herald_tests::lab::herald::Installation;

const SETTLE: Duration = Duration::from_secs(20);

/// Whether the ServiceAccount `account` of `namespace` may do `question` there: a verb and what it is done to.
async fn may(lab: &Lab, namespace: &str, account: &str, question: &[&str]) -> anyhow::Result<bool> {
    let token = format!("--token={namespace}-{account}-token");
    lab.can_i(&[question, &["-n", namespace, &token]].concat()).await
}

async fn installs(lab: &Lab) -> anyhow::Result<()> {
    let installation = Installation::MetallbSystem;
    lab.install_as(installation).await?;
    let served = ["get", "ipaddresspools.metallb.io,l2advertisements.metallb.io", "-A"];
    lab.await_condition("the CRDs are served", SETTLE, async || lab.kubectl(&served).await).await?;
    let namespace = installation.namespace();
    let controller =
        async |question: &[&str]| may(lab, namespace, "herald-controller", question).await;
    let speaker = async |question: &[&str]| may(lab, namespace, "herald-speaker", question).await;
    let write_status = ["patch", "services", "--subresource=status"];
    ensure!(controller(&write_status).await? && !speaker(&write_status).await?);
    let any_lease = ["update", "leases/speaker-node1"];
    ensure!(!controller(&any_lease).await? && speaker(&any_lease).await?);
    ensure!(controller(&["update", "leases/herald-controller"]).await?);
    let (watch, secrets) = (["watch", "services", "-A"], ["get", "secrets"]);
    ensure!(controller(&watch).await? && speaker(&watch).await?);
    ensure!(!controller(&secrets).await? && !speaker(&secrets).await?);
    Ok(())
}

#[tokio::test]
async fn the_overlay_gives_each_component_its_own_rights_where_metallb_was() -> anyhow::Result<()> {
    Lab::run(1, installs).await
}
