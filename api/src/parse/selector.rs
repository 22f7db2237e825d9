//! LabelSelector → selector.
