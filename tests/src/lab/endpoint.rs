//! EndpointSlices, written by hand for Services without a selector.

use anyhow::Context;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::node::{BACKEND_PORT, Backend};

/// A backend as a Service's endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    backend: Backend,
    ready: bool,
}

impl Endpoint {
    /// An endpoint that may be sent requests.
    pub fn ready(backend: &Backend) -> Self {
        Self { backend: backend.clone(), ready: true }
    }

    /// An endpoint that may not.
    pub fn unready(backend: &Backend) -> Self {
        Self { backend: backend.clone(), ready: false }
    }
}

/// Makes `endpoints` all that the Service `service` of `namespace` has, in a slice per family.
///
/// The Service's port must have no name and target nothing else: the endpoints serve [`BACKEND_PORT`].
pub(super) async fn set_endpoints(
    client: Client,
    namespace: &str,
    service: &str,
    endpoints: &[Endpoint],
) -> anyhow::Result<()> {
    let slices: Api<EndpointSlice> = Api::namespaced(client, namespace);
    for family in ["IPv4", "IPv6"] {
        let slice = slice(service, family, endpoints);
        let name = format!("{service}-{}", family.to_lowercase());
        slices
            .patch(&name, &PatchParams::apply("lab").force(), &Patch::Apply(&slice))
            .await
            .with_context(|| format!("write the EndpointSlice {namespace}/{name}"))?;
    }
    Ok(())
}

fn slice(service: &str, family: &str, endpoints: &[Endpoint]) -> Value {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|Endpoint { backend, ready }| {
            let address = match family {
                "IPv4" => backend.v4.to_string(),
                _ => backend.v6.to_string(),
            };
            json!({
                "addresses": [address],
                "nodeName": backend.node,
                "conditions": {"ready": ready, "serving": ready, "terminating": false},
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{}", family.to_lowercase()),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family,
        "ports": [{"name": "", "port": BACKEND_PORT, "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}
