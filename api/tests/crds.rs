//! `manifests/crds/` says what the types say.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use serde_json::Value;

#[test]
fn the_crds_in_manifests_are_those_of_the_types() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crds");
    let mut written = BTreeMap::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if name.as_deref() != Some("kustomization.yaml") {
            written.insert(name.unwrap_or_default(), serde_saphyr::from_str::<Value>(&text)?);
        }
    }
    let mut generated = BTreeMap::new();
    for crd in herald_api::crd::manifests() {
        let plural = crd["spec"]["names"]["plural"].as_str().ok_or("a kind without a name")?;
        generated.insert(format!("{plural}.yaml"), crd);
    }
    assert!(
        written == generated,
        "manifests/crds/ is not what api/src/crd says: run `cargo run -p herald-api --example crds`"
    );
    Ok(())
}
