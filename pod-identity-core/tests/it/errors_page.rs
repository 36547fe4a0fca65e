//! `docs/reference/errors.md` has the same codes as the code, in the same order, with the same cause and fix. `SECURITY.md`
//! refers to files with tests.

use std::path::Path;

use pod_identity_core::error::{Blame, ErrorCode};

const PAGE: &str = include_str!("../../../docs/reference/errors.md");

/// Returns each heading with the text below it.
fn sections() -> Vec<(&'static str, &'static str)> {
    PAGE.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap_or((section, ""))).collect()
}

fn whose(blame: Blame) -> &'static str {
    match blame {
        Blame::Pod => "the pod, its spec or its client",
        Blame::Operator => "the operator of the services, or of the roles and associations",
        Blame::Service => "the agent or the auth service itself",
        Blame::Aws => "AWS, or the way to it",
        other => panic!("the page has no text for {other:?}"),
    }
}

#[test]
fn page_has_one_heading_for_each_code() {
    let headings: Vec<&str> = sections().into_iter().map(|(heading, _)| heading).collect();
    let codes: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(headings, codes);
}

#[test]
fn page_has_cause_fix_blame_and_retry_of_each_code() {
    for (heading, text) in sections() {
        let code: ErrorCode = heading.parse().unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for wanted in [
            code.cause().to_owned(),
            format!("- Fix: {}", code.fix()),
            format!("- Whose fault: {}", whose(code.blame())),
            format!("- Retryable: {}", if code.is_retryable() { "yes" } else { "no" }),
        ] {
            assert!(lines.contains(&wanted.as_str()), "{code} lacks the line: {wanted}");
        }
    }
}

#[test]
fn rust_files_in_security_page_have_tests() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let spans = include_str!("../../../SECURITY.md").split('`').skip(1).step_by(2);
    let files: Vec<&str> = spans.filter(|span| span.ends_with(".rs")).collect();
    assert!(!files.is_empty());
    for file in files {
        let text = std::fs::read_to_string(workspace.join(file))
            .unwrap_or_else(|error| panic!("SECURITY.md names {file}: {error}"));
        let has_test = ["#[test", "#[tokio::test", "proptest!"].iter().any(|mark| text.contains(mark));
        assert!(has_test, "SECURITY.md names {file}, which has no test");
    }
}
