//! The query protocol and signatures.

use std::time::Duration;

use http::{Method, Request};
use proptest::prelude::*;

use super::client::*;

#[test]
fn get_caller_identity_returns_every_kind_of_caller() {
    let sts = sts();
    for (id, arn) in [
        (AUTH_ROLE, "arn:aws:sts::111122223333:assumed-role/broker/auth"),
        (USER, "arn:aws:iam::111122223333:user/robot"),
        (EKS, "arn:aws:iam::111122223333:service-principal/pods.eks.amazonaws.com"),
    ] {
        let response = call(&sts, &Keys::of(&sts, id), "GetCallerIdentity", &[]).ok();
        assert_eq!((response.value("Arn"), response.value("Account")), (arn, "111122223333"));
        assert_eq!(response.elements[0].0, "GetCallerIdentityResponse");
        assert_eq!(response.elements[1].0, "GetCallerIdentityResult");
    }
}

#[test]
fn accepts_get_requests() {
    let sts = sts();
    let request = Request::builder()
        .method(Method::GET)
        .uri("/?Action=GetCallerIdentity&Version=2011-06-15")
        .header("host", "sts.local")
        .body(String::new())
        .unwrap();
    send(&sts, signed(request, &Keys::of(&sts, USER), "sts", now()), now()).ok();
}

#[test]
fn refuses_unknown_operations() {
    let sts = sts();
    send(&sts, post("Version=2011-06-15"), now()).assert_error(400, "MissingAction", "Action");
    send(&sts, post("Action=AssumeRole"), now()).assert_error(
        400,
        "InvalidAction",
        "Could not find operation AssumeRole for version NO_VERSION_SPECIFIED",
    );
    send(&sts, post("Action=AssumeRoot&Version=2011-06-15"), now()).assert_error(
        400,
        "InvalidAction",
        "Could not find operation AssumeRoot for version 2011-06-15",
    );
    send(&sts, post("Action=a&Action=b"), now()).assert_error(400, "MalformedQueryString", "twice");
    let mut json = post("{}");
    json.headers_mut().insert("content-type", "application/json".parse().unwrap());
    send(&sts, json, now()).assert_error(400, "MalformedQueryString", "form");
    let mut other = post("");
    *other.uri_mut() = "/other".parse().unwrap();
    send(&sts, other, now()).assert_error(404, "InvalidAction", "");
    let mut put = post("");
    *put.method_mut() = Method::PUT;
    send(&sts, put, now()).assert_error(404, "InvalidAction", "");
    send(&sts, post(&"a".repeat(crate::sts::MAX_BODY + 1)), now()).assert_error(
        413,
        "RequestEntityTooLarge",
        "",
    );
}

#[test]
fn refuses_missing_and_wrong_signatures() {
    let sts = sts();
    let user = Keys::of(&sts, USER);
    let assert_error = |keys: &Keys, status, code, words| {
        call(&sts, keys, "GetCallerIdentity", &[]).assert_error(status, code, words);
    };
    unsigned(&sts, "GetCallerIdentity", &[]).assert_error(
        403,
        "MissingAuthenticationToken",
        "Request is missing Authentication Token",
    );
    assert_error(
        &Keys { id: "AKIANOBODY000000".into(), ..user.clone() },
        403,
        "InvalidClientTokenId",
        "invalid.",
    );
    assert_error(
        &Keys { secret: "wrong".into(), ..user.clone() },
        403,
        "SignatureDoesNotMatch",
        "we calculated",
    );
    assert_error(&Keys { token: Some("extra".into()), ..user.clone() }, 403, "InvalidClientTokenId", "");
    let auth_role = Keys::of(&sts, AUTH_ROLE);
    assert_error(&Keys { token: None, ..auth_role.clone() }, 403, "InvalidClientTokenId", "");
    assert_error(&Keys { token: Some("other".into()), ..auth_role }, 403, "InvalidClientTokenId", "");

    let body = "Action=GetCallerIdentity&Version=2011-06-15";
    let other_service = signed(post(body), &user, "iam", now());
    send(&sts, other_service, now()).assert_error(403, "SignatureDoesNotMatch", "correct service: 'sts'");
    let old = signed(post(body), &user, "sts", now() - Duration::from_secs(900));
    send(&sts, old, now()).assert_error(403, "SignatureDoesNotMatch", "Signature expired");
    let early = signed(post(body), &user, "sts", now() + Duration::from_secs(900));
    send(&sts, early, now()).assert_error(403, "SignatureDoesNotMatch", "Signature not yet current");
    let mut altered = signed(post(body), &user, "sts", now());
    altered.body_mut().push_str("&A=b");
    send(&sts, altered, now()).assert_error(403, "SignatureDoesNotMatch", "we calculated");
    let mut unreadable = post(body);
    unreadable.headers_mut().insert("authorization", "Bearer x".parse().unwrap());
    send(&sts, unreadable, now()).assert_error(400, "IncompleteSignature", "");
}

#[test]
fn session_ends_at_its_expiration() {
    let sts = sts().expire_after(Duration::from_secs(5));
    let parameters = [("RoleArn", &*role("untagged")), ("RoleSessionName", "s1"), ("DurationSeconds", "900")];
    let session = call(&sts, &Keys::of(&sts, AUTH_ROLE), "AssumeRole", &parameters).ok();
    assert_eq!(session.value("Expiration"), "2026-11-22T06:00:05Z");
    let keys = session.keys();
    let at = |seconds| call_at(&sts, &keys, "GetCallerIdentity", &[], now() + Duration::from_secs(seconds));
    assert_eq!(at(4).ok().value("Arn"), "arn:aws:sts::111122223333:assumed-role/untagged/s1");
    at(5).assert_error(403, "ExpiredToken", "The security token included in the request is expired");
}

proptest! {
    /// Every request with valid keys gets well-formed XML, and random parameters create no session.
    #[test]
    fn random_parameters_get_well_formed_responses(
        operation in "AssumeRole|AssumeRoleWithWebIdentity|GetCallerIdentity|.{0,8}",
        parameters in prop::collection::btree_map(
            "RoleArn|RoleSessionName|DurationSeconds|Policy|WebIdentityToken|ExternalId|SourceIdentity\
             |(Tags|TransitiveTagKeys|PolicyArns)\\.member\\.[0-9]{1,12}(\\.(Key|Value|arn))?|.{0,8}",
            ".{0,32}",
            0..8,
        ),
    ) {
        let sts = sts();
        let parameters: Vec<(&str, &str)> = parameters
            .iter()
            .filter(|(name, _)| *name != "Action" && *name != "Version")
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let response = call(&sts, &Keys::of(&sts, USER), &operation, &parameters);
        prop_assert!(response.status == 200 || (400..=403).contains(&response.status));
        prop_assert!(sts.sessions().is_empty());
    }
}
