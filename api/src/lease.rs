//! Sessions and claims as Lease objects.
