//! Parsing and verification of a token, against verification of its signature by the bare library.

use std::hint::black_box;

use benches::signed::{Algorithm, ISSUER, SignedToken, valid_at};
use pod_identity_core::token::{
    Expected, KeySet, POD_IDENTITY_AUDIENCE, PodToken, TokenError, VerifiedToken, verify,
};

use crate::Outcome;
use crate::measure::{Pairs, nanoseconds};

const ROUNDS: usize = 101;
const TIMES: u32 = 200;

pub(crate) fn run() -> Outcome {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let signed = SignedToken::new(algorithm)?;
        let (bare, keys) = (signed.bare()?, KeySet::from_jwks(&signed.jwks)?);
        let expected = Expected { issuer: ISSUER.to_owned(), audience: POD_IDENTITY_AUDIENCE.to_owned() };
        let now = valid_at();
        let ours = || -> Result<VerifiedToken, TokenError> {
            verify(&PodToken::parse(black_box(&signed.token))?, &keys, &expected, now)
        };
        // An error takes less time, so both must succeed before they are measured.
        ours()?;
        if !bare.verifies() {
            return Err("the bare library refuses the signature".into());
        }
        let pairs = Pairs::in_turn(
            ROUNDS,
            || Ok(nanoseconds(TIMES, |_| assert!(ours().is_ok())) / 1e3),
            || Ok(nanoseconds(TIMES, |_| assert!(black_box(&bare).verifies())) / 1e3),
        )?;
        pairs.print(&format!("{algorithm:?}"), "parse and verify", "bare signature", "µs");
    }
    Ok(())
}
