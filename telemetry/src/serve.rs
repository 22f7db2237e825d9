//! The HTTP endpoints: `/metrics` on one port, `/healthz` and `/readyz` on another, or all on one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::health::{Health, Report};
use crate::metrics::{self, Registry};

/// Where to listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// The address of `/metrics`; `None` is every address of the host.
    pub metrics_host: Option<IpAddr>,
    /// The port of `/metrics`; 0 is off.
    pub metrics_port: u16,
    /// The address of `/healthz` and `/readyz`; `None` is every address of the host.
    pub health_host: Option<IpAddr>,
    /// The port of `/healthz` and `/readyz`; 0 is off. With address and port those of `/metrics`, one listener has all
    /// three.
    pub health_port: u16,
}

/// Why an endpoint could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port cannot be had.
    #[error(
        "cannot listen on {address} for {what}: {source}; choose another with {flag}, or 0 for none"
    )]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What for.
        what: &'static str,
        /// The flag that sets it.
        flag: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Listens; the returned task answers until `stop` is ready, and ends when the requests under way are answered. The
/// caller spawns it.
pub async fn serve(
    endpoints: Endpoints,
    registry: Arc<Registry>,
    health: Health,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<impl Future<Output = ()> + Send + 'static, ServeError> {
    let Endpoints { metrics_host, metrics_port, health_host, health_port } = endpoints;
    let mut listeners = Vec::new();
    let together = (metrics_host, metrics_port) == (health_host, health_port);
    if metrics_port != 0 {
        let listener = bind(metrics_host, metrics_port, "metrics", "--port").await?;
        let routes = metrics_routes(registry);
        let routes = if together { routes.merge(health_routes(health.clone())) } else { routes };
        listeners.push((listener, routes));
    }
    if health_port != 0 && !together {
        let listener = bind(health_host, health_port, "health", "--health-probe-port").await?;
        listeners.push((listener, health_routes(health)));
    }
    Ok(answer(listeners, stop))
}

async fn answer(listeners: Vec<(TcpListener, Router)>, stop: impl Future<Output = ()> + Send) {
    let (stopping, stopped) = watch::channel(false);
    let mut servers = tokio::task::JoinSet::new();
    for (listener, routes) in listeners {
        let mut stopped = stopped.clone();
        let stop = async move {
            // An error is the end of this function, which is a stop as well.
            let _ended = stopped.wait_for(|stopped| *stopped).await;
        };
        servers.spawn(axum::serve(listener, routes).with_graceful_shutdown(stop).into_future());
    }
    stop.await;
    stopping.send_replace(true);
    while let Some(ended) = servers.join_next().await {
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "an endpoint ended");
        }
    }
}

async fn bind(
    host: Option<IpAddr>,
    port: u16,
    what: &'static str,
    flag: &'static str,
) -> Result<TcpListener, ServeError> {
    let address = SocketAddr::new(host.unwrap_or(Ipv6Addr::UNSPECIFIED.into()), port);
    let mut listener = TcpListener::bind(address).await;
    if listener.as_ref().is_err_and(|error| without_ipv6(host, error)) {
        listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
    }
    listener.map_err(|source| ServeError::Bind { address, what, flag, source })
}

/// Whether every address was meant, and the host may have no IPv6 to mean them all by.
fn without_ipv6(host: Option<IpAddr>, error: &io::Error) -> bool {
    let port = matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied);
    host.is_none() && !port
}

fn metrics_routes(registry: Arc<Registry>) -> Router {
    Router::new().route("/metrics", get(move || std::future::ready(scrape(&registry))))
}

fn scrape(registry: &Registry) -> Response {
    match metrics::encode(registry) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn health_routes(health: Health) -> Router {
    let ready = health.clone();
    Router::new()
        .route("/healthz", get(move || std::future::ready(probe(&health.live()))))
        .route("/readyz", get(move || std::future::ready(probe(&ready.ready()))))
}

fn probe(report: &Report) -> Response {
    let status = if report.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, report.to_string()).into_response()
}

#[cfg(test)]
mod tests;
