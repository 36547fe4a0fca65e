//! Real threads: the swap, the flights and the drop of leaders under contention.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_makes_one_call() {
    for round in 0..200 {
        for verified in [true, false] {
            let (cache, now) = (cache(10), now(1000));
            let leaders = Arc::new(AtomicUsize::new(0));
            let herd: Vec<_> = (0..64)
                .map(|_| {
                    let (cache, leaders) = (cache.clone(), leaders.clone());
                    tokio::spawn(async move {
                        let begun = if verified {
                            by_keys(&cache, &token(round), 7, now)
                        } else {
                            by_acceptance(&cache, &token(round), now)
                        };
                        let waiter = match begun {
                            Begin::Hit(entry) => return entry.value().clone(),
                            Begin::Wait(waiter) => waiter,
                            Begin::Lead(lead, waiter) => {
                                leaders.fetch_add(1, Ordering::SeqCst);
                                tokio::task::yield_now().await;
                                lead.complete(now, Ok(issued(7, now, 3600)));
                                waiter
                            }
                            Begin::Refused(_) => panic!("nobody refused"),
                        };
                        match waiter.wait().await {
                            Waited::Value(entry) => entry.value().clone(),
                            other => panic!("{other:?}"),
                        }
                    })
                })
                .collect();
            for one in herd {
                assert_eq!(one.await.unwrap().identity, 7);
            }
            assert_eq!(leaders.load(Ordering::SeqCst), 1, "round {round}");
        }
    }
}

#[test]
fn identities_do_not_mix_under_writes_evictions_and_sweeps() {
    let cache = cache(48);
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let cache = cache.clone();
            scope.spawn(move || {
                for step in 0..20_000u32 {
                    let number = (step.wrapping_mul(2_654_435_761).wrapping_add(thread)) % 64;
                    let identity = u8::try_from(number).unwrap();
                    let at = now(1000 + u64::from(step / 100));
                    match by_keys(&cache, &token(number), identity, at) {
                        Begin::Hit(entry) => assert_eq!(entry.value().identity, identity),
                        Begin::Lead(lead, _) if step % 7 != 0 => {
                            lead.complete(at, Ok(issued(identity, at, 60)));
                        }
                        _ => {}
                    }
                    if step % 1000 == 0 {
                        cache.sweep(at);
                        cache.forget_tokens();
                    }
                }
            });
        }
    });
    assert!(cache.len() <= 48 + 4);
}
