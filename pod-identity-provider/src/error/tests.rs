//! The texts of endpoint errors.

use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use pod_identity_core::error::ErrorCode;

use super::failure::EndpointRefusal;
use super::{EndpointError, Error, Failure};

fn agent_refusal(status: u16, code: Option<&str>, message: &str) -> Error {
    refusal_of("http://169.254.170.23", status, code, message)
}

fn refusal_of(endpoint: &str, status: u16, code: Option<&str>, message: &str) -> Error {
    error_of(
        endpoint,
        EndpointRefusal {
            status,
            code: code.map(str::to_owned),
            message: message.to_owned(),
            is_markup: false,
            without_token: false,
        },
    )
}

fn error_of(endpoint: &str, refusal: EndpointRefusal) -> Error {
    Error::Endpoint(EndpointError {
        endpoint: endpoint.to_owned(),
        failure: Failure::Refusal(refusal),
        retry_after: None,
        attempts: 1,
        took: Duration::ZERO,
    })
}

#[test]
fn display_and_debug_print_the_cause_then_the_fix() {
    let error = agent_refusal(404, Some("ResourceNotFoundException"), "no association.");
    let text = "no credentials from http://169.254.170.23: status 404: ResourceNotFoundException: no association. Create an \
                association for this cluster, namespace and service account.";
    assert_eq!((error.to_string(), format!("{error:?}")), (text.to_owned(), text.to_owned()));
    assert_eq!(error.code(), Some("ResourceNotFoundException"));
    assert!(!error.is_retryable());
    // The same text is in the SDK's error.
    let inside = CredentialsError::from(error);
    assert!(format!("{inside:?}").contains(text), "{inside:?}");
    assert_eq!(Error::of(&inside).unwrap().to_string(), text);
}

#[test]
fn fix_that_is_in_the_agents_message_is_printed_once() {
    let fix = ErrorCode::AssociationNotFound.fix();
    let message = format!("There is none. {fix} [association_not_found]");
    let error = agent_refusal(404, Some("association_not_found"), &message);
    assert_eq!(
        error.to_string(),
        format!("no credentials from http://169.254.170.23: status 404: {message}")
    );
    assert_eq!(error.hint(), Some(fix));
}

#[test]
fn hint_of_each_code_of_this_project_is_the_codes_fix() {
    for code in ErrorCode::ALL {
        assert_eq!(agent_refusal(400, Some(code.as_str()), "").hint(), Some(code.fix()), "{code}");
    }
}

#[test]
fn hints_mention_the_eks_agent_only_for_its_addresses() {
    for agent in ["http://169.254.170.23", "http://[fd00:ec2::23]:8080"] {
        let hint = refusal_of(agent, 403, None, "").hint().unwrap();
        assert!(hint.contains("AWS's agent"), "{agent}: {hint}");
    }
    for other in ["http://169.254.170.2", "http://127.0.0.1:8080", "https://169.254.170.23.example.com"] {
        for status in [403, 404, 500] {
            let hint = refusal_of(other, status, None, "").hint().unwrap_or_default();
            assert!(!hint.contains("agent") && !hint.contains("/v1/credentials"), "{other}: {hint}");
        }
    }
}

#[test]
fn hint_for_a_request_without_a_token_names_the_variable() {
    let refusal = |status, without_token| EndpointRefusal {
        status,
        code: Some("authorization_missing".to_owned()),
        message: String::new(),
        is_markup: false,
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
fn message_returns_the_endpoints_message() {
    let Error::Endpoint(error) = agent_refusal(404, None, "no association") else { panic!() };
    assert_eq!(
        (error.message(), error.to_string().ends_with("404: no association")),
        (Some("no association"), true)
    );
}
