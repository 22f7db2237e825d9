//! Against a server of a few lines, over real sockets: what counts is what reaches the wire.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::super::{Standing, Timing};
use super::*;

/// A leadership that ends after this.
fn leading_for(time: Duration) -> Leadership {
    let (_, standing) = watch::channel(Standing::Leading(1));
    let ms = u64::try_from(time.as_millis()).expect("a short time");
    Leadership { began: Instant::now(), until: Arc::new(AtomicU64::new(ms)), standing }
}

/// Answers one request by `listener`; returns all that was read of it.
async fn answer_one(listener: TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.expect("a client");
    let mut request = String::new();
    let mut part = vec![0; 4096];
    while !request.ends_with("the body") {
        let length = stream.read(&mut part).await.expect("it reads");
        if length == 0 {
            return request;
        }
        request += &String::from_utf8_lossy(&part[..length]);
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(answer).await.expect("it still listens");
    request
}

async fn send(client: &Client) -> kube::Result<String> {
    let request = Request::patch("/api/v1/it?fieldManager=me").body(b"the body".to_vec());
    let sending = client.request_text(request.expect("a request"));
    timeout(Duration::from_secs(10), sending).await.expect("an end")
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

/// Sends one PATCH under `leadership`; returns what became of it, and all that the server has read.
async fn patch(leadership: &Leadership) -> (kube::Result<String>, String) {
    let (listener, server) = listener().await;
    let answering = tokio::spawn(answer_one(listener));
    let config = Config::new(format!("http://{server}").parse().expect("a URL"));
    let client = bound_client(&config, leadership).expect("a client");
    let answer = send(&client).await;
    drop(client);
    let read = timeout(Duration::from_secs(10), answering).await.expect("an end");
    (answer, read.expect("no panic"))
}

/// As where kube-proxy has gone wrong on the leader's node, and the servers themselves are reached.
#[tokio::test]
async fn a_write_that_the_configured_server_does_not_answer_goes_to_another_by_the_same_bounds() {
    // Bound, and not listening: nobody else may have the port meanwhile.
    let closed = TcpSocket::new_v4().expect("a socket");
    closed.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let nowhere = closed.local_addr().expect("it is bound");
    let config = Config::new(format!("http://{nowhere}").parse().expect("a URL"));
    let leadership = leading_for(Duration::from_secs(60));
    let door = door_to(config, &leadership).expect("a client");
    let ((one, first), (other, second)) = (listener().await, listener().await);
    door.know_servers(vec![first, second]);
    let answering = tokio::spawn(async move {
        tokio::select! {
            read = answer_one(one) => read,
            read = answer_one(other) => read,
        }
    });
    let visit = door.enter();
    send(&visit.client).await.expect_err("nobody is there");
    let next = door.enter_anew(&visit);
    assert_eq!(send(&next.client).await.expect("it is answered"), "{}");
    let read = timeout(Duration::from_secs(10), answering).await.expect("an end");
    assert!(read.expect("no panic").contains("timeout=1500ms"));
}

#[tokio::test]
async fn a_write_tells_the_server_how_long_it_may_take() {
    let (answer, read) = patch(&leading_for(Duration::from_secs(60))).await;
    assert_eq!(answer.expect("it is answered"), "{}");
    let first = read.lines().next().expect("a request");
    assert_eq!(first, "PATCH /api/v1/it?fieldManager=me&timeout=1500ms HTTP/1.1");
    assert!(read.ends_with("the body"), "{read}");
}

#[tokio::test]
async fn nothing_that_a_server_could_act_on_leaves_when_the_term_is_almost_over() {
    let (answer, read) = patch(&leading_for(SERVED_WITHIN - Duration::from_millis(1))).await;
    answer.expect_err("it must not be sent");
    assert!(!read.contains("the body"), "{read}");
}

#[test]
fn a_path_without_a_query_gets_one() {
    let uri = with_timeout("https://a.example:6443/api/v1/it".parse().expect("a URI"));
    assert_eq!(uri.to_string(), "https://a.example:6443/api/v1/it?timeout=1500ms");
}

#[test]
fn no_term_begins_before_the_writes_of_the_one_before_have_ended() {
    let timing = Timing::default();
    let between = timing.duration.0 - timing.renew_deadline.0;
    assert!(u128::from(between) >= LOST_AFTER.as_millis());
    let left = timing.renew_deadline.0 - timing.renew_every.0;
    assert!(u128::from(left) > SERVED_WITHIN.as_millis(), "a leader that renews in time can write");
}
