//! The controller over a cluster in memory: scenarios as files, and random histories.
//!
//! Nothing here knows a network or a clock. The controller's own path from objects to patches is all there; only its
//! clients are not: `server.rs` does with a patch what the API server does.
#![forbid(unsafe_code)]

mod cluster;
mod controller;
mod file;
mod histories;
mod server;
mod storms;

use std::path::{Path, PathBuf};

/// Each file of `cases/` is one case, and its name says what holds. `SCENARIO=part_of_a_name` plays some of them.
#[test]
fn every_scenario_goes_as_its_file_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/cases");
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("an entry of the folder").path())
        .filter(|path| path.to_string_lossy().contains(&wanted))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no case in {} has {wanted:?} in its name", folder.display());
    let mut failed = Vec::new();
    for path in &files {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match file::play(path) {
            Ok(()) => println!("ok      {name}"),
            Err(fault) => {
                println!("FAILED  {name}\n        {fault}");
                failed.push(name);
            }
        }
    }
    assert!(failed.is_empty(), "{} of {} failed: {failed:#?}", failed.len(), files.len());
}
