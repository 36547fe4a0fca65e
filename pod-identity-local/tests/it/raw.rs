//! HTTP without an SDK, for access to every header and for requests that no SDK sends.

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use pod_identity_runtime::clock;
use tokio::net::TcpStream;

/// Sends a request to `http://<address>` on a new connection.
pub(crate) async fn send(url: &str, mut request: Request<String>) -> Response<Bytes> {
    let host = url.strip_prefix("http://").unwrap();
    request.headers_mut().insert("host", host.parse().unwrap());
    let stream = TokioIo::new(TcpStream::connect(host).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request.map(|body| Full::new(Bytes::from(body)))).await.unwrap();
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

/// Signs a request to `http://<address>` with AWS's own signer.
pub(crate) fn signed(
    url: &str,
    mut request: Request<String>,
    key: &Credentials,
    service: &str,
) -> Request<String> {
    let identity = key.clone().into();
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region("eu-west-1")
        .name(service)
        .time(clock::now())
        .settings(SigningSettings::default())
        .build()
        .unwrap();
    let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
    let uri = format!("{url}{}", request.uri());
    let body = SignableBody::Bytes(request.body().as_bytes());
    let signable = SignableRequest::new(request.method().as_str(), &uri, headers, body).unwrap();
    let (instructions, _) = sign(signable, &parameters.into()).unwrap().into_parts();
    instructions.apply_to_request_http1x(&mut request);
    request
}
