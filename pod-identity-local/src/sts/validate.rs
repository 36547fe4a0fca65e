//! Constraints of the service model for each parameter. All violations are reported together, in AWS's words.

use super::error::StsError;

/// The constraint of a text.
#[derive(Clone, Copy)]
pub(super) struct Constraint {
    pub(super) min: usize,
    pub(super) max: usize,
    pub(super) pattern: Option<Pattern>,
    /// Whether messages must not contain the text.
    pub(super) secret: bool,
}

impl Constraint {
    /// Creates a constraint of length and pattern.
    pub(super) const fn new(min: usize, max: usize, pattern: Option<Pattern>) -> Self {
        Self { min, max, pattern, secret: false }
    }
}

/// A set of characters, and the regular expression in AWS's message.
#[derive(Clone, Copy)]
pub(super) struct Pattern(pub(super) fn(char) -> bool, pub(super) &'static str);

/// The violations of a request's parameters.
#[derive(Default)]
pub(super) struct Violations {
    violations: Vec<String>,
}

impl Violations {
    /// Checks a required text. Returns an empty text if it is absent.
    pub(super) fn required<'f>(
        &mut self,
        name: &str,
        value: Option<&'f str>,
        constraint: Constraint,
    ) -> &'f str {
        match value {
            Some(value) => {
                self.text(name, value, constraint);
                value
            }
            None => {
                self.add("null", name, "Member must not be null");
                ""
            }
        }
    }

    /// Checks a text. Messages do not contain secrets.
    pub(super) fn text(&mut self, name: &str, value: &str, constraint: Constraint) {
        let shown = if constraint.secret { "***".to_owned() } else { format!("'{value}'") };
        let length = value.chars().count();
        if length < constraint.min {
            self.add(
                &shown,
                name,
                &format!("Member must have length greater than or equal to {}", constraint.min),
            );
        }
        if length > constraint.max {
            self.add(
                &shown,
                name,
                &format!("Member must have length less than or equal to {}", constraint.max),
            );
        }
        if let Some(Pattern(allowed, pattern)) = constraint.pattern
            && !value.chars().all(allowed)
        {
            self.add(&shown, name, &format!("Member must satisfy regular expression pattern: {pattern}"));
        }
    }

    /// Checks the number of members of a list.
    pub(super) fn count(&mut self, name: &str, count: usize, max: usize) {
        if count > max {
            let constraint = format!("Member must have length less than or equal to {max}");
            self.add(&format!("'[{count} members]'"), name, &constraint);
        }
    }

    /// Checks a whole number. Returns `None` if it is absent or invalid.
    pub(super) fn number(&mut self, name: &str, value: Option<&str>, min: u64, max: u64) -> Option<u64> {
        let text = value?;
        let Ok(number) = text.parse::<i64>() else {
            self.add(&format!("'{text}'"), name, "Member must be an integer");
            return None;
        };
        match u64::try_from(number) {
            Ok(number) if (min..=max).contains(&number) => Some(number),
            Ok(number) if number > max => {
                let constraint = format!("Member must have value less than or equal to {max}");
                self.add(&format!("'{number}'"), name, &constraint);
                None
            }
            _ => {
                let constraint = format!("Member must have value greater than or equal to {min}");
                self.add(&format!("'{number}'"), name, &constraint);
                None
            }
        }
    }

    fn add(&mut self, value: &str, name: &str, constraint: &str) {
        self.violations.push(format!("Value {value} at '{name}' failed to satisfy constraint: {constraint}"));
    }

    /// Returns the error of all violations, if there is one.
    pub(super) fn check(self) -> Result<(), StsError> {
        let count = self.violations.len();
        if count == 0 {
            return Ok(());
        }
        let errors = if count == 1 { "error" } else { "errors" };
        let message = format!("{count} validation {errors} detected: {}", self.violations.join("; "));
        Err(StsError::validation(message))
    }
}
