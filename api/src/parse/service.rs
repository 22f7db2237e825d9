//! Service → what the speaker announces.
