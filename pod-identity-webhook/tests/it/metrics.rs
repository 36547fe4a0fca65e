//! `docs/reference/metrics.md`, compared with the exposition.

use std::collections::BTreeSet;

use crate::webhook::Webhook;

/// Returns the metrics of an exposition with their types.
pub(crate) fn said(text: &str) -> BTreeSet<(String, String)> {
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| {
            (format!("{name}{}", if kind == "counter" { "_total" } else { "" }), kind.to_owned())
        })
        .collect()
}

/// Returns the metrics of a section of the page with their types.
pub(crate) fn listed(heading: &str) -> BTreeSet<(String, String)> {
    let page = include_str!("../../../docs/reference/metrics.md");
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, rest)| {
            let kind = rest.split(['|', ',']).next().unwrap_or_default().trim();
            (name.to_owned(), kind.to_owned())
        })
        .collect()
}

#[tokio::test]
async fn the_page_lists_exactly_the_exposed_metrics_with_their_types() {
    let webhook = Webhook::start(&["--service-account-read=fresh"]).await;
    let health = webhook.ask("GET /healthz", &[], b"").await;
    assert_eq!(health.status, 200);
    let text = webhook.admin("/metrics").await.text();
    let sections = ["Every program", "The webhook", "The webhook's certificate"];
    let (said, listed) =
        (said(&text), sections.iter().fold(BTreeSet::new(), |all, name| &all | &listed(name)));
    assert!(!listed.is_empty());
    assert_eq!(said, listed);
}

#[tokio::test]
async fn webhook_without_a_source_of_associations_says_so() {
    testing::logs::capture();
    let warning = "no source of associations";
    let flags = ["--service-account-read=fresh", "--watch-container-credentials-config="];
    let without = Webhook::start(&flags).await;
    let text = without.admin("/metrics").await.text();
    for (source, value) in
        [("associations", 0), ("pod_identity_file", 0), ("config_map", 0), ("annotations", 1)]
    {
        let line = format!("pod_identity_webhook_source_configured{{source=\"{source}\"}} {value}\n");
        assert!(text.contains(&line), "{line}: {text}");
    }
    assert!(!testing::logs::lines_with(&["WARN", warning]).is_empty());
}
