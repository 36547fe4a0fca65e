//! How a cluster's issuer is asked for its keys.

use pod_identity_runtime::association_file::ClusterEntry;
use pod_identity_runtime::issuer_keys::{IssuerConfig, KeyLocation};
use pod_identity_runtime::outbound::{Outbound, check_url};

/// What the cluster's entry says, or why it says nothing that can be asked.
pub(super) fn config(entry: &ClusterEntry, outbound: &Outbound) -> Result<IssuerConfig, String> {
    let keys = match (&entry.jwks_url, &entry.jwks_file) {
        (Some(_), Some(_)) => return Err("give jwksUrl or jwksFile, not both".to_owned()),
        (Some(url), None) => KeyLocation::Url(url.clone()),
        (None, Some(file)) => KeyLocation::File(file.clone()),
        (None, None) => KeyLocation::Discovery,
    };
    let asked = match &keys {
        KeyLocation::Url(url) => Some(url),
        KeyLocation::Discovery => Some(&entry.issuer),
        KeyLocation::File(_) => None,
    };
    if let Some(url) = asked {
        check_url(url).map_err(|error| error.to_string())?;
    }
    Ok(IssuerConfig {
        issuer: entry.issuer.clone(),
        keys,
        bearer_token_file: entry.bearer_token_file.clone(),
        outbound: Outbound {
            ca_file: entry.ca_file.clone().or_else(|| outbound.ca_file.clone()),
            ..outbound.clone()
        },
    })
}
