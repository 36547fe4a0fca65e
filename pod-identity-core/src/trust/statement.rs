//! One statement of a policy.

use super::action::{Action, Effect};
use super::condition::Condition;
use super::pattern;
use super::principal::Principal;

/// One statement of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) sid: Option<String>,
    pub(super) effect: Effect,
    /// `None` in an identity policy.
    pub(super) principals: Option<Vec<Principal>>,
    pub(super) actions: Patterns,
    /// `None` in a trust policy, whose resource is its role.
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
    /// Returns the patterns for a message.
    pub(super) fn described(&self) -> Vec<String> {
        let not = if self.inverted { "all but " } else { "" };
        self.texts.iter().map(|text| format!("{not}{text}")).collect()
    }

    /// Returns whether an action matches. Case does not matter.
    pub(super) fn fit_action(&self, action: Action) -> bool {
        let action = action.as_str().to_ascii_lowercase();
        let fits = self.texts.iter().any(|text| pattern::matches(&text.to_ascii_lowercase(), &action));
        fits != self.inverted
    }

    /// Returns whether a resource matches. Missing parts at the end of an ARN match as `*` (*Resource*, "incomplete
    /// ARN").
    pub(super) fn fit_resource(&self, arn: &str) -> bool {
        let fits = self.texts.iter().any(|text| {
            let missing = 5usize.saturating_sub(text.matches(':').count());
            text == "*" || pattern::matches_arn(&format!("{text}{}", ":*".repeat(missing)), arn)
        });
        fits != self.inverted
    }
}
