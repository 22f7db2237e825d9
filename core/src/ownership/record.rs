//! What the Leases say: a session for each speaker, a claim for each address.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::name::{LinkName, NodeName};
use crate::time::Span;
use crate::wire::Mac;

/// The protocol that this speaker speaks. One that meets a higher number keeps to plain expiry for that peer.
pub const PROTOCOL: u32 = 1;

/// One stored version of one Lease. Every write names the version it was decided on, and fails on any other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The object's uid: a Lease deleted and created again is another object.
    pub uid: Arc<str>,
    /// Its resourceVersion, opaque.
    pub resource: Arc<str>,
}

/// One life of one speaker: drawn when the process starts, and again whenever its session was closed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub Arc<str>);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Who holds a claim, written `<node>/<incarnation>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// The node.
    pub node: NodeName,
    /// The life of its speaker that took the claim. A later life does not hold it.
    pub incarnation: Incarnation,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.incarnation)
    }
}

/// The Lease `speaker-<node>`: that this speaker lives, and what its links are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// The node it is of.
    pub node: NodeName,
    /// The Node's uid, by which the Lease is garbage-collected with its Node.
    pub node_uid: Arc<str>,
    /// The life it is open for; `None` when it is closed.
    pub open_for: Option<Incarnation>,
    /// Counts this life's renewals, so that the speaker knows its own writes when the watch shows them.
    pub renewal: u64,
    /// How long it may go unchanged before others may close it.
    pub duration: Span,
    /// The protocol its speaker speaks.
    pub protocol: u32,
    /// The node's links that could carry announcements, sorted by name.
    pub links: Vec<Link>,
    /// Whether its speaker is about to go and hands over all its claims (R5).
    pub leaving: bool,
    /// Whether its speaker was not long ago found silent though it lived: others come first for a while (R7).
    pub doubted: bool,
    /// Who closed it and why, when somebody did.
    pub closed: Option<Closed>,
}

/// The mark that the closer of a session leaves (R7).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Closed {
    /// The node whose speaker closed it; the session's own when it left.
    pub by: NodeName,
    /// Why.
    pub why: ClosedWhy,
}

/// Why a session was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClosedWhy {
    /// Its speaker left in good order (R5).
    Left,
    /// It was not renewed for its duration (R7).
    Expired,
    /// Its speaker did not answer on the wire, where others did (R7).
    Silent,
}

impl ClosedWhy {
    /// The word that stands in the Lease.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Expired => "expired",
            Self::Silent => "silent",
        }
    }
}

/// A network interface that could carry announcements, as its node's session describes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// Its name on that node.
    pub name: LinkName,
    /// Its hardware address: what its speaker answers with.
    pub mac: Mac,
    /// The node's addresses there, each with the prefix that it makes on-link, sorted.
    pub prefixes: Vec<IpNetwork>,
    /// Whether it is up and has carrier.
    pub carrier: bool,
    /// Whether no host that ever answered there answers now.
    pub deaf: bool,
}

impl Link {
    /// Whether `address` is on-link there.
    pub fn is_beside(&self, address: IpAddr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(address))
    }

    /// The node's addresses there.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.prefixes.iter().map(IpNetwork::ip)
    }

    /// Whether `other`, of another node, is on the same segment: they have a prefix in common.
    pub fn shares_segment(&self, other: &Self) -> bool {
        let key = |prefix: &IpNetwork| (prefix.network(), prefix.prefix());
        self.prefixes.iter().any(|one| other.prefixes.iter().any(|two| key(one) == key(two)))
    }
}

/// The Lease `vip-<address>`: who answers for the address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The address.
    pub address: IpAddr,
    /// Who took it.
    pub holder: Holder,
    /// How often it changed hands, for people.
    pub transitions: u32,
    /// The node that its holder asks to take it (R5).
    pub handing_over_to: Option<NodeName>,
    /// A stranger has the address, so that its holder does not answer (R9): who takes it next asks first, too.
    pub contested: bool,
}

/// What the watch of all Leases shows, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeaseEvent {
    /// A session was created or changed.
    Session(Version, Session),
    /// A claim was created or changed.
    Claim(Version, Claim),
    /// A session's Lease was deleted.
    SessionGone(NodeName),
    /// A claim's Lease was deleted.
    ClaimGone(IpAddr),
    /// A consistent list of all there is; what is not in it does not exist.
    Listed(Vec<(Version, Session)>, Vec<(Version, Claim)>),
}

/// A write that the machine asks for: a compare-and-swap on one Lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeaseWrite {
    /// Replace the session of this version, or create it where there is none.
    Session(Option<Version>, Session),
    /// Replace the claim of this version, or create it where there is none.
    Claim(Option<Version>, Claim),
    /// Delete the claim of this version.
    DeleteClaim(Version, IpAddr),
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WriteOutcome {
    /// It is stored, as this version; `None` after a deletion.
    Stored(Option<Version>),
    /// Another version stood there. The watch will show it.
    Conflict,
    /// No answer, or one that leaves open whether it is stored.
    Unknown,
    /// The server refused it for another reason; nothing is stored.
    Refused,
}
