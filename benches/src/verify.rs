//! A token verified by the rules, against its signature verified by the bare library.

use std::hint::black_box;

use benches::signed::{Algorithm, ISSUER, SignedToken, valid_at};
use pod_identity_core::token::{BearerToken, Expected, KeySet, POD_IDENTITY_AUDIENCE, verify};

use crate::Outcome;
use crate::measure::{Pairs, nanoseconds};

const ROUNDS: usize = 101;
const TIMES: u32 = 200;

pub(crate) fn run() -> Outcome {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let signed = SignedToken::new(algorithm)?;
        let (bare, keys) = (signed.bare()?, KeySet::from_jwks(&signed.jwks)?);
        let token = BearerToken::parse(&signed.token)?;
        let expected = Expected { issuer: ISSUER.to_owned(), audience: POD_IDENTITY_AUDIENCE.to_owned() };
        let now = valid_at();
        // What fails is fast: both must succeed before they are timed.
        verify(&token, &keys, &expected, now)?;
        if !bare.verifies() {
            return Err("the bare library refuses the signature".into());
        }
        let ours = || verify(black_box(&token), &keys, &expected, now).is_ok();
        let pairs = Pairs::in_turn(
            ROUNDS,
            || Ok(nanoseconds(TIMES, |_| assert!(ours())) / 1e3),
            || Ok(nanoseconds(TIMES, |_| assert!(black_box(&bare).verifies())) / 1e3),
        )?;
        pairs.print(&format!("{algorithm:?}"), "verify", "bare signature", "µs");
    }
    Ok(())
}
