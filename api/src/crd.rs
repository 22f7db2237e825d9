//! The kinds of `metallb.io`.
