//! Writes `manifests/crds/`, one file for each kind, from the types in `herald_api::crd`.

use std::error::Error;
use std::fs;
use std::path::Path;

const GENERATED: &str =
    "# Generated from api/src/crd by `cargo run -p herald-api --example crds`. Do not edit.\n";

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crds");
    fs::create_dir_all(&folder)?;
    for crd in herald_api::crd::manifests() {
        let plural = crd["spec"]["names"]["plural"].as_str().ok_or("a kind without a name")?;
        let file = folder.join(format!("{plural}.yaml"));
        fs::write(&file, format!("{GENERATED}{}", serde_saphyr::to_string(&crd)?))?;
        println!("wrote {}", file.display());
    }
    Ok(())
}
