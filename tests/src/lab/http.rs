//! The little HTTP that a lab speaks: plain GETs over connections of their own, and servers that say who they are.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// More of an answer or a question than this is not read.
const LONGEST: u64 = 1 << 20;

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code, 100 to 999.
    pub status: u16,
    /// What followed the headers.
    pub body: String,
}

/// How a GET failed. The first two never reached a server; the last two did.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection: somebody said so.
    #[error("connect to {0}: {1}")]
    Refused(SocketAddr, #[source] io::Error),
    /// No connection: nobody answered.
    #[error("connect to {0}: no answer within {1:?}")]
    Unanswered(SocketAddr, Duration),
    /// The connection stood, and broke or fell silent before the answer was whole.
    #[error("GET from {0}: {1}")]
    Broken(SocketAddr, #[source] io::Error),
    /// The answer is not HTTP.
    #[error("GET from {0}: not an HTTP answer: {1:?}")]
    Malformed(SocketAddr, String),
}

/// GETs `path` from `server` over a new connection; connecting and answering may each take `patience`.
///
/// It connects from the namespace of the thread that polls it: see [`super::Lab::get`].
pub async fn get(server: SocketAddr, path: &str, patience: Duration) -> Result<Answer, Failure> {
    let mut stream = match timeout(patience, TcpStream::connect(server)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Failure::Refused(server, error)),
        Err(_) => return Err(Failure::Unanswered(server, patience)),
    };
    let request = format!("GET {path} HTTP/1.0\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(LONGEST).read_to_end(&mut answer).await?;
        Ok(answer)
    };
    let answer = match timeout(patience, exchange).await {
        Ok(answer) => answer.map_err(|error| Failure::Broken(server, error))?,
        Err(_) => return Err(Failure::Broken(server, io::ErrorKind::TimedOut.into())),
    };
    if answer.is_empty() {
        return Err(Failure::Broken(server, io::ErrorKind::UnexpectedEof.into()));
    }
    let text = String::from_utf8_lossy(&answer);
    parse(&text).ok_or_else(|| Failure::Malformed(server, text.into_owned()))
}

fn parse(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let (version, rest) = head.split_once(' ')?;
    let status = rest.get(..3)?.parse().ok()?;
    version.starts_with("HTTP/1.").then(|| Answer { status, body: body.to_owned() })
}

/// Answers every request on `listener` with a body of two lines: `name`, and the address that the client came from.
pub(super) async fn serve(listener: TcpListener, name: String) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                let body = format!("{name}\n{}\n", client.ip());
                // A client that hangs up is none of the server's business.
                tokio::spawn(async move { answer(stream, &body).await.ok() });
            }
            Err(error) => {
                tracing::warn!("{name}: accept: {error}");
                // Out of descriptors: the next try would spin.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// Reads one request from `stream` and answers it with `body`.
pub(super) async fn answer(mut stream: TcpStream, body: &str) -> io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        let count = stream.read(&mut chunk).await?;
        if count == 0 || request.len() > 16 * chunk.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        request.extend_from_slice(&chunk[..count]);
    }
    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_server_says_who_it_is_and_who_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let server = tokio::spawn(serve(listener, "backend-1".to_owned()));
        let answer = get(address, "/", PATIENCE).await.expect("an answer");
        assert_eq!(answer, Answer { status: 200, body: "backend-1\n127.0.0.1\n".to_owned() });
        server.abort();
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_and_a_hung_up_connection_is_broken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let hang_up = tokio::spawn(async move { listener.accept().await.map(drop) });
        let broken = get(address, "/", PATIENCE).await;
        assert!(matches!(broken, Err(Failure::Broken(..))), "{broken:?}");
        hang_up.await.expect("no panic").expect("one client");
        // Bound, and not listening: nobody else may have the port meanwhile.
        let closed = TcpSocket::new_v4().expect("a socket");
        closed.bind("127.0.0.1:0".parse().expect("an address")).expect("loopback");
        let refused = get(closed.local_addr().expect("bound"), "/", PATIENCE).await;
        assert!(matches!(refused, Err(Failure::Refused(..))), "{refused:?}");
    }

    #[test]
    fn what_is_not_http_is_no_answer() {
        assert_eq!(parse("SSH-2.0-x\r\n\r\n"), None);
        assert_eq!(parse("HTTP/1.1 200 OK\r\n"), None);
        let created = Answer { status: 201, body: "x".to_owned() };
        assert_eq!(parse("HTTP/1.1 201 Created\r\nA: b\r\n\r\nx"), Some(created));
    }
}
