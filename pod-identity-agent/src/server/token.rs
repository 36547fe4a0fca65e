//! The pod token of a request.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::service::CredentialError;

/// Returns the token in the `Authorization` header. SDKs send the token only; some other clients send `Bearer ` before
/// it.
pub(super) fn from_headers(headers: &HeaderMap) -> Result<&str, CredentialError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        let message = "the request has no Authorization header, or more than one";
        return Err(CredentialError::new(ErrorCode::AuthorizationMissing, message));
    };
    // `HeaderValue::to_str` would check each byte, which the token's parser does later.
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| {
        CredentialError::new(ErrorCode::TokenMalformed, "the Authorization header is not UTF-8 text")
    })?;
    Ok(match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token,
        _ => text,
    })
}

#[cfg(test)]
mod tests {
    use pod_identity_core::token::BearerToken;

    use super::*;

    fn token(values: &[&str]) -> Result<String, ErrorCode> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        let text = from_headers(&headers).map_err(|error| error.code())?;
        BearerToken::parse(text).map(|token| token.expose().to_owned()).map_err(|error| error.code())
    }

    #[test]
    fn accepts_a_token_with_and_without_bearer() {
        for value in ["a.b.c", "Bearer a.b.c", "bearer a.b.c"] {
            assert_eq!(token(&[value]), Ok("a.b.c".to_owned()), "{value}");
        }
    }

    #[test]
    fn refuses_missing_duplicate_and_malformed_headers() {
        assert_eq!(token(&[]), Err(ErrorCode::AuthorizationMissing));
        assert_eq!(token(&["a.b.c", "a.b.c"]), Err(ErrorCode::AuthorizationMissing));
        for value in ["", "a.b", "Basic a.b.c", "Bearer", "Bearer  a.b.c"] {
            assert_eq!(token(&[value]), Err(ErrorCode::TokenMalformed), "{value:?}");
        }
    }
}
