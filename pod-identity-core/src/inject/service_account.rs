//! What is known of a pod's service account and namespace.

use std::collections::BTreeMap;

use crate::arn::RoleArn;

use super::names;
use super::settings::{Settings, TokenExpiration};
use super::text::parse_bool;
use super::warning::WarningReason;

/// All that is known of a pod beside the pod itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceAccountFacts {
    /// Whether an association gives the account a role.
    pub associated: bool,
    /// The settings of its annotations or of the ConfigMap.
    pub settings: ServiceAccountSettings,
    /// What the namespace says.
    pub namespace: NamespaceSettings,
}

/// What the labels of a namespace say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NamespaceSettings {
    /// Whether its pods get Pod Identity whether or not there is an association.
    pub inject: bool,
    /// Whether its pods must be injected: the label that asks to be skipped does not count.
    pub require: bool,
}

impl NamespaceSettings {
    /// The label, on a namespace or a pod, that asks for Pod Identity.
    pub const INJECT: &str = names::INJECT;
    /// The label, on a namespace or a pod, under which the label that asks to be skipped does not count.
    pub const REQUIRE: &str = names::REQUIRE;

    /// What a namespace's labels say.
    pub fn from_labels(labels: &BTreeMap<String, String>) -> Self {
        let says = |label, word| labels.get(label).is_some_and(|value| value == word);
        Self { inject: says(Self::INJECT, "enabled"), require: says(Self::REQUIRE, "true") }
    }
}

/// A role, as somebody wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// An ARN.
    Arn(RoleArn),
    /// Something else. It is injected as it stands, with a warning: STS refuses it by name, while a pod
    /// without it would be given the node's role by its SDK.
    Invalid(String),
}

impl Role {
    /// Reads an ARN, or a role's name with its path where `settings` has the account for it. Nothing else
    /// than spaces is no role.
    pub fn parse(text: &str, settings: &Settings) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        let whole = match &settings.bare_roles {
            Some((partition, account)) if !text.contains("arn:") => {
                format!("arn:{partition}:iam::{account}:role/{text}")
            }
            _ => text.to_owned(),
        };
        Some(whole.parse().map_or_else(|_| Self::Invalid(text.to_owned()), Self::Arn))
    }

    /// Returns the ARN, or the text that is no ARN.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Arn(arn) => arn.as_str(),
            Self::Invalid(text) => text,
        }
    }
}

/// What a service account says of its role and its tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceAccountSettings {
    /// The role for IRSA.
    pub role: Option<Role>,
    /// For whom IRSA's token is.
    pub audience: Option<String>,
    /// How long tokens live.
    pub token_expiration: Option<TokenExpiration>,
    /// Whether STS is to be asked in the region.
    pub regional_sts: Option<bool>,
    /// Whether IRSA goes through the agent.
    pub through_agent: bool,
    /// What it says and could not be used.
    pub unused: Vec<WarningReason>,
}

impl ServiceAccountSettings {
    /// The annotations that are read, without their prefix and `/`.
    pub const ANNOTATIONS: [&str; 5] = [
        names::ROLE_ARN,
        names::AUDIENCE,
        names::TOKEN_EXPIRATION,
        names::REGIONAL_STS,
        "irsa-through-agent",
    ];

    /// What the annotations of a service account say.
    pub fn from_annotations(annotations: &BTreeMap<String, String>, settings: &Settings) -> Self {
        let mut unused = Vec::new();
        let key = |name| settings.annotation(name);
        let value = |key: &str| annotations.get(key).map(String::as_str);
        let mut boolean = |key: &str| {
            let text = value(key)?;
            let read = parse_bool(text);
            if read.is_none() {
                unused.push(WarningReason::annotation(key, text, "true or false"));
            }
            read
        };
        let regional_sts = boolean(&key(names::REGIONAL_STS));
        let through_agent = boolean(names::IRSA_THROUGH_AGENT) == Some(true);
        let (expiration_key, audience_key) = (key(names::TOKEN_EXPIRATION), key(names::AUDIENCE));
        let token_expiration =
            value(&expiration_key).and_then(|text| expiration(&expiration_key, text, &mut unused));
        let audience = value(&audience_key).and_then(|text| audience(&audience_key, text, &mut unused));
        Self {
            role: value(&key(names::ROLE_ARN)).and_then(|text| Role::parse(text, settings)),
            audience,
            token_expiration,
            regional_sts,
            through_agent,
            unused,
        }
    }

    /// These, or those of the ConfigMap where only that one names a role. As in AWS's webhook it is one or the
    /// other, and no mixture; but that IRSA goes through the agent, only an annotation can say.
    #[must_use]
    pub fn or_mapped(self, mapped: Option<&ServiceAccountSettings>) -> Self {
        match mapped {
            Some(mapped) if self.role.is_none() && mapped.role.is_some() => {
                Self { through_agent: self.through_agent, ..mapped.clone() }
            }
            _ => self,
        }
    }
}

/// Returns an audience without surrounding spaces. Adds a notice for such spaces, and for an empty audience.
pub(crate) fn audience(key: &str, text: &str, unused: &mut Vec<WarningReason>) -> Option<String> {
    let audience = text.trim();
    // A token without an audience is one for the API server: AWS is not to see it.
    if audience.is_empty() {
        unused.push(WarningReason::annotation(key, text, "an audience"));
        return None;
    }
    if audience.len() < text.len() {
        unused.push(WarningReason::AnnotationTrimmed { key: key.to_owned() });
    }
    Some(audience.to_owned())
}

/// A lifetime from an annotation; notes what is no number or beyond what there is.
pub(crate) fn expiration(key: &str, text: &str, unused: &mut Vec<WarningReason>) -> Option<TokenExpiration> {
    let Ok(seconds) = text.trim().parse::<i64>() else {
        unused.push(WarningReason::annotation(key, text, "a number of seconds"));
        return None;
    };
    let given = TokenExpiration::nearest(seconds);
    if i64::from(given.seconds()) != seconds {
        unused.push(WarningReason::ExpirationMoved { asked: seconds, given });
    }
    Some(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(annotations: &[(&str, &str)]) -> ServiceAccountSettings {
        let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        ServiceAccountSettings::from_annotations(&annotations.collect(), &Settings::default())
    }

    fn arn(name: &str) -> Role {
        Role::Arn(format!("arn:aws:iam::111122223333:role/{name}").parse().unwrap())
    }

    #[test]
    fn an_account_says_its_role_and_how_its_tokens_are_to_be() {
        let found = account(&[
            ("eks.amazonaws.com/role-arn", " arn:aws:iam::111122223333:role/app\n"),
            ("eks.amazonaws.com/audience", "sts.amazonaws.com.cn"),
            ("eks.amazonaws.com/token-expiration", "3600"),
            ("eks.amazonaws.com/sts-regional-endpoints", "True"),
            ("podidentity.dev/irsa-through-agent", "true"),
            ("other.example.com/role-arn", "arn:aws:iam::111122223333:role/other"),
        ]);
        let expected = ServiceAccountSettings {
            role: Some(arn("app")),
            audience: Some("sts.amazonaws.com.cn".to_owned()),
            token_expiration: Some(TokenExpiration::nearest(3600)),
            regional_sts: Some(true),
            through_agent: true,
            unused: vec![],
        };
        assert_eq!(found, expected);
        assert_eq!(account(&[]), ServiceAccountSettings::default());
    }

    #[test]
    fn annotations_begin_with_the_prefix_that_is_set() {
        let settings = Settings { annotation_prefix: "irsa.example.com".to_owned(), ..Settings::default() };
        let annotations = [
            ("irsa.example.com/role-arn", "arn:aws:iam::111122223333:role/app"),
            ("eks.amazonaws.com/audience", "ignored"),
        ];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let found = ServiceAccountSettings::from_annotations(&annotations, &settings);
        assert_eq!((found.role, found.audience), (Some(arn("app")), None));
    }

    #[test]
    fn what_cannot_be_used_is_left_out_and_named() {
        let found = account(&[
            ("eks.amazonaws.com/audience", ""),
            ("eks.amazonaws.com/token-expiration", "1h"),
            ("eks.amazonaws.com/sts-regional-endpoints", "yes"),
            ("podidentity.dev/irsa-through-agent", "on"),
        ]);
        let named: Vec<_> = found.unused.iter().map(ToString::to_string).collect();
        for key in ["audience", "token-expiration", "sts-regional-endpoints", "irsa-through-agent"] {
            assert!(named.iter().any(|text| text.contains(key)), "{named:?} does not name {key}");
        }
        assert_eq!(named.len(), 4);
        assert_eq!(ServiceAccountSettings { unused: vec![], ..found }, ServiceAccountSettings::default());
    }

    #[test]
    fn a_lifetime_beyond_the_bounds_becomes_the_nearest() {
        let found = account(&[("eks.amazonaws.com/token-expiration", "10")]);
        assert_eq!(found.token_expiration, Some(TokenExpiration::nearest(600)));
        assert_eq!(found.unused.len(), 1);
    }

    #[test]
    fn a_bare_name_is_a_role_of_the_account_that_is_set() {
        let with = Settings {
            bare_roles: Some(("aws-cn".parse().unwrap(), "111122223333".parse().unwrap())),
            ..Settings::default()
        };
        let chinese = "arn:aws-cn:iam::111122223333:role/team/app".parse().unwrap();
        assert_eq!(Role::parse("team/app", &with), Some(Role::Arn(chinese)));
        assert_eq!(Role::parse("arn:aws:iam::111122223333:role/app", &with), Some(arn("app")));
        assert_eq!(Role::parse("team/app", &Settings::default()), Some(Role::Invalid("team/app".to_owned())));
        assert_eq!(Role::parse("a b", &with), Some(Role::Invalid("a b".to_owned())));
        assert_eq!(Role::parse(" ", &with), None);
    }

    #[test]
    fn the_config_map_counts_where_no_annotation_names_a_role() {
        let mapped = ServiceAccountSettings {
            role: Some(arn("mapped")),
            token_expiration: Some(TokenExpiration::nearest(3600)),
            ..ServiceAccountSettings::default()
        };
        let annotated = account(&[("eks.amazonaws.com/role-arn", "arn:aws:iam::111122223333:role/app")]);
        assert_eq!(annotated.clone().or_mapped(Some(&mapped)), annotated);
        let other = account(&[
            ("eks.amazonaws.com/audience", "not-used"),
            ("podidentity.dev/irsa-through-agent", "true"),
        ]);
        let expected = ServiceAccountSettings { through_agent: true, ..mapped.clone() };
        assert_eq!(other.clone().or_mapped(Some(&mapped)), expected);
        assert_eq!(other.clone().or_mapped(None), other);
    }

    #[test]
    fn a_namespace_asks_by_exact_words() {
        let labels = |inject: &str, require: &str| {
            let labels = [(NamespaceSettings::INJECT, inject), (NamespaceSettings::REQUIRE, require)];
            NamespaceSettings::from_labels(
                &labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            )
        };
        assert_eq!(labels("enabled", "true"), NamespaceSettings { inject: true, require: true });
        assert_eq!(labels("true", "enabled"), NamespaceSettings::default());
    }
}
