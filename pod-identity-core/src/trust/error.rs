//! Why a policy could not be read.

/// A policy that was refused, with the place in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", if place.is_empty() { String::new() } else { format!("{place}: ") })]
pub struct PolicyError {
    place: String,
    problem: Problem,
}

/// What is wrong at that place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("not a JSON policy: {0}")]
    Json(String),
    #[error("{length} characters without white space, {limit} are allowed")]
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

    /// Where in the policy: `Statement[0].Condition.StringEquals`; empty for the whole of it.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether IAM may take the policy and only this reader does not understand it (yet): a condition
    /// operator, a condition key or a policy variable that is not implemented here.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.problem, Problem::Unsupported(_))
    }
}
