//! What `manifests/` installs, judged by a real API server.
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::ensure;
use herald_tests::lab::Lab;

const SETTLE: Duration = Duration::from_secs(20);

/// Whether the ServiceAccount `account` may do `question`, a verb with what it is done to.
async fn may(lab: &Lab, account: &str, question: &[&str]) -> anyhow::Result<bool> {
    let token = format!("--token=herald-system-{account}-token");
    let ask = [&["auth", "can-i", "-n", "herald-system", &token], question].concat();
    // It says "no" by its status too, which is an error here.
    Ok(lab.kubectl(&ask).await.is_ok_and(|said| said.trim() == "yes"))
}

#[tokio::test]
async fn manifests_install_and_give_each_component_its_own_rights() -> anyhow::Result<()> {
    Lab::run(1, async |lab| {
        lab.install().await?;
        let served = ["get", "ipaddresspools.metallb.io,l2advertisements.metallb.io", "-A"];
        lab.await_condition("the CRDs are served", SETTLE, async || lab.kubectl(&served).await)
            .await?;
        let (controller, speaker) = ("herald-controller", "herald-speaker");
        let write_status = ["patch", "services", "--subresource=status"];
        ensure!(may(lab, controller, &write_status).await?);
        ensure!(!may(lab, speaker, &write_status).await?);
        let own_lease = ["update", "leases/herald-controller"];
        let any_lease = ["update", "leases/speaker-node1"];
        ensure!(
            may(lab, controller, &own_lease).await? && !may(lab, controller, &any_lease).await?
        );
        ensure!(may(lab, speaker, &any_lease).await?);
        for account in [controller, speaker] {
            ensure!(may(lab, account, &["watch", "services", "-A"]).await?, "{account}");
            ensure!(!may(lab, account, &["get", "secrets"]).await?, "{account}");
        }
        Ok(())
    })
    .await
}
