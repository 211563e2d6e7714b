//! Both encodings, and the way between them.

use super::*;
use crate::model::limits::NESTING_MAX;
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Task {
    id: String,
    inner: Inner,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Inner {
    count: u8,
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("finite", |f| f.is_finite())
            .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_json_says_survives_both_ways(value in any_json()) {
        let text = Codec::Json.encode(&value).unwrap();
        let packed = Codec::Json.translate(&text, Codec::MessagePack).unwrap();
        let back = Codec::MessagePack.translate(&packed, Codec::Json).unwrap();
        prop_assert_eq!(Codec::Json.decode::<Value>(&back).unwrap(), value);
    }

    #[test]
    fn bytes_off_a_wire_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let _ = Codec::MessagePack.translate(&bytes, Codec::Json);
        let _ = Codec::Json.translate(&bytes, Codec::MessagePack);
        let _ = Codec::MessagePack.decode::<Task>(&bytes);
        let _ = Codec::Json.decode::<Task>(&bytes);
    }
}

#[test]
fn a_wrong_shape_names_the_field_and_what_was_expected() {
    for codec in [Codec::MessagePack, Codec::Json] {
        let bytes = codec
            .encode(&json!({"id": "a", "inner": {"count": "many"}}))
            .unwrap();
        let error = codec.decode::<Task>(&bytes).unwrap_err().to_string();
        assert!(error.contains("field `inner.count`"), "{error}");
        assert!(
            error.contains("invalid type: string, expected u8"),
            "{error}"
        );
        assert!(!error.contains("many"), "payload told: {error}");
        let bytes = codec.encode(&json!({"id": "a"})).unwrap();
        let error = codec.decode::<Task>(&bytes).unwrap_err().to_string();
        assert!(error.contains("missing field `inner`"), "{error}");
    }
}

/// A type with every way to say something of what it was given.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only read")]
struct Careless {
    #[serde(default)]
    own: Own,
    #[serde(default)]
    by_name: std::collections::BTreeMap<String, u8>,
    #[serde(default)]
    by_number: std::collections::BTreeMap<u8, Option<u8>>,
    #[serde(default)]
    variants: Vec<Shape>,
    #[serde(default)]
    pair: (u8, u8),
    #[serde(default)]
    any: Vec<Untagged>,
}

/// Quotes what it refuses.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "String")]
struct Own;

impl TryFrom<String> for Own {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Err(format!("unknown variant `{text}`, expected {text}"))
    }
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "only read")]
enum Shape {
    Dot,
    Circle(u8),
    Square { side: u8 },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code, reason = "only read")]
enum Untagged {
    Number(u8),
    Flag(bool),
}

/// What is written, and what is said of it.
const CARELESS: [(&str, &str); 15] = [
    (
        r#"{"own": "hunter2"}"#,
        "field `own`: its type refuses the value",
    ),
    (
        r#"{"by_name": {"hunter2": "x"}}"#,
        "field `by_name.*`: invalid type: string, expected u8",
    ),
    (
        r#"{"by_name": {"hunter2": 256}}"#,
        "field `by_name.*`: invalid value: integer, expected u8",
    ),
    (
        r#"{"by_number": {"1": "hunter2"}}"#,
        "field `by_number.*`: invalid type: string, expected u8",
    ),
    (
        r#"{"hunter2": 1}"#,
        "field `*`: unknown field, expected `own` or `by_name` or `by_number` or `variants` or `pair` or `any`",
    ),
    (
        r#"{"variants": ["Dot", "hunter2"]}"#,
        "field `variants[1]`: unknown variant, expected `Dot` or `Circle` or `Square`",
    ),
    (
        r#"{"variants": [{"hunter2": 1}]}"#,
        "field `variants[0].*`: unknown variant, expected `Dot` or `Circle` or `Square`",
    ),
    (
        r#"{"variants": [{"Circle": "hunter2"}]}"#,
        "field `variants[0].Circle`: invalid type: string, expected u8",
    ),
    (
        r#"{"variants": [{"Square": {"side": "hunter2"}}]}"#,
        "field `variants[0].Square.side`: invalid type: string, expected u8",
    ),
    (
        r#"{"variants": [{"Square": {}}]}"#,
        "field `variants[0].Square`: missing field `side`",
    ),
    (
        r#"{"variants": "hunter2"}"#,
        "field `variants`: invalid type: string, expected a sequence",
    ),
    (
        r#"{"pair": [1]}"#,
        "field `pair`: invalid length 1, expected a tuple of size 2",
    ),
    (
        r#"{"pair": [1, 2, "hunter2"]}"#,
        "field `pair`: invalid length 3, expected fewer elements",
    ),
    (
        r#"{"any": ["hunter2"]}"#,
        "field `any[0]`: data did not match any variant of untagged enum Untagged",
    ),
    (
        r#""hunter2""#,
        "invalid type: string, expected struct Careless",
    ),
];

#[test]
fn errors_tell_names_of_the_type_and_nothing_of_the_payload() {
    let told =
        |codec: Codec, bytes: &[u8]| codec.decode::<Careless>(bytes).unwrap_err().to_string();
    for (text, expected) in CARELESS {
        assert_eq!(told(Codec::Json, text.as_bytes()), expected);
        // In MessagePack a text is no number.
        if !text.contains("by_number") {
            let packed = pack(text).unwrap();
            assert_eq!(told(Codec::MessagePack, &packed), expected);
        }
    }
}

#[test]
fn bytes_after_the_value_are_an_error() {
    for codec in [Codec::MessagePack, Codec::Json] {
        let mut bytes = codec.encode(&json!({"count": 1})).unwrap().to_vec();
        bytes.push(b'1');
        assert!(codec.decode::<Inner>(&bytes).is_err());
    }
}

#[test]
fn what_json_cannot_say_has_no_word_there() {
    let packed: [(&[u8], &str, &str); 7] = [
        (&[0xc4, 1, 7], "", "byte array"),
        (&[0x81, 0xa1, b'a', 0x81, 1, 2], "*", "integer"),
        (&[0xca, 0x7f, 0xc0, 0, 0], "", "must be finite"),
        (&[0xcb, 0xff, 0xf0, 0, 0, 0, 0, 0, 0], "", "must be finite"),
        (&[0x91, 0xd4, 1, 0], "[0]", "extension type"),
        (&[0xd6, 0xff, 0, 0, 0, 1], "", "extension type"), // a time
        (&[0x82, 0xa1, b'a', 1, 0xa1, b'a', 2], "", "twice"),
    ];
    for (bytes, at, why) in packed {
        let bytes = Bytes::copy_from_slice(bytes);
        match Codec::MessagePack.translate(&bytes, Codec::Json) {
            Err(CodecError::NoWord {
                codec,
                path,
                reason,
            }) => {
                assert_eq!(codec, Codec::Json);
                assert_eq!(path.trim_start_matches('.'), at, "{reason}");
                assert!(reason.contains(why), "{reason}");
            }
            other => panic!("{bytes:?}: {other:?}"),
        }
    }
}

fn pack(text: &str) -> Result<Bytes, CodecError> {
    Codec::Json.translate(&Bytes::copy_from_slice(text.as_bytes()), Codec::MessagePack)
}

#[test]
fn what_would_change_on_the_way_has_no_word_in_message_pack() {
    let changed = [
        r#"{"a":1,"a":2}"#,
        r#"[{"b":{"a":1,"a":1}}]"#,
        "18446744073709551616",
        "-9223372036854775809",
        "10000000000000000000001.0",
        "[0.1000000000000000055511151231257827]",
        "0.12345678901234567890",
        "1e400",
        "-1e400",
        "1e-400",
        "1e99999999999999999999",
    ];
    for text in changed {
        let result = pack(text);
        let told = matches!(
            result,
            Err(CodecError::NoWord {
                codec: Codec::MessagePack,
                ..
            })
        );
        assert!(told, "{text}: {result:?}");
    }
}

#[test]
fn numbers_that_are_written_in_another_way_are_the_same_numbers() {
    let same = [
        (
            "[18446744073709551615, -9223372036854775808]",
            json!([u64::MAX, i64::MIN]),
        ),
        (
            "[0.10, 1e2, 1E+2, 100.0, 1.50e-7]",
            json!([0.1, 100.0, 100.0, 100.0, 1.5e-7]),
        ),
        ("[0.0, -0.0, 0e5, 0.000e-999]", json!([0.0, -0.0, 0.0, 0.0])),
        (
            "[1e22, 1.7976931348623157e308, 5e-324]",
            json!([1e22, f64::MAX, 5e-324]),
        ),
        (
            r#"{"a\"": "99999999999999999999999"}"#,
            json!({"a\"": "99999999999999999999999"}),
        ),
    ];
    for (text, value) in same {
        let packed = pack(text).unwrap();
        assert_eq!(
            Codec::MessagePack.decode::<Value>(&packed).unwrap(),
            value,
            "{text}"
        );
    }
}

#[test]
fn bytes_that_say_nothing_are_not_called_unsayable() {
    for text in [
        "",
        "[1",
        "{\"a\":1e400",
        "99999999999999999999 x",
        "\"\\",
        "-",
        "1.",
    ] {
        let result = pack(text);
        assert!(
            matches!(result, Err(CodecError::Decode { .. })),
            "{text}: {result:?}"
        );
    }
    for bytes in [&[][..], &[0xc1], &[0x92, 1], &[0xc4, 9, 7], &[1, 2]] {
        let result = Codec::MessagePack.translate(&Bytes::copy_from_slice(bytes), Codec::Json);
        assert!(
            matches!(result, Err(CodecError::Decode { .. })),
            "{bytes:?}: {result:?}"
        );
    }
}

#[test]
fn both_encodings_round_trip_a_struct() {
    let task = Task {
        id: "a".into(),
        inner: Inner { count: 3 },
    };
    for codec in [Codec::MessagePack, Codec::Json] {
        let bytes = codec.encode(&task).unwrap();
        assert_eq!(codec.decode::<Task>(&bytes).unwrap(), task);
    }
}

/// A type whose levels MessagePack's reader does not count.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Node(Box<Self>),
}

/// `levels` lists, maps or enums in each other.
fn nested(codec: Codec, levels: usize, open: &str, close: &str, core: &str) -> Vec<u8> {
    let text = open.repeat(levels) + core + &close.repeat(levels);
    let text = text.into_bytes();
    match codec {
        Codec::Json => text,
        // The openings and the core as their markers.
        Codec::MessagePack => {
            let open: &[u8] = match open {
                "[" => &[0x91],
                "[1," => &[0x92, 1],
                r#"{"a":"# => &[0x81, 0xa1, b'a'],
                _ => &[0x81, 0xa4, b'N', b'o', b'd', b'e'],
            };
            let core: &[u8] = match core {
                r#""Leaf""# => &[0xa4, b'L', b'e', b'a', b'f'],
                _ => &[0xc0],
            };
            [&open.repeat(levels), core].concat()
        }
    }
}

#[test]
fn what_is_nested_deeper_than_allowed_is_refused_and_never_ends_the_process() {
    // A test has a thread of 2 MiB, as tokio gives its own.
    for codec in [Codec::MessagePack, Codec::Json] {
        for (open, close) in [("[", "]"), ("[1,", "]"), (r#"{"a":"#, "}")] {
            let at = |levels| Bytes::from(nested(codec, levels, open, close, "null"));
            let deepest = at(NESTING_MAX);
            let value = codec.decode::<Value>(&deepest).unwrap();
            assert_eq!(codec.encode(&value).unwrap(), deepest);
            assert!(codec.decode::<u8>(&deepest).is_err());
            for other in [Codec::MessagePack, Codec::Json] {
                let there = codec.translate(&deepest, other).unwrap();
                assert_eq!(other.decode::<Value>(&there).unwrap(), value);
                for levels in [NESTING_MAX + 1, 1024, 100_000] {
                    let error = codec.translate(&at(levels), other);
                    assert!(codec == other || error.is_err(), "{levels}");
                }
            }
            for levels in [NESTING_MAX + 1, 1024, 100_000] {
                let error = codec.decode::<Value>(&at(levels)).unwrap_err();
                assert!(error.to_string().contains("deeper than 127"), "{error}");
            }
            let deeper = codec.encode(&[value]).unwrap_err();
            assert!(matches!(deeper, CodecError::Encode { .. }), "{deeper}");
        }
        let at = |levels| nested(codec, levels, r#"{"Node":"#, "}", r#""Leaf""#);
        let tree = codec.decode::<Tree>(&at(NESTING_MAX)).unwrap();
        assert_eq!(codec.encode(&tree).unwrap(), at(NESTING_MAX));
        assert!(codec.decode::<Tree>(&at(100_000)).is_err());
    }
}

proptest! {
    #[test]
    fn the_depth_is_that_of_the_value(value in any_json(), around in 0usize..260) {
        fn depth(value: &Value) -> usize {
            match value {
                Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
                Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
                _ => 0,
            }
        }
        let expected = around + depth(&value) > NESTING_MAX;
        let mut packed = [0x92, 7].repeat(around);
        packed.extend(rmp_serde::to_vec_named(&value).unwrap());
        let text = "[7,".repeat(around) + &value.to_string() + &"]".repeat(around);
        prop_assert_eq!(nesting::is_too_deep(Codec::MessagePack, &packed), expected);
        prop_assert_eq!(nesting::is_too_deep(Codec::Json, text.as_bytes()), expected);
    }
}
