//! The query protocol and signatures.

use std::time::Duration;

use http::{Method, Request};
use proptest::prelude::*;

use super::client::*;

#[test]
fn every_caller_learns_who_it_is() {
    let sts = sts();
    for (id, arn) in [
        (BROKER, "arn:aws:sts::111122223333:assumed-role/broker/auth"),
        (USER, "arn:aws:iam::111122223333:user/robot"),
        (EKS, "arn:aws:iam::111122223333:service-principal/pods.eks.amazonaws.com"),
    ] {
        let answer = call(&sts, &Keys::known(&sts, id), "GetCallerIdentity", &[]).ok();
        assert_eq!((answer.value("Arn"), answer.value("Account")), (arn, "111122223333"));
        assert_eq!(answer.elements[0].0, "GetCallerIdentityResponse");
        assert_eq!(answer.elements[1].0, "GetCallerIdentityResult");
    }
}

#[test]
fn a_get_is_answered_as_a_post() {
    let sts = sts();
    let request = Request::builder()
        .method(Method::GET)
        .uri("/?Action=GetCallerIdentity&Version=2011-06-15")
        .header("host", "sts.local")
        .body(String::new())
        .unwrap();
    send(&sts, signed(request, &Keys::known(&sts, USER), "sts", now()), now()).ok();
}

#[test]
fn what_is_no_operation_is_refused() {
    let sts = sts();
    send(&sts, post("Version=2011-06-15"), now()).refused(400, "MissingAction", "Action");
    send(&sts, post("Action=AssumeRole"), now()).refused(
        400,
        "InvalidAction",
        "Could not find operation AssumeRole for version NO_VERSION_SPECIFIED",
    );
    send(&sts, post("Action=AssumeRoot&Version=2011-06-15"), now()).refused(
        400,
        "InvalidAction",
        "Could not find operation AssumeRoot for version 2011-06-15",
    );
    send(&sts, post("Action=a&Action=b"), now()).refused(400, "MalformedQueryString", "twice");
    let mut json = post("{}");
    json.headers_mut().insert("content-type", "application/json".parse().unwrap());
    send(&sts, json, now()).refused(400, "MalformedQueryString", "form");
    let mut other = post("");
    *other.uri_mut() = "/other".parse().unwrap();
    send(&sts, other, now()).refused(404, "InvalidAction", "");
    let mut put = post("");
    *put.method_mut() = Method::PUT;
    send(&sts, put, now()).refused(404, "InvalidAction", "");
    send(&sts, post(&"a".repeat(crate::sts::MAX_BODY + 1)), now()).refused(413, "RequestEntityTooLarge", "");
}

#[test]
fn a_signature_must_be_there_and_right() {
    let sts = sts();
    let user = Keys::known(&sts, USER);
    let refused = |keys: &Keys, status, code, words| {
        call(&sts, keys, "GetCallerIdentity", &[]).refused(status, code, words);
    };
    unsigned(&sts, "GetCallerIdentity", &[]).refused(
        403,
        "MissingAuthenticationToken",
        "Request is missing Authentication Token",
    );
    refused(&Keys { id: "AKIANOBODY000000".into(), ..user.clone() }, 403, "InvalidClientTokenId", "invalid.");
    refused(&Keys { secret: "wrong".into(), ..user.clone() }, 403, "SignatureDoesNotMatch", "we calculated");
    refused(&Keys { token: Some("extra".into()), ..user.clone() }, 403, "InvalidClientTokenId", "");
    let broker = Keys::known(&sts, BROKER);
    refused(&Keys { token: None, ..broker.clone() }, 403, "InvalidClientTokenId", "");
    refused(&Keys { token: Some("other".into()), ..broker }, 403, "InvalidClientTokenId", "");

    let body = "Action=GetCallerIdentity&Version=2011-06-15";
    let other_service = signed(post(body), &user, "iam", now());
    send(&sts, other_service, now()).refused(403, "SignatureDoesNotMatch", "correct service: 'sts'");
    let old = signed(post(body), &user, "sts", now() - Duration::from_secs(900));
    send(&sts, old, now()).refused(403, "SignatureDoesNotMatch", "Signature expired");
    let early = signed(post(body), &user, "sts", now() + Duration::from_secs(900));
    send(&sts, early, now()).refused(403, "SignatureDoesNotMatch", "Signature not yet current");
    let mut altered = signed(post(body), &user, "sts", now());
    altered.body_mut().push_str("&A=b");
    send(&sts, altered, now()).refused(403, "SignatureDoesNotMatch", "we calculated");
    let mut unreadable = post(body);
    unreadable.headers_mut().insert("authorization", "Bearer x".parse().unwrap());
    send(&sts, unreadable, now()).refused(400, "IncompleteSignature", "");
}

#[test]
fn a_session_ends_when_it_says() {
    let sts = sts().expire_after(Duration::from_secs(5));
    let asked = [("RoleArn", &*role("untagged")), ("RoleSessionName", "s1"), ("DurationSeconds", "900")];
    let session = call(&sts, &Keys::known(&sts, BROKER), "AssumeRole", &asked).ok();
    assert_eq!(session.value("Expiration"), "2026-11-22T06:00:05Z");
    let keys = session.keys();
    let at = |seconds| call_at(&sts, &keys, "GetCallerIdentity", &[], now() + Duration::from_secs(seconds));
    assert_eq!(at(4).ok().value("Arn"), "arn:aws:sts::111122223333:assumed-role/untagged/s1");
    at(5).refused(403, "ExpiredToken", "The security token included in the request is expired");
}

proptest! {
    /// Every request with valid keys gets well-formed XML, and random parameters create no session.
    #[test]
    fn no_parameters_break_the_answer(
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
        let answer = call(&sts, &Keys::known(&sts, USER), &operation, &parameters);
        prop_assert!(answer.status == 200 || (400..=403).contains(&answer.status));
        prop_assert!(sts.sessions().is_empty());
    }
}
