//! Runs the committed inputs, which cover the most code: `fuzz/corpus` has a directory for each target.

#![allow(clippy::unwrap_used)]

use std::path::Path;

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target);
    let mut inputs: Vec<_> =
        corpus.read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    inputs.sort();
    assert!(inputs.len() >= 10, "{} has {} inputs, want at least 10", corpus.display(), inputs.len());
    for input in inputs {
        let bytes = std::fs::read(&input).unwrap();
        let outcome = std::panic::catch_unwind(|| check(&bytes));
        assert!(outcome.is_ok(), "the property of {target} does not hold for {}", input.display());
    }
}

macro_rules! replays {
    ($($test:ident: $target:ident,)+) => {
        $(
            #[test]
            fn $test() {
                replay(stringify!($target), fuzz_properties::$target);
            }
        )+
    };
}

replays! {
    holds_for_admission_reviews: admission,
    holds_for_association_files: associations,
    holds_for_answers_of_eks_auth: eks_auth,
    holds_for_key_sets: jwks,
    holds_for_answers_to_the_provider: provider,
    holds_for_request_heads: request,
    holds_for_signed_requests: sigv4,
    holds_for_pod_tokens: token,
    holds_for_trust_policies: trust,
}
