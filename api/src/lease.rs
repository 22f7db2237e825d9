//! Sessions and claims as `coordination.k8s.io/v1` Leases, in both directions.
//!
//! | Record | Name | Where its fields lie |
//! |---|---|---|
//! | session | `speaker-<node>` | `holderIdentity` is `<node>/<incarnation>`, empty when closed; `leaseDurationSeconds`; the rest in annotations |
//! | claim | `vip-<address>` | `holderIdentity` is the holder; `leaseTransitions`; `handing-over-to` and `contested` in annotations |
//!
//! An address in a name has `-` for its dots and colons, IPv6 written out in full, so that each address has one name.
//!
//! Reading is total: people may edit a Lease into anything. What cannot be read becomes the value that lets the next
//! writer repair it (a claim whose holder makes no sense is held by nobody who lives, so it may be taken; a session
//! whose holder makes no sense is closed, so its speaker opens it anew), and a [`Problem`] says so.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use herald_core::name::NodeName;
use herald_core::ownership::record::{
    Claim, Closed, ClosedWhy, Holder, Incarnation, Link, Session, Version,
};
use herald_core::time::Span;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};

use crate::annotation::{
    CLOSED, CONTESTED, DOUBTED, HANDING_OVER_TO, LEAVING, LINKS, PROTOCOL, RENEWAL,
};

mod links;

#[cfg(test)]
mod tests;

/// The label that all of Herald's Leases of this kind bear; its value is [`SESSION`] or [`CLAIM`].
pub const KIND_LABEL: &str = "heraldlb.io/lease";
/// [`KIND_LABEL`]'s value on a session.
pub const SESSION: &str = "session";
/// [`KIND_LABEL`]'s value on a claim.
pub const CLAIM: &str = "claim";

const SESSION_PREFIX: &str = "speaker-";
const CLAIM_PREFIX: &str = "vip-";

/// The duration of a session that does not tell its own, or tells nonsense: that of the smallest cluster.
const DEFAULT_DURATION: Span = Span::secs(6);

/// What a Lease's name says it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The session of this node's speaker.
    Session(NodeName),
    /// The claim of this address.
    Claim(IpAddr),
}

impl Subject {
    /// What the Lease `name` is about; `None` when it is none of ours.
    pub fn of(name: &str) -> Option<Self> {
        if let Some(node) = name.strip_prefix(SESSION_PREFIX) {
            return (!node.is_empty()).then(|| Self::Session(node.into()));
        }
        let address = address_of(name.strip_prefix(CLAIM_PREFIX)?)?;
        Some(Self::Claim(address))
    }

    /// The Lease's name. A node's name of more than 245 bytes makes one that the API server refuses.
    pub fn name(&self) -> String {
        match self {
            Self::Session(node) => format!("{SESSION_PREFIX}{node}"),
            Self::Claim(address) => format!("{CLAIM_PREFIX}{}", dashed(*address)),
        }
    }
}

/// What a Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// That a speaker lives.
    Session(Session),
    /// Who answers for an address.
    Claim(Claim),
}

/// A Lease as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The stored version it was.
    pub version: Version,
    /// What it says, as far as it can be read.
    pub record: Record,
    /// What could not be read; empty on every Lease that Herald wrote.
    pub problems: Vec<Problem>,
}

/// A part of a Lease that cannot be read, and was taken for its safest value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// `spec.holderIdentity` is not `<node>/<incarnation>`, or names another node than the session's.
    #[error("spec.holderIdentity {0:?} is not <node>/<incarnation>")]
    Holder(String),
    /// `spec.leaseDurationSeconds` is absent or not positive.
    #[error("spec.leaseDurationSeconds {0:?} is not a positive number; 6 is assumed")]
    Duration(Option<i32>),
    /// The session is not owned by its Node.
    #[error("no owner reference to a Node: the Lease will outlive it")]
    NoOwner,
    /// An annotation is absent, or its value is not of its form.
    #[error("annotation {name} is {value:?}, not {form}")]
    Annotation {
        /// Its name.
        name: &'static str,
        /// Its value, cut at 64 characters; `None` when it is absent.
        value: Option<String>,
        /// What it should be.
        form: &'static str,
    },
}

/// Reads a Lease. `None` for one that is not ours by its name, or bears no uid and resourceVersion.
pub fn decode(lease: &Lease) -> Option<Decoded> {
    let meta = &lease.metadata;
    let subject = Subject::of(meta.name.as_deref()?)?;
    let version = version_of(meta)?;
    let mut reader = Reader { lease, problems: Vec::new() };
    let record = match subject {
        Subject::Session(node) => Record::Session(reader.session(node)),
        Subject::Claim(address) => Record::Claim(reader.claim(address)),
    };
    Some(Decoded { version, record, problems: reader.problems })
}

/// The stored version that an object as read from the API server is of.
pub fn version_of(meta: &ObjectMeta) -> Option<Version> {
    let uid = meta.uid.as_deref()?.into();
    let resource = meta.resource_version.as_deref()?.into();
    Some(Version { uid, resource })
}

/// The Lease that says `session`, to be stored over `version` (`None`: created). `now` is this machine's wall clock,
/// for people alone.
pub fn encode_session(session: &Session, version: Option<&Version>, now: Timestamp) -> Lease {
    let mut annotations = BTreeMap::from([
        (PROTOCOL.to_owned(), session.protocol.to_string()),
        (RENEWAL.to_owned(), session.renewal.to_string()),
        (LINKS.to_owned(), links::encode(&session.links)),
    ]);
    if session.leaving {
        annotations.insert(LEAVING.to_owned(), true.to_string());
    }
    if session.doubted {
        annotations.insert(DOUBTED.to_owned(), true.to_string());
    }
    if let Some(closed) = &session.closed {
        annotations.insert(CLOSED.to_owned(), format!("{}/{}", closed.by, closed.why.as_str()));
    }
    let holder = session.open_for.as_ref().map_or_else(String::new, |incarnation| {
        Holder { node: session.node.clone(), incarnation: incarnation.clone() }.to_string()
    });
    let mut metadata = metadata(&Subject::Session(session.node.clone()), SESSION, version);
    metadata.annotations = Some(annotations);
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: session.node.to_string(),
        uid: session.node_uid.to_string(),
        ..OwnerReference::default()
    };
    // One that was read without an owner, and is closed by another than its speaker, goes on without: the API server
    // refuses an owner that is nobody.
    metadata.owner_references = (!owner.uid.is_empty()).then(|| vec![owner]);
    let seconds = i32::try_from(session.duration.whole_seconds()).unwrap_or(i32::MAX);
    Lease {
        metadata,
        spec: Some(LeaseSpec {
            holder_identity: Some(holder),
            lease_duration_seconds: Some(seconds),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    }
}

/// The Lease that says `claim`, to be stored over `version` (`None`: created). `acquired` is this machine's wall clock
/// when the holder took it, for people alone.
pub fn encode_claim(claim: &Claim, version: Option<&Version>, acquired: Timestamp) -> Lease {
    let mut metadata = metadata(&Subject::Claim(claim.address), CLAIM, version);
    let mark = claim.handing_over_to.as_ref().map(|node| (HANDING_OVER_TO, node.to_string()));
    let contested = claim.contested.then(|| (CONTESTED, "true".to_owned()));
    let annotations: BTreeMap<String, String> =
        mark.into_iter().chain(contested).map(|(key, value)| (key.to_owned(), value)).collect();
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    Lease {
        metadata,
        spec: Some(LeaseSpec {
            holder_identity: Some(claim.holder.to_string()),
            lease_transitions: Some(i32::try_from(claim.transitions).unwrap_or(i32::MAX)),
            acquire_time: Some(MicroTime(acquired)),
            ..LeaseSpec::default()
        }),
    }
}

fn metadata(subject: &Subject, kind: &str, version: Option<&Version>) -> ObjectMeta {
    ObjectMeta {
        name: Some(subject.name()),
        uid: version.map(|version| version.uid.to_string()),
        resource_version: version.map(|version| version.resource.to_string()),
        labels: Some(BTreeMap::from([(KIND_LABEL.to_owned(), kind.to_owned())])),
        ..ObjectMeta::default()
    }
}

/// Reads the parts of one Lease, and notes what it cannot read.
struct Reader<'a> {
    lease: &'a Lease,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn session(&mut self, node: NodeName) -> Session {
        Session {
            open_for: self.open_for(&node),
            node_uid: self.node_uid(),
            renewal: self.number(RENEWAL).unwrap_or(0),
            duration: self.duration(),
            // A protocol that cannot be read is treated as one that is newer than ours.
            protocol: self.number(PROTOCOL).unwrap_or(u32::MAX),
            links: self.links(),
            leaving: self.mark(LEAVING),
            doubted: self.mark(DOUBTED),
            closed: self.closed(),
            node,
        }
    }

    fn claim(&mut self, address: IpAddr) -> Claim {
        let text = self.holder_text();
        let holder = parse_holder(text).unwrap_or_else(|| {
            self.problems.push(Problem::Holder(shown(text)));
            Holder { node: "".into(), incarnation: Incarnation("".into()) }
        });
        let transitions = self.spec().and_then(|spec| spec.lease_transitions);
        Claim {
            address,
            holder,
            transitions: transitions.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            handing_over_to: self.annotation(HANDING_OVER_TO).map(NodeName::from),
            contested: self.mark(CONTESTED),
        }
    }

    fn spec(&self) -> Option<&'a LeaseSpec> {
        self.lease.spec.as_ref()
    }

    fn holder_text(&self) -> &'a str {
        self.spec().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
    }

    fn open_for(&mut self, node: &NodeName) -> Option<Incarnation> {
        let text = self.holder_text();
        if text.is_empty() {
            return None;
        }
        match parse_holder(text) {
            Some(holder) if holder.node == *node => Some(holder.incarnation),
            _ => {
                self.problems.push(Problem::Holder(shown(text)));
                None
            }
        }
    }

    fn node_uid(&mut self) -> Arc<str> {
        let owners = self.lease.metadata.owner_references.iter().flatten();
        let uid =
            owners.filter(|owner| owner.kind == "Node").map(|owner| owner.uid.as_str()).next();
        if uid.is_none() {
            self.problems.push(Problem::NoOwner);
        }
        uid.unwrap_or_default().into()
    }

    fn duration(&mut self) -> Span {
        let seconds = self.spec().and_then(|spec| spec.lease_duration_seconds);
        match seconds.map(u64::try_from) {
            Some(Ok(seconds)) if seconds > 0 => Span::secs(seconds),
            _ => {
                self.problems.push(Problem::Duration(seconds));
                DEFAULT_DURATION
            }
        }
    }

    fn links(&mut self) -> Vec<Link> {
        let text = self.annotation(LINKS);
        text.and_then(links::decode).unwrap_or_else(|| {
            self.misread(LINKS, "a list of links in JSON");
            Vec::new()
        })
    }

    /// An annotation that is there and says `true`, or is not there.
    fn mark(&mut self, name: &'static str) -> bool {
        match self.annotation(name) {
            None => false,
            Some("true") => true,
            Some(_) => {
                self.misread(name, "\"true\"");
                false
            }
        }
    }

    fn closed(&mut self) -> Option<Closed> {
        let text = self.annotation(CLOSED)?;
        let closed = text
            .rsplit_once('/')
            .and_then(|(by, why)| Some(Closed { by: by.into(), why: why_of(why)? }));
        if closed.is_none() {
            self.misread(CLOSED, "<node>/<why>");
        }
        closed
    }

    fn number<T: std::str::FromStr>(&mut self, name: &'static str) -> Option<T> {
        let number = self.annotation(name).and_then(|text| text.parse().ok());
        if number.is_none() {
            self.misread(name, "a whole number");
        }
        number
    }

    fn annotation(&self, name: &str) -> Option<&'a str> {
        self.lease.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    fn misread(&mut self, name: &'static str, form: &'static str) {
        let value = self.annotation(name).map(shown);
        self.problems.push(Problem::Annotation { name, value, form });
    }
}

fn parse_holder(text: &str) -> Option<Holder> {
    let (node, incarnation) = text.split_once('/')?;
    let whole = !node.is_empty() && !incarnation.is_empty() && !incarnation.contains('/');
    whole.then(|| Holder { node: node.into(), incarnation: Incarnation(incarnation.into()) })
}

fn why_of(word: &str) -> Option<ClosedWhy> {
    [ClosedWhy::Left, ClosedWhy::Expired, ClosedWhy::Silent]
        .into_iter()
        .find(|why| why.as_str() == word)
}

/// `text` cut to what a log line bears.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

fn dashed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string().replace('.', "-"),
        IpAddr::V6(v6) => v6.segments().map(|segment| format!("{segment:04x}")).join("-"),
    }
}

/// The address that [`dashed`] wrote so, and in no other way: two names for one address would be two claims on it.
fn address_of(dashes: &str) -> Option<IpAddr> {
    let address = match dashes.split('-').count() {
        4 => dashes.replace('-', ".").parse::<Ipv4Addr>().ok()?.into(),
        8 => dashes.replace('-', ":").parse::<Ipv6Addr>().ok()?.into(),
        _ => return None,
    };
    (dashed(address) == dashes).then_some(address)
}
