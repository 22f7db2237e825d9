//! Writes `manifests/crds/`, one file for each kind, from the types in `herald_api::crd`.

use std::error::Error;
use std::fs;
use std::path::Path;

const GENERATED: &str =
    "# Generated from api/src/crd by `cargo run -p herald-api --example crds`. Do not edit.\n";

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crds");
    fs::create_dir_all(&folder)?;
    for crd in herald_api::crd::definitions() {
        let file = folder.join(format!("{}.yaml", crd.spec.names.plural));
        fs::write(&file, format!("{GENERATED}{}", serde_saphyr::to_string(&crd)?))?;
        println!("wrote {}", file.display());
    }
    Ok(())
}
