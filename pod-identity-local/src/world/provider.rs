//! OIDC providers of an AWS account (IAM user guide, *Create an OpenID Connect identity provider*).

use pod_identity_core::arn::AccountId;

use super::WorldError;
use super::file::ProviderEntry;

/// An issuer whose tokens an AWS account accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcProvider {
    /// The AWS account.
    pub account: AccountId,
    /// The provider's ARN, as in trust policies.
    pub arn: String,
    /// The issuer: the claim `iss` of its tokens.
    pub url: String,
    /// The accepted audiences.
    pub client_ids: Vec<String>,
}

impl OidcProvider {
    /// Returns the issuer without its scheme: the prefix of its condition keys.
    pub fn key_prefix(&self) -> &str {
        self.url.trim_start_matches("https://")
    }

    pub(super) fn build(path: &str, entry: ProviderEntry) -> Result<Self, WorldError> {
        let url = entry.url;
        check_url(&url).map_err(|problem| {
            WorldError::at(format!("{path}.url"), format!("{url:?} {problem}"))
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
                            "{arn:?} does not match the url, want arn:aws:iam::<account>:{resource}"
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
                format!("{} audiences, want 1 to 100 of 1 to 255 characters", ids.len()),
            ));
        }
        Ok(Self { account, arn, url, client_ids: ids })
    }
}

/// IAM requires https, no port, no query and at most 255 characters. This program allows a port for loopback hosts.
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
        return Err("has a port, which only a loopback host may have");
    }
    if rest.ends_with('/') { Err("ends in a slash") } else { Ok(()) }
}
