//! Responses of the query protocol: `<OpResponse><OpResult/>…` and `<ErrorResponse>`.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use super::error::StsError;
use super::xml::{self, Element};

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

pub(super) fn success(
    operation: &'static str,
    result: &[Element],
    request_id: &str,
) -> http::Response<Bytes> {
    let mut body = format!("<{operation}Response xmlns=\"{NAMESPACE}\"><{operation}Result>");
    result.iter().for_each(|element| element.write(&mut body));
    body.push_str(&format!("</{operation}Result>"));
    xml::elements("ResponseMetadata", vec![xml::text("RequestId", request_id)]).write(&mut body);
    body.push_str(&format!("</{operation}Response>"));
    response(StatusCode::OK, body, request_id)
}

pub(super) fn error(error: &StsError, request_id: &str) -> http::Response<Bytes> {
    let error_type = if error.status.is_server_error() { "Receiver" } else { "Sender" };
    let mut body = format!("<ErrorResponse xmlns=\"{NAMESPACE}\">");
    xml::elements(
        "Error",
        vec![
            xml::text("Type", error_type),
            xml::text("Code", error.code),
            xml::text("Message", error.message.as_str()),
        ],
    )
    .write(&mut body);
    xml::text("RequestId", request_id).write(&mut body);
    body.push_str("</ErrorResponse>");
    response(error.status, body, request_id)
}

fn response(status: StatusCode, body: String, request_id: &str) -> http::Response<Bytes> {
    let mut response = http::Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}

/// Formats a time as XML responses do: RFC 3339 in whole seconds, ending in `Z`.
pub(super) fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .unwrap_or(jiff::Timestamp::MAX)
        .to_string()
}
