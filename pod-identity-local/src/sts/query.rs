//! Parameters of the query protocol: a flat form whose names encode lists (`Tags.member.1.Key`).

use std::collections::BTreeMap;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, header};

use super::error::StsError;

/// The parameters of a request. It has no `Debug`, because tokens are among the values.
pub(super) struct Form {
    values: BTreeMap<String, String>,
}

impl Form {
    /// Reads the query of a GET, or the form in the body of a POST.
    pub(super) fn read(parts: &Parts, body: &[u8]) -> Result<Self, StsError> {
        if parts.uri.path() != "/" {
            return Err(StsError::not_found());
        }
        let form = match parts.method {
            Method::GET => parts.uri.query().unwrap_or_default().as_bytes(),
            Method::POST if is_form(parts) => body,
            Method::POST => {
                return Err(StsError::malformed_query(format!(
                    "{} must be application/x-www-form-urlencoded",
                    header::CONTENT_TYPE
                )));
            }
            _ => return Err(StsError::not_found()),
        };
        let mut values = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(form) {
            if values.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                return Err(StsError::malformed_query(format!("The parameter {name} occurs twice")));
            }
        }
        Ok(Self { values })
    }

    /// Returns a parameter's value.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Returns the members of a list of structures with their fields, in the order of their numbers. A member of a list
    /// of plain values has its value under the empty name.
    pub(super) fn list(&self, name: &str) -> Vec<BTreeMap<&str, &str>> {
        let prefix = format!("{name}.member.");
        let mut members: BTreeMap<u32, BTreeMap<&str, &str>> = BTreeMap::new();
        for (key, value) in self.values.range(prefix.clone()..) {
            let Some(rest) = key.strip_prefix(&prefix) else { break };
            let (number, field) = rest.split_once('.').unwrap_or((rest, ""));
            if let Ok(number) = number.parse() {
                members.entry(number).or_default().insert(field, value);
            }
        }
        members.into_values().collect()
    }

    /// Whether a parameter has this name, or belongs to a list or structure of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        let part = format!("{name}.");
        self.values.iter().any(|(key, value)| (key == name && !value.is_empty()) || key.starts_with(&part))
    }
}

fn is_form(parts: &Parts) -> bool {
    let value = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}
