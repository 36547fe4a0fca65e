//! Real threads: concurrent writes, flights and drops of leaders.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_make_one_call() {
    for round in 0..200 {
        for verified in [true, false] {
            let (cache, now) = (cache(10), now(1000));
            let leaders = Arc::new(AtomicUsize::new(0));
            let requests: Vec<_> = (0..64)
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
                            Begin::Lead(leader, waiter) => {
                                leaders.fetch_add(1, Ordering::SeqCst);
                                tokio::task::yield_now().await;
                                leader.complete(now, Ok(issued(7, now, 3600)));
                                waiter
                            }
                            other => panic!("{other:?}"),
                        };
                        match waiter.wait().await {
                            Waited::Value(entry) => entry.value().clone(),
                            other => panic!("{other:?}"),
                        }
                    })
                })
                .collect();
            for request in requests {
                assert_eq!(request.await.unwrap().identity, 7);
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
                        Begin::Lead(leader, _) if step % 7 != 0 => {
                            leader.complete(at, Ok(issued(identity, at, 60)));
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

/// Entries that were fetched before a `forget` are not served after it, whatever token is used and whatever is
/// completed, evicted and swept meanwhile.
#[test]
fn entries_from_before_a_forget_are_not_served_after_it() {
    let cache = cache(6);
    let forgotten: [std::sync::atomic::AtomicU64; 8] = Default::default();
    let serial = std::sync::atomic::AtomicU64::new(1);
    std::thread::scope(|scope| {
        for thread in 0..3u32 {
            let (cache, forgotten, serial) = (&cache, &forgotten, &serial);
            scope.spawn(move || {
                for step in 0..20_000u32 {
                    let number = step.wrapping_mul(2_654_435_761).wrapping_add(thread) % 16;
                    let identity = u8::try_from(number % 8).unwrap();
                    let at = now(1000 + u64::from(step / 1000));
                    // Read before the request, whose entry must be newer.
                    let least = forgotten[usize::from(identity)].load(Ordering::SeqCst);
                    match by_keys(cache, &token(number), identity, at) {
                        Begin::Hit(entry) => {
                            assert_eq!(entry.value().identity, identity);
                            assert!(entry.value().serial > least, "{} after {least}", entry.value().serial);
                        }
                        Begin::Lead(leader, _) => {
                            let mut answer = issued(identity, at, 600);
                            answer.value.serial = serial.fetch_add(1, Ordering::SeqCst);
                            leader.complete(at, Ok(answer));
                        }
                        _ => {}
                    }
                }
            });
        }
        let (cache, forgotten, serial) = (&cache, &forgotten, &serial);
        scope.spawn(move || {
            for step in 0..4_000u32 {
                let identity = u8::try_from(step % 8).unwrap();
                // Every entry with a serial by now began before the forget.
                let last = serial.load(Ordering::SeqCst) - 1;
                cache.forget(&identity);
                forgotten[usize::from(identity)].store(last, Ordering::SeqCst);
                if step % 100 == 0 {
                    cache.sweep(now(1000));
                }
            }
        });
    });
}
