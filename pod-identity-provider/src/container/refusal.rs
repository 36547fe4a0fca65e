//! Parsing of refusals, in the format of each kind of agent.

use pod_identity_core::json;
use serde::Deserialize;

use super::authorization::Token;
use super::json_field::JsonField;
use crate::error::{EndpointRefusal, Failure, one_line};

/// The longest accepted code. The codes of EKS Auth and of this project have at most 30 characters.
const MAX_CODE_LENGTH: usize = 64;

/// The body of a refusal. Agents write the names in lower case, with a capital, or both: the SDK for Rust reads `Code`, and
/// the SDKs for Go, Java and JavaScript read `code`.
#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    code: JsonField,
    #[serde(default)]
    message: JsonField,
    #[serde(rename = "Code", default)]
    capital_code: JsonField,
    #[serde(rename = "Message", default)]
    capital_message: JsonField,
}

/// Parses a response whose status is not 200.
pub(super) fn read(status: u16, body: &[u8], token: Option<&Token>) -> Failure {
    if let Ok(body) = json::from_slice::<Body>(body) {
        let either =
            |one: &JsonField, other: &JsonField| one.text().or(other.text()).unwrap_or_default().to_owned();
        let code = either(&body.code, &body.capital_code);
        return refusal_with_code(status, &code, &either(&body.message, &body.capital_message), token);
    }
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    let mut without_space = text.chars().filter(|c| !c.is_whitespace());
    match (without_space.next(), without_space.next()) {
        // A page is too long for a log line.
        (Some('<'), _) => Failure::Refusal(EndpointRefusal {
            status,
            code: None,
            message: "a page of HTML or XML".to_owned(),
            is_markup: true,
            without_token: token.is_none(),
        }),
        // Text that looks like JSON is not printed, because it may contain credentials. Lines of AWS's agent begin with a
        // bracket and a request id.
        (Some('{' | '"'), _) | (Some('['), Some('{' | '[' | '"')) => {
            refusal_with_code(status, "", "JSON that cannot be parsed", token)
        }
        _ => refusal_with_code(status, in_parentheses(text).unwrap_or_default(), text, token),
    }
}

/// Returns a refusal with this code, if the code has a valid form.
pub(super) fn refusal_with_code(status: u16, code: &str, message: &str, token: Option<&Token>) -> Failure {
    let is_code = |code: &&str| {
        let mut bytes = code.bytes();
        (1..=MAX_CODE_LENGTH).contains(&code.len())
            && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    let code = Some(code).filter(is_code).map(|code| redacted_line(code, token));
    let message = redacted_line(message, token);
    Failure::Refusal(EndpointRefusal {
        status,
        code,
        message,
        is_markup: false,
        without_token: token.is_none(),
    })
}

/// Returns the code in a line of AWS's agent: `[request id]: (Code): message, fault: client`.
fn in_parentheses(text: &str) -> Option<&str> {
    let (code, _) = text.split_once('(')?.1.split_once("):")?;
    Some(code)
}

/// Returns a text of another program as one line, without the pod's token.
pub(super) fn redacted_line(text: &str, token: Option<&Token>) -> String {
    one_line(&token.map_or(text.to_owned(), |token| token.redact(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_and_message(body: &str) -> (Option<String>, String) {
        match read(400, body.as_bytes(), None) {
            Failure::Refusal(refusal) => (refusal.code, refusal.message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parses_code_and_message_of_each_agent() {
        let parsed = |code: &str, message: &str| (Some(code.to_owned()), message.to_owned());
        assert_eq!(code_and_message(r#"{"code":"a_b","message":"c"}"#), parsed("a_b", "c"));
        assert_eq!(
            code_and_message(r#"{"Code":"AbC","Message":"c","x":[1,{"y":null}]}"#),
            parsed("AbC", "c")
        );
        let text =
            "[0000-1111]: (ResourceNotFoundException): No association (default), attempt_error: client\n";
        assert_eq!(code_and_message(text), parsed("ResourceNotFoundException", text.trim()));
        assert_eq!(
            code_and_message("plain (not a code): text"),
            (None, "plain (not a code): text".to_owned())
        );
        assert_eq!(code_and_message(""), (None, String::new()));
    }

    #[test]
    fn json_without_a_message_is_not_printed() {
        for body in
            [r#"{"SecretAccessKey":"secret"}"#, r#"{"SecretAccessKey":"secr"#, r#"["secret"]"#, r#""secret""#]
        {
            let (code, message) = code_and_message(body);
            assert!(code.is_none() && !message.contains("secr"), "{message}");
        }
    }

    #[test]
    fn message_is_one_line_of_at_most_one_kibibyte() {
        assert_eq!(code_and_message("a\nb\u{1b}[31mc\0").1, "a b [31mc");
        let long = code_and_message(&"é".repeat(2000)).1;
        assert!(long.len() <= 1024 + 3 && long.ends_with("é..."), "{}", long.len());
    }
}
