//! The project's own chores: `cargo xtask <chore>`.
#![forbid(unsafe_code)]

mod controlplane;

use std::path::{Path, PathBuf};

use clap::Parser;

/// The project's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Chore {
    /// Build what is missing of the lab's control plane, and print the folder where it lies.
    Controlplane,
}

fn main() -> anyhow::Result<()> {
    match Chore::parse() {
        Chore::Controlplane => controlplane::run(&workspace()),
    }
}

/// The root of the work tree that this program was built from.
fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}
