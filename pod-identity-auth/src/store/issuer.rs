//! Key locations of a cluster's issuers.

use pod_identity_runtime::association_file::{ClusterEntry, IssuerEntry, KeysEntry};
use pod_identity_runtime::issuer_keys::{IssuerConfig, KeyLocation};
use pod_identity_runtime::outbound::{Outbound, check_url};

/// Returns the configuration of each issuer of a cluster, or the contradiction in its entry.
pub(super) fn configs(entry: &ClusterEntry, outbound: &Outbound) -> Result<Vec<IssuerConfig>, String> {
    for (index, issuer) in entry.issuers.iter().enumerate() {
        if entry.issuers[..index].iter().any(|other| other.issuer == issuer.issuer) {
            return Err(format!("the issuer {:?} is given twice: remove one", issuer.issuer));
        }
    }
    let shared = &entry.keys;
    if entry.issuers.len() > 1
        && shared.bearer_token_file.is_some()
        && shared.jwks_url.is_none()
        && shared.jwks_file.is_none()
    {
        let reason = "bearerTokenFile would be sent to several issuers: add jwksUrl, or move bearerTokenFile to its \
                      issuer";
        return Err(reason.to_owned());
    }
    entry.issuers.iter().map(|issuer| config(issuer, shared, outbound)).collect()
}

fn config(entry: &IssuerEntry, shared: &KeysEntry, outbound: &Outbound) -> Result<IssuerConfig, String> {
    let own = if entry.keys == KeysEntry::default() { shared } else { &entry.keys };
    let keys = match (&own.jwks_url, &own.jwks_file) {
        (Some(_), Some(_)) => return Err("give jwksUrl or jwksFile, not both".to_owned()),
        (Some(url), None) => KeyLocation::Url(url.clone()),
        (None, Some(file)) => KeyLocation::File(file.clone()),
        (None, None) => KeyLocation::Discovery,
    };
    let url = match &keys {
        KeyLocation::Url(url) => Some(url),
        KeyLocation::Discovery => Some(&entry.issuer),
        KeyLocation::File(_) => None,
    };
    if let Some(url) = url {
        check_url(url).map_err(|error| error.to_string())?;
    }
    Ok(IssuerConfig {
        issuer: entry.issuer.clone(),
        keys,
        bearer_token_file: own.bearer_token_file.clone(),
        outbound: Outbound {
            ca_file: own.ca_file.clone().or_else(|| outbound.ca_file.clone()),
            ..outbound.clone()
        },
    })
}
