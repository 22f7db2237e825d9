//! The names of annotations and labels that Herald reads and writes.
