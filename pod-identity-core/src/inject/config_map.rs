//! The RoleConfigMap `pod-identity-webhook`: roles by namespace and service account, as installers write it that
//! make roles and accounts together.
//!
//! The form is that of AWS's webhook: under the key `config` a JSON object from `namespace/account` to
//! `RoleARN`, `Audience`, `UseRegionalSTS`, `TokenExpiration`. A namespace may be `*`, or begin a name and end
//! in `*`. AWS's documentation shows the latter, and its code looks up the former only.

use std::collections::{BTreeMap, HashMap};

use crate::identity::{InvalidName, Namespace, ServiceAccount};
use crate::json::{self, JsonError};
use serde_json::Value;

use super::service_account::{Role, ServiceAccountSettings, audience};
use super::settings::{Settings, TokenExpiration};
use super::warning::WarningReason;

/// Roles by account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleConfigMap {
    accounts: HashMap<ServiceAccount, Entries>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Entries {
    exact: HashMap<Namespace, ServiceAccountSettings>,
    /// Beginnings of namespaces, the longest first: it says most.
    beginnings: Vec<(String, ServiceAccountSettings)>,
}

/// Why a RoleConfigMap cannot be used. One wrong entry is enough: half a map would take roles away from pods.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigMapError {
    /// It is no JSON object, or repeats a key.
    #[error("the ConfigMap's config: {0}")]
    Json(#[from] JsonError),
    /// A key that names no account.
    #[error("the ConfigMap's config: {0:?} is not namespace/account, */account or beginning*/account")]
    Key(String),
    /// A name that is none.
    #[error("the ConfigMap's config: {key:?}: {reason}")]
    Name {
        /// The entry's key.
        key: String,
        /// The rule.
        reason: InvalidName,
    },
    /// An entry's member that is not known, or not of its type.
    #[error("the ConfigMap's config: {key:?}: {member} is not {expected}")]
    Member {
        /// The entry's key.
        key: String,
        /// The member.
        member: String,
        /// What it would have to be.
        expected: &'static str,
    },
}

impl RoleConfigMap {
    /// Reads the text under the key `config`.
    ///
    /// # Errors
    /// [`ConfigMapError`] with the entry.
    pub fn parse(config: &str, settings: &Settings) -> Result<Self, ConfigMapError> {
        let entries: BTreeMap<String, BTreeMap<String, Value>> = json::from_slice(config.as_bytes())?;
        let mut map = Self::default();
        for (key, members) in entries {
            let (namespace, account) = key
                .split_once('/')
                .filter(|(namespace, _)| !namespace.is_empty())
                .ok_or_else(|| ConfigMapError::Key(key.clone()))?;
            let name = |reason| ConfigMapError::Name { key: key.clone(), reason };
            let found = entry(&key, members, settings)?;
            let entries = map.accounts.entry(account.parse().map_err(name)?).or_default();
            if let Some(beginning) = namespace.strip_suffix('*') {
                // What begins a namespace's name is one itself, but for a hyphen at its end.
                if !beginning.is_empty() {
                    format!("{beginning}0").parse::<Namespace>().map_err(name)?;
                }
                entries.beginnings.push((beginning.to_owned(), found));
            } else {
                entries.exact.insert(namespace.parse().map_err(name)?, found);
            }
        }
        for entries in map.accounts.values_mut() {
            entries.beginnings.sort_by_key(|(beginning, _)| std::cmp::Reverse(beginning.len()));
        }
        Ok(map)
    }

    /// What is said of an account: under its exact namespace, else under the longest beginning of it.
    pub fn lookup(&self, namespace: &Namespace, account: &ServiceAccount) -> Option<&ServiceAccountSettings> {
        let entries = self.accounts.get(account)?;
        let begins = |beginning: &String| namespace.as_str().starts_with(beginning.as_str());
        let pattern =
            || entries.beginnings.iter().find(|(beginning, _)| begins(beginning)).map(|(_, found)| found);
        entries.exact.get(namespace).or_else(pattern)
    }
}

fn entry(
    key: &str,
    members: BTreeMap<String, Value>,
    settings: &Settings,
) -> Result<ServiceAccountSettings, ConfigMapError> {
    let mut found = ServiceAccountSettings::default();
    for (member, value) in members {
        let wrong =
            |expected| ConfigMapError::Member { key: key.to_owned(), member: member.clone(), expected };
        // Go reads the names of members without regard to their case.
        match member.to_ascii_lowercase().as_str() {
            "rolearn" => {
                let text = value.as_str().ok_or_else(|| wrong("a text"))?;
                found.role = Role::parse(text, settings);
            }
            "audience" => {
                let text = value.as_str().ok_or_else(|| wrong("a text"))?;
                // Installers write nothing for what they do not set.
                if !text.is_empty() {
                    found.audience = audience(&member, text, &mut found.unused);
                }
            }
            "useregionalsts" => {
                found.regional_sts = Some(value.as_bool().ok_or_else(|| wrong("true or false"))?);
            }
            "tokenexpiration" => {
                let asked = value.as_i64().ok_or_else(|| wrong("a number of seconds"))?;
                let given = TokenExpiration::nearest(asked);
                // Installers write 0 for what they do not set.
                found.token_expiration = (asked != 0).then_some(given);
                if asked != 0 && i64::from(given.seconds()) != asked {
                    found.unused.push(WarningReason::ExpirationMoved { asked, given });
                }
            }
            _ => return Err(wrong("one of RoleARN, Audience, UseRegionalSTS and TokenExpiration")),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(config: &str) -> Result<RoleConfigMap, String> {
        RoleConfigMap::parse(config, &Settings::default()).map_err(|error| error.to_string())
    }

    fn role(map: &RoleConfigMap, namespace: &str, account: &str) -> Option<String> {
        let found = map.lookup(&namespace.parse().unwrap(), &account.parse().unwrap())?;
        Some(found.role.as_ref()?.as_str().rsplit('/').next()?.to_owned())
    }

    #[test]
    fn an_exact_namespace_counts_before_the_longest_beginning() {
        let config = |key: &str, role: &str| {
            format!(r#""{key}": {{"RoleARN": "arn:aws:iam::111122223333:role/{role}"}}"#)
        };
        let config = [
            config("*/app", "any"),
            config("team-*/app", "team"),
            config("team-a*/app", "team-a"),
            config("team-a/app", "exact"),
            config("team-b/job", "job"),
        ];
        let map = parse(&format!("{{{}}}", config.join(","))).unwrap();
        for (namespace, account, expected) in [
            ("team-a", "app", Some("exact")),
            ("team-ab", "app", Some("team-a")),
            ("team-b", "app", Some("team")),
            ("team", "app", Some("any")),
            ("team-b", "job", Some("job")),
            ("team-a", "job", None),
            ("team-a", "other", None),
        ] {
            assert_eq!(role(&map, namespace, account).as_deref(), expected, "{namespace}/{account}");
        }
    }

    #[test]
    fn an_entry_is_read_as_installers_write_it() {
        let map = parse(
            r#"{"default/app": {"RoleARN": "arn:aws:iam::111122223333:role/app", "Audience": "amazonaws.com",
                "UseRegionalSTS": true, "TokenExpiration": 0}}"#,
        );
        let map = map.unwrap();
        let found = map.lookup(&"default".parse().unwrap(), &"app".parse().unwrap()).unwrap();
        let expected = ServiceAccountSettings {
            role: Some(Role::Arn("arn:aws:iam::111122223333:role/app".parse().unwrap())),
            audience: Some("amazonaws.com".to_owned()),
            regional_sts: Some(true),
            ..ServiceAccountSettings::default()
        };
        assert_eq!(found, &expected);
    }

    #[test]
    fn the_case_of_members_does_not_count_and_empty_ones_say_nothing() {
        let map = parse(r#"{"a/b": {"roleArn": "", "AUDIENCE": "", "tokenExpiration": 5}}"#).unwrap();
        let found = map.lookup(&"a".parse().unwrap(), &"b".parse().unwrap()).unwrap();
        assert_eq!((&found.role, &found.audience), (&None, &None));
        assert_eq!(found.token_expiration.unwrap().seconds(), 600);
        assert_eq!(found.unused.len(), 1);
    }

    #[test]
    fn one_wrong_entry_is_named_and_refuses_the_map() {
        for (config, named) in [
            ("", "EOF"),
            ("[]", "found an array, want an object"),
            (r#"{"app": {}}"#, "\"app\""),
            (r#"{"/app": {}}"#, "\"/app\""),
            (r#"{"default/": {}}"#, "service account"),
            (r#"{"default/*": {}}"#, "service account"),
            (r#"{"a*b/app": {}}"#, "namespace"),
            (r#"{"-*/app": {}}"#, "namespace"),
            (r#"{"**/app": {}}"#, "namespace"),
            (r#"{"a/b/c": {}}"#, "service account"),
            (r#"{"default/app": {"RoleARN": 7}}"#, "RoleARN"),
            (r#"{"default/app": {"UseRegionalSTS": "true"}}"#, "UseRegionalSTS"),
            (r#"{"default/app": {"TokenExpiration": 1.5}}"#, "TokenExpiration"),
            (r#"{"default/app": {"RoleName": "app"}}"#, "RoleName"),
            (r#"{"default/app": {}, "default/app": {}}"#, "twice"),
        ] {
            let error = parse(config).unwrap_err();
            assert!(error.contains(named), "{config}: {error:?} does not name {named:?}");
        }
    }
}
