//! One statement of a policy.

use super::action::{Action, Effect};
use super::condition::Condition;
use super::pattern;
use super::principal::Named;

/// One statement of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) sid: Option<String>,
    pub(super) effect: Effect,
    /// `None` in an identity policy.
    pub(super) principals: Option<Vec<Named>>,
    pub(super) actions: Patterns,
    /// `None` in a trust policy: the resource is the role that carries it.
    pub(super) resources: Option<Patterns>,
    pub(super) conditions: Vec<Condition>,
}

/// The values of `Action` or `Resource`, or of `NotAction` or `NotResource`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Patterns {
    pub(super) texts: Vec<String>,
    pub(super) inverted: bool,
}

impl Patterns {
    /// The patterns for a message; inverted ones say so.
    pub(super) fn described(&self) -> Vec<String> {
        let not = if self.inverted { "all but " } else { "" };
        self.texts.iter().map(|text| format!("{not}{text}")).collect()
    }

    /// Whether an action fits. Its service and its name are compared without case.
    pub(super) fn fit_action(&self, action: Action) -> bool {
        let action = action.as_str().to_ascii_lowercase();
        let fits = self.texts.iter().any(|text| pattern::matches(&text.to_ascii_lowercase(), &action));
        fits != self.inverted
    }

    /// Whether a resource fits. Parts that an ARN lacks at its end stand for `*` (*Resource*,
    /// "incomplete ARN").
    pub(super) fn fit_resource(&self, arn: &str) -> bool {
        let fits = self.texts.iter().any(|text| {
            let missing = 5usize.saturating_sub(text.matches(':').count());
            text == "*" || pattern::matches_arn(&format!("{text}{}", ":*".repeat(missing)), arn)
        });
        fits != self.inverted
    }
}
