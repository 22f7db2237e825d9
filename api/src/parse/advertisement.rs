//! L2Advertisement → advertisement.
