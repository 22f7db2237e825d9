//! What people want to know of a speaker, and why its part in an address changed, in words that name the rule (I6).

use std::fmt;
use std::net::IpAddr;

use crate::name::NodeName;
use crate::ownership::record::ClosedWhy;
use crate::ownership::session::SessionNews;
use crate::time::Span;
use crate::why::announcement::Unfit;
use crate::wire::Mac;

/// What people want to know. Every change of owner has one (I6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    /// This speaker's part in an address changed.
    Moved {
        /// The address.
        address: IpAddr,
        /// What it was to it.
        from: &'static str,
        /// What it is to it now.
        to: &'static str,
        /// Whether it answered before, and whether it answers now.
        answers: (bool, bool),
        /// Why.
        cause: Cause,
        /// How long nobody owned it before, where this speaker took it from nobody.
        vacant: Option<Span>,
    },
    /// This speaker's session.
    Session(SessionNews),
    /// This speaker closed another's session (R7).
    ClosedPeer(NodeName, ClosedWhy),
    /// A host uses an address that this speaker owns, and no speaker of ours bids it to (R9).
    Stranger {
        /// The address.
        address: IpAddr,
        /// The stranger.
        mac: Mac,
        /// The node that it is, if it is one: its kernel has the address, or another program announces it there.
        node: Option<NodeName>,
        /// This node's hardware address where it was heard.
        own: Mac,
        /// Whether the address is therefore not answered for: nobody owned it before.
        barred: bool,
    },
    /// The speaker became sure, or is sure no longer.
    Sure(bool),
}

/// Why.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Nobody held it (R4).
    Unowned,
    /// The session of its holder is not open any more (R2).
    HolderGone(NodeName),
    /// Its holder hands it over (R5).
    HandedOverBy(NodeName),
    /// This node asks others to take it (R5).
    MustGo(Option<Unfit>),
    /// Another node is strictly better (R4).
    Better(NodeName),
    /// Another speaker took it (R2).
    TakenBy(NodeName),
    /// Somebody deleted the claim (R2).
    ClaimGone,
    /// No Service has it any more.
    Unwanted,
    /// This speaker's session is not open (R1).
    SessionClosed,
    /// The API server has not been heard for one and a half renew periods (R8).
    ApiLost,
    /// The API server is heard again, and the claim is still this speaker's (R8).
    ApiBack,
    /// Another speaker was heard to answer, and no more, and the claim is still this speaker's (R8).
    StillMine,
    /// It was to move, and nobody took it (R5).
    Untaken,
    /// Another speaker was heard to answer beside this one (R8).
    HeardSpeaker(NodeName),
    /// The one to which it is handed over was heard to answer (R5).
    HeardSuccessor(NodeName),
    /// The wire is asked first (R9).
    Asked,
    /// The process stood still, and nobody was heard to have taken over meanwhile (R8).
    Unopposed,
    /// The process stood still, and another may have taken over meanwhile (R8).
    StoodStill,
    /// What stood in the way is gone.
    Fit,
}

impl Cause {
    /// The rule, for metric labels.
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::SessionClosed => "R1",
            Self::HolderGone(_) | Self::TakenBy(_) | Self::ClaimGone => "R2",
            Self::Unwanted | Self::Fit => "R3",
            Self::Unowned | Self::Better(_) => "R4",
            Self::HandedOverBy(_) | Self::MustGo(_) | Self::Untaken | Self::HeardSuccessor(_) => {
                "R5"
            }
            Self::ApiLost
            | Self::ApiBack
            | Self::StillMine
            | Self::HeardSpeaker(_)
            | Self::StoodStill
            | Self::Unopposed => "R8",
            Self::Asked => "R9",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unowned => f.write_str("nobody owned it")?,
            Self::HolderGone(node) => write!(f, "the session of node {node} is closed")?,
            Self::HandedOverBy(node) => write!(f, "node {node} hands it over")?,
            Self::MustGo(Some(unfit)) => write!(f, "{unfit}")?,
            Self::MustGo(None) => f.write_str("the speaker is about to stop")?,
            Self::Better(node) => write!(f, "node {node} is preferred")?,
            Self::TakenBy(node) => write!(f, "node {node} took it")?,
            Self::ClaimGone => f.write_str("somebody deleted its claim")?,
            Self::Unwanted => f.write_str("no Service has it any more")?,
            Self::SessionClosed => f.write_str("the speaker's session is not open")?,
            Self::ApiLost => f.write_str("the API server is silent")?,
            Self::ApiBack => f.write_str("the API server answers again")?,
            Self::StillMine => f.write_str("the other is silent, and the claim is this node's")?,
            Self::Untaken => f.write_str("the move is off, as nobody took it")?,
            Self::HeardSpeaker(node) => write!(f, "node {node} was heard to answer, too")?,
            Self::HeardSuccessor(node) => write!(f, "node {node} was heard to answer")?,
            Self::Asked => f.write_str("the wire is asked whether somebody uses it")?,
            Self::Unopposed => f.write_str("nobody took over while the speaker stood still")?,
            Self::StoodStill => f.write_str("the speaker stood still for a while")?,
            Self::Fit => f.write_str("nothing stands in the way any more")?,
        }
        write!(f, " ({})", self.rule())
    }
}
