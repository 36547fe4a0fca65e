//! The condition context: what is known about a request, by condition key.

use std::collections::BTreeMap;

use super::principal::Caller;

/// The condition keys of one request and their values. Key names are compared without case.
///
/// ```
/// use pod_identity_core::trust::{Caller, Context};
///
/// let caller = Caller::Service { name: "pods.eks.amazonaws.com".to_owned() };
/// let mut context = Context::of(&caller);
/// context.set("aws:SourceAccount", "111122223333");
/// assert_eq!(context.values("AWS:sourceaccount").unwrap(), ["111122223333"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    values: BTreeMap<String, Vec<String>>,
}

impl Context {
    /// The keys that come from the caller itself: `aws:PrincipalArn` (of a session: its role's ARN)
    /// and `aws:PrincipalAccount`. Services and web identities have neither.
    pub fn of(caller: &Caller) -> Self {
        let mut context = Self::default();
        if let Some(arn) = caller.principal_arn() {
            context.set("aws:PrincipalArn", arn);
        }
        if let Some(account) = caller.account() {
            context.set("aws:PrincipalAccount", account.as_str());
        }
        context
    }

    /// Gives a key one value in place of those it had.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.values.insert(key.to_lowercase(), vec![value.into()]);
    }

    /// Gives a key several values in place of those it had. A key without values is an absent one.
    pub fn set_all<V: Into<String>>(&mut self, key: &str, values: impl IntoIterator<Item = V>) {
        let values: Vec<String> = values.into_iter().map(Into::into).collect();
        if values.is_empty() {
            self.values.remove(&key.to_lowercase());
        } else {
            self.values.insert(key.to_lowercase(), values);
        }
    }

    /// The session tags of the request, passed or inherited: `aws:RequestTag/…` and `aws:TagKeys`.
    pub fn request_tags<'a>(&mut self, tags: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let mut keys = Vec::new();
        for (key, value) in tags {
            self.set(&format!("aws:RequestTag/{key}"), value);
            keys.push(key);
        }
        self.set_all("aws:TagKeys", keys);
    }

    /// The tags of the caller, its session's before its role's: `aws:PrincipalTag/…`.
    pub fn principal_tags<'a>(&mut self, tags: impl IntoIterator<Item = (&'a str, &'a str)>) {
        for (key, value) in tags {
            self.set(&format!("aws:PrincipalTag/{key}"), value);
        }
    }

    /// The values of a key; `None` where it is absent.
    pub fn values(&self, key: &str) -> Option<&[String]> {
        self.values.get(&key.to_lowercase()).map(Vec::as_slice)
    }
}
