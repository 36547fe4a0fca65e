//! Cases in files: `tests/golden/<what it shows>.yaml`, the input above the line `---`, the expected result below it.
//!
//! `UPDATE_GOLDEN=1 cargo test -p pod-identity-core --features inject --test inject golden` writes the results. Review the
//! difference then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pod_identity_core::arn::Partition;
use pod_identity_core::inject::{
    Injection, Injector, NamespaceSettings, Pod, PodIdentityServiceAccounts, RoleConfigMap,
    ServiceAccountFacts, ServiceAccountSettings, Settings, TokenExpiration,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::apply::apply;

const NAMESPACE: &str = "shop";
/// The line between input and expected result.
const LINE: &str = "\n---\n";

/// A pod, the settings, and the facts about its service account.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    #[serde(default)]
    settings: SettingsOfCase,
    /// Annotations of the pod's service account.
    #[serde(default)]
    service_account: BTreeMap<String, String>,
    /// Labels of the pod's namespace.
    #[serde(default)]
    namespace: BTreeMap<String, String>,
    /// The file of service accounts with Pod Identity.
    pod_identity_file: Option<Value>,
    /// The key `config` of the ConfigMap.
    config_map: Option<Value>,
    #[serde(default)]
    random: u32,
    pod: Value,
}

/// Settings that differ from the defaults.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SettingsOfCase {
    annotation_prefix: Option<String>,
    audience: Option<String>,
    volume: Option<String>,
    mount_path: Option<String>,
    file: Option<String>,
    full_uri: Option<String>,
    irsa_audience: Option<String>,
    irsa_mount_path: Option<String>,
    token_expiration: Option<i64>,
    region: Option<String>,
    #[serde(default)]
    regional_sts: bool,
    /// The AWS account of roles that are given by name; their partition is that of the region.
    aws_account: Option<String>,
}

/// The expected result.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
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

impl SettingsOfCase {
    fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        let set = |field: &mut String, value: &Option<String>| {
            if let Some(value) = value {
                field.clone_from(value);
            }
        };
        set(&mut settings.annotation_prefix, &self.annotation_prefix);
        set(&mut settings.pod_identity.audience, &self.audience);
        set(&mut settings.pod_identity.volume, &self.volume);
        set(&mut settings.pod_identity.mount_path, &self.mount_path);
        set(&mut settings.pod_identity.file, &self.file);
        set(&mut settings.full_uri, &self.full_uri);
        set(&mut settings.web_identity.audience, &self.irsa_audience);
        set(&mut settings.web_identity.mount_path, &self.irsa_mount_path);
        settings.token_expiration = self.token_expiration.map(TokenExpiration::nearest);
        settings.regional_sts = self.regional_sts;
        let partition = Partition::of_region(self.region.as_deref().unwrap_or_default());
        settings.bare_roles = self.aws_account.as_ref().map(|account| (partition, account.parse().unwrap()));
        settings.region.clone_from(&self.region);
        settings
    }
}

impl Case {
    /// Injects the pod of the case, or the same pod after a patch.
    fn inject(&self, pod: &Value) -> Injection {
        let settings = self.settings.settings();
        let json = pod.to_string();
        let pod = Pod::parse(&json).unwrap();
        let namespace = NAMESPACE.parse().unwrap();
        let service_account = pod.service_account().parse().unwrap();
        let associated = self.pod_identity_file.as_ref().is_some_and(|file| {
            let file = PodIdentityServiceAccounts::parse(file.to_string().as_bytes()).unwrap();
            file.contains(&namespace, &service_account)
        });
        let map =
            self.config_map.as_ref().map(|map| RoleConfigMap::parse(&map.to_string(), &settings).unwrap());
        let mapped = map.as_ref().and_then(|map| map.lookup(&namespace, &service_account));
        let annotated = ServiceAccountSettings::from_annotations(&self.service_account, &settings);
        let facts = ServiceAccountFacts {
            associated,
            settings: annotated.or_mapped(mapped),
            namespace: NamespaceSettings::from_labels(&self.namespace),
        };
        Injector::new(settings).inject(&pod, &facts, self.random)
    }
}

fn found(injection: &Injection) -> Expected {
    Expected {
        outcome: injection.outcome.as_str().to_owned(),
        methods: injection.methods.iter().map(|method| method.as_str().to_owned()).collect(),
        missed: injection.missed().map(|warning| warning.reason.as_str().to_owned()).collect(),
        warnings: injection.admission_warnings().collect(),
        patch: serde_json::from_str(injection.patch.as_json()).unwrap(),
    }
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn injects_as_each_golden_file_expects_and_adds_nothing_the_second_time() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let cases = cases();
    for path in &cases {
        let name = path.file_stem().unwrap().to_string_lossy();
        let text = std::fs::read_to_string(path).unwrap();
        let (input, expected) = text.split_once(LINE).unwrap_or((text.trim_end(), ""));
        let case: Case = serde_saphyr::from_str(input).unwrap_or_else(|error| panic!("{name}: {error}"));
        let first = case.inject(&case.pod);
        let found = found(&first);
        if update {
            let result = serde_saphyr::to_string(&found).unwrap();
            std::fs::write(path, format!("{input}{LINE}{result}")).unwrap();
        } else if serde_saphyr::from_str::<Expected>(expected).ok().as_ref() != Some(&found) {
            wrong.push(format!("{name}: {found:#?}"));
        }

        let patched = apply(&case.pod, &first.patch);
        let again = Case { random: case.random.wrapping_add(1), ..case }.inject(&patched);
        assert!(again.patch.is_empty(), "{name}, a second time: {:?}", again.patch);
        assert_eq!(again.methods, first.methods, "{name}, a second time");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() >= 50, "{} cases", cases.len());
}
