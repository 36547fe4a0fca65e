//! A fake S3 with one bucket and only `ListObjectsV2`. The list has two pages of one object each.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use pod_identity_auth::sigv4;
use pod_identity_runtime::clock;
use pod_identity_runtime::http::plain;
use pod_identity_runtime::listener::{Handler, Listener, Peer};
use pod_identity_runtime::shutdown::Shutdown;

#[derive(Clone)]
pub(crate) struct Bucket(Arc<Served>);

struct Served {
    address: SocketAddr,
    /// The only accepted credentials.
    credentials: Credentials,
    region: String,
    served_pages: Mutex<Vec<&'static str>>,
}

impl Bucket {
    pub(crate) async fn serve(credentials: Credentials, region: &str) -> Self {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let (address, region) = (listener.address().unwrap(), region.to_owned());
        let bucket = Self(Arc::new(Served { address, credentials, region, served_pages: Mutex::default() }));
        tokio::spawn(listener.serve(Arc::new(bucket.clone()), Shutdown::never()));
        bucket
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    pub(crate) fn served_pages(&self) -> Vec<&'static str> {
        self.0.served_pages.lock().unwrap().clone()
    }
}

impl Handler for Bucket {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        let Served { credentials, region, served_pages, .. } = &*self.0;
        let (parts, _) = request.into_parts();
        let secret_of = |id: &str| {
            (id == credentials.access_key_id()).then(|| credentials.secret_access_key().to_owned().into())
        };
        // The body is empty, because a list is a GET request.
        let signer = match sigv4::verify(&parts, b"", "s3", Some(region), secret_of, clock::now()) {
            Ok(signer) => signer,
            Err(error) => return plain(StatusCode::FORBIDDEN, error.to_string()),
        };
        if signer.session_token.as_deref() != credentials.session_token() {
            return plain(StatusCode::FORBIDDEN, "session token of another session");
        }
        let query = parts.uri.query().unwrap_or_default();
        if parts.uri.path().trim_end_matches('/') != "/reports" || !query.contains("list-type=2") {
            return plain(StatusCode::NOT_FOUND, "only ListObjectsV2 of the bucket reports is supported");
        }
        let second = query.contains("continuation-token=next");
        served_pages.lock().unwrap().push(if second { "page 2" } else { "page 1" });
        let (key, size) = if second { ("2026/october.csv", 7) } else { ("2026/november.csv", 42) };
        let more = if second { "" } else { "<NextContinuationToken>next</NextContinuationToken>" };
        let list = format!(
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>reports</Name>\
             <KeyCount>1</KeyCount><MaxKeys>1</MaxKeys><IsTruncated>{}</IsTruncated>{more}<Contents><Key>{key}</Key>\
             <Size>{size}</Size><LastModified>2026-11-01T00:00:00.000Z</LastModified><ETag>\"e\"</ETag></Contents>\
             </ListBucketResult>",
            !second
        );
        Response::new(Full::new(list.into()))
    }
}
