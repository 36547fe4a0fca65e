use super::*;

/// Struct types in every position in which serde accepts one.
#[derive(Debug, PartialEq, serde::Deserialize)]
struct Outer {
    inner: Inner,
    maybe: Option<Inner>,
    list: Vec<Inner>,
    map: std::collections::BTreeMap<String, Inner>,
    wrapped: Wrapped,
    pair: (u8, Inner),
    choice: Choice,
}

#[derive(Debug, PartialEq, serde::Deserialize)]
struct Inner {
    name: String,
}

#[derive(Debug, PartialEq, serde::Deserialize)]
struct Wrapped(Inner);

#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Choice {
    None,
    One(Inner),
    Named { inner: Inner },
}

fn outer() -> serde_json::Value {
    let inner = serde_json::json!({"name": "a"});
    serde_json::json!({
        "inner": inner, "maybe": inner, "list": [inner], "map": {"a": inner}, "wrapped": inner,
        "pair": [1, inner], "choice": {"one": inner}, "ignored": [inner],
    })
}

fn read(json: &serde_json::Value) -> Result<Outer, JsonError> {
    from_slice(json.to_string().as_bytes())
}

#[test]
fn rejects_array_in_place_of_object_at_any_depth() {
    assert_eq!(read(&outer()).unwrap().choice, Choice::One(Inner { name: "a".to_owned() }));
    for place in [
        "",
        "/inner",
        "/maybe",
        "/list/0",
        "/map/a",
        "/wrapped",
        "/pair/1",
        "/choice/one",
        "/choice/named",
        "/choice/named/inner",
    ] {
        let mut json = outer();
        if place.contains("named") {
            json["choice"] = serde_json::json!({"named": {"inner": {"name": "a"}}});
            assert!(read(&json).is_ok());
        }
        let object = json.pointer_mut(place).unwrap();
        *object = object.as_object().unwrap().values().cloned().collect();
        let wrong = "found an array, want an object at line 1 column ";
        let error = read(&json).unwrap_err().to_string();
        assert!(error.starts_with(wrong), "{place}: {error}");
    }
    let mut json = outer();
    json["choice"] = "none".into();
    assert_eq!(read(&json).unwrap().choice, Choice::None);
    json["maybe"] = serde_json::Value::Null;
    assert_eq!(read(&json).unwrap().maybe, None);
}

#[test]
fn rejects_duplicate_key_in_every_object() {
    let text = outer().to_string();
    for (at, _) in text.match_indices(r#"{"name":"a"}"#) {
        let (before, after) = text.split_at(at + 1);
        let twice = format!(r#"{before}"name":"b",{after}"#);
        let error = from_slice::<Outer>(twice.as_bytes()).unwrap_err();
        assert_eq!(error, JsonError::DuplicateKey("name".to_owned()), "{twice}");
    }
}

#[test]
fn rejects_duplicate_key_at_any_depth() {
    for json in [r#"{"a":1,"a":2}"#, r#"[{"b":[{"a":1,"\u0061":2}]}]"#] {
        assert_eq!(
            from_slice::<serde_json::Value>(json.as_bytes()),
            Err(JsonError::DuplicateKey("a".into())),
            "{json}"
        );
    }
    assert!(from_slice::<serde_json::Value>(br#"{"a":{"a":1},"b":{"a":1}}"#).is_ok());
}

#[test]
fn rejects_duplicate_key_among_any_number_of_keys() {
    for count in [1, 15, 16, 17, 18, 100] {
        for again in [0, count / 2, count - 1] {
            let keys: Vec<String> = (0..count).map(|key| format!(r#""{key}":0"#)).collect();
            let object = |keys: &[String]| format!("{{{}}}", keys.join(","));
            let read = |json: &str| from_slice::<serde_json::Value>(json.as_bytes()).map(drop);
            assert_eq!(read(&object(&keys)), Ok(()), "{count}");
            let repeated = [&keys[..], &[format!(r#""{again}":0"#)]].concat();
            let refused = Err(JsonError::DuplicateKey(again.to_string()));
            assert_eq!(read(&object(&repeated)), refused, "{again} of {count}");
        }
    }
}

#[test]
fn error_does_not_contain_the_wrong_value() {
    #[derive(Debug, serde::Deserialize)]
    struct Token {
        #[allow(dead_code)]
        token: String,
    }
    for json in [r#""secret""#, r#"{"token": ["secret"]}"#, r#"[["secret"]]"#] {
        let error = from_slice::<Token>(json.as_bytes()).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
    assert!(from_slice::<Token>(b"{}").unwrap_err().to_string().contains("token"));
}

#[test]
fn rejects_text_that_is_not_json() {
    for json in ["", "{", r#"{"a":1} x"#, "nul"] {
        assert!(
            matches!(from_slice::<serde_json::Value>(json.as_bytes()), Err(JsonError::Invalid(_))),
            "{json}"
        );
    }
}
