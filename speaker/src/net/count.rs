//! What the wire is asked and what it is told, counted for `/metrics`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Why a frame was not answered, or something not sent. A closed list, fit for a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dropped {
    /// The frame is no message of its protocol.
    Malformed,
    /// It is a reply or an advertisement, which asks nothing.
    NoQuestion,
    /// It is for another host.
    NotForUs,
    /// This node does not answer for the address that it asks for.
    NotAnswered,
    /// This node answers for the address, but not on that link.
    NotOnLink,
    /// It waited in the socket for longer than any answer may take.
    Late,
    /// The speaker's loop stands still, so that nobody knows whether the answer would still be right.
    Stalled,
    /// The kernel lost frames because the socket's buffer was full.
    Lost,
    /// The socket had no room for the answer.
    NoRoom,
    /// The kernel refused to send.
    SendFailed,
    /// The kernel refused to receive.
    ReceiveFailed,
    /// The queue of a link's announcements was full.
    QueueFull,
    /// The queue of what was heard was full: the speaker's loop is behind.
    HeardFull,
}

impl Dropped {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Malformed,
        Self::NoQuestion,
        Self::NotForUs,
        Self::NotAnswered,
        Self::NotOnLink,
        Self::Late,
        Self::Stalled,
        Self::Lost,
        Self::NoRoom,
        Self::SendFailed,
        Self::ReceiveFailed,
        Self::QueueFull,
        Self::HeardFull,
    ];

    /// The word for logs and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NoQuestion => "no-question",
            Self::NotForUs => "not-for-us",
            Self::NotAnswered => "not-answered",
            Self::NotOnLink => "not-on-link",
            Self::Late => "late",
            Self::Stalled => "stalled",
            Self::Lost => "lost",
            Self::NoRoom => "no-room",
            Self::SendFailed => "send-failed",
            Self::ReceiveFailed => "receive-failed",
            Self::QueueFull => "queue-full",
            Self::HeardFull => "heard-full",
        }
    }
}

/// The counts of one address, since it was first answered for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressCounts {
    /// Questions for it that were received while it was answered for.
    pub requests_received: u64,
    /// Answers sent.
    pub responses_sent: u64,
    /// Gratuitous frames sent: two for each announcement on a link for IPv4, one for IPv6.
    pub gratuitous_sent: u64,
}

/// The same, shared by those who count.
#[derive(Debug, Default)]
pub(super) struct AddressCounters {
    pub(super) requests_received: AtomicU64,
    pub(super) responses_sent: AtomicU64,
    pub(super) gratuitous_sent: AtomicU64,
}

/// All counts. They only ever grow, but those of an address go when nobody is interested in it any more.
#[derive(Debug, Default)]
pub struct Counts {
    drops: [AtomicU64; Dropped::ALL.len()],
    addresses: Mutex<HashMap<IpAddr, Arc<AddressCounters>>>,
}

pub(super) fn increment(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    /// What was dropped, by reason.
    pub fn drops(&self) -> impl Iterator<Item = (Dropped, u64)> {
        Dropped::ALL
            .into_iter()
            .zip(&self.drops)
            .map(|(why, count)| (why, count.load(Ordering::Relaxed)))
    }

    /// How much was dropped for the reason `why`.
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.drops().find_map(|(of, count)| (of == why).then_some(count)).unwrap_or(0)
    }

    /// The counts of each address that was answered for, sorted.
    pub fn addresses(&self) -> Vec<(IpAddr, AddressCounts)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut counts: Vec<_> = self
            .lock()
            .iter()
            .map(|(&address, of)| {
                let counts = AddressCounts {
                    requests_received: read(&of.requests_received),
                    responses_sent: read(&of.responses_sent),
                    gratuitous_sent: read(&of.gratuitous_sent),
                };
                (address, counts)
            })
            .collect();
        counts.sort_unstable_by_key(|(address, _)| *address);
        counts
    }

    pub(super) fn drop_one(&self, why: Dropped) {
        self.drop_many(why, 1);
    }

    pub(super) fn drop_many(&self, why: Dropped, count: u64) {
        let place = Dropped::ALL.iter().position(|of| *of == why).expect("ALL lists every reason");
        self.drops[place].fetch_add(count, Ordering::Relaxed);
    }

    /// The counters of `address`, which exist from now on.
    pub(super) fn of(&self, address: IpAddr) -> Arc<AddressCounters> {
        Arc::clone(self.lock().entry(address).or_default())
    }

    pub(super) fn forget_unless(&self, keep: impl Fn(&IpAddr) -> bool) {
        self.lock().retain(|address, _| keep(address));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, Arc<AddressCounters>>> {
        // A panic while it was held leaves only counts behind, and those are whole at each step.
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
