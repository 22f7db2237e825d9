//! The `links` annotation: a list in compact JSON.

use herald_core::ownership::record::Link;
use herald_core::wire::Mac;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Stored {
    name: String,
    mac: String,
    prefixes: Vec<String>,
    carrier: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deaf: bool,
}

pub(super) fn encode(links: &[Link]) -> String {
    let stored = links.iter().map(|link| Stored {
        name: link.name.to_string(),
        mac: link.mac.to_string(),
        prefixes: link.prefixes.iter().map(ToString::to_string).collect(),
        carrier: link.carrier,
        deaf: link.deaf,
    });
    let stored: Vec<Stored> = stored.collect();
    serde_json::to_string(&stored).expect("a list of strings and booleans is always JSON")
}

/// The links that [`encode`] wrote; `None` for any other text.
pub(super) fn decode(text: &str) -> Option<Vec<Link>> {
    let stored: Vec<Stored> = serde_json::from_str(text).ok()?;
    stored.into_iter().map(link).collect()
}

fn link(stored: Stored) -> Option<Link> {
    let prefixes: Result<Vec<IpNetwork>, _> = stored.prefixes.iter().map(|p| p.parse()).collect();
    Some(Link {
        name: stored.name.into(),
        mac: mac(&stored.mac)?,
        prefixes: prefixes.ok()?,
        carrier: stored.carrier,
        deaf: stored.deaf,
    })
}

fn mac(text: &str) -> Option<Mac> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2)?;
        // from_str_radix accepts a sign.
        let hex = part.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = u8::from_str_radix(part, 16).ok().filter(|_| hex)?;
    }
    parts.next().is_none().then_some(Mac(bytes))
}
