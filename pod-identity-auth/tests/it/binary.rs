//! The binary.

use std::process::Command;

#[test]
fn refuses_to_start_with_an_unsafe_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("associations.yaml");
    std::fs::write(&file, "associations: []").unwrap();
    for (flags, expected) in [
        (&["--listen", "0.0.0.0:0"][..], "give --tls-secret, or --tls-cert and --tls-key"),
        (&["--listen", "[::]:0", "--tls-cert", "c", "--tls-key", "k"], "give --agent-auth"),
        (&["--listen", "127.0.0.1:0", "--agent-auth", "sigv4"], "needs --agent-keys-file"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_pod-identity-auth"))
            .args(["--associations", file.to_str().unwrap()])
            .args(flags)
            .env_clear()
            .env("AWS_REGION", "eu-west-1")
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}
