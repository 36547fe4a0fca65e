//! Properties that hold for any input, one function for each fuzz target.
//!
//! cargo-fuzz calls them with generated inputs (`fuzz/fuzz_targets`), and the test `corpus` with the committed inputs
//! (`fuzz/corpus`). A function panics if its property does not hold. Properties check the result and not only that the
//! code does not panic: for example, a changed token never verifies.
#![allow(clippy::unwrap_used)] // a target reports by a panic

mod admission;
mod associations;
mod eks_auth;
mod input;
mod jwks;
mod provider;
mod request;
mod sigv4;
mod token;
mod trust;

pub use admission::admission;
pub use associations::associations;
pub use eks_auth::eks_auth;
pub use jwks::jwks;
pub use provider::provider;
pub use request::request;
pub use sigv4::sigv4;
pub use token::token;
pub use trust::trust;

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use pod_identity_local::issuer::{Issuer, KeyAlgorithm};

/// The issuer of the tokens that targets sign. Its key is new in each process, so no input can contain its signature.
static ISSUER: LazyLock<Issuer> = LazyLock::new(|| {
    Issuer::new("https://oidc.pod-identity.test/demo", "http://127.0.0.1:1/demo", KeyAlgorithm::Es256)
        .unwrap()
});

/// The time at which tokens and signatures are checked: 2026-11-30T12:00:00Z.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_796_040_000)
}

/// Claims of a pod token that verifies at [`now`].
fn valid_claims() -> serde_json::Value {
    serde_json::json!({
        "aud": ["pods.eks.amazonaws.com"],
        "exp": 1_796_043_600,
        "iat": 1_796_036_400,
        "nbf": 1_796_036_400,
        "iss": ISSUER.issuer(),
        "jti": "5b1d0c1f-0b7e-4d44-9a83-0b3b8e3d6a11",
        "kubernetes.io": {
            "namespace": "shop",
            "node": {"name": "node-1", "uid": "9d0c7f0e-7d0f-4a4b-8d4e-2f6f1f0f9a01"},
            "pod": {"name": "cart-1", "uid": "9d0c7f0e-7d0f-4a4b-8d4e-2f6f1f0f9a02"},
            "serviceaccount": {"name": "cart", "uid": "9d0c7f0e-7d0f-4a4b-8d4e-2f6f1f0f9a03"},
        },
        "sub": "system:serviceaccount:shop:cart",
    })
}
