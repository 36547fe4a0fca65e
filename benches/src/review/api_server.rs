//! A stand-in for an API server: it returns one service account to every read, over plain HTTP. A watch lists it and
//! stays open.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{iter, pending};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

/// Starts it on a thread of its own.
pub(super) fn start(namespace: &str, name: &str) -> Result<SocketAddr, Box<dyn std::error::Error>> {
    let service_account = json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": {
            "name": name, "namespace": namespace, "uid": "0a51c5f6-7f4c-4be9-a0c2-2d7c1b9c1f10",
            "resourceVersion": "1234567", "creationTimestamp": "2026-11-22T08:00:00Z",
            "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/checkout/cart"},
            "managedFields": [{
                "manager": "kubectl", "operation": "Apply", "apiVersion": "v1", "time": "2026-11-22T08:00:00Z",
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:annotations": {"f:eks.amazonaws.com/role-arn": {}}}},
            }],
        },
    });
    let body = Bytes::from(service_account.to_string());
    // A streamed list: the objects, and a bookmark after the last one (Kubernetes, API concepts, streaming lists).
    let listed = json!({"type": "ADDED", "object": service_account});
    let end = json!({"type": "BOOKMARK", "object": {
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": "1234567", "annotations": {"k8s.io/initial-events-end": "true"}},
    }});
    let list = Bytes::from(format!("{listed}\n{end}\n"));
    let (bound, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async move {
            let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await else { return };
            let _ = bound.send(listener.local_addr()); // fails only if the receiver was dropped
            while let Ok((stream, _)) = listener.accept().await {
                let (body, list) = (body.clone(), list.clone());
                tokio::spawn(async move {
                    let _ = stream.set_nodelay(true); // as the API server does
                    let service = service_fn(|request: Request<Incoming>| {
                        let (body, list) = (body.clone(), list.clone());
                        async move {
                            let query = request.uri().query().unwrap_or_default();
                            let list =
                                query.contains("sendInitialEvents=true").then(|| Ok(Frame::data(list)));
                            let body = if query.contains("watch=true") {
                                let events = iter(list).chain(pending::<Result<_, Infallible>>());
                                BodyExt::boxed(StreamBody::new(events))
                            } else {
                                BodyExt::boxed(Full::new(body))
                            };
                            let mut response = Response::new(body);
                            let json = HeaderValue::from_static("application/json");
                            response.headers_mut().insert(CONTENT_TYPE, json);
                            Ok::<_, Infallible>(response)
                        }
                    });
                    // It ends when the client disconnects.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
    });
    Ok(address.recv().map_err(|_| "the stand-in for an API server did not start")??)
}
