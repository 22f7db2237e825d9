//! Labels and what selects them, with the meaning of Kubernetes' `metav1.LabelSelector`.

use std::collections::{BTreeMap, BTreeSet};

/// An object's labels.
pub type Labels = BTreeMap<String, String>;

/// What an object's labels must satisfy: all of the requirements. None at all selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// Every one must hold.
    pub requirements: BTreeSet<Requirement>,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    /// The label exists and its value is one of these.
    In(String, BTreeSet<String>),
    /// The label is absent, or its value is none of these.
    NotIn(String, BTreeSet<String>),
    /// The label exists.
    Exists(String),
    /// The label is absent.
    DoesNotExist(String),
}

impl Selector {
    /// Whether `labels` satisfy every requirement.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}

/// Whether any of `selectors` selects `labels`, an empty list meaning no restriction, as in advertisements.
pub fn any_or_unrestricted(selectors: &[Selector], labels: &Labels) -> bool {
    selectors.is_empty() || selectors.iter().any(|selector| selector.selects(labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn selector(requirement: Requirement) -> Selector {
        Selector { requirements: BTreeSet::from([requirement]) }
    }

    #[test]
    fn each_requirement_means_what_kubernetes_says() {
        let values = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let absent = labels(&[]);
        let matching = labels(&[("zone", "a")]);
        let other = labels(&[("zone", "c")]);
        let cases = [
            (Requirement::In("zone".into(), values.clone()), [false, true, false]),
            (Requirement::NotIn("zone".into(), values), [true, false, true]),
            (Requirement::Exists("zone".into()), [false, true, true]),
            (Requirement::DoesNotExist("zone".into()), [true, false, false]),
        ];
        for (requirement, expected) in cases {
            let selector = selector(requirement);
            let found = [&absent, &matching, &other].map(|labels| selector.selects(labels));
            assert_eq!(found, expected, "{selector:?}");
        }
    }

    #[test]
    fn an_empty_selector_selects_everything_and_an_empty_list_restricts_nothing() {
        assert!(Selector::default().selects(&labels(&[("a", "b")])));
        assert!(any_or_unrestricted(&[], &labels(&[])));
        let exists = selector(Requirement::Exists("a".into()));
        assert!(!any_or_unrestricted(&[exists], &labels(&[])));
    }
}
