//! Which Service gets which address.
