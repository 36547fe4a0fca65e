//! A refusal, in the form of each kind of agent.

use pod_identity_core::json;
use serde::Deserialize;

use super::authorization::Token;
use super::json_field::JsonField;
use crate::error::{Failure, EndpointRefusal, one_line};

/// The longest code: EKS Auth's and this project's have at most 30 characters.
const LONGEST_CODE: usize = 64;

/// The SDK for Rust reads the names in capitals, those for Go, Java and JavaScript the small ones. This project's agent
/// writes both.
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

/// Reads a response with another status than 200.
pub(super) fn read(status: u16, body: &[u8], token: Option<&Token>) -> Failure {
    if let Ok(body) = json::from_slice::<Body>(body) {
        let either =
            |one: &JsonField, other: &JsonField| one.text().or(other.text()).unwrap_or_default().to_owned();
        let code = either(&body.code, &body.capital_code);
        return coded(status, &code, &either(&body.message, &body.capital_message), token);
    }
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    let mut without_space = text.chars().filter(|c| !c.is_whitespace());
    match (without_space.next(), without_space.next()) {
        // A page has no text that fits a log line.
        (Some('<'), _) => Failure::Refusal(EndpointRefusal {
            status,
            code: None,
            message: "a page of HTML or XML".to_owned(),
            is_markup: true,
            without_token: token.is_none(),
        }),
        // What looks like JSON may hold credentials and does not print. AWS's agent begins with a word in brackets.
        (Some('{' | '"'), _) | (Some('['), Some('{' | '[' | '"')) => {
            coded(status, "", "JSON that cannot be read", token)
        }
        _ => coded(status, in_parentheses(text).unwrap_or_default(), text, token),
    }
}

/// Builds a refusal with a code.
pub(super) fn coded(status: u16, code: &str, message: &str, token: Option<&Token>) -> Failure {
    let is_code = |code: &&str| {
        let mut bytes = code.bytes();
        (1..=LONGEST_CODE).contains(&code.len())
            && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    let code = Some(code).filter(is_code).map(|code| printable(code, token));
    let message = printable(message, token);
    Failure::Refusal(EndpointRefusal { status, code, message, is_markup: false, without_token: token.is_none() })
}

/// Returns the code in a line of AWS's agent: `[request id]: (Code): message, fault: client`.
fn in_parentheses(text: &str) -> Option<&str> {
    let (code, _) = text.split_once('(')?.1.split_once("):")?;
    Some(code)
}

/// Makes another program's text fit for a log and an error, without our token.
pub(super) fn printable(text: &str, token: Option<&Token>) -> String {
    one_line(&token.map_or(text.to_owned(), |token| token.redact(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(body: &str) -> (Option<String>, String) {
        match read(400, body.as_bytes(), None) {
            Failure::Refusal(refusal) => (refusal.code, refusal.message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn code_and_message_are_read_from_each_agents_form() {
        let read = |code: &str, message: &str| (Some(code.to_owned()), message.to_owned());
        assert_eq!(said(r#"{"code":"a_b","message":"c"}"#), read("a_b", "c"));
        assert_eq!(said(r#"{"Code":"AbC","Message":"c","x":[1,{"y":null}]}"#), read("AbC", "c"));
        let text = "[0000-1111]: (ResourceNotFoundException): No association (default), fault: client\n";
        assert_eq!(said(text), read("ResourceNotFoundException", text.trim()));
        assert_eq!(said("plain (not a code): text"), (None, "plain (not a code): text".to_owned()));
        assert_eq!(said(""), (None, String::new()));
    }

    #[test]
    fn json_without_a_message_does_not_print() {
        for body in
            [r#"{"SecretAccessKey":"secret"}"#, r#"{"SecretAccessKey":"secr"#, r#"["secret"]"#, r#""secret""#]
        {
            let (code, message) = said(body);
            assert!(code.is_none() && !message.contains("secr"), "{message}");
        }
    }

    #[test]
    fn a_message_is_one_line_of_at_most_a_kilobyte() {
        assert_eq!(said("a\nb\u{1b}[31mc\0").1, "a b [31mc");
        let long = said(&"é".repeat(2000)).1;
        assert!(long.len() <= 1024 + 3 && long.ends_with("é..."), "{}", long.len());
    }
}
