//! LabelSelector → selector.

use std::collections::BTreeSet;

use herald_core::config::{Refusal, SelectorFault};
use herald_core::label::{Requirement, Selector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// The selectors of a list, in its order, and what is wrong with them: each must mean something, and no two the same.
///
/// `field` is the list's name in words for the user.
pub fn list(field: &'static str, selectors: &[LabelSelector]) -> (Vec<Selector>, Vec<Refusal>) {
    let mut parsed: Vec<Selector> = Vec::with_capacity(selectors.len());
    let mut refusals = Vec::new();
    for (at, selector) in selectors.iter().enumerate() {
        match one(selector) {
            Ok(selector) if parsed.contains(&selector) => {
                refusals.push(Refusal::DuplicateSelector { field, at });
            }
            Ok(selector) => parsed.push(selector),
            Err(fault) => refusals.push(Refusal::InvalidSelector { field, at, fault }),
        }
    }
    (parsed, refusals)
}

/// What a selector requires; an empty one requires nothing and selects everything.
///
/// # Errors
///
/// The first thing about it that no label could ever satisfy or that says nothing.
pub fn one(selector: &LabelSelector) -> Result<Selector, SelectorFault> {
    let mut requirements = BTreeSet::new();
    for (label, value) in selector.match_labels.iter().flatten() {
        let values = BTreeSet::from([checked_value(value)?]);
        requirements.insert(Requirement::In(checked_key(label)?, values));
    }
    for expression in selector.match_expressions.iter().flatten() {
        requirements.insert(requirement(expression)?);
    }
    Ok(Selector { requirements })
}

fn requirement(expression: &LabelSelectorRequirement) -> Result<Requirement, SelectorFault> {
    let key = checked_key(&expression.key)?;
    let mut values = BTreeSet::new();
    for value in expression.values.iter().flatten() {
        if !values.insert(checked_value(value)?) {
            return Err(SelectorFault::DuplicateValue(value.clone()));
        }
    }
    match (expression.operator.as_str(), values.is_empty()) {
        ("In" | "NotIn", true) => Err(SelectorFault::NoValues(key)),
        ("Exists" | "DoesNotExist", false) => Err(SelectorFault::NeedlessValues(key)),
        ("In", false) => Ok(Requirement::In(key, values)),
        ("NotIn", false) => Ok(Requirement::NotIn(key, values)),
        ("Exists", true) => Ok(Requirement::Exists(key)),
        ("DoesNotExist", true) => Ok(Requirement::DoesNotExist(key)),
        (unknown, _) => Err(SelectorFault::UnknownOperator(unknown.to_owned())),
    }
}

/// A label's key: a name of at most 63 bytes, before which a DNS subdomain and a slash may stand.
fn checked_key(key: &str) -> Result<String, SelectorFault> {
    let valid = match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
        None => is_name(key),
    };
    if valid { Ok(key.to_owned()) } else { Err(SelectorFault::InvalidKey(key.to_owned())) }
}

/// A label's value: a name, or nothing.
fn checked_value(value: &str) -> Result<String, SelectorFault> {
    if value.is_empty() || is_name(value) {
        Ok(value.to_owned())
    } else {
        Err(SelectorFault::InvalidValue(value.to_owned()))
    }
}

/// At most 63 letters, digits, `-`, `_` and `.`, the first and the last a letter or digit.
fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && is_framed(name, |byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
        })
}

/// At most 253 bytes of labels between dots: small letters, digits and `-` inside (RFC 1123).
fn is_subdomain(domain: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    domain.len() <= 253 && domain.split('.').all(|label| is_framed(label, inner))
}

/// Not empty, every byte `allowed`, the first and the last a letter or digit.
fn is_framed(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
        && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(key: &str, operator: &str, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: key.to_owned(),
                operator: operator.to_owned(),
                values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
            }]),
            ..LabelSelector::default()
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> LabelSelector {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        LabelSelector { match_labels: Some(pairs.collect()), ..LabelSelector::default() }
    }

    fn set(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn each_form_becomes_its_requirement() {
        let cases = [
            (LabelSelector::default(), vec![]),
            (labels(&[("a", "")]), vec![Requirement::In("a".into(), set(&[""]))]),
            (
                labels(&[("a.b/c", "x"), ("d", "y")]),
                vec![
                    Requirement::In("a.b/c".into(), set(&["x"])),
                    Requirement::In("d".into(), set(&["y"])),
                ],
            ),
            (
                expression("a", "In", &["y", "x"]),
                vec![Requirement::In("a".into(), set(&["x", "y"]))],
            ),
            (expression("a", "NotIn", &["x"]), vec![Requirement::NotIn("a".into(), set(&["x"]))]),
            (expression("a", "Exists", &[]), vec![Requirement::Exists("a".into())]),
            (expression("a", "DoesNotExist", &[]), vec![Requirement::DoesNotExist("a".into())]),
        ];
        for (selector, expected) in cases {
            let requirements = expected.into_iter().collect();
            assert_eq!(one(&selector), Ok(Selector { requirements }), "{selector:?}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let long = "a".repeat(64);
        let cases = [
            (expression("a", "in", &["x"]), SelectorFault::UnknownOperator("in".into())),
            (expression("a", "Gt", &[]), SelectorFault::UnknownOperator("Gt".into())),
            (expression("a", "In", &[]), SelectorFault::NoValues("a".into())),
            (expression("a", "NotIn", &[]), SelectorFault::NoValues("a".into())),
            (expression("a", "Exists", &["x"]), SelectorFault::NeedlessValues("a".into())),
            (expression("a", "DoesNotExist", &["x"]), SelectorFault::NeedlessValues("a".into())),
            (expression("a", "In", &["x", "x"]), SelectorFault::DuplicateValue("x".into())),
            (expression("a", "In", &["x y"]), SelectorFault::InvalidValue("x y".into())),
            (labels(&[("a", &long)]), SelectorFault::InvalidValue(long.clone())),
            (labels(&[("a", "x-")]), SelectorFault::InvalidValue("x-".into())),
            (labels(&[(&long, "x")]), SelectorFault::InvalidKey(long.clone())),
            (labels(&[("", "x")]), SelectorFault::InvalidKey(String::new())),
            (labels(&[("/a", "x")]), SelectorFault::InvalidKey("/a".into())),
            (labels(&[("B/a", "x")]), SelectorFault::InvalidKey("B/a".into())),
            (labels(&[("b..c/a", "x")]), SelectorFault::InvalidKey("b..c/a".into())),
            (labels(&[("b/a/c", "x")]), SelectorFault::InvalidKey("b/a/c".into())),
            (labels(&[("-a", "x")]), SelectorFault::InvalidKey("-a".into())),
        ];
        for (selector, fault) in cases {
            assert_eq!(one(&selector), Err(fault), "{selector:?}");
        }
    }

    #[test]
    fn a_list_keeps_its_order_and_refuses_each_fault_and_each_repetition_at_its_place() {
        let field = "nodeSelectors";
        let selectors = [
            labels(&[("b", "x")]),
            expression("a", "Gt", &[]),
            labels(&[("a", "x")]),
            // The same as the first, said in other words.
            expression("b", "In", &["x"]),
        ];
        let (parsed, refusals) = list(field, &selectors);
        let expected = [&selectors[0], &selectors[2]].map(|good| one(good).expect("good"));
        assert_eq!(parsed, expected);
        let fault = SelectorFault::UnknownOperator("Gt".into());
        assert_eq!(
            refusals,
            [
                Refusal::InvalidSelector { field, at: 1, fault },
                Refusal::DuplicateSelector { field, at: 3 },
            ]
        );
    }
}
