//! Every figure that the README quotes is printed by one of this crate's programs, beside its target.
#![forbid(unsafe_code)]
