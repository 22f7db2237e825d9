//! Verdicts → letters to Services, each with what is told once it has landed.
//!
//! What a Service was told stands in its condition, so nothing is remembered here: what it says already is neither written
//! nor told again, whoever leads.

use herald_api::condition::AddressAllocated;
use herald_api::parse::demand::{Asked, NotOurs, Ours};
use herald_cluster::events::Note;
use herald_core::allocation::{Outcome, Verdict};
use herald_core::why::address::Why;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::outbox::{Content, Letter, Outbox, Subject};
use crate::tell;
use crate::watch::Snapshot;

/// What there is to write to Services.
#[derive(Default)]
pub(super) struct Letters {
    /// The letters that may go now: first those that change addresses, which clients wait for, then those that only change
    /// words.
    pub(super) now: Vec<Letter>,
    /// When the next letter may go that may not go yet.
    pub(super) again: Option<Instant>,
}

/// What there is to write to those that were `judged`, and to those that are no LoadBalancers any more.
pub(super) fn letters<'a>(
    snapshot: &Snapshot,
    judged: impl Iterator<Item = (&'a Ours, &'a Verdict)>,
    outbox: &Outbox,
    now: Instant,
) -> Letters {
    let (mut letters, mut words) = (Letters::default(), Vec::new());
    let time = Timestamp::now();
    for (ours, verdict) in judged {
        let subject = Subject::Service(ours.demand.id.clone());
        if outbox.is_open(&subject, now)
            && let Some((changes, letter)) = letter(subject, ours, verdict, time)
            && letters.may_go(&letter, outbox, now)
        {
            match changes {
                Changes::Addresses => letters.now.push(letter),
                Changes::Words => words.push(letter),
            }
        }
    }
    letters.now.append(&mut words);
    for letter in unmark(snapshot) {
        if letters.may_go(&letter, outbox, now) {
            letters.now.push(letter);
        }
    }
    letters
}

impl Letters {
    /// Whether the letter may go now; it is remembered when it may later.
    fn may_go(&mut self, letter: &Letter, outbox: &Outbox, now: Instant) -> bool {
        match outbox.opens(&letter.subject, &letter.content, now) {
            Some(from) if from <= now => true,
            later => {
                self.again = self.again.into_iter().chain(later).min();
                false
            }
        }
    }
}

/// What a letter changes, at the most.
enum Changes {
    /// The ingress list.
    Addresses,
    /// Annotations and condition.
    Words,
}

/// What has to be written to a Service, if anything.
fn letter(
    subject: Subject,
    ours: &Ours,
    verdict: &Verdict,
    time: Timestamp,
) -> Option<(Changes, Letter)> {
    let (demand, before) = (&ours.demand, ours.allocated.as_ref());
    let allocated = AddressAllocated::of(verdict, before, time)?;
    let (addresses, pool, terms) = match &verdict.outcome {
        // Words change and nothing else.
        Outcome::Untouched => {
            (demand.held.clone(), demand.recorded_pool.clone(), ours.recorded_terms.clone())
        }
        Outcome::Granted(grant) => {
            (grant.addresses.clone(), Some(grant.pool.clone()), ours.terms.clone())
        }
        Outcome::Nothing => (Vec::new(), None, None),
    };
    let stays = ours.plain && demand.held == addresses;
    let said = before.is_some_and(|before| before.says_as(&allocated));
    if stays && said && demand.recorded_pool == pool && ours.recorded_terms == terms {
        return None;
    }
    let about = tell::about_service(&demand.id, &ours.version);
    let mut notes: Vec<Note> = Vec::new();
    notes.extend(verdict.lost.as_ref().map(|why| tell::cleared(&about, &demand.id, why)));
    notes.extend(tell::allocated(&about, &demand.held, &addresses));
    if let Some(why) = verdict.lacks.as_ref().filter(|why| is_news(before, &allocated, why)) {
        notes.extend(tell::lacking(&about, &demand.id, why, !addresses.is_empty()));
    }
    if !stays || before.is_none() {
        notes.extend(ours.deprecated.iter().map(|key| tell::deprecated(&about, key)));
    }
    let content = Content::Addresses { addresses, pool, terms, allocated };
    let letter = Letter {
        subject,
        version: ours.version.clone(),
        content,
        notes,
        heals: heals(ours, verdict),
    };
    Some((if stays { Changes::Words } else { Changes::Addresses }, letter))
}

/// Whether two Services came to have one address, which nobody gives them: two controllers wrote, or a hand. To share no
/// more is another thing.
fn heals(ours: &Ours, verdict: &Verdict) -> bool {
    let taken = matches!(verdict.lost, Some(Why::AddressInUse { .. } | Why::PortInUse { .. }));
    taken && !ours.demand.changed
}

/// Whether what a Service lacks is worth an Event, after what its condition said before.
fn is_news(before: Option<&AddressAllocated>, now: &AddressAllocated, why: &Why) -> bool {
    before.is_none_or(|before| match why {
        // What each of many pools said changes with every other Service's fortune.
        Why::NoneAvailable { .. } => (before.status, &before.reason) != (now.status, &now.reason),
        _ => !before.says_as(now),
    })
}

/// Services that were LoadBalancers of ours, or of a controller before us, and still say so.
fn unmark(snapshot: &Snapshot) -> impl Iterator<Item = Letter> {
    let former = snapshot.services.iter().filter_map(|(id, asked)| match asked.as_ref() {
        Asked::NotOurs(NotOurs::Former(version)) => Some((id, version)),
        _ => None,
    });
    former.map(|(id, version)| Letter {
        subject: Subject::Service(id.clone()),
        version: version.clone(),
        content: Content::Unmark,
        notes: Vec::new(),
        heals: false,
    })
}
