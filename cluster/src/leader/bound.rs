//! Writes that end with the term in which they were decided.
//!
//! A leader asks whether it leads, and then writes. Between the two, and after them, lies all that makes a write late:
//! the process is stopped, TCP repeats what a broken network has swallowed until the network is whole again, a server
//! lets the request wait. Stored then, beside what a successor has decided meanwhile, it gives an address twice: the
//! resourceVersion guards the object alone. So each place where a write can linger has its bound:
//!
//! | A write lingers in | until |
//! |---|---|
//! | this process | its body is asked for, in the same moment in which it goes to the socket: it fails there unless [`SERVED_WITHIN`] of the term are left |
//! | TCP | nobody has acknowledged it for [`LOST_AFTER`]: then the connection ends and nothing is repeated |
//! | the API server | [`SERVED_WITHIN`] after it came in: the query's `timeout` |
//!
//! Together: what is not stored [`LOST_AFTER`] after the term never will be, and no other term begins before that
//! (`duration - renew_deadline` in [`Timing`](super::Timing)). What is left is in `docs/decisions/0006`.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use kube::client::Body;
use kube::{Client, Config};
use tower::BoxError;

use super::Leadership;
use crate::client::{Clients, ConnectError, Door, address_of, led_to};
use crate::connection;

#[cfg(test)]
mod tests;

/// How long the API server may work on a write. A server on which the Lease's own renewal takes that long has ended the
/// term before.
pub const SERVED_WITHIN: Duration = Duration::from_millis(1500);
/// How long TCP tries to bring a write to the server's machine.
pub const LOST_AFTER: Duration = Duration::from_secs(1);

/// The term has not enough time left.
#[derive(Debug, thiserror::Error)]
#[error("not sent: less than {SERVED_WITHIN:?} of the leadership are left")]
pub struct TooLate;

/// As [`Clients::writes`], for writes that nobody may find stored after the end of the term of `leadership` that they were
/// decided in. A leader that can renew its Lease by another server than the one that was configured can write by it, too.
///
/// # Errors
/// As [`crate::client::connect`].
pub fn door(clients: &Clients, leadership: &Leadership) -> Result<Door, ConnectError> {
    door_to(clients.config.clone(), leadership)
}

fn door_to(config: Config, leadership: &Leadership) -> Result<Door, ConnectError> {
    let leadership = leadership.clone();
    let configured = address_of(&config);
    let open = move |address| {
        let config = led_to(address, &config);
        bound_client(&config, &leadership).map_err(|source| {
            let server = config.cluster_url.to_string();
            ConnectError::Client { server, source: Box::new(source) }
        })
    };
    Door::opened_by(configured, open, rand::random::<u32>)
}

fn bound_client(config: &Config, leadership: &Leadership) -> kube::Result<Client> {
    let leadership = leadership.clone();
    connection::dressed_client(config, LOST_AFTER, move |request| bind(request, &leadership))
}

fn bind(request: Request<Body>, leadership: &Leadership) -> Request<BoundBody> {
    let (mut parts, body) = request.into_parts();
    if parts.method != Method::GET {
        parts.uri = with_timeout(parts.uri);
    }
    Request::from_parts(parts, BoundBody { body, leadership: leadership.clone() })
}

/// With the query that bounds the server's own time. Milliseconds, as Go reads durations.
fn with_timeout(uri: Uri) -> Uri {
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    let and = if query.is_empty() { "" } else { "&" };
    let bounded = format!("{path}?{query}{and}timeout={}ms", SERVED_WITHIN.as_millis());
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(bounded).ok();
    Uri::from_parts(parts).unwrap_or(uri)
}

/// A body that is there only while the term has time left.
struct BoundBody {
    body: Body,
    leadership: Leadership,
}

impl HttpBody for BoundBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.leadership.held_for(SERVED_WITHIN) {
            return Poll::Ready(Some(Err(TooLate.into())));
        }
        Pin::new(&mut self.body).poll_frame(context).map_err(BoxError::from)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
