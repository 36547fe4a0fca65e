//! The parts of a token: base64url of JSON.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::TokenError;
use crate::json;

/// Reads a part as JSON without duplicate keys.
pub(super) fn read_part<T: DeserializeOwned>(part: &'static str, text: &str) -> Result<T, TokenError> {
    json::from_slice(&decode(part, text)?).map_err(TokenError::unreadable(part))
}

/// Decodes a part. The bytes are secret, so they are zeroed when dropped.
pub(super) fn decode(part: &'static str, text: &str) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new).map_err(|error| TokenError::Malformed {
        part,
        reason: format!("not base64url without padding: {error}"),
    })
}
