//! Errors of parsing a policy.

/// Error of parsing a policy, with the position in the policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", if place.is_empty() { String::new() } else { format!("{place}: ") })]
pub struct PolicyError {
    place: String,
    problem: Problem,
}

/// The error without its position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("not a JSON policy: {0}")]
    Json(String),
    #[error("{length} characters without white space, want at most {limit}")]
    Length { length: usize, limit: usize },
    #[error("character {0:?} is outside U+0009, U+000A, U+000D, U+0020-U+00FF")]
    Character(char),
    #[error("{0}")]
    Form(String),
    #[error("{0}")]
    Unsupported(String),
}

impl PolicyError {
    pub(super) fn new(place: &str, problem: Problem) -> Self {
        Self { place: place.to_owned(), problem }
    }

    pub(super) fn form(place: &str, problem: impl Into<String>) -> Self {
        Self::new(place, Problem::Form(problem.into()))
    }

    pub(super) fn unsupported(place: &str, problem: impl Into<String>) -> Self {
        Self::new(place, Problem::Unsupported(problem.into()))
    }

    /// Returns the position in the policy, for example `Statement[0].Condition.StringEquals`. It is empty for the
    /// whole policy.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Returns whether IAM may accept the policy although this crate does not: it has a condition operator, a
    /// condition key or a policy variable that is not supported here.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.problem, Problem::Unsupported(_))
    }
}
