//! Cases as files: `tests/golden/<what it shows>.yaml`, question above the line `---`, answer below it.
//!
//! `UPDATE_GOLDEN=1 cargo test -p pod-identity-webhook --test it golden` writes the answers anew; then look at
//! the difference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pod_identity_webhook::account::{AccountSettings, Known, NamespaceSettings};
use pod_identity_webhook::config_map::ConfigMap;
use pod_identity_webhook::identities::Identities;
use pod_identity_webhook::mutate::{Mutation, mutate};
use pod_identity_webhook::pod::Pod;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::apply::apply;

const NAMESPACE: &str = "shop";
/// The line between question and answer.
const LINE: &str = "\n---\n";

/// A pod, and what is known of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    /// The program's flags.
    #[serde(default)]
    flags: Vec<String>,
    /// The annotations of the pod's service account.
    #[serde(default)]
    account: BTreeMap<String, String>,
    /// The labels of the pod's namespace.
    #[serde(default)]
    namespace: BTreeMap<String, String>,
    /// The file of identities.
    identities: Option<Value>,
    /// The ConfigMap's config.
    config_map: Option<Value>,
    /// The number that chance gives.
    #[serde(default)]
    random: u32,
    pod: Value,
}

/// What has to come of it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    outcome: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    methods: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missed: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    patch: Vec<Value>,
}

impl Case {
    /// Mutates the pod of the case, or that pod later on.
    fn mutate(&self, pod: &Value) -> Mutation {
        let flags = std::iter::once("webhook").chain(self.flags.iter().map(String::as_str));
        let settings = pod_identity_webhook::args::parse(flags).unwrap().config().unwrap().settings;
        let json = pod.to_string();
        let pod = Pod::parse(&json).unwrap();
        let namespace = NAMESPACE.parse().unwrap();
        let account = pod.service_account().parse().unwrap();
        let associated = self.identities.as_ref().is_some_and(|file| {
            Identities::parse(file.to_string().as_bytes()).unwrap().contains(&namespace, &account)
        });
        let map = self.config_map.as_ref().map(|map| ConfigMap::parse(&map.to_string(), &settings).unwrap());
        let mapped = map.as_ref().and_then(|map| map.lookup(&namespace, &account));
        let known = Known {
            associated,
            account: AccountSettings::from_annotations(&self.account, &settings).or_mapped(mapped),
            namespace: NamespaceSettings::from_labels(&self.namespace),
        };
        mutate(&pod, &known, &settings, self.random)
    }
}

fn answer(mutation: &Mutation) -> Answer {
    Answer {
        outcome: mutation.outcome.as_str().to_owned(),
        methods: mutation.methods.iter().map(|method| method.as_str().to_owned()).collect(),
        missed: mutation.missed().map(|notice| notice.reason.as_str().to_owned()).collect(),
        warnings: mutation.warnings().collect(),
        patch: json!(mutation.patch).as_array().unwrap().clone(),
    }
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn golden_cases_have_the_answers_that_stand_below_them_and_nothing_to_add_the_second_time() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let cases = cases();
    for path in &cases {
        let name = path.file_stem().unwrap().to_string_lossy();
        let text = std::fs::read_to_string(path).unwrap();
        let (question, expected) = text.split_once(LINE).unwrap_or((text.trim_end(), ""));
        let case: Case = serde_saphyr::from_str(question).unwrap_or_else(|error| panic!("{name}: {error}"));
        let first = case.mutate(&case.pod);
        let found = answer(&first);
        if update {
            let answer = serde_saphyr::to_string(&found).unwrap();
            std::fs::write(path, format!("{question}{LINE}{answer}")).unwrap();
        } else if serde_saphyr::from_str::<Answer>(expected).ok().as_ref() != Some(&found) {
            wrong.push(format!("{name}: {found:#?}"));
        }

        let patched = apply(&case.pod, &first.patch);
        let again = Case { random: case.random.wrapping_add(1), ..case }.mutate(&patched);
        assert!(again.patch.is_empty(), "{name}, a second time: {:?}", again.patch);
        assert_eq!(again.methods, first.methods, "{name}, a second time");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() >= 50, "{} cases", cases.len());
}
