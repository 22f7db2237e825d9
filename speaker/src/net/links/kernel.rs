//! The conversation with the kernel (rtnetlink): events on one socket, dumps on another.
//!
//! The events' socket is read here and not through a connection with a queue: its only buffer is the kernel's, which
//! is bounded and says when it overran. Dumps have a socket of their own, which no event can crowd out.

use std::io;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::{debug, warn};

use super::super::exclusion::Exclusion;
use super::Links;
use super::picture::{Change, Picture};

/// Longest datagram of events: the kernel never makes one longer than this.
const DATAGRAM: usize = 64 * 1024;
/// Between two attempts at a dump that failed.
const DUMP_RETRY: Duration = Duration::from_millis(250);
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// The kernel's picture of its links cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    /// A netlink socket could not be opened or subscribed.
    #[error("cannot subscribe to the kernel's link events")]
    Subscribe(#[source] io::Error),
    /// The events ended.
    #[error("cannot read the kernel's link events")]
    Read(#[source] io::Error),
    /// The kernel refused to tell what there is.
    #[error("cannot list the kernel's {what}")]
    Dump {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        #[source]
        source: rtnetlink::Error,
    },
}

/// Follows the kernel's links and publishes each change.
pub struct Watcher {
    events: TokioSocket,
    dumps: Handle,
    connection: AbortHandle,
    picture: Picture,
    links: watch::Sender<Links>,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("picture", &self.picture).finish_non_exhaustive()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Watcher {
    /// Subscribes, and reads what there is now. The network namespace is the calling thread's.
    ///
    /// # Errors
    /// When the kernel does not let us.
    pub async fn open(exclusion: Exclusion) -> Result<Self, LinksError> {
        let mut events = TokioSocket::new(NETLINK_ROUTE).map_err(LinksError::Subscribe)?;
        let groups = GROUPS.iter().fold(0, |mask, group| mask | 1 << (*group as u32 - 1));
        events.socket_mut().bind(&SocketAddr::new(0, groups)).map_err(LinksError::Subscribe)?;
        let (connection, dumps, _) =
            rtnetlink::new_connection_with_strict_check().map_err(LinksError::Subscribe)?;
        let connection = tokio::spawn(connection).abort_handle();
        let picture = Picture::new(exclusion);
        let links = watch::Sender::new(Links::default());
        let mut watcher = Self { events, dumps, connection, picture, links };
        watcher.resync().await?;
        Ok(watcher)
    }

    /// The links now, and at each change.
    pub fn links(&self) -> watch::Receiver<Links> {
        self.links.subscribe()
    }

    /// Follows the events for ever.
    ///
    /// # Errors
    /// Returns only when the events' socket fails.
    pub async fn run(mut self) -> Result<(), LinksError> {
        let mut datagram = Vec::with_capacity(DATAGRAM);
        loop {
            datagram.clear();
            let told = match self.events.recv(&mut datagram).await {
                Ok(()) => self.apply(&datagram),
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Told::Lost,
                Err(e) => return Err(LinksError::Read(e)),
            };
            match told {
                Told::Nothing => {}
                Told::Links => self.publish(),
                Told::Routes => self.insist_on_routes().await,
                Told::Lost => self.insist_on_everything().await,
            }
        }
    }

    /// Applies all messages of one datagram.
    fn apply(&mut self, datagram: &[u8]) -> Told {
        let mut told = Told::Nothing;
        let mut rest = datagram;
        while !rest.is_empty() {
            let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) else {
                warn!(bytes = rest.len(), "a link event cannot be read; everything is listed anew");
                return Told::Lost;
            };
            told = told.max(match message.payload {
                NetlinkPayload::InnerMessage(inner) => match self.picture.apply(&inner) {
                    Change::Nothing => Told::Nothing,
                    Change::Links => Told::Links,
                    Change::Routes => Told::Routes,
                },
                NetlinkPayload::Overrun(_) => Told::Lost,
                _ => Told::Nothing,
            });
            rest = after_first(rest);
        }
        told
    }

    fn publish(&self) {
        let now = self.picture.links();
        self.links.send_if_modified(|links| {
            let changed = *links != now;
            *links = now;
            changed
        });
    }

    async fn insist_on_routes(&mut self) {
        while let Err(error) = self.read_routes().await {
            debug!(%error, "default routes are listed again");
            tokio::time::sleep(DUMP_RETRY).await;
        }
        self.publish();
    }

    async fn insist_on_everything(&mut self) {
        while let Err(error) = self.resync().await {
            warn!(%error, "links are listed again");
            tokio::time::sleep(DUMP_RETRY).await;
        }
    }

    /// Reads everything anew. Events that were queued before are applied after it, which does no harm.
    async fn resync(&mut self) -> Result<(), LinksError> {
        let dump = |what| move |source| LinksError::Dump { what, source };
        let links: Vec<_> =
            self.dumps.link().get().execute().try_collect().await.map_err(dump("links"))?;
        let addresses: Vec<_> =
            self.dumps.address().get().execute().try_collect().await.map_err(dump("addresses"))?;
        self.picture.clear();
        for link in links {
            self.picture.apply(&RouteNetlinkMessage::NewLink(link));
        }
        for address in addresses {
            self.picture.apply(&RouteNetlinkMessage::NewAddress(address));
        }
        self.read_routes().await?;
        self.publish();
        Ok(())
    }

    async fn read_routes(&mut self) -> Result<(), LinksError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            routes.extend(self.defaults(family).try_collect::<Vec<_>>().await?);
        }
        self.picture.set_routes(routes.iter());
        Ok(())
    }

    /// The default routes of `family`. The kernel tells all routes, of which only these are kept.
    fn defaults(
        &self,
        family: AddressFamily,
    ) -> impl Stream<Item = Result<RouteMessage, LinksError>> + use<> {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        // An error is kept, so that the caller sees it.
        let matters = |route: &Result<RouteMessage, _>| {
            route.as_ref().map_or(true, |route| route.header.destination_prefix_length == 0)
        };
        self.dumps
            .route()
            .get(request)
            .execute()
            .filter(move |route| std::future::ready(matters(route)))
            .map_err(|source| LinksError::Dump { what: "routes", source })
    }
}

/// What a datagram of events asks for, the most last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Nothing,
    Links,
    Routes,
    Lost,
}

/// What follows the first message of `datagram`, which was read before. Messages are padded to four bytes.
fn after_first(datagram: &[u8]) -> &[u8] {
    let length = NetlinkBuffer::new(datagram).length();
    let padded = length.max(1).checked_next_multiple_of(4).and_then(|n| usize::try_from(n).ok());
    padded.and_then(|length| datagram.get(length..)).unwrap_or_default()
}
