//! EndpointSlice → which nodes can serve a Service.
