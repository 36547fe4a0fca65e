//! The files of a control plane and a node: certificates, keys, tokens, kubeconfig files, and logs.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::json;
use uuid::Uuid;

use super::{API_ADDRESS, SERVICE_ADDRESS};
use crate::authority::Authority;

/// The admin's kubeconfig file.
pub(super) const ADMIN: &str = "admin.kubeconfig";
/// The CA certificate of the API server.
pub(super) const CA: &str = "ca.crt";
/// The log of kube-apiserver.
pub(super) const API_LOG: &str = "kube-apiserver.log";

/// The kubeconfig file of a node's kubelet.
const KUBELET: &str = "kubelet.kubeconfig";

/// Writes the input files of `control-plane.sh` and `node.sh` into a new directory. The scripts remove the directory.
pub(crate) fn write() -> PathBuf {
    let directory = tempfile::tempdir().expect("a directory").keep();
    let write = |name: &str, text: String| fs::write(directory.join(name), text).expect("a file");
    let authority = Authority::new();
    let addresses = [API_ADDRESS, SERVICE_ADDRESS].map(|address| IpAddr::from(address).to_string());
    let (certificate, key) = authority.pair_for(&[
        &addresses[0],
        &addresses[1],
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]);
    write(CA, authority.ca_pem());
    write("api.crt", certificate);
    write("api.key", key);
    // An RSA key, so that tokens are signed with RS256 as in most clusters.
    let token_key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("an RSA key");
    write("accounts.key", token_key.serialize_pem());
    let [admin, kubelet] = std::array::from_fn(|_| Uuid::new_v4().simple().to_string());
    // Columns: token, user, UID, groups (https://kubernetes.io/docs/reference/access-authn-authz/authentication/).
    let users = format!("{admin},admin,admin,system:masters\n{kubelet},system:node:node,node,system:nodes\n");
    write("tokens.csv", users);
    kubeconfig(&directory, ADMIN, &admin);
    kubeconfig(&directory, KUBELET, &kubelet);
    let (certificate, key) = authority.pair_for(&["node", &addresses[0]]);
    write("kubelet.crt", certificate);
    write("kubelet.key", key);
    // The API server calls the kubelet with this certificate.
    let (certificate, key) = authority.pair_of_user("kube-apiserver", "system:masters");
    write("kubelet-client.crt", certificate);
    write("kubelet-client.key", key);
    directory
}

/// Writes a kubeconfig file with this token, and returns its path.
pub(super) fn kubeconfig(directory: &Path, name: &str, token: &str) -> PathBuf {
    let path = directory.join(name);
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "tests",
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
        "clusters": [{"name": "tests", "cluster": {
            "server": format!("https://{API_ADDRESS}"), "certificate-authority": directory.join(CA),
        }}],
        "users": [{"name": "tests", "user": {"token": token}}],
    });
    fs::write(&path, config.to_string()).expect("a file");
    path
}

/// Returns the last lines of the programs' logs.
pub(crate) fn logs(directory: &Path) -> String {
    let mut files: Vec<_> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|file| file.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    let end = |file: &PathBuf| {
        let log = fs::read_to_string(file).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        format!("{}:\n{}\n", file.display(), lines[lines.len().saturating_sub(20)..].join("\n"))
    };
    files.iter().map(end).collect()
}
