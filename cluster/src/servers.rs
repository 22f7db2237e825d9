//! Which API servers there are: those behind `default/kubernetes`.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, ResourceExt as _};

use crate::cache::{Dirty, follow};
use crate::client::Clients;
use crate::feed::{Feed, Settings};

/// Follows the EndpointSlices of `default/kubernetes`, so that `clients` know all API servers. The caller spawns it.
pub fn follow_servers(clients: &Clients) -> impl Future<Output = Infallible> + Send + 'static {
    let doors = [clients.watches.clone(), clients.leases.clone()];
    let settings = Settings {
        labels: Some("kubernetes.io/service-name=kubernetes".to_owned()),
        ..Settings::default()
    };
    let feed: Feed<EndpointSlice> =
        Feed::new(clients.watches.clone(), |client| Api::namespaced(client, "default"), settings);
    let dirty = Dirty::new();
    let (cache, task) = follow(
        "EndpointSlice of kubernetes",
        feed,
        EndpointSlice::name_any,
        addresses,
        dirty.clone(),
    );
    async move {
        let mut task = std::pin::pin!(task);
        loop {
            tokio::select! {
                never = &mut task => return never,
                () = dirty.changed() => {}
            }
            let slices = cache.snapshot();
            let servers: BTreeSet<SocketAddr> =
                slices.values().flat_map(|s| s.iter().copied()).collect();
            tracing::debug!(?servers, "API servers");
            for door in &doors {
                door.know_servers(servers.iter().copied().collect());
            }
        }
    }
}

/// Where a slice says that the API server answers by TLS.
fn addresses(slice: EndpointSlice) -> Vec<SocketAddr> {
    let ports = slice.ports.iter().flatten();
    let port =
        ports.filter(|port| port.name.as_deref() == Some("https")).find_map(|port| port.port);
    let Some(Ok(port)) = port.map(u16::try_from) else { return Vec::new() };
    let ready = slice.endpoints.into_iter().filter(|endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
    });
    let addresses = ready.flat_map(|endpoint| endpoint.addresses);
    addresses.filter_map(|text| Some(SocketAddr::new(text.parse().ok()?, port))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_tells_its_ready_addresses_and_its_https_port() {
        let slice = serde_json::json!({
            "addressType": "IPv4",
            "ports": [{ "name": "other", "port": 1 }, { "name": "https", "port": 6443 }],
            "endpoints": [
                { "addresses": ["192.0.2.1"], "conditions": { "ready": true } },
                { "addresses": ["192.0.2.2"], "conditions": { "ready": false } },
                { "addresses": ["192.0.2.3"] },
                { "addresses": ["no address"] },
            ],
        });
        let slice = serde_json::from_value(slice).expect("an EndpointSlice");
        let shown: Vec<String> = addresses(slice).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.1:6443", "192.0.2.3:6443"]);
    }
}
