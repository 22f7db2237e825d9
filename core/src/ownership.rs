//! Who answers for an address: sessions, claims and the wire.

pub mod record;
