use super::*;
use crate::ownership::fixtures::name;

const NOW: Moment = Moment(100_000);
const DELAY: Span = Span::millis(250);

fn ago(millis: u64) -> Moment {
    NOW - Span(millis)
}

/// Every state, each with moments on both sides of every limit.
fn states() -> Vec<State> {
    let mut all = vec![State::Idle, State::Taking, State::Asking, State::Holding];
    all.push(State::Owner { better_since: None });
    for age in [0, 250, 999, 1_000, 4_999, 5_000, 9_999, 10_000] {
        all.push(State::Waiting { since: ago(age) });
        all.push(State::Owner { better_since: Some(ago(age)) });
        all.push(State::Yielded { since: ago(age) });
        all.push(State::HandingOver { since: ago(age), taken: None });
        for taken in [0, 999, 1_000] {
            all.push(State::HandingOver { since: ago(age), taken: Some(ago(taken)) });
        }
    }
    all
}

fn standings() -> Vec<Standing> {
    let nodes = [None, Some(name("b")), Some(name("c"))];
    let mut all =
        vec![Standing::Held, Standing::NotForMe, Standing::ColdStart { until: NOW + DELAY }];
    for marked_for in &nodes {
        for successor in &nodes {
            for better in &nodes {
                all.push(Standing::Mine {
                    marked_for: marked_for.clone(),
                    successor: successor.clone(),
                    better: better.clone(),
                    contested: false,
                });
            }
        }
    }
    for place in [0, 1, 7] {
        for (exists, held) in [(false, false), (true, false), (true, true)] {
            all.push(Standing::Free { place, exists, held });
        }
    }
    all
}

/// Every combination of what the table looks at.
fn everything() -> impl Iterator<Item = (State, Facts)> {
    let facts = standings().into_iter().flat_map(|claim| {
        (0..64_u8).flat_map(move |bits| {
            let claim = claim.clone();
            [Leaving::No, Leaving::Drained, Leaving::Stopping].map(|leaving| Facts {
                open: bits & 1 != 0,
                sure: bits & 2 != 0,
                wanted: bits & 4 != 0,
                fit: bits & 8 != 0,
                writable: bits & 16 != 0,
                wire: if bits & 32 != 0 { Wire::Clear } else { Wire::Asked(NOW + DELAY) },
                leaving,
                claim: claim.clone(),
                delay: DELAY,
            })
        })
    });
    facts.flat_map(|facts| states().into_iter().map(move |state| (state, facts.clone())))
}

/// Checks `holds` for what the table makes of every combination.
fn always(what: &str, holds: impl Fn(&State, &Facts, &Step) -> bool) {
    for (state, facts) in everything() {
        let step = step(&state, &facts, NOW);
        assert!(holds(&state, &facts, &step), "{what}: {state:?}, {facts:?} → {step:?}");
    }
}

fn is_mine(facts: &Facts) -> bool {
    matches!(facts.claim, Standing::Mine { .. })
}

#[test]
fn r1_who_answers_has_an_open_session_and_the_claim_or_just_handed_it_over() {
    always("answers by right", |state, facts, step| {
        let overlap = matches!(state, State::HandingOver { .. });
        !step.state.answers() || (facts.open && ((facts.wanted && is_mine(facts)) || overlap))
    });
}

#[test]
fn r1_an_owner_is_sure_fit_and_stays() {
    always("an owner's right", |_, facts, step| {
        !matches!(step.state, State::Owner { .. })
            || (facts.open && facts.sure && facts.stays() && facts.wanted && is_mine(facts))
    });
}

#[test]
fn r1_nobody_begins_to_answer_who_must_go() {
    always("no new answer", |state, facts, step| {
        state.answers() || !step.state.answers() || facts.stays()
    });
}

#[test]
fn r2_only_who_is_sure_and_a_candidate_takes_and_only_what_is_free() {
    always("takes by right", |_, facts, step| {
        let free = matches!(facts.claim, Standing::Free { .. });
        step.write != Some(Write::Take)
            || (facts.open && facts.sure && facts.wanted && facts.stays() && free)
    });
}

#[test]
fn a_write_is_decided_only_when_none_is_under_way() {
    always("writable", |_, facts, step| step.write.is_none() || facts.writable);
}

#[test]
fn marks_are_changed_by_the_holder_alone_and_only_where_that_changes_them() {
    always("marks", |_, facts, step| match (&step.write, &facts.claim) {
        (Some(Write::Mark(node)), Standing::Mine { marked_for, .. }) => {
            facts.sure && marked_for.as_ref() != Some(node)
        }
        (Some(Write::Unmark), Standing::Mine { marked_for, .. }) => {
            facts.sure && marked_for.is_some()
        }
        (Some(Write::Mark(_) | Write::Unmark), _) => false,
        _ => true,
    });
}

#[test]
fn a_claim_is_deleted_only_by_its_holder_or_where_it_is_free_and_unwanted() {
    always("deletes", |_, facts, step| match &facts.claim {
        _ if step.write != Some(Write::Delete) => true,
        Standing::Mine { .. } => !facts.wanted || !facts.stays(),
        Standing::Free { exists, .. } => *exists && !facts.wanted && facts.sure,
        _ => false,
    });
}

#[test]
fn whoever_deletes_does_not_answer() {
    always("silent", |_, _, step| step.write != Some(Write::Delete) || !step.state.answers());
}

#[test]
fn nobody_begins_to_answer_while_the_wire_is_asked() {
    always("asks first", |state, facts, step| {
        let asks = facts.wire != Wire::Clear && is_mine(facts);
        !asks || state.answers() || !step.state.answers()
    });
}

#[test]
fn a_deadline_lies_ahead() {
    always("ahead", |_, _, step| step.deadline.is_none_or(|at| at > NOW));
}

#[test]
fn nothing_lasts_that_only_time_would_end() {
    always("ends", |_, facts, step| match (&step.state, &facts.claim) {
        (State::Waiting { .. }, _) => step.deadline.is_some() || !facts.writable,
        (State::HandingOver { taken: Some(_), .. }, _) => step.deadline.is_some(),
        (State::HandingOver { .. }, Standing::Mine { .. }) if facts.sure => {
            step.deadline.is_some() || facts.leaving != Leaving::No
        }
        (State::Yielded { .. }, _) if facts.sure => step.deadline.is_some(),
        (State::Asking, _) => step.deadline.is_some(),
        (_, Standing::ColdStart { .. }) if facts.open && facts.wanted => step.deadline.is_some(),
        _ => true,
    });
}

#[test]
fn the_holder_of_a_claim_that_it_cannot_serve_lets_it_go() {
    always("lets go", |state, facts, step| {
        let bound = facts.open && facts.sure && is_mine(facts) && !facts.stays() && facts.writable;
        let silent = !state.answers() && !matches!(state, State::Yielded { .. });
        !(bound && silent && facts.leaving != Leaving::Stopping)
            || step.write == Some(Write::Delete)
    });
}

#[test]
fn looking_again_at_the_same_changes_nothing() {
    for (state, facts) in everything() {
        let first = step(&state, &facts, NOW);
        let facts = Facts { writable: false, ..facts };
        let again = step(&first.state, &facts, NOW);
        let settles = first.write.is_none()
            && !matches!(state, State::Owner { .. } | State::Waiting { .. } | State::Taking);
        assert!(
            !settles || again.state.answers() == first.state.answers(),
            "{state:?}, {facts:?} → {first:?} → {again:?}"
        );
    }
}

fn owner_facts() -> Facts {
    Facts {
        open: true,
        sure: true,
        wanted: true,
        fit: true,
        leaving: Leaving::No,
        claim: Standing::Mine { marked_for: None, successor: None, better: None, contested: false },
        writable: true,
        wire: Wire::Clear,
        delay: DELAY,
    }
}

fn mine(marked_for: Option<&str>, successor: Option<&str>, better: Option<&str>) -> Standing {
    Standing::Mine {
        marked_for: marked_for.map(name),
        successor: successor.map(name),
        better: better.map(name),
        contested: false,
    }
}

fn free(place: u64) -> Facts {
    Facts { claim: Standing::Free { place, exists: true, held: false }, ..owner_facts() }
}

#[test]
fn r4_the_first_takes_at_once_and_the_third_after_two_delays() {
    assert_eq!(step(&State::Idle, &free(0), NOW).write, Some(Write::Take));
    let waiting = step(&State::Idle, &free(2), NOW);
    assert_eq!(waiting.state, State::Waiting { since: NOW });
    assert_eq!((waiting.write, waiting.deadline), (None, Some(NOW + DELAY.times(2))));
    let turn = step(&waiting.state, &free(2), NOW + DELAY.times(2));
    assert_eq!((turn.state, turn.write), (State::Taking, Some(Write::Take)));
}

#[test]
fn r5_the_old_owner_answers_for_one_second_after_it_saw_the_claim_taken() {
    let held = Facts { claim: Standing::Held, ..owner_facts() };
    let seen = step(&State::HandingOver { since: NOW, taken: None }, &held, NOW);
    assert!(seen.state.answers());
    assert_eq!(seen.deadline, Some(NOW + OVERLAP));
    assert!(step(&seen.state, &held, NOW + Span(999)).state.answers());
    assert_eq!(step(&seen.state, &held, NOW + OVERLAP).state, State::Idle);
}

#[test]
fn r5_where_it_must_stop_it_stops_at_once_without_a_successor_and_marks_one_otherwise() {
    let owner = State::Owner { better_since: None };
    let alone = Facts { fit: false, ..owner_facts() };
    let stopped = step(&owner, &alone, NOW);
    assert_eq!((stopped.state, stopped.write), (State::Idle, Some(Write::Delete)));
    let facts = Facts { claim: mine(None, Some("b"), None), ..alone };
    let marked = step(&owner, &facts, NOW);
    assert_eq!(marked.state, State::HandingOver { since: NOW, taken: None });
    assert_eq!(marked.write, Some(Write::Mark(name("b"))));
    let facts = Facts { claim: mine(Some("b"), Some("b"), None), ..facts };
    let late = step(&marked.state, &facts, NOW + HAND_OVER);
    assert_eq!((late.state, late.write), (State::Idle, Some(Write::Delete)));
}

#[test]
fn r5_a_move_that_nobody_takes_is_withdrawn_after_ten_seconds() {
    let facts = Facts { claim: mine(None, None, Some("b")), ..owner_facts() };
    let settling = step(&State::Owner { better_since: None }, &facts, NOW);
    assert_eq!(settling.deadline, Some(NOW + SETTLING));
    let unsettled = step(&settling.state, &facts, NOW + Span(4_999));
    assert_eq!((unsettled.state, unsettled.write), (settling.state.clone(), None));
    let began = NOW + SETTLING;
    let moving = step(&settling.state, &facts, began);
    assert_eq!(moving.write, Some(Write::Mark(name("b"))));
    let facts = Facts { claim: mine(Some("b"), None, Some("b")), ..facts };
    assert!(step(&moving.state, &facts, began + Span(9_999)).write.is_none());
    let withdrawn = step(&moving.state, &facts, began + HAND_OVER);
    assert_eq!(withdrawn.write, Some(Write::Unmark));
    assert!(matches!(withdrawn.state, State::Owner { .. }));
}

#[test]
fn r5_a_successor_heard_before_its_claim_is_seen_is_not_talked_over() {
    let handing_over = State::HandingOver { since: NOW, taken: None };
    let heard = hear_rival(&handing_over, NOW);
    assert!(!heard.answers());
    let facts = Facts { claim: mine(Some("b"), None, Some("b")), ..owner_facts() };
    let still = step(&heard, &facts, NOW + Span(300));
    assert!(!still.state.answers() && still.write.is_none());
    let never_taken = step(&heard, &facts, NOW + OVERLAP);
    assert!(never_taken.state.answers(), "the voice was another's");
}

#[test]
fn r5_who_fell_silent_and_must_go_does_not_keep_a_claim_that_nobody_takes() {
    let yielded = State::Yielded { since: NOW };
    let facts = Facts { fit: false, claim: mine(Some("b"), Some("c"), None), ..owner_facts() };
    assert_eq!(step(&yielded, &facts, NOW + Span(999)).state, yielded);
    let given_up = step(&yielded, &facts, NOW + OVERLAP);
    assert_eq!((given_up.state, given_up.write), (State::Idle, Some(Write::Delete)));
}

#[test]
fn r8_an_owner_that_is_not_sure_goes_on_and_yields_to_a_voice() {
    let facts = Facts { sure: false, ..owner_facts() };
    let holding = step(&State::Owner { better_since: None }, &facts, NOW);
    assert_eq!(holding.state, State::Holding);
    let yielded = hear_rival(&holding.state, NOW);
    assert!(!yielded.answers());
    assert_eq!(step(&yielded, &facts, NOW + Span::secs(60)).state, yielded);
    let back = step(&yielded, &owner_facts(), NOW + Span::secs(61));
    assert!(matches!(back.state, State::Owner { .. }));
}

#[test]
fn r9_an_owner_yields_to_no_voice() {
    let owner = State::Owner { better_since: None };
    assert_eq!(hear_rival(&owner, NOW), owner);
}

#[test]
fn who_handed_over_and_hears_the_successor_is_done() {
    let seen = State::HandingOver { since: NOW, taken: Some(NOW) };
    assert_eq!(hear_rival(&seen, NOW), State::Idle);
}
