//! What errors of endpoints say.

use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use pod_identity_core::error::ErrorCode;

use super::failure::Refusal;
use super::{EndpointError, Error, Failure};

fn answer(status: u16, code: Option<&str>, message: &str) -> Error {
    answer_of("http://169.254.170.23", status, code, message)
}

fn answer_of(endpoint: &str, status: u16, code: Option<&str>, message: &str) -> Error {
    error_of(
        endpoint,
        Refusal {
            status,
            code: code.map(str::to_owned),
            message: message.to_owned(),
            page: false,
            without_token: false,
        },
    )
}

fn error_of(endpoint: &str, refusal: Refusal) -> Error {
    Error::Endpoint(EndpointError {
        endpoint: endpoint.to_owned(),
        failure: Failure::Answer(refusal),
        retry_after: None,
        attempts: 1,
        took: Duration::ZERO,
    })
}

#[test]
fn an_error_prints_its_cause_then_its_fix_in_both_forms() {
    let error = answer(404, Some("ResourceNotFoundException"), "no association.");
    let text = "no credentials from http://169.254.170.23: status 404: ResourceNotFoundException: no association. Create an \
                association for this cluster, namespace and service account.";
    assert_eq!((error.to_string(), format!("{error:?}")), (text.to_owned(), text.to_owned()));
    assert_eq!(error.code(), Some("ResourceNotFoundException"));
    assert!(!error.is_retryable());
    // Inside the SDK's error too.
    let inside = CredentialsError::from(error);
    assert!(format!("{inside:?}").contains(text), "{inside:?}");
    assert_eq!(Error::of(&inside).unwrap().to_string(), text);
}

#[test]
fn a_fix_that_the_agents_message_holds_is_printed_once() {
    let fix = ErrorCode::AssociationNotFound.fix();
    let message = format!("There is none. {fix} [association_not_found]");
    let error = answer(404, Some("association_not_found"), &message);
    assert_eq!(
        error.to_string(),
        format!("no credentials from http://169.254.170.23: status 404: {message}")
    );
    assert_eq!(error.hint(), Some(fix));
}

#[test]
fn every_code_of_this_project_has_its_fix_as_hint() {
    for code in ErrorCode::ALL {
        assert_eq!(answer(400, Some(code.as_str()), "").hint(), Some(code.fix()), "{code}");
    }
}

#[test]
fn hints_about_the_agents_of_eks_are_given_for_their_addresses_only() {
    for agents in ["http://169.254.170.23", "http://[fd00:ec2::23]:8080"] {
        let hint = answer_of(agents, 403, None, "").hint().unwrap();
        assert!(hint.contains("AWS's agent"), "{agents}: {hint}");
    }
    for other in ["http://169.254.170.2", "http://127.0.0.1:8080", "https://169.254.170.23.example.com"] {
        for status in [403, 404, 500] {
            let hint = answer_of(other, status, None, "").hint().unwrap_or_default();
            assert!(!hint.contains("agent") && !hint.contains("/v1/credentials"), "{other}: {hint}");
        }
    }
}

#[test]
fn a_refusal_of_a_request_without_a_token_names_the_missing_variable() {
    let refusal = |status, without_token| Refusal {
        status,
        code: Some("authorization_missing".to_owned()),
        message: String::new(),
        page: false,
        without_token,
    };
    for status in [400, 401, 403] {
        let hint = error_of("http://127.0.0.1:1", refusal(status, true)).hint().unwrap();
        assert!(
            hint.starts_with("The request had no token: set AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
            "{hint}"
        );
    }
    for (status, without_token) in [(500, true), (400, false)] {
        let hint = error_of("http://127.0.0.1:1", refusal(status, without_token)).hint();
        assert_eq!(hint, Some(ErrorCode::AuthorizationMissing.fix()), "{status}");
    }
}

#[test]
fn the_endpoints_message_is_available() {
    let Error::Endpoint(error) = answer(404, None, "no association") else { panic!() };
    assert_eq!(
        (error.message(), error.to_string().ends_with("404: no association")),
        (Some("no association"), true)
    );
}
