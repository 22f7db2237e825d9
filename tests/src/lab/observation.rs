//! What was seen of one address on the wire: who was asked, who answered, who announced.

use std::time::{Duration, SystemTime};

use herald_core::wire::Mac;

/// One question who has the address, to everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// When it was sent.
    pub at: SystemTime,
    /// Every answer to this very question, in the order of arrival.
    pub answers: Vec<Answer>,
}

/// One answer to one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Where the address is, says the answer.
    pub mac: Mac,
    /// When the kernel received it.
    pub at: SystemTime,
}

/// An announcement that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Where the address is, says the announcement.
    pub mac: Mac,
    /// When the kernel received it.
    pub at: SystemTime,
    /// How it was said.
    pub form: Form,
}

/// The forms in which an owner announces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// A gratuitous ARP request.
    Request,
    /// A gratuitous ARP reply.
    Reply,
    /// An unsolicited neighbour advertisement.
    Advertisement,
}

/// What was seen of one address, from the first question to the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When it began.
    pub began: SystemTime,
    /// When the last question was asked, or its end if nothing was asked.
    pub ended: SystemTime,
    /// Every question, in order.
    pub asks: Vec<Ask>,
    /// Every announcement, in order.
    pub announcements: Vec<Announcement>,
}

impl Observation {
    /// One in which nothing was seen yet.
    pub fn new(began: SystemTime) -> Self {
        Self { began, ended: began, asks: Vec::new(), announcements: Vec::new() }
    }

    /// What of it lies from `from` up to, but without, `to`.
    #[must_use]
    pub fn between(&self, from: SystemTime, to: SystemTime) -> Self {
        let within = |at: SystemTime| from <= at && at < to;
        Self {
            began: from.max(self.began),
            ended: to.min(self.ended),
            asks: self.asks.iter().filter(|ask| within(ask.at)).cloned().collect(),
            announcements: self.announcements.iter().filter(|a| within(a.at)).copied().collect(),
        }
    }

    /// Questions that nobody answered.
    pub fn unanswered(&self) -> usize {
        self.asks.iter().filter(|ask| ask.answers.is_empty()).count()
    }

    /// Questions that several hosts answered.
    pub fn answered_by_several(&self) -> Vec<&Ask> {
        let several =
            |ask: &&Ask| ask.answers.iter().any(|answer| answer.mac != ask.answers[0].mac);
        self.asks.iter().filter(several).collect()
    }

    /// The longest time without an answer, the time before the first and after the last among them.
    pub fn longest_gap(&self) -> Duration {
        let mut times: Vec<_> = self.answers().map(|answer| answer.at).collect();
        times.extend([self.began, self.ended]);
        times.sort_unstable();
        let gaps = times.windows(2).map(|pair| later(pair[0], pair[1]));
        gaps.max().unwrap_or_default()
    }

    /// Who answered, from when on: an entry for each change.
    pub fn owners(&self) -> Vec<Answer> {
        let mut all: Vec<_> = self.answers().copied().collect();
        all.sort_by_key(|answer| answer.at);
        all.dedup_by_key(|answer| answer.mac);
        all
    }

    /// Who answered last.
    pub fn owner(&self) -> Option<Mac> {
        self.answers().max_by_key(|answer| answer.at).map(|answer| answer.mac)
    }

    /// The first announcement by `mac` that came after `moment`.
    pub fn announced_after(&self, moment: SystemTime, mac: Mac) -> Option<&Announcement> {
        self.announcements.iter().find(|one| one.mac == mac && one.at >= moment)
    }

    /// How many answers and announcements that came from `moment` on were by one for whom `by` holds. When a question was
    /// asked does not matter: who stood still answers those of meanwhile when it goes on.
    pub fn said_since(&self, moment: SystemTime, by: impl Fn(Mac) -> bool) -> usize {
        let answers = self.answers().map(|answer| (answer.mac, answer.at));
        let announced = self.announcements.iter().map(|one| (one.mac, one.at));
        answers.chain(announced).filter(|(mac, at)| *at >= moment && by(*mac)).count()
    }

    fn answers(&self) -> impl Iterator<Item = &Answer> {
        self.asks.iter().flat_map(|ask| &ask.answers)
    }
}

/// The time from `from` to `to`; none when the clock was set back between them.
pub fn later(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    /// A question every 10 ms, answered 1 ms later by those listed.
    fn observed(answers: &[&[Mac]]) -> Observation {
        let mut observation = Observation::new(at(0));
        for (number, macs) in (0..).zip(answers) {
            let sent = number * 10;
            let answers = macs.iter().map(|&mac| Answer { mac, at: at(sent + 1) }).collect();
            observation.asks.push(Ask { at: at(sent), answers });
            observation.ended = at(sent);
        }
        observation
    }

    #[test]
    fn a_gap_is_measured_from_answer_to_answer() {
        let observation = observed(&[&[A], &[A], &[], &[], &[B], &[B]]);
        assert_eq!(observation.unanswered(), 2);
        assert_eq!(observation.longest_gap(), Duration::from_millis(30));
        assert_eq!(observed(&[&[], &[], &[]]).longest_gap(), Duration::from_millis(20));
        assert_eq!(observed(&[&[A], &[], &[], &[]]).longest_gap(), Duration::from_millis(29));
    }

    #[test]
    fn owners_are_told_by_their_changes() {
        let observation = observed(&[&[A], &[A], &[B], &[A]]);
        let owners: Vec<_> = observation.owners().iter().map(|one| (one.mac, one.at)).collect();
        assert_eq!(owners, [(A, at(1)), (B, at(21)), (A, at(31))]);
        assert_eq!(observation.owner(), Some(A));
    }

    #[test]
    fn one_host_that_answers_twice_is_not_two_hosts() {
        let observation = observed(&[&[A, A], &[A, B], &[B]]);
        let doubled: Vec<_> = observation.answered_by_several().iter().map(|ask| ask.at).collect();
        assert_eq!(doubled, [at(10)]);
    }

    #[test]
    fn a_part_has_its_own_bounds() {
        let part = observed(&[&[A], &[], &[B], &[]]).between(at(10), at(30));
        assert_eq!((part.asks.len(), part.unanswered()), (2, 1));
        assert_eq!(part.longest_gap(), Duration::from_millis(11));
    }

    #[test]
    fn who_goes_on_and_answers_old_questions_has_spoken_now() {
        let mut observation = observed(&[&[A], &[B], &[B]]);
        let late = Answer { mac: A, at: at(100) };
        observation.asks[1].answers.push(late);
        let (form, mac) = (Form::Reply, A);
        observation.announcements.push(Announcement { mac, at: at(99), form });
        observation.announcements.push(Announcement { mac, at: at(120), form });
        assert_eq!(observation.said_since(at(100), |mac| mac == A), 2);
        assert_eq!(observation.said_since(at(100), |mac| mac != A), 0);
    }

    #[test]
    fn the_first_announcement_is_that_of_the_host_asked_for() {
        let mut observation = Observation::new(at(0));
        for (millis, mac) in [(5, B), (10, A), (20, B)] {
            let form = Form::Request;
            observation.announcements.push(Announcement { mac, at: at(millis), form });
        }
        let first = observation.announced_after(at(6), B).map(|one| one.at);
        assert_eq!(first, Some(at(20)));
        assert_eq!(observation.announced_after(at(11), A), None);
    }
}
