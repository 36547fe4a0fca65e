//! Random keys, secrets and tokens from the operating system.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const BASE_32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // It fails only if the system has no source of randomness.
    #[expect(clippy::expect_used, reason = "a guessable key is worse than a crash")]
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

fn base_32(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(BASE_32[usize::from(b & 31)])).collect()
}

/// Returns a new access key id of a session: `ASIA` and 16 characters (IAM user guide, *IAM identifiers*).
pub(crate) fn session_key_id() -> String {
    format!("ASIA{}", base_32(&bytes::<16>()))
}

/// Returns a new secret access key of 40 characters.
pub(crate) fn secret() -> String {
    STANDARD.encode(bytes::<30>())
}

/// Returns a new session token of at least `minimum` characters. It is random and encodes nothing.
pub(crate) fn session_token(minimum: usize) -> String {
    let mut token = STANDARD.encode(bytes::<264>());
    while token.len() < minimum {
        token.push_str(&STANDARD.encode(bytes::<66>()));
    }
    token
}

/// Returns the unique id of a role (`AROA`) or a user (`AIDA`). Equal ARNs have equal ids.
pub(super) fn unique_id(prefix: &str, arn: &str) -> String {
    format!("{prefix}{}", base_32(&digest::digest(&digest::SHA256, arn.as_bytes()).as_ref()[..17]))
}
