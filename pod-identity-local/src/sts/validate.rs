//! The service model's constraints on each parameter, refused all together in AWS's words.

use super::error::Refusal;

/// What a text must keep to.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    pub(super) min: usize,
    pub(super) max: usize,
    pub(super) pattern: Option<Pattern>,
    /// Whether the text may not be repeated.
    pub(super) secret: bool,
}

impl Rule {
    /// So many characters of that pattern.
    pub(super) const fn new(min: usize, max: usize, pattern: Option<Pattern>) -> Self {
        Self { min, max, pattern, secret: false }
    }
}

/// A set of characters, and the pattern that AWS shows for it.
#[derive(Clone, Copy)]
pub(super) struct Pattern(pub(super) fn(char) -> bool, pub(super) &'static str);

/// The faults that were found so far.
#[derive(Default)]
pub(super) struct Faults {
    faults: Vec<String>,
}

impl Faults {
    /// A text that must be there and keep to its rule; an empty one where it is not there.
    pub(super) fn required<'f>(&mut self, name: &str, value: Option<&'f str>, rule: Rule) -> &'f str {
        match value {
            Some(value) => {
                self.text(name, value, rule);
                value
            }
            None => {
                self.add("null", name, "Member must not be null");
                ""
            }
        }
    }

    /// Checks a text. Secrets are not repeated in the message.
    pub(super) fn text(&mut self, name: &str, value: &str, rule: Rule) {
        let shown = if rule.secret { "***".to_owned() } else { format!("'{value}'") };
        let length = value.chars().count();
        if length < rule.min {
            self.add(&shown, name, &format!("Member must have length greater than or equal to {}", rule.min));
        }
        if length > rule.max {
            self.add(&shown, name, &format!("Member must have length less than or equal to {}", rule.max));
        }
        if let Some(Pattern(allowed, pattern)) = rule.pattern
            && !value.chars().all(allowed)
        {
            self.add(&shown, name, &format!("Member must satisfy regular expression pattern: {pattern}"));
        }
    }

    /// Checks how many members a list has.
    pub(super) fn count(&mut self, name: &str, count: usize, max: usize) {
        if count > max {
            let constraint = format!("Member must have length less than or equal to {max}");
            self.add(&format!("'[{count} members]'"), name, &constraint);
        }
    }

    /// A whole number within bounds; `None` where it is absent or wrong.
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
        self.faults.push(format!("Value {value} at '{name}' failed to satisfy constraint: {constraint}"));
    }

    /// Refuses the request if there was any fault.
    pub(super) fn check(self) -> Result<(), Refusal> {
        let count = self.faults.len();
        if count == 0 {
            return Ok(());
        }
        let errors = if count == 1 { "error" } else { "errors" };
        let message = format!("{count} validation {errors} detected: {}", self.faults.join("; "));
        Err(Refusal::validation(message))
    }
}
