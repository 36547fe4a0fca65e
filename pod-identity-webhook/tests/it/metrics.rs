//! `docs/metrics.md`, compared with what the program says.

use std::collections::BTreeSet;

use crate::webhook::Webhook;

#[tokio::test]
async fn the_page_lists_the_metrics_that_there_are_with_their_types_and_no_others() {
    let webhook = Webhook::start(&[]).await;
    let first = webhook.ask("GET /healthz", &[], b"").await;
    assert_eq!(first.status, 200);
    let text = webhook.admin("/metrics").await.text();
    let said: BTreeSet<(String, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| {
            (format!("{name}{}", if kind == "counter" { "_total" } else { "" }), kind.to_owned())
        })
        .collect();
    let (_, section) = include_str!("../../../docs/metrics.md").split_once("\n## The webhook\n").unwrap();
    let listed: BTreeSet<(String, String)> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, rest)| {
            let kind = rest.split(['|', ',']).next().unwrap_or_default().trim();
            (name.to_owned(), kind.to_owned())
        })
        .collect();
    assert!(!listed.is_empty());
    assert_eq!(said, listed);
}
