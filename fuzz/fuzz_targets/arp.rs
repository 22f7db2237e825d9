//! Any bytes give a reason, or a message that writes itself back and whose answer goes to one host.
#![no_main]

use herald_core::wire::{Mac, arp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    let Ok(view) = arp::View::parse(frame) else { return };
    assert_eq!(view.to_message().to_frame()[..], frame[..arp::FRAME]);
    let answer = arp::Message::answer(&view, Mac([2, 0, 0, 0, 0, 1])).to_frame();
    let answer = arp::View::parse(&answer).expect("an answer is a message");
    assert!(!answer.destination().is_group());
});
