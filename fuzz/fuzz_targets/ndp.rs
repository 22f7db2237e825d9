//! Any bytes give a reason, or a message that reads the same after it was written, and whose answer is valid.
//!
//! The checksum is set right first where there is room for one: no fuzzer guesses it, and nothing behind it would ever
//! be reached.
#![no_main]

use herald_core::wire::{Mac, ndp};
use libfuzzer_sys::fuzz_target;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

fuzz_target!(|input: &[u8]| {
    check(input);
    let mut frame = input.to_vec();
    if set_checksum(&mut frame).is_some() {
        check(&frame);
    }
});

fn check(frame: &[u8]) {
    let Ok(view) = ndp::View::parse(frame) else { return };
    let message = view.to_message();
    let again = message.to_frame();
    let again = ndp::View::parse(&again).expect("a message that was read can be written");
    assert_eq!(again.to_message(), message);
    if message.kind == ndp::Kind::Solicitation && !message.source.is_multicast() {
        let answer = ndp::Message::answer(&view, MAC).to_frame();
        ndp::View::parse(&answer).expect("an answer is a message");
    }
}

/// RFC 4443 §2.3, written a second time so that the fuzzer does not depend on what it tests.
fn set_checksum(frame: &mut [u8]) -> Option<()> {
    let length = u16::from_be_bytes(frame.get(18..20)?.try_into().ok()?);
    let end = 54 + usize::from(length);
    frame.get_mut(56..58)?.fill(0);
    let words = frame.get(22..54)?.chunks(2).chain(frame.get(54..end)?.chunks(2));
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    let mut sum = words.map(word).sum::<u64>() + u64::from(length) + 58;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = u16::try_from(sum).ok()?;
    frame.get_mut(56..58)?.copy_from_slice(&(!sum).to_be_bytes());
    Some(())
}
