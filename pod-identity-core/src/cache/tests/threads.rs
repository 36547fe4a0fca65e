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
                            other => panic!("{other:?}"),
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

/// Whoever forgets an identity may rely on it: what was fetched before is served to nobody after, whatever
/// token leads there and whatever is being completed, evicted and swept meanwhile.
#[test]
fn nothing_from_before_a_forget_is_served_after_it() {
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
                    // Read before the request: what is served must be newer.
                    let least = forgotten[usize::from(identity)].load(Ordering::SeqCst);
                    match by_keys(cache, &token(number), identity, at) {
                        Begin::Hit(entry) => {
                            assert_eq!(entry.value().identity, identity);
                            assert!(entry.value().serial > least, "{} after {least}", entry.value().serial);
                        }
                        Begin::Lead(lead, _) => {
                            let mut answer = issued(identity, at, 600);
                            answer.value.serial = serial.fetch_add(1, Ordering::SeqCst);
                            lead.complete(at, Ok(answer));
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
                // Whatever has a serial by now was begun before the forget.
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
