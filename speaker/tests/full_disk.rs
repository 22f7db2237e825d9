//! A log that cannot be written is lost; the speaker is not.
#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::process::Command;

#[test]
fn a_speaker_that_cannot_log_ends_as_it_would_have_and_does_not_panic() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("a Linux machine has it");
    let status = Command::new(env!("CARGO_BIN_EXE_herald-speaker"))
        .args(["--node-name", "node", "--kubeconfig", "/nowhere/kubeconfig"])
        .env_remove("RUST_LOG")
        .stderr(full)
        .status()
        .expect("it starts");
    assert_eq!(status.code(), Some(1), "a panic's is 101");
}
