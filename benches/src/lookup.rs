//! Association lookups in small and large tables.

use std::hint::black_box;

use benches::associations::Table;
use pod_identity_core::identity::{Namespace, ServiceAccount};

use crate::Outcome;
use crate::measure::{Pairs, aim, nanoseconds};

const SIZES: [u32; 5] = [10, 100, 1_000, 10_000, 100_000];
const ROUNDS: usize = 101;
const TIMES: u32 = 20_000;
/// Number of service accounts that are looked up repeatedly.
const BUSY: u32 = 10;
/// Maximum ratio of the largest table to the smallest one, from the project's design.
const RATIO: f64 = 1.2;

pub(crate) fn run() -> Outcome {
    for (which, busy) in [("the same ten names", true), ("all names in random order", false)] {
        let few = Table::new(SIZES[0])?;
        let mut last = f64::NAN;
        for size in SIZES {
            let many = Table::new(size)?;
            let keys = |table: &Table| table.keys(if busy { BUSY } else { table.size().min(TIMES) });
            let (of_many, of_few) = (keys(&many), keys(&few));
            let pairs =
                Pairs::in_turn(ROUNDS, || Ok(lookups(&many, &of_many)), || Ok(lookups(&few, &of_few)))?;
            pairs.print(&format!("{which}, among {size}"), "lookup", "among 10", "ns");
            last = pairs.ratio();
        }
        aim("ratio of a lookup among 100,000 to one among 10", last, RATIO);
    }
    Ok(())
}

fn lookups(table: &Table, keys: &[(Namespace, ServiceAccount)]) -> f64 {
    let mut keys = keys.iter().cycle();
    nanoseconds(TIMES, |_| assert!(keys.next().is_some_and(|key| table.has(black_box(key)))))
}
