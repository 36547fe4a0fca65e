use super::*;

const NAME: &str = "pod-identity-webhook.eks.svc";
const HOUR: Duration = Duration::from_secs(60 * 60);
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn made() -> Generation {
    Generation::make(NAME, "pod-identity-webhook", LIFETIME, now()).unwrap()
}

fn refusal(generation: &Generation, name: &str, now: SystemTime) -> String {
    generation.check(name, now).unwrap_err().to_string()
}

#[test]
fn client_with_the_authority_accepts_the_certificate_for_its_name_and_no_other() {
    let generation = made();
    generation.check(NAME, now()).unwrap();
    for other in ["pod-identity-webhook.default.svc", "pod-identity-webhook.eks.svc.cluster.local", "eks.svc"]
    {
        let error = refusal(&generation, other, now());
        assert!(error.contains("not valid for name"), "{other}: {error}");
    }
    let authority = made().check(NAME, now()).unwrap().authority;
    let error = generation.check(NAME, now()).unwrap().verify(&[&authority], NAME, now()).unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
}

#[test]
fn is_valid_for_clocks_a_day_behind_and_until_its_expiry() {
    let generation = made();
    for (at, accepted) in [
        (now() - 25 * HOUR, Err("not valid yet")),
        (now() - 24 * HOUR, Ok(())),
        (now() + LIFETIME - HOUR, Ok(())),
        (now() + LIFETIME, Err("expired")),
    ] {
        match (generation.check(NAME, at), accepted) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(reason)) => assert!(error.to_string().contains(reason), "{error}"),
            (found, _) => panic!("{at:?}: {found:?}"),
        }
    }
}

#[test]
fn next_generation_is_due_after_two_thirds_of_the_lifetime() {
    let generation = made();
    let due = now() + LIFETIME * 2 / 3;
    assert!(!generation.is_due(due - Duration::from_secs(1)));
    assert!(generation.is_due(due));
}

#[test]
fn is_overdue_halfway_between_due_date_and_expiry() {
    let generation = made();
    assert_eq!(generation.overdue(), now() + LIFETIME * 5 / 6);
    assert!(generation.is_due(generation.overdue()) && generation.overdue() < generation.expires());
}

#[test]
fn keeps_and_does_not_print_fields_of_a_newer_version() {
    let written = String::from_utf8(write(&[made()])).unwrap();
    let newer = written.replacen('{', r#"{"backup":{"key":"of-the-future"},"#, 1);
    let mut generations = read(newer.as_bytes()).unwrap();
    generations[0].settled = true;
    let kept: serde_json::Value = serde_json::from_slice(&write(&generations)).unwrap();
    assert_eq!(kept[0]["backup"], serde_json::json!({"key": "of-the-future"}));
    assert_eq!(kept[0]["settled"], true);
    let printed = format!("{generations:?}");
    assert!(printed.contains("backup") && !printed.contains("of-the-future"), "{printed}");
}

#[test]
fn bundle_of_several_authorities_verifies_each_certificate() {
    let pairs: Vec<_> = (0..3).map(|_| made().check(NAME, now()).unwrap()).collect();
    let authorities: Vec<_> = pairs.iter().map(|pair| &pair.authority).collect();
    for pair in &pairs {
        pair.verify(&authorities, NAME, now()).unwrap();
    }
}

#[test]
fn refuses_a_modified_generation() {
    let (generation, other) = (made(), made());
    let swapped = Generation { key: other.key.clone(), ..generation.clone() };
    assert!(refusal(&swapped, NAME, now()).contains("KeyMismatch"));
    let swapped = Generation { authority: other.authority.clone(), ..generation.clone() };
    assert!(refusal(&swapped, NAME, now()).contains("UnknownIssuer"));
    let broken = Generation { certificate: "none".to_owned(), ..generation };
    assert!(refusal(&broken, NAME, now()).contains("not PEM"));
}

#[test]
fn name_that_is_not_a_dns_name_is_an_error() {
    assert!(Generation::make("käse.eks.svc", "pod-identity-webhook", LIFETIME, now()).is_err());
    assert!(made().check("..", now()).is_err());
}

#[test]
fn reads_what_it_writes_and_never_prints_keys() {
    let generations = [made(), Generation { settled: true, ..made() }];
    let written = write(&generations);
    assert_eq!(read(&written).unwrap(), generations);

    let text = String::from_utf8(written).unwrap();
    assert_eq!(text.matches("PRIVATE KEY-----\\n").count(), 4, "two keys, both of certificates");
    let key = generations[0].key.0.lines().nth(1).unwrap().to_owned();
    assert!(text.contains(&key));
    let printed = format!("{generations:?} {:?}", generations[0].check(NAME, now()).unwrap());
    assert!(printed.contains("(private key)") && !printed.contains(&key), "{printed}");
    // Errors quote nothing.
    for broken in [text.replace("\"settled\":true", "\"settled\":7"), text.replace("\"made\":", "\"made\":-")]
    {
        let error = read(broken.as_bytes()).unwrap_err();
        assert!(error.starts_with("line 1, column ") && error.len() < 40, "{error}");
    }
}
