//! Which API servers there are: those behind `default/kubernetes`.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, ResourceExt as _};

use crate::cache::{Dirty, follow};
use crate::client::{Clients, Door};
use crate::feed::{Feed, Settings};

/// Follows the EndpointSlice `default/kubernetes`, which the API servers write themselves, so that `clients` and the
/// `other` doors know them all. It needs the right to list and watch that one object. The caller spawns it.
pub fn follow_servers(
    clients: &Clients,
    other: impl IntoIterator<Item = Door>,
) -> impl Future<Output = Infallible> + Send + 'static {
    let doors = [clients.watches.clone(), clients.leases.clone()];
    follow_slice(clients.watches.clone(), doors.into_iter().chain(other).collect())
}

fn follow_slice(
    through: Door,
    doors: Vec<Door>,
) -> impl Future<Output = Infallible> + Send + 'static {
    let settings =
        Settings { fields: Some("metadata.name=kubernetes".to_owned()), ..Settings::default() };
    let feed: Feed<EndpointSlice> =
        Feed::new(through, |client| Api::namespaced(client, "default"), settings);
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
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::fake::Fake;

    /// A door to the fake server that notes where each client of it was to lead to.
    fn noting(fake: &Fake) -> (Door, Arc<Mutex<BTreeSet<SocketAddr>>>) {
        let noted = Arc::new(Mutex::new(BTreeSet::new()));
        let (fake, notes) = (fake.clone(), Arc::clone(&noted));
        let open = move |address| {
            notes.lock().expect("no panic").extend(address);
            Ok(fake.client())
        };
        (Door::opened_by(None, open, || 0).expect("it makes a client"), noted)
    }

    #[tokio::test(start_paused = true)]
    async fn both_doors_lead_to_every_server_and_no_other_object_is_asked_for() {
        let fake = Fake::new();
        let slice = serde_json::json!({
            "metadata": { "name": "kubernetes" },
            "addressType": "IPv4",
            "ports": [{ "name": "https", "port": 6443 }],
            "endpoints": [{ "addresses": ["192.0.2.1"] }, { "addresses": ["192.0.2.2"] }],
        });
        fake.put("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice);
        let (watches, leases) = (noting(&fake), noting(&fake));
        tokio::spawn(follow_slice(fake.door(), vec![watches.0.clone(), leases.0.clone()]));
        let expected = ["192.0.2.1:6443", "192.0.2.2:6443"].map(|text| text.parse().expect("one"));
        let deadline = Instant::now() + Duration::from_mins(1);
        for (door, noted) in [watches, leases] {
            while *noted.lock().expect("no panic") != BTreeSet::from(expected) {
                assert!(Instant::now() < deadline, "{noted:?}");
                door.enter_anew(&door.enter());
                sleep(Duration::from_secs(1)).await;
            }
        }
        for asked in fake.asked() {
            let fields = asked.query.get("fieldSelector").map(String::as_str);
            assert_eq!(fields, Some("metadata.name=kubernetes"), "{asked:?}");
        }
    }

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
