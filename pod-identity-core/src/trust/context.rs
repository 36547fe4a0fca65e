//! The condition context: the condition keys of a request.

use std::collections::BTreeMap;

use super::principal::Caller;

/// The condition keys of one request, with their values. Names are compared without case.
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
    /// Returns the condition keys of the caller: `aws:PrincipalArn` (for a session, its role's ARN) and
    /// `aws:PrincipalAccount`. Services and web identities have neither.
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

    /// Sets a key to one value.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.values.insert(key.to_lowercase(), vec![value.into()]);
    }

    /// Sets a key to several values. A key without values is absent.
    pub fn set_all<V: Into<String>>(&mut self, key: &str, values: impl IntoIterator<Item = V>) {
        let values: Vec<String> = values.into_iter().map(Into::into).collect();
        if values.is_empty() {
            self.values.remove(&key.to_lowercase());
        } else {
            self.values.insert(key.to_lowercase(), values);
        }
    }

    /// Sets the session tags of the request, passed or inherited: `aws:RequestTag/…` and `aws:TagKeys`.
    pub fn request_tags<'a>(&mut self, tags: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let mut keys = Vec::new();
        for (key, value) in tags {
            self.set(&format!("aws:RequestTag/{key}"), value);
            keys.push(key);
        }
        self.set_all("aws:TagKeys", keys);
    }

    /// Sets the tags of the caller: `aws:PrincipalTag/…`. Tags of its session override those of its role.
    pub fn principal_tags<'a>(&mut self, tags: impl IntoIterator<Item = (&'a str, &'a str)>) {
        for (key, value) in tags {
            self.set(&format!("aws:PrincipalTag/{key}"), value);
        }
    }

    /// Returns the values of a key, or `None` if it is absent.
    pub fn values(&self, key: &str) -> Option<&[String]> {
        self.values.get(&key.to_lowercase()).map(Vec::as_slice)
    }
}
