//! Free-form values: each becomes the same CBOR that a strict parser would make of it, at every
//! depth and length.

use super::*;

/// The CBOR of the value in a params message.
fn params(json: &str) -> Vec<u8> {
    let frame = format!(r#"{{"type": "log_hparams", "value": {json}}}"#);
    let Some(EventKind::LogParams(params)) = only_event(&frame).kind else { panic!("no params") };
    params.value.to_vec()
}

#[test]
fn params_become_cbor() {
    let check = |json: &str, expected: &[u8]| {
        let value = params(&format!("{{\"a\": {json}}}"));
        assert_eq!(value[..3], [0xa1, 0x61, b'a']);
        assert_eq!(&value[3..], expected, "{json}");
    };
    check("null", &[0xf6]);
    check("true", &[0xf5]);
    check("0", &[0]);
    check("-0", &[0]);
    check("1", &[1]);
    check("1.0", &[0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
    check("-0.0", &[0xfb, 0x80, 0, 0, 0, 0, 0, 0, 0]);
    check("NaN", &[0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]);
    check("-Infinity", &[0xfb, 0xff, 0xf0, 0, 0, 0, 0, 0, 0]);
    check("1e400", &[0xfb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0]);
    check("24", &[0x18, 24]);
    check("-25", &[0x38, 24]);
    check("256", &[0x19, 1, 0]);
    check("65536", &[0x1a, 0, 1, 0, 0]);
    check("4294967296", &[0x1b, 0, 0, 0, 1, 0, 0, 0, 0]);
    check("18446744073709551615", &[0x1b, 255, 255, 255, 255, 255, 255, 255, 255]);
    check("-18446744073709551616", &[0x3b, 255, 255, 255, 255, 255, 255, 255, 255]);
    check("18446744073709551616", &[0xc2, 0x49, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    check("-18446744073709551617", &[0xc3, 0x49, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    check(
        "12345678901234567890123",
        &[0xc2, 0x4a, 0x02, 0x9d, 0x42, 0xb6, 0x4e, 0x76, 0x71, 0x42, 0x44, 0xcb],
    );
    check("[]", &[0x80]);
    check("{}", &[0xa0]);
    check(r#"{"x": 1, "y": 2, "x": 3}"#, &[0xa2, 0x61, b'y', 2, 0x61, b'x', 3]);
    check(r#""\ud800""#, &[0x63, 0xef, 0xbf, 0xbd]);
}

#[test]
fn container_headers_grow_with_the_length() {
    for length in [0, 1, 16, 17, 23, 24, 255, 256, 65535, 65536] {
        let members: Vec<String> = (0..length).map(|index| format!("\"k{index}\": {index}")).collect();
        let value = params(&format!("{{{}, \"k0\": -1}}", members.join(",")).replace("{, ", "{"));
        let mut decoder = minicbor::Decoder::new(&value);
        let count = decoder.map().unwrap().unwrap();
        assert_eq!(count, length.max(1));
        let pairs: Vec<(&str, i64)> =
            (0..count).map(|_| (decoder.str().unwrap(), decoder.i64().unwrap())).collect();
        assert_eq!(pairs.iter().filter(|(key, _)| *key == "k0").collect::<Vec<_>>(), [&("k0", -1)]);
        assert_eq!(decoder.position(), value.len());
    }
}

#[test]
fn bignums_are_exact_at_every_length() {
    for digits in [20, 38, 39, 40, 100, 4300] {
        let text = "9".repeat(digits);
        let value = params(&format!("{{\"a\": {text}}}"));
        // 10^n - 1 is all nines: adding one to the bytes and dividing by ten n times gives one.
        let mut decoder = minicbor::Decoder::new(&value[3..]);
        decoder.tag().unwrap();
        let mut number = decoder.bytes().unwrap().to_vec();
        assert_ne!(number[0], 0);
        for byte in number.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        for _ in 0..digits {
            let mut rest = 0_u16;
            for byte in &mut number {
                let value = rest * 256 + u16::from(*byte);
                *byte = (value / 10) as u8;
                rest = value % 10;
            }
            assert_eq!(rest, 0, "{digits}");
        }
        assert_eq!(number.iter().map(|byte| u32::from(*byte)).sum::<u32>(), 1);
    }
    let (_, field, reason) =
        only_rejection(&format!(r#"{{"type": "log_hparams", "value": {{"a": {}}}}}"#, "9".repeat(4301)));
    assert_eq!((field.as_str(), reason.as_str()), ("value", "an integer of more than 4300 digits"));
}

#[test]
fn the_nesting_limit_rejects_only_one_item() {
    let nested = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    params(&nested(128));
    let deep = format!(r#"[{{"type": "log_hparams", "value": {}}}, {METRIC}]"#, nested(100_000));
    let frame = decode_frame(deep.as_bytes()).unwrap();
    assert_eq!(frame.rejections.reasons[0].reason, "nested deeper than 128 levels");
    assert_eq!(frame.metrics.len(), 1);
}

/// The CBOR tokens of the same value, parsed by a strict parser.
fn strict_tokens<'a>(value: &'a Json, tokens: &mut Vec<Token<'a>>) {
    match value {
        Json::Null => tokens.push(Token::Null),
        Json::Bool(value) => tokens.push(Token::Bool(*value)),
        Json::Number(number) => tokens.push(match number.as_i64() {
            Some(value) => Token::Int(value.into()),
            None => Token::F64(number.as_f64().unwrap()),
        }),
        Json::String(text) => tokens.push(Token::String(text)),
        Json::Array(list) => {
            tokens.push(Token::Array(list.len() as u64));
            for item in list {
                strict_tokens(item, tokens);
            }
        }
        Json::Object(map) => {
            tokens.push(Token::Map(map.len() as u64));
            for (key, value) in map {
                tokens.push(Token::String(key));
                strict_tokens(value, tokens);
            }
        }
    }
}

/// The tokens of CBOR, with all small integers as `Int`, so that widths do not matter.
fn cbor_tokens(cbor: &[u8]) -> Vec<Token<'_>> {
    let mut decoder = minicbor::Decoder::new(cbor);
    let mut tokens = Vec::new();
    while let Ok(kind) = decoder.datatype() {
        tokens.push(match kind {
            Type::F64 => Token::F64(decoder.f64().unwrap()),
            Type::Map => Token::Map(decoder.map().unwrap().unwrap()),
            Type::Array => Token::Array(decoder.array().unwrap().unwrap()),
            Type::String => Token::String(decoder.str().unwrap()),
            Type::Bool => Token::Bool(decoder.bool().unwrap()),
            Type::Null => decoder.null().map(|()| Token::Null).unwrap(),
            _ => Token::Int(decoder.int().unwrap()),
        });
    }
    assert_eq!(decoder.position(), cbor.len());
    tokens
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_filter("finite", |it| it.is_finite()).prop_map(Json::from),
        any::<String>().prop_map(Json::from),
    ];
    leaf.prop_recursive(5, 60, 30, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..30).prop_map(Json::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..30)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn strict_json_is_decoded_like_a_strict_parser_does(value in any_json(), pretty in any::<bool>()) {
        let value = serde_json::json!({"a": value});
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let mut expected = Vec::new();
        strict_tokens(&value, &mut expected);
        let cbor = params(&text);
        prop_assert_eq!(cbor_tokens(&cbor), expected);
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let frame = decode_frame(&bytes);
        prop_assert!(frame.is_err() || bytes.len() > 1);
    }

    #[test]
    fn json_like_garbage_never_panics(text in r#"([\[\]{}:,"\\ue0-9.NaIInfty -]|"type":|"log_metric"|"value":){0,60}"#) {
        let frame = decode_frame(text.as_bytes());
        let strict = serde_json::from_str::<Json>(&text);
        // Objects and arrays accepted by a strict parser must also be accepted here.
        prop_assert!(frame.is_ok() || !strict.is_ok_and(|it| it.is_object() || it.is_array()));
    }

    #[test]
    fn floats_survive_to_the_bit(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        let frame = metric_with("value", &serde_json::to_string(&value).unwrap());
        prop_assert_eq!(only_metric(&frame).value.to_bits(), bits);
    }
}

/// Would take many minutes if decoding were quadratic.
#[test]
fn a_million_repeated_keys_cost_one_pass() {
    let repeats = "\"a\":1,".repeat(1_100_000);
    let frame = format!(
        r#"{{"type":"log_hparams","value":{{{repeats}"b":{{{repeats}"c":2}},"d":"{}"}}}}"#,
        "x".repeat(2_000_000)
    );
    let (done, decoded) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let frame = decode_text(&frame).unwrap();
        let Some(EventKind::LogParams(params)) = &frame.events[0].kind else { panic!("no params") };
        done.send(params.value.clone()).unwrap();
    });
    let cbor = decoded.recv_timeout(std::time::Duration::from_secs(120)).expect("decoding ends in time");
    let head =
        [&[0xa3, 0x61, b'a', 1, 0x61, b'b', 0xa2, 0x61, b'a', 1, 0x61, b'c', 2, 0x61, b'd'][..]].concat();
    assert_eq!((&cbor[..head.len()], cbor.len()), (&head[..], head.len() + 5 + 2_000_000));
}
