//! IPAddressPool → pool.
