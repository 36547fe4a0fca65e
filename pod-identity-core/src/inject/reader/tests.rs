use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

const NUMBERS: Limit = Limit { most: 3, name: "numbers" };

fn whole<'a, T>(
    json: &'a str,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T>,
) -> std::result::Result<T, String> {
    let mut reader = Reader::new(json);
    let value = read(&mut reader).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(value)
}

fn skip(json: &str) -> std::result::Result<&str, String> {
    whole(json, Reader::raw)
}

#[test]
fn skips_what_serde_json_ignores_and_refuses_what_it_refuses() {
    for json in [
        "",
        " ",
        "null",
        "nul",
        "nulll",
        "true",
        "truefalse",
        "false",
        "fals",
        "0",
        "-0",
        "00",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1.5",
        "1e",
        "1e5",
        "1E+5",
        "1e-",
        "1e999",
        "-1.0e-0",
        "1 2",
        "NaN",
        "Infinity",
        "{}",
        "{ }",
        "[]",
        "[ ]",
        "[,]",
        "[1,]",
        "[1 2]",
        "[1",
        "]",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1,\"b\":[{}]}",
        "{a:1}",
        "{1:1}",
        "{\"a\":1]",
        "[1}",
        "[[[[{\"a\":[1,{}]}]]]]",
        "\"",
        "\"a\"",
        "\"\\\"",
        "\"\\\"\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u123g\"",
        "\"\\u1234\"",
        "\"\\ud800\"",
        "\"\u{1f}\"",
        "\"\u{7f}\"",
        "\"\t\"",
        "\"é\u{10ffff}\"",
        "'a'",
        "\u{feff}1",
        "/**/1",
        "\"abcdefg\\",
        "\"abcdefgh\u{1}\"",
        " \t\n\r1\n",
        "\u{b}1",
        "\"0123456789abcdef\\n0123456789abcdef\"",
        "\"01234567",
        "\"0123456\"",
    ] {
        let accepted = serde_json::from_str::<IgnoredAny>(json).is_ok();
        assert_eq!(skip(json).is_ok(), accepted, "{json:?}: {:?}", skip(json));
    }
}

#[test]
fn returns_the_text_of_a_skipped_value() {
    assert_eq!(skip(" [1, {\"a\": \"b\"}] "), Ok("[1, {\"a\": \"b\"}]"));
    let found = whole("{\"a\" : \"x\" , \"b\":[ ]}", |reader| {
        let mut values = Vec::new();
        reader.object(|reader, key| {
            values.push((key.to_owned(), reader.raw()?));
            Ok(())
        })?;
        Ok(values)
    });
    assert_eq!(found.unwrap(), [("a".to_owned(), "\"x\""), ("b".to_owned(), "[ ]")]);
}

#[test]
fn skips_a_million_levels_without_stack() {
    let levels = 1_000_000;
    let json = format!("{}{}", "[{\"a\":".repeat(levels), "0");
    let closed = format!("{json}{}", "}]".repeat(levels));
    assert_eq!(skip(&closed).map(str::len), Ok(closed.len()));
    assert!(skip(&json).is_err());
    assert!(skip(&format!("{json}{}", "]}".repeat(levels))).is_err());
}

#[test]
fn decodes_strings_as_serde_json_does() {
    for json in [
        r#""""#,
        r#""plain""#,
        r#""\"\\\/\b\f\n\r\t""#,
        r#""\u0041\u00e9\u20AC""#,
        r#""\ud83d\ude00x""#,
        r#""\ud83d""#,
        r#""\ud83dx""#,
        r#""\ud83d\n""#,
        r#""\ud83d\u0041""#,
        r#""\ude00""#,
        r#""\ud83d\ud83d\ude00""#,
        r#""a\u0000b""#,
        r#""é\\é""#,
    ] {
        let expected = serde_json::from_str::<String>(json).ok();
        assert_eq!(whole(json, Reader::string).ok().as_deref(), expected.as_deref(), "{json}");
    }
}

#[test]
fn borrows_strings_without_escapes() {
    assert!(matches!(whole("\"plain é\"", Reader::string), Ok(Cow::Borrowed("plain é"))));
    assert!(matches!(whole(r#""a\n""#, Reader::string), Ok(Cow::Owned(_))));
}

#[test]
fn stops_at_the_first_item_beyond_the_limit() {
    let read = |json| {
        whole(json, |reader| {
            reader.list(NUMBERS, |reader| reader.raw().map(|text| (text != "0").then_some(text)))
        })
    };
    assert_eq!(read("[1, 0, 3]").unwrap(), ["1", "3"]);
    // The text behind the fourth item is not JSON, and is not read.
    for json in ["[0, 0, 0, 0, }", "[1, 1, 1, 1]"] {
        assert_eq!(read(json), Err("more than 3 numbers".to_owned()));
    }
    assert_eq!(read("{}"), Err("found an object, want a list".to_owned()));
}

#[test]
fn an_array_of_members_is_not_an_object() {
    let read = |json| {
        whole(json, |reader| {
            let mut name = None;
            reader.object(|reader, key| match key {
                "name" => reader.once(&mut name, Reader::string),
                _ => reader.skip(),
            })?;
            Ok(name)
        })
    };
    assert_eq!(read(r#"{"name": "app"}"#).unwrap().as_deref(), Some("app"));
    for json in [r#"["app"]"#, r#""app""#, "null", "7"] {
        let error = read(json).unwrap_err();
        assert!(error.ends_with("want an object"), "{error}");
    }
    assert_eq!(read(r#"{"name": "a", "n\u0061me": "b"}"#), Err("name: duplicate member".to_owned()));
}

#[test]
fn an_attempt_that_fails_skips_the_value() {
    let read = |json| {
        whole(json, |reader| {
            let mut items = Vec::new();
            reader.items(NUMBERS, |reader| {
                items.push(reader.attempt(Reader::bool)?.map_err(|(error, json)| (error.to_string(), json)));
                Ok(())
            })?;
            Ok(items)
        })
    };
    let wrong = Err(("found an object, want true or false".to_owned(), "{\"a\": [1]}"));
    assert_eq!(read("[true, {\"a\": [1]}, false]"), Ok(vec![Ok(true), wrong, Ok(false)]));
    assert_eq!(read("[{\"a\": 01}]"), Err("invalid JSON at line 1 column 9: expected `,` or `}`".to_owned()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn skips_the_same_texts_as_serde_json(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"a\"", "\"", "\\", "\\u12ab", "1", "-", "0", ".5", "e9", "null", "true",
                " ", "\n", "\"key\":", "{}", "[]", "é", "\u{1}", "\"0123456789\"",
            ]),
            0..12,
        ),
    ) {
        let json = parts.concat();
        prop_assert_eq!(skip(&json).is_ok(), serde_json::from_str::<IgnoredAny>(&json).is_ok(), "{}", json);
    }

    #[test]
    fn reads_the_strings_that_serde_json_reads(content in "([\"\\\\u/bn0-9a-fDd8é\u{1} ]|\\\\u[dD][8-9c-f][0-9]{2}|\\\\n){0,8}") {
        let json = format!("\"{content}\"");
        let expected = serde_json::from_str::<String>(&json).ok();
        prop_assert_eq!(whole(&json, Reader::string).ok().map(Cow::into_owned), expected, "{}", json);
    }
}
