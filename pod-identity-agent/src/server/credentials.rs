//! One request for credentials: the token out of its header, the broker, the JSON.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use pod_identity_core::cache::Entry;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::token::BearerToken;
use pod_identity_runtime::http::json_bytes;

use super::respond::Refusal;
use crate::broker::{Answer, Broker};
use crate::exchange::ExchangeError;

pub(super) async fn answer(
    broker: &Arc<Broker>,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let text = token_text(headers)?;
    // What is known has been read and judged before: its digest is enough.
    let entry = match broker.cached(text) {
        Some(entry) => entry,
        None => {
            let token =
                BearerToken::parse(text).map_err(|error| Refusal::new(error.code(), error.to_string()))?;
            broker.credentials(&token, peer).await.map_err(|error| refusal(&error))?
        }
    };
    Ok(json_bytes(StatusCode::OK, Bytes::from_owner(Cached(entry))))
}

fn refusal(error: &ExchangeError) -> Refusal {
    if error.code() == ErrorCode::SubjectMismatch {
        tracing::error!(%error, "credentials of another identity discarded");
    }
    Refusal::from(error)
}

/// The cached JSON itself: sent without a copy, and overwritten once nobody sends it any more.
struct Cached(Arc<Entry<Answer>>);

impl AsRef<[u8]> for Cached {
    fn as_ref(&self) -> &[u8] {
        self.0.value().json()
    }
}

/// SDKs send the token as it is; some other clients put `Bearer ` before it.
fn token_text(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Refusal::new(
            ErrorCode::AuthorizationMissing,
            "there is not exactly one Authorization header",
        ));
    };
    // Not `HeaderValue::to_str`, which looks at each byte: which of them a token may have is for the token
    // to say.
    let text = std::str::from_utf8(value.as_bytes())
        .map_err(|_| Refusal::new(ErrorCode::TokenMalformed, "the Authorization header is not text"))?;
    Ok(match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token,
        _ => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(values: &[&str]) -> Result<String, ErrorCode> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        let text = token_text(&headers).map_err(|refusal| refusal.code)?;
        BearerToken::parse(text).map(|token| token.expose().to_owned()).map_err(|error| error.code())
    }

    #[test]
    fn a_token_comes_raw_or_as_a_bearer() {
        for value in ["a.b.c", "Bearer a.b.c", "bearer a.b.c"] {
            assert_eq!(token(&[value]), Ok("a.b.c".to_owned()), "{value}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(token(&[]), Err(ErrorCode::AuthorizationMissing));
        assert_eq!(token(&["a.b.c", "a.b.c"]), Err(ErrorCode::AuthorizationMissing));
        for value in ["", "a.b", "Basic a.b.c", "Bearer", "Bearer  a.b.c"] {
            assert_eq!(token(&[value]), Err(ErrorCode::TokenMalformed), "{value:?}");
        }
    }
}
