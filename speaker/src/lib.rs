//! A speaker: takes part in deciding which node owns each address, and answers for those it owns.

pub mod net;
