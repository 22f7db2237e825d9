//! How bytes reach the API server.
//!
//! kube's own stack leaves Nagle's algorithm on: what follows the TLS handshake at once waits for the server's delayed
//! acknowledgement, 40 ms, on every fresh connection. A takeover opens several, so here segments leave as they come.
//! And a watch on which nothing happens says nothing of its server's death: if the machine is gone, and not the process
//! alone, nobody is left to close the connection. So TCP asks where nothing came for a while. Apart from these, and from its
//! tracing of each request, this is kube's stack.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Body as HttpBody;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

/// A connection on which nothing came for so long is asked whether the other side's machine is there.
const ASKED_AFTER: Duration = Duration::from_secs(3);
/// Between two of these questions.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// A connection whose other side's machine has not acknowledged a question, or anything else, for so long ends.
const LOST_AFTER: Duration = Duration::from_secs(6);

/// A client with the server, the account and the time limits of `config`.
///
/// # Errors
/// When the configuration makes no client: a certificate that cannot be read, or a proxy, which is not supported.
pub(crate) fn client(config: &Config) -> kube::Result<Client> {
    through(config, LOST_AFTER, |request| request)
}

/// As [`client`]; each request leaves as `dress` makes it. What the other side's machine has not acknowledged after
/// `lost_after` is not sent again by TCP later: the connection ends. An idle one does with the first question unanswered.
pub(crate) fn dressed_client<B>(
    config: &Config,
    lost_after: Duration,
    dress: impl Fn(Request<Body>) -> Request<B> + Clone + Send + Sync + 'static,
) -> kube::Result<Client>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    through(config, lost_after, dress)
}

fn through<B>(
    config: &Config,
    lost_after: Duration,
    dress: impl Fn(Request<Body>) -> Request<B> + Clone + Send + Sync + 'static,
) -> kube::Result<Client>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    if let Some(proxy) = &config.proxy_url {
        let (proxy_url, protocol_feature) = (Box::new(proxy.clone()), "kube/http-proxy");
        return Err(kube::Error::ProxyProtocolDisabled { proxy_url, protocol_feature });
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(ASKED_AFTER));
    tcp.set_keepalive_interval(Some(ASKED_EVERY));
    tcp.set_tcp_user_timeout(Some(lost_after));
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let http: legacy::Client<_, B> = legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .map_request(dress)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_proxy_is_refused_by_name_and_not_passed_by() {
        let mut config = Config::new("http://127.0.0.1:1".parse().expect("a URL"));
        config.proxy_url = Some("http://192.0.2.1:3128".parse().expect("a URL"));
        let error = client(&config).err().expect("there is a proxy").to_string();
        assert!(error.contains("192.0.2.1"), "{error}");
    }

    #[tokio::test]
    async fn requests_carry_the_path_and_the_token_of_the_configuration() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let server = listener.local_addr().expect("it is bound");
        let mut config = Config::new(format!("http://{server}/prefix").parse().expect("a URL"));
        config.auth_info.token = Some("secret".to_owned().into());
        let answering = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.expect("a request");
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
            stream.write_all(answer).await.expect("it still listens");
            String::from_utf8_lossy(&request[..length]).to_lowercase()
        });
        let client = client(&config).expect("a client");
        let request = http::Request::get("/version").body(Vec::new()).expect("a request");
        let asking = client.request_text(request);
        let answer = tokio::time::timeout(Duration::from_secs(10), asking).await;
        assert_eq!(answer.expect("an answer").expect("200"), "{}");
        let request = answering.await.expect("no panic");
        assert!(request.starts_with("get /prefix/version http/1.1"), "{request}");
        assert!(request.contains("authorization: bearer secret"), "{request}");
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up_when_the_configuration_says() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let server = listener.local_addr().expect("it is bound");
        let mut config = Config::new(format!("http://{server}").parse().expect("a URL"));
        config.read_timeout = Some(Duration::from_millis(50));
        config.reset_reader_on_write = true;
        let client = client(&config).expect("a client");
        let request = http::Request::get("/version").body(Vec::new()).expect("a request");
        let answer = tokio::time::timeout(Duration::from_secs(10), client.request_text(request));
        assert!(answer.await.expect("it is given up").is_err());
    }
}
