//! The format of a fixture file.

use std::collections::BTreeMap;
use std::fmt;

use pod_identity_auth::store::{AssociationEntry, ClusterEntry};
use pod_identity_core::trust::{PolicyDocument, PolicyError};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct File {
    pub(super) accounts: Vec<String>,
    #[serde(default)]
    pub(super) trust_policy_length: Option<usize>,
    #[serde(default)]
    pub(super) callers: Vec<CallerEntry>,
    #[serde(default)]
    pub(super) roles: Vec<RoleEntry>,
    #[serde(default)]
    pub(super) oidc_providers: Vec<ProviderEntry>,
    #[serde(default)]
    pub(super) clusters: Vec<ClusterEntry>,
    #[serde(default)]
    pub(super) associations: Vec<AssociationEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CallerEntry {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: Option<String>,
    pub(super) session_token: Option<String>,
    pub(super) principal: PrincipalEntry,
}

/// One of `service`, `role` and `user`, with the members of that kind. It is not an enum: the error of serde would only
/// say that no variant matches.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PrincipalEntry {
    pub(super) service: Option<String>,
    pub(super) source_account: Option<String>,
    pub(super) source_arn: Option<String>,
    pub(super) role: Option<String>,
    pub(super) session_name: Option<String>,
    pub(super) tags: Option<BTreeMap<String, String>>,
    pub(super) transitive_tag_keys: Option<Vec<String>>,
    pub(super) user: Option<String>,
    pub(super) permissions: Option<Documents>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RoleEntry {
    pub(super) arn: String,
    pub(super) trust: Document,
    pub(super) permissions: Option<Documents>,
    pub(super) max_session_duration: Option<u64>,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ProviderEntry {
    pub(super) account: Option<String>,
    pub(super) arn: Option<String>,
    pub(super) url: String,
    pub(super) client_ids: Vec<String>,
}

/// One policy or a list of policies.
pub(super) enum Documents {
    One(Document),
    Many(Vec<Document>),
}

/// A policy as a nested mapping or a JSON string. An invalid JSON string is kept as an error, which is reported with its
/// place in the file.
pub(super) struct Document(pub(super) Result<PolicyDocument, PolicyError>);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(DocumentsVisitor)? {
            Documents::One(document) => Ok(document),
            Documents::Many(_) => Err(de::Error::custom("found a list, want one policy")),
        }
    }
}

impl<'de> Deserialize<'de> for Documents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentsVisitor)
    }
}

struct DocumentsVisitor;

impl<'de> Visitor<'de> for DocumentsVisitor {
    type Value = Documents;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a policy as a mapping or a JSON string, or a list of policies")
    }

    fn visit_str<E>(self, json: &str) -> Result<Documents, E> {
        Ok(Documents::One(Document(PolicyDocument::from_json(json))))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Documents, A::Error> {
        let nested = PolicyDocument::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Documents::One(Document(Ok(nested))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Documents, A::Error> {
        let mut documents = Vec::new();
        while let Some(document) = items.next_element()? {
            documents.push(document);
        }
        Ok(Documents::Many(documents))
    }
}
