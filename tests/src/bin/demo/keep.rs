//! The cluster stays up for as long as its user wants to play with it.

use std::io::stdin;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::stage::Stage;

/// Returns when the process is asked to end: by Ctrl-C, by SIGTERM, or because its terminal is gone.
pub(crate) async fn asked_to_end() -> anyhow::Result<()> {
    let [mut interrupt, mut terminate, mut hang_up] = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    ];
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

/// Returns at the next line of standard input; never, if there is none.
async fn line() {
    let (entered, wait) = oneshot::channel();
    // A read of a terminal cannot be called off; the thread ends with the process.
    thread::spawn(move || {
        if stdin().read_line(&mut String::new()).is_ok_and(|bytes| bytes > 0) {
            entered.send(()).ok();
        }
    });
    if wait.await.is_err() {
        std::future::pending().await
    }
}

/// Tells how to reach the cluster, and waits until its user has done with it.
pub(crate) async fn up(stage: &Stage<'_>) -> anyhow::Result<()> {
    let (lab, screen) = (&stage.lab, stage.screen);
    let name = lab.name();
    screen.page(&format!(
        "The cluster stays up. In another terminal, as root:\n\n\
         \x20   export KUBECONFIG={}\n\
         \x20   kubectl get services,leases --all-namespaces    # or {}\n\
         \x20   ip netns exec {name}-client bash    # the client: curl, ping, arping\n\
         \x20   ip netns exec {name}-node1 bash     # a node; also node2, node3\n\
         \x20   tail -f {}/herald-*.log\n\n\
         Enter or Ctrl-C here ends all of it.\n",
        lab.kubeconfig().display(),
        lab.control_plane().assets().join("kubectl").display(),
        lab.folder().display(),
    ));
    tokio::select! {
        asked = asked_to_end() => asked,
        () = line() => Ok(()),
    }
}
