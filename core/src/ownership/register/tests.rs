use super::*;

fn v(resource: u32) -> Version {
    Version { uid: "u".into(), resource: resource.to_string().into() }
}

fn shown(resource: u32, value: char) -> Register<char> {
    let mut register = Register::default();
    register.show(Some((v(resource), value)));
    register
}

#[test]
fn a_confirmed_write_stands_before_the_watch_shows_it() {
    let mut register = shown(1, 'a');
    assert_eq!(register.send(Some('b')), Some(v(1)));
    assert!(!register.is_writable());
    assert_eq!(register.current(), Some(&'a'));
    register.settle(&WriteOutcome::Stored(Some(v(2))));
    assert_eq!((register.current(), register.shown()), (Some(&'b'), Some(&'a')));
    register.show(Some((v(2), 'b')));
    assert_eq!((register.current(), register.shown()), (Some(&'b'), Some(&'b')));
}

#[test]
fn events_from_before_a_confirmed_create_do_not_hide_it() {
    let mut register = Register::default();
    assert_eq!(register.send(Some('m')), None);
    register.settle(&WriteOutcome::Stored(Some(v(5))));
    register.show(Some((v(3), 'x')));
    assert_eq!(register.current(), Some(&'m'));
    register.show(None);
    assert_eq!(register.current(), Some(&'m'));
    register.show(Some((v(5), 'm')));
    register.show(Some((v(6), 'y')));
    assert_eq!(register.current(), Some(&'y'));
}

#[test]
fn what_the_watch_showed_after_the_write_outlives_a_late_confirmation() {
    let mut register = shown(1, 'a');
    register.send(Some('b'));
    register.show(Some((v(2), 'b')));
    register.show(Some((v(3), 'c')));
    register.settle(&WriteOutcome::Stored(Some(v(2))));
    assert_eq!(register.current(), Some(&'c'));
}

#[test]
fn a_conflict_blocks_until_the_view_moves() {
    for outcome in [WriteOutcome::Conflict, WriteOutcome::Unknown] {
        let mut register = shown(1, 'a');
        register.send(Some('b'));
        register.settle(&outcome);
        assert!(register.is_blocked() && !register.is_writable());
        register.show(Some((v(2), 'x')));
        assert!(register.is_writable());
    }
}

#[test]
fn what_was_refused_left_everything_as_it_was() {
    let mut register = shown(1, 'a');
    register.send(Some('b'));
    register.settle(&WriteOutcome::Refused);
    assert!(register.is_writable());
    assert_eq!((register.current(), register.version()), (Some(&'a'), Some(&v(1))));
}

#[test]
fn a_conflict_with_what_the_view_already_shows_does_not_block() {
    let mut register = shown(1, 'a');
    register.send(Some('b'));
    register.show(Some((v(2), 'x')));
    register.settle(&WriteOutcome::Conflict);
    assert!(register.is_writable());
}

#[test]
fn a_list_begun_before_the_write_does_not_hide_it_and_a_later_one_overrules() {
    let mut register = shown(1, 'a');
    register.send(Some('b'));
    register.settle(&WriteOutcome::Stored(Some(v(2))));
    register.list(Some((v(1), 'a')));
    assert_eq!(register.current(), Some(&'b'));
    register.list(Some((v(9), 'z')));
    assert_eq!(register.current(), Some(&'z'));
}

#[test]
fn a_deletion_is_an_overlay_too() {
    let mut register = shown(1, 'a');
    register.send(None);
    register.settle(&WriteOutcome::Stored(None));
    assert_eq!(register.current(), None);
    register.show(None);
    assert!(register.is_empty());
    register.show(Some((v(3), 'n')));
    assert_eq!(register.current(), Some(&'n'));
}

#[test]
fn a_list_from_before_two_confirmed_writes_hides_neither() {
    let mut register = shown(1, 'a');
    for (resource, value) in [(2, 'b'), (3, 'c')] {
        register.send(Some(value));
        register.settle(&WriteOutcome::Stored(Some(v(resource))));
    }
    register.list(Some((v(1), 'a')));
    assert_eq!(register.current(), Some(&'c'));
    register.show(Some((v(2), 'b')));
    assert_eq!(register.current(), Some(&'c'));
    register.list(Some((v(4), 'd')));
    assert_eq!(register.current(), Some(&'d'));
}

#[test]
fn a_confirmed_write_that_met_a_later_one_gives_way_to_the_next_list() {
    let mut register = Register::default();
    register.send(Some('m'));
    register.settle(&WriteOutcome::Stored(Some(v(5))));
    register.list(None);
    assert_eq!(register.current(), Some(&'m'), "the list may be older than the write");
    register.send(Some('n'));
    register.settle(&WriteOutcome::Conflict);
    register.list(None);
    assert_eq!(register.current(), None, "deleted, unseen between two watches");
}

#[test]
fn a_write_whose_outcome_is_unknown_leaves_what_was_confirmed() {
    let mut register = Register::default();
    register.send(Some('m'));
    register.settle(&WriteOutcome::Stored(Some(v(5))));
    register.send(Some('n'));
    register.settle(&WriteOutcome::Unknown);
    register.list(None);
    assert_eq!(register.current(), Some(&'m'));
}

#[test]
fn a_confirmed_write_that_should_have_been_shown_is_forgotten() {
    let mut register = Register::default();
    register.send(Some('m'));
    register.settle(&WriteOutcome::Stored(Some(v(5))));
    register.list(None);
    assert!(register.is_unshown());
    register.forget_unshown();
    assert_eq!(register.current(), None);
}
