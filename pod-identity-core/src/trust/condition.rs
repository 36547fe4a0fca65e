//! Conditions of a statement (*IAM JSON policy elements: Condition operators*, *Multivalued context keys*).

use super::context::Context;
use super::decision::Miss;
use super::document::{Node, object};
use super::error::PolicyError;
use super::key::Key;
use super::pattern;

/// A condition on one key with one operator. One of the values must match. All conditions of a statement must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    /// The operator as in the policy, with prefix and suffix.
    operator: String,
    over: Over,
    /// Whether the operator has the suffix `IfExists`, with which an absent key passes.
    if_exists: bool,
    test: Test,
    key: Key,
    /// The values as in the policy.
    wanted: Vec<String>,
}

/// The values of the key that must pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// The key has one value.
    One,
    /// `ForAllValues:`, which passes without a value.
    All,
    /// `ForAnyValue:`, which fails without a value.
    Any,
}

/// The comparison of an operator. Operators of other types (numbers, dates, addresses) are not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Text {
        comparison: Comparison,
        negated: bool,
    },
    Arn {
        negated: bool,
    },
    /// `Null`: whether the key is absent (`"true"`) or present (`"false"`).
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equals,
    EqualsIgnoreCase,
    Like,
}

/// Valid operators of IAM that are not supported here.
const LATER: [&str; 16] = [
    "NumericEquals",
    "NumericNotEquals",
    "NumericLessThan",
    "NumericLessThanEquals",
    "NumericGreaterThan",
    "NumericGreaterThanEquals",
    "DateEquals",
    "DateNotEquals",
    "DateLessThan",
    "DateLessThanEquals",
    "DateGreaterThan",
    "DateGreaterThanEquals",
    "Bool",
    "BinaryEquals",
    "IpAddress",
    "NotIpAddress",
];

impl Test {
    fn named(name: &str) -> Option<Self> {
        let text = |comparison, negated| Some(Self::Text { comparison, negated });
        match name {
            "StringEquals" => text(Comparison::Equals, false),
            "StringNotEquals" => text(Comparison::Equals, true),
            "StringEqualsIgnoreCase" => text(Comparison::EqualsIgnoreCase, false),
            "StringNotEqualsIgnoreCase" => text(Comparison::EqualsIgnoreCase, true),
            "StringLike" => text(Comparison::Like, false),
            "StringNotLike" => text(Comparison::Like, true),
            // The two positive ARN operators are equal, and so are the two negative ones.
            "ArnEquals" | "ArnLike" => Some(Self::Arn { negated: false }),
            "ArnNotEquals" | "ArnNotLike" => Some(Self::Arn { negated: true }),
            "Null" => Some(Self::Null),
            _ => None,
        }
    }

    fn negated(self) -> bool {
        matches!(self, Self::Text { negated: true, .. } | Self::Arn { negated: true })
    }

    /// Returns whether a value of the request matches a value of the policy, before negation.
    fn fits(self, wanted: &str, actual: &str) -> bool {
        match self {
            Self::Text { comparison: Comparison::Equals, .. } => wanted == actual,
            Self::Text { comparison: Comparison::EqualsIgnoreCase, .. } => {
                wanted.to_lowercase() == actual.to_lowercase()
            }
            Self::Text { comparison: Comparison::Like, .. } => pattern::matches(wanted, actual),
            Self::Arn { .. } => pattern::matches_arn(wanted, actual),
            Self::Null => false,
        }
    }
}

/// Reads a `Condition` block. If the statement is about other actions (`decides` is false), unsupported keys,
/// variables and operators are skipped. Misspelled operators are always an error.
pub(super) fn read(
    place: &str,
    node: &Node,
    variables: bool,
    decides: bool,
) -> Result<Vec<Condition>, PolicyError> {
    let mut conditions: Vec<Condition> = Vec::new();
    for (operator, keys) in object(place, node)? {
        let place = &format!("{place}.{operator}");
        for (key, values) in object(place, keys)? {
            match Condition::read(place, operator, key, values, variables) {
                Err(error) if error.is_unsupported() && !decides => {}
                Err(error) => return Err(error),
                Ok(condition) => {
                    let duplicate = conditions.iter().any(|earlier| {
                        earlier.operator == condition.operator && earlier.key.text.eq_ignore_ascii_case(key)
                    });
                    if duplicate {
                        return Err(PolicyError::form(place, format!("the key {key:?} is duplicate")));
                    }
                    conditions.push(condition);
                }
            }
        }
    }
    Ok(conditions)
}

/// Returns the error for a policy variable, which would otherwise be compared literally.
pub(super) fn variable(place: &str, text: &str) -> PolicyError {
    PolicyError::unsupported(place, format!("the policy variable in {text:?} is not supported here"))
}

impl Condition {
    fn read(
        place: &str,
        operator: &str,
        key: &str,
        values: &Node,
        variables: bool,
    ) -> Result<Self, PolicyError> {
        let (over, rest) = match operator.split_once(':') {
            Some(("ForAllValues", rest)) => (Over::All, rest),
            Some(("ForAnyValue", rest)) => (Over::Any, rest),
            _ => (Over::One, operator),
        };
        let (name, if_exists) = rest.strip_suffix("IfExists").map_or((rest, false), |name| (name, true));
        if LATER.contains(&name) {
            return Err(PolicyError::unsupported(
                place,
                format!("the condition operator {operator:?} is not supported here"),
            ));
        }
        let test = Test::named(name)
            .filter(|test| *test != Test::Null || (over == Over::One && !if_exists))
            .ok_or_else(|| PolicyError::form(place, format!("{operator:?} is not a condition operator")))?;
        let wanted = wanted(place, values)?;
        let key = Key::read(place, key)?;
        if key.multivalued && over == Over::One && test != Test::Null {
            return Err(PolicyError::form(
                place,
                format!("{:?} has several values: use ForAllValues: or ForAnyValue:", key.text),
            ));
        }
        for text in &wanted {
            match test {
                Test::Null if text != "true" && text != "false" => {
                    return Err(PolicyError::form(place, format!("{text:?} is neither true nor false")));
                }
                Test::Text { .. } | Test::Arn { .. } if variables && text.contains("${") => {
                    return Err(variable(place, text));
                }
                Test::Arn { .. } if text.splitn(6, ':').count() < 6 => {
                    return Err(PolicyError::form(
                        place,
                        format!("{text:?} is not an ARN of six parts ; use StringLike for other text"),
                    ));
                }
                _ => {}
            }
        }
        Ok(Self { operator: operator.to_owned(), over, if_exists, test, key, wanted })
    }

    /// Returns the mismatch if the condition does not hold.
    pub(super) fn miss(&self, context: &Context) -> Option<Miss> {
        let actual = context.values(&self.key.text);
        (!self.holds(actual.unwrap_or_default())).then(|| Miss::Condition {
            key: self.key.text.clone(),
            operator: self.operator.clone(),
            wanted: self.wanted.clone(),
            actual: actual.map(<[String]>::to_vec),
        })
    }

    fn holds(&self, actual: &[String]) -> bool {
        if self.test == Test::Null {
            let absent = if actual.is_empty() { "true" } else { "false" };
            return self.wanted.iter().any(|wanted| wanted == absent);
        }
        if actual.is_empty() {
            return match self.over {
                _ if self.if_exists => true,
                Over::All => true,
                Over::Any => false,
                Over::One => self.test.negated(),
            };
        }
        let passes = |value: &String| {
            self.wanted.iter().any(|wanted| self.test.fits(wanted, value)) != self.test.negated()
        };
        match self.over {
            Over::All | Over::One => actual.iter().all(passes),
            Over::Any => actual.iter().any(passes),
        }
    }
}

/// Reads the values of a condition: strings, or booleans and numbers without quotes, one or a list.
fn wanted(place: &str, node: &Node) -> Result<Vec<String>, PolicyError> {
    let one = |node: &Node| match node {
        Node::Text(text) | Node::Number(text) => Ok(text.clone()),
        Node::Bool(value) => Ok(value.to_string()),
        other => Err(PolicyError::form(place, format!("a value is {}, want a string", other.kind()))),
    };
    match node {
        Node::List(items) => items.iter().map(one).collect(),
        single => Ok(vec![one(single)?]),
    }
}
