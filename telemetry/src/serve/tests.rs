//! Over real sockets on loopback.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DEADLINE: Duration = Duration::from_secs(10);

/// A port that is nobody else's while the socket lives: what is bound and does not listen keeps the port from those who
/// want any, and lets a listener have it that asks for it by number.
fn reserve() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("it is not bound yet");
    socket.bind((LOOPBACK, 0).into()).expect("loopback has a free port");
    let port = socket.local_addr().expect("it is bound").port();
    (socket, port)
}

async fn ask(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect((LOOPBACK, port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("an answer")?;
    Ok(answer)
}

fn endpoints(metrics_port: u16, health_port: u16) -> Endpoints {
    let host = Some(LOOPBACK);
    Endpoints { metrics_host: host, metrics_port, health_host: host, health_port }
}

#[tokio::test]
async fn each_port_has_its_own_pages_until_the_stop() {
    let (_metrics, metrics_port) = reserve();
    let (_health, health_port) = reserve();
    let health = Health::new();
    health.ready_when("services", || Err("not listed yet".to_owned()));
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let registry = Arc::new(metrics::registry());
    let task = serve(endpoints(metrics_port, health_port), registry, health, stopped).await;
    let task = tokio::spawn(task.expect("both ports are free"));

    let scraped = ask(metrics_port, "/metrics").await.expect("served");
    assert!(scraped.starts_with("HTTP/1.1 200 "), "{scraped}");
    assert!(scraped.contains("openmetrics-text") && scraped.ends_with("# EOF\n"), "{scraped}");
    assert!(ask(metrics_port, "/healthz").await.expect("served").starts_with("HTTP/1.1 404 "));
    assert!(ask(health_port, "/healthz").await.expect("served").starts_with("HTTP/1.1 200 "));
    let unready = ask(health_port, "/readyz").await.expect("served");
    assert!(unready.starts_with("HTTP/1.1 503 "), "{unready}");
    assert!(unready.contains("[-]services failed: not listed yet"), "{unready}");

    stop.send(()).expect("the task waits for it");
    timeout(DEADLINE, task).await.expect("it ends").expect("without a panic");
    assert!(ask(metrics_port, "/metrics").await.is_err());
    assert!(ask(health_port, "/healthz").await.is_err());
}

#[tokio::test]
async fn one_port_for_both_has_all_pages() {
    let (_reserved, port) = reserve();
    let registry = Arc::new(metrics::registry());
    let never = std::future::pending();
    let task = serve(endpoints(port, port), registry, Health::new(), never).await;
    let task = tokio::spawn(task.expect("the port is free"));
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert!(ask(port, path).await.expect("served").starts_with("HTTP/1.1 200 "), "{path}");
    }
    task.abort();
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_flag() {
    let taken = TcpListener::bind((LOOPBACK, 0)).await.expect("loopback has a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let registry = Arc::new(metrics::registry());
    let never = std::future::pending();
    let result = serve(endpoints(port, 0), registry, Health::new(), never).await;
    let error = result.err().expect("the port is taken").to_string();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("--port"), "{error}");
}

#[tokio::test]
async fn port_zero_serves_nothing_and_still_ends() {
    let registry = Arc::new(metrics::registry());
    let task = serve(Endpoints::default(), registry, Health::new(), std::future::ready(())).await;
    timeout(DEADLINE, task.expect("nothing to bind")).await.expect("it ends");
}
