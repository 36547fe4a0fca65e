//! OIDC providers of an account (IAM user guide, *Create an OpenID Connect identity provider*).

use pod_identity_core::arn::AccountId;

use super::WorldError;
use super::file::ProviderEntry;

/// An issuer that an account takes tokens of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcProvider {
    /// The account.
    pub account: AccountId,
    /// The provider's ARN, which trust policies name.
    pub arn: String,
    /// The issuer, the `iss` of its tokens.
    pub url: String,
    /// The audiences that its tokens may be for.
    pub client_ids: Vec<String>,
}

impl OidcProvider {
    /// The issuer without its scheme: the prefix of its condition keys.
    pub fn key_prefix(&self) -> &str {
        self.url.trim_start_matches("https://")
    }

    pub(super) fn build(path: &str, entry: ProviderEntry) -> Result<Self, WorldError> {
        let url = entry.url;
        check_url(&url).map_err(|problem| {
            WorldError::at(format!("{path}.url"), format!("{url:?} {problem}, as IAM wants it"))
        })?;
        let resource = format!("oidc-provider/{}", url.trim_start_matches("https://"));
        let (account, arn) = match (entry.account, entry.arn) {
            (Some(account), None) => {
                let account: AccountId =
                    account.parse().map_err(|error| WorldError::at(format!("{path}.account"), error))?;
                let arn = format!("arn:aws:iam::{account}:{resource}");
                (account, arn)
            }
            (None, Some(arn)) => {
                let parts: Vec<&str> = arn.splitn(6, ':').collect();
                let account = match parts[..] {
                    ["arn", _, "iam", "", account, at] if at == resource => account.parse().ok(),
                    _ => None,
                };
                let account = account.ok_or_else(|| {
                    WorldError::at(
                        format!("{path}.arn"),
                        format!(
                            "{arn:?} does not belong to the url: write arn:aws:iam::<account>:{resource}"
                        ),
                    )
                })?;
                (account, arn)
            }
            _ => return Err(WorldError::at(path, "give either account or arn")),
        };
        let ids = entry.client_ids;
        if !(1..=100).contains(&ids.len()) || ids.iter().any(|id| !(1..=255).contains(&id.len())) {
            return Err(WorldError::at(
                format!("{path}.clientIds"),
                "1 to 100 audiences of 1 to 255 characters are needed",
            ));
        }
        Ok(Self { account, arn, url, client_ids: ids })
    }
}

/// IAM wants https, no port, no query, at most 255 characters. Here an issuer on the loopback may have a
/// port: the laptop's own has one.
fn check_url(url: &str) -> Result<(), &'static str> {
    let rest = url.strip_prefix("https://").ok_or("does not begin with https://")?;
    let host = rest.split('/').next().unwrap_or_default();
    let name = host.split(':').next().unwrap_or_default();
    let local = matches!(name, "localhost" | "127.0.0.1");
    if url.len() > 255 {
        return Err("has more than 255 characters");
    }
    if name.is_empty() || !rest.bytes().all(|b| b.is_ascii_graphic()) || rest.contains(['?', '#', '@']) {
        return Err("is not a host with a path");
    }
    if host.contains(':') && !local {
        return Err("has a port, which only an issuer on the loopback may have");
    }
    if rest.ends_with('/') { Err("ends in a slash") } else { Ok(()) }
}
