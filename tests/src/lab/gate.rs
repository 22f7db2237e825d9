//! A second API server that is reached through a node, and lost with it.
//!
//! ```text
//!   speakers ──▶ gate, 10.99.0.11:6443 on node1 ──▶ kube-apiserver-second, 10.99.0.1:6445 ──▶ etcd
//! ```
//!
//! To who uses it a gate is an API server on that node: it is one of the endpoints of `default/kubernetes`, and falls silent
//! when the node's cables are cut. The server behind it goes on, with a cache of its own.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::Lab;
use super::controlplane::API_PORT;
use super::node::Node;

/// An open gate. Dropped, it closes, with every connection through it.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Gate {
    /// Where it is reached, on the management network.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lab {
    /// Opens the gate on `node`. It is the only one that the endpoints of `default/kubernetes` name from then on; one on
    /// the same node must have been dropped before.
    pub async fn open_gate(&self, node: &Node) -> anyhow::Result<Gate> {
        let server = self.plane.second_apiserver().await?;
        let address = SocketAddr::from((node.management(), API_PORT));
        let listener = node
            .namespace()
            .spawn(TcpListener::bind(address))
            .await?
            .with_context(|| format!("listen on {address} on {}", node.name()))?;
        let task = node.namespace().spawn(carry(listener, server));
        let gate = Gate { address, task };
        self.plane.name_apiservers(&[node.management()]).await?;
        Ok(gate)
    }
}

/// Carries connections on to `server`, until it is dropped.
async fn carry(listener: TcpListener, server: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Out of descriptors is the only error that a listener has; who connects misses the answer.
                let Ok((mut outside, _)) = accepted else { return };
                connections.spawn(async move {
                    let mut inside = TcpStream::connect(server).await?;
                    outside.set_nodelay(true)?;
                    inside.set_nodelay(true)?;
                    tokio::io::copy_bidirectional(&mut outside, &mut inside).await
                });
            }
            // How a connection ended both its ends have seen.
            Some(_) = connections.join_next() => {}
        }
    }
}
