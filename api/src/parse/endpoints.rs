//! EndpointSlice → which nodes can serve a Service.

use herald_core::name::{NodeName, ServiceId};
use herald_core::ownership::world::Endpoints;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt as _;

use crate::annotation::SERVICE_NAME_LABEL;

/// What one slice says; `None` for a slice of no Service. A Service may have several slices.
pub fn endpoints(slice: &EndpointSlice) -> Option<(ServiceId, Endpoints)> {
    let service = slice.labels().get(SERVICE_NAME_LABEL)?.as_str();
    let id = ServiceId::new(slice.namespace().unwrap_or_default(), service);
    let mut found = Endpoints::default();
    for endpoint in slice.endpoints.iter().filter(|endpoint| can_serve(endpoint)) {
        found.any = true;
        found.nodes.extend(endpoint.node_name.as_deref().map(NodeName::from));
    }
    Some((id, found))
}

/// Ready, which one that does not say counts as; or terminating, but still serving.
fn can_serve(endpoint: &Endpoint) -> bool {
    let Some(conditions) = &endpoint.conditions else { return true };
    conditions.ready.unwrap_or(true) || conditions.serving == Some(true)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed(endpoints_: Value) -> Option<(ServiceId, Endpoints)> {
        let slice = json!({
            "metadata": {"namespace": "n", "name": "s-1",
                "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": "IPv4",
            "endpoints": endpoints_,
        });
        endpoints(&serde_json::from_value(slice).expect("an EndpointSlice"))
    }

    fn nodes(conditions: Value) -> (bool, usize) {
        let (id, found) = parsed(json!([
            {"addresses": ["10.0.0.1"], "nodeName": "a", "conditions": conditions},
        ]))
        .expect("of a Service");
        assert_eq!(id, ServiceId::new("n", "s"));
        (found.any, found.nodes.len())
    }

    #[test]
    fn ready_unsaid_and_terminating_but_serving_endpoints_can_serve() {
        assert_eq!(nodes(json!({"ready": true})), (true, 1));
        assert_eq!(nodes(json!({})), (true, 1));
        let draining = json!({"ready": false, "serving": true, "terminating": true});
        assert_eq!(nodes(draining), (true, 1));
        assert_eq!(nodes(json!({"ready": false})), (false, 0));
        assert_eq!(nodes(json!({"ready": false, "serving": false})), (false, 0));
    }

    #[test]
    fn an_endpoint_without_a_node_serves_but_is_local_nowhere() {
        let (_, found) = parsed(json!([{"addresses": ["10.0.0.1"]}])).expect("of a Service");
        assert!(found.any && found.nodes.is_empty());
    }

    #[test]
    fn a_slice_of_no_service_is_left_out() {
        let slice: EndpointSlice =
            serde_json::from_value(json!({"metadata": {"name": "x"}, "addressType": "IPv4",
                "endpoints": []}))
            .expect("an EndpointSlice");
        assert_eq!(endpoints(&slice), None);
    }
}
