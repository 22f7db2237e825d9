//! Why an object of configuration cannot be in force as it stands.

use std::fmt;
use std::sync::Arc;

use crate::address::AddressRange;
use crate::name::PoolName;

/// One fault of one object.
///
/// `Display` is a sentence for the object's condition and Event, in words that users of MetalLB know and match;
/// [`Refusal::reason`] is the same in one bounded word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The object is of another shape than its kind's: a field is of a wrong type, or one is missing.
    Unreadable {
        /// What is wrong, as whoever tried to read it says.
        fault: Arc<str>,
    },
    /// The pool lists no addresses.
    NoPrefixes,
    /// An entry of the pool's addresses is neither a CIDR nor a range.
    InvalidEntry {
        /// The entry as written.
        entry: String,
        /// What is wrong with it.
        fault: EntryFault,
    },
    /// Two entries of the pool have an address in common.
    OverlapsItself {
        /// The later entry.
        range: AddressRange,
        /// The earlier one.
        with: AddressRange,
    },
    /// Another pool that comes before this one has an address in common with it.
    Overlaps {
        /// This pool's range.
        range: AddressRange,
        /// The other pool.
        pool: PoolName,
        /// The other pool's range.
        with: AddressRange,
    },
    /// A list names the same thing twice.
    Duplicate {
        /// The list's field.
        field: &'static str,
        /// What stands there twice.
        value: String,
    },
    /// A list has the same selector twice.
    DuplicateSelector {
        /// The list's field.
        field: &'static str,
        /// The place of the second in the list, from 0.
        at: usize,
    },
    /// A selector means nothing.
    InvalidSelector {
        /// The field of the list that it stands in.
        field: &'static str,
        /// Its place in the list, from 0.
        at: usize,
        /// What is wrong with it.
        fault: SelectorFault,
    },
    /// A preference's weight is not within 1 to 100.
    InvalidWeight {
        /// The weight.
        weight: i32,
        /// The preference's place in the list, from 0.
        at: usize,
    },
}

/// What is wrong with an entry of a pool's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryFault {
    /// An address without a mask; a pool of one address is a /32 or a /128.
    NoMask,
    /// What should be an address is none.
    NotAnAddress,
    /// The mask is not a number of bits that the family has.
    InvalidMask,
    /// The ends of the range are of two families.
    MixedFamilies,
    /// The range starts after its end.
    Backwards,
}

/// What is wrong with a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectorFault {
    /// The operator is none of In, NotIn, Exists, DoesNotExist.
    UnknownOperator(String),
    /// In and NotIn need values.
    NoValues(String),
    /// Exists and DoesNotExist take none.
    NeedlessValues(String),
    /// An expression names a value twice.
    DuplicateValue(String),
    /// No label can have this key.
    InvalidKey(String),
    /// No label can have this value.
    InvalidValue(String),
}

impl Refusal {
    /// The fault in one word: a condition's or Event's reason, a metric's label.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "Unreadable",
            Self::NoPrefixes => "NoPrefixes",
            Self::InvalidEntry { .. } => "InvalidAddresses",
            Self::OverlapsItself { .. } | Self::Overlaps { .. } => "Overlap",
            Self::Duplicate { .. } | Self::DuplicateSelector { .. } => "Duplicate",
            Self::InvalidSelector { .. } => "InvalidSelector",
            Self::InvalidWeight { .. } => "InvalidWeight",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { fault } => write!(f, "cannot be read: {}", shortened(fault)),
            Self::NoPrefixes => f.write_str("pool has no prefixes defined"),
            Self::InvalidEntry { entry, fault } => match fault {
                EntryFault::NoMask => write!(
                    f,
                    "invalid CIDR {entry:?}: a mask is missing (a single address is a /32 or a /128)"
                ),
                EntryFault::NotAnAddress => {
                    write!(f, "invalid CIDR or range {entry:?}: not an IP address")
                }
                EntryFault::InvalidMask => {
                    write!(f, "invalid CIDR {entry:?}: the mask is no number of bits it has")
                }
                EntryFault::MixedFamilies => {
                    write!(f, "invalid IP range {entry:?}: its ends are of two address families")
                }
                EntryFault::Backwards => {
                    write!(f, "invalid IP range {entry:?}: it starts after its end")
                }
            },
            Self::OverlapsItself { range, with } => {
                write!(f, "{range} overlaps with already defined CIDR {with} of the same pool")
            }
            Self::Overlaps { range, pool, with } => write!(
                f,
                "{range} overlaps with already defined CIDR {with} of pool {:?}",
                pool.as_str()
            ),
            Self::Duplicate { field, value } => {
                write!(f, "duplicate definition in {field} field: {value:?}")
            }
            Self::DuplicateSelector { field, at } => {
                write!(f, "duplicate definition in {field} field: selector {at} stands there twice")
            }
            Self::InvalidSelector { field, at, fault } => {
                write!(f, "invalid label selector {at} in {field} field: {fault}")
            }
            Self::InvalidWeight { weight, at } => write!(
                f,
                "invalid weight {weight} of preference {at} in preferredNodeSelectors field: \
                 it must be within 1 to 100"
            ),
        }
    }
}

/// The beginning of a text that may quote what somebody wrote, however long that is.
fn shortened(text: &str) -> &str {
    const LONGEST: usize = 300;
    text.char_indices().nth(LONGEST).map_or(text, |(end, _)| &text[..end])
}

impl fmt::Display for SelectorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOperator(operator) => write!(f, "{operator:?} is no operator"),
            Self::NoValues(key) => write!(f, "the expression on {key:?} needs values"),
            Self::NeedlessValues(key) => write!(f, "the expression on {key:?} takes no values"),
            Self::DuplicateValue(value) => write!(f, "{value:?} stands there twice"),
            Self::InvalidKey(key) => write!(f, "{key:?} is no label key"),
            Self::InvalidValue(value) => write!(f, "{value:?} is no label value"),
        }
    }
}
