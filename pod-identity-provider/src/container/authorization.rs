//! The token of a request.

use std::fmt;

use bytes::Bytes;
use http::HeaderValue;
use pod_identity_core::token::BearerToken;
use zeroize::Zeroizing;

use crate::environment::{self as env, Environment};
use crate::error::Error;
use crate::token_file;

/// The longest token that the agent accepts.
const MAX_LENGTH: usize = BearerToken::MAX_LENGTH;

/// The source of the pod's token. The file takes precedence, as in AWS's SDKs except Java's. Kubelet replaces the token in
/// the file, and cannot change a variable of a running process.
pub(super) enum Authorization {
    File(String),
    Value(Zeroizing<String>),
    /// Requests have no token, as on Amazon ECS, where the URI is the secret.
    None,
}

impl Authorization {
    pub(super) fn of(environment: &Environment) -> Self {
        match (environment.get(env::TOKEN_FILE), environment.get(env::TOKEN)) {
            (Some(path), value) => {
                if value.is_some() {
                    tracing::warn!(used = env::TOKEN_FILE, unused = env::TOKEN, "two tokens are set");
                }
                Self::File(path.to_owned())
            }
            (None, Some(token)) => Self::Value(Zeroizing::new(token.to_owned())),
            (None, None) => Self::None,
        }
    }

    /// Reads the current token.
    ///
    /// # Errors
    /// [`Error::InvalidConfiguration`] or [`Error::TokenUnreadable`] if the configured token is invalid or unreadable.
    pub(super) fn token(&self) -> Result<Option<Token>, Error> {
        let token = match self {
            Self::File(path) => token_file::read(env::TOKEN_FILE, path, MAX_LENGTH)?,
            Self::Value(value) => token_file::check(env::TOKEN, value.as_bytes(), MAX_LENGTH)?,
            Self::None => return Ok(None),
        };
        Ok(Some(Token(token)))
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Value(_) => f.write_str("Value(<redacted>)"),
            Self::None => f.write_str("None"),
        }
    }
}

/// A token that is valid in an HTTP header.
pub(super) struct Token(Zeroizing<String>);

impl Token {
    /// Returns the token as a header value. It has no `Bearer` prefix, which the agents of AWS and of this project reject.
    ///
    /// The bytes of the header are zeroized when the request is dropped.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let bytes = Bytes::from_owner(Zeroizing::new(self.0.as_bytes().to_vec()));
        let mut value = HeaderValue::from_maybe_shared(bytes).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Removes the token from a text of another program.
    pub(super) fn redact(&self, text: &str) -> String {
        token_file::redact(&self.0, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJlLW9mLXRoaXM";

    fn token() -> Token {
        Token(Zeroizing::new(TOKEN.to_owned()))
    }

    #[test]
    fn debug_of_the_header_prints_no_token() {
        let header = token().header().unwrap();
        assert_eq!(header.as_bytes(), TOKEN.as_bytes());
        assert_eq!(format!("{header:?}"), "Sensitive");
    }

    #[test]
    fn file_takes_precedence_over_value_and_both_are_optional() {
        let of = |variables: &[(&str, &str)]| {
            format!("{:?}", Authorization::of(&variables.iter().copied().collect::<Environment>()))
        };
        assert_eq!(of(&[(env::TOKEN, "secret"), (env::TOKEN_FILE, "/token")]), r#"File("/token")"#);
        assert_eq!(of(&[(env::TOKEN, "secret")]), "Value(<redacted>)");
        assert_eq!(of(&[]), "None");
    }
}
