//! The discovery document and the key set.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use super::SigningKey;
use super::key::Jwk;

/// Exactly the members that kube-apiserver serves (`openidmetadata.go`).
#[derive(Serialize)]
struct Discovery<'a> {
    issuer: &'a str,
    jwks_uri: &'a str,
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: BTreeSet<&'static str>,
}

#[derive(Serialize)]
struct KeySet<'a> {
    keys: Vec<Jwk<'a>>,
}

pub(super) fn discovery(issuer: &str, jwks_uri: &str, keys: &[Arc<SigningKey>]) -> Vec<u8> {
    json(&Discovery {
        issuer,
        jwks_uri,
        response_types_supported: ["id_token"],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: keys.iter().map(|key| key.algorithm().name()).collect(),
    })
}

pub(super) fn jwks(keys: &[Arc<SigningKey>]) -> Vec<u8> {
    json(&KeySet { keys: keys.iter().map(|key| key.jwk()).collect() })
}

/// Serialization cannot fail: the documents have no maps and no hand-written `Serialize`.
fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_default()
}
