//! Tests of the dialect: its table of conversions, recorded frames, and comparison with a
//! strict parser.
//! Every recorded frame is also truncated at every byte: it is then rejected as a whole, and
//! nothing panics.

mod values;

use matyan_proto::{
    ABSENT,
    common::v1::{Outcome, OutcomeKind},
    ingest::v1::event::Kind as EventKind,
};
use minicbor::data::{Token, Type};
use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;

const METRIC: &str = r#"{"type": "log_metric", "name": "loss", "value": 0.5, "step": 3, "epoch": null,
    "context": {"subset": "train"}, "dtype": "float", "client_datetime": "2024-01-02T03:04:05.123456+00:00"}"#;

/// `METRIC` with one member replaced.
fn metric_with(field: &str, value: &str) -> String {
    let mut message: serde_json::Map<String, Json> = serde_json::from_str(METRIC).unwrap();
    message.remove(field);
    let rest = serde_json::to_string(&message).unwrap();
    format!("{{\"{field}\": {value}, {}", &rest[1..])
}

fn only_metric(frame: &str) -> Metric<'_> {
    let mut frame = decode_frame(frame.as_bytes()).unwrap();
    assert_eq!(frame.rejections, Rejections::default());
    assert_eq!(frame.metrics.len(), 1);
    frame.metrics.remove(0)
}

fn only_event(frame: &str) -> pb::Event {
    let mut frame = decode_frame(frame.as_bytes()).unwrap();
    assert_eq!(frame.rejections, Rejections::default());
    assert_eq!(frame.event_items, [0]);
    frame.events.remove(0)
}

fn only_rejection(frame: &str) -> (u32, String, String) {
    let frame = decode_frame(frame.as_bytes()).unwrap();
    assert_eq!(frame.rejections.count, 1, "{frame:?}");
    let rejection = &frame.rejections.reasons[0];
    (rejection.item, rejection.field.to_string(), rejection.reason.to_string())
}

#[test]
fn a_metric_is_decoded_unchanged() {
    let metric = only_metric(METRIC);
    assert_eq!(metric.name, "loss");
    assert_eq!(metric.context, r#"{"subset": "train"}"#);
    assert_eq!(metric.dtype, "float");
    assert_eq!((metric.value, metric.step, metric.epoch), (0.5, 3, ABSENT));
    assert_eq!(metric.time_us, 1_704_164_645_123_456);
}

#[test]
fn values_keep_their_bits() {
    let check = |text: &str, expected: f64| {
        let frame = metric_with("value", text);
        assert_eq!(only_metric(&frame).value.to_bits(), expected.to_bits(), "{text}");
    };
    check("NaN", f64::NAN);
    check("Infinity", f64::INFINITY);
    check("-Infinity", f64::NEG_INFINITY);
    check("1e400", f64::INFINITY);
    check("-1e400", f64::NEG_INFINITY);
    check("-0.0", -0.0);
    check("-0", -0.0);
    check("5e-324", 5e-324);
    check("1e-07", 1e-7);
    check("0.1", 0.1);
    check("1.7976931348623157e+308", f64::MAX);
    check("2.2250738585072011e-308", 2.225_073_858_507_201e-308);
    check("9007199254740993", 9_007_199_254_740_992.0);
    check("12345678901234567890123", 12_345_678_901_234_567_890_123.0);
    check("true", 1.0);
    check("false", 0.0);
    check(r#""1.5""#, 1.5);
    check(r#"" -2e3 ""#, -2000.0);
    check(r#""nan""#, f64::NAN);
    check(r#""\u0031""#, 1.0);
}

#[test]
fn integers_are_accepted_in_every_notation() {
    let check = |text: &str, expected: i64| {
        assert_eq!(only_metric(&metric_with("step", text)).step, expected, "{text}");
        assert_eq!(only_metric(&metric_with("epoch", text)).epoch, expected, "{text}");
    };
    check("null", ABSENT);
    check("7", 7);
    check("-7", -7);
    check("7.0", 7);
    check("1e3", 1000);
    check("true", 1);
    check(r#""42""#, 42);
    check(r#"" +42 ""#, 42);
    check("9223372036854775807", i64::MAX);
    check("-9223372036854775807", i64::MIN + 1);
    check("5000000000", 5_000_000_000);
}

#[test]
fn times_are_accepted_in_every_format() {
    let check = |text: &str, expected: i64| {
        assert_eq!(only_metric(&metric_with("client_datetime", text)).time_us, expected, "{text}");
    };
    let seconds = 1_704_164_645_000_000;
    check(r#""2024-01-02T03:04:05+00:00""#, seconds);
    check(r#""2024-01-02T03:04:05""#, seconds);
    check(r#""2024-01-02T03:04:05Z""#, seconds);
    check(r#""2024-01-02 03:04:05z""#, seconds);
    check(r#""2024-01-02T03:04:05.5""#, seconds + 500_000);
    check(r#""2024-01-02T03:04:05.1234567891""#, seconds + 123_456);
    check(r#""2024-01-02T05:34:05+02:30""#, seconds);
    check(r#""2024-01-02T05:34:05+0230""#, seconds);
    check(r#""2024-01-01T22:04:05-05""#, seconds);
    check(r#""2024-01-02T03:04""#, seconds - 5_000_000);
    check(r#""2024-01-02""#, 1_704_153_600_000_000);
    check(r#""2024-02-29""#, 1_709_164_800_000_000);
    check(r#""1969-12-31T23:59:59.999999""#, -1);
    check(r#""0001-01-01T00:00:00""#, -62_135_596_800_000_000);
    check(r#""9999-12-31T23:59:59.999999""#, 253_402_300_799_999_999);
    check("1704164645", seconds);
    check("1704164645.25", seconds + 250_000);
    check("1704164645250", seconds + 250_000);
    check(r#""1704164645""#, seconds);
    check("-1.5", -1_500_000);
}

#[test]
fn an_unknown_outcome_is_rejected() {
    let (item, field, reason) = only_rejection(r#"{"type": "finish_run", "outcome": "lost"}"#);
    assert_eq!((item, field.as_str()), (0, "outcome"));
    assert!(reason.contains("expected `finished`, `failed` or `interrupted`"), "{reason}");
}

#[test]
fn an_invalid_metric_field_is_named() {
    let check = |field: &str, value: &str, reason: &str| {
        let (item, named, found) = only_rejection(&metric_with(field, value));
        assert_eq!((item, named.as_str()), (0, field), "{value}");
        assert!(found.contains(reason), "{field} {value}: {found}");
    };
    check("value", "null", "expected a number, found null");
    check("value", r#""x""#, "expected a number");
    check("value", "[]", "found an array");
    check("value", r#"{"a": 1}"#, "found an object");
    check("value", &"9".repeat(400), "beyond the range");
    check("step", "0.5", "expected an integer");
    check("step", "NaN", "expected an integer");
    check("step", "1e300", "beyond 64 bits");
    check("step", "1e400", "expected an integer");
    check("step", "9223372036854775808", "beyond 64 bits");
    check("step", "-9223372036854775808", "reserved");
    check("step", r#""5x""#, "expected an integer");
    check("step", r#""""#, "expected an integer");
    check("epoch", "{}", "expected an integer");
    check("name", "5", "expected text, found an integer");
    check("name", "null", "expected text, found null");
    check("dtype", "1", "expected text");
    check("context", "[1]", "expected an object, found an array");
    check(
        "context",
        &format!("{}1{}", r#"{"a":"#.repeat(129), "}".repeat(129)),
        "nested deeper than 128 levels",
    );
    check("client_datetime", "null", "expected a date");
    check("client_datetime", r#""yesterday""#, "expected a date");
    check("client_datetime", r#""2024-13-01""#, "expected a date");
    check("client_datetime", r#""2023-02-29""#, "expected a date");
    check("client_datetime", r#""2024-01-02T24:00:00""#, "expected a date");
    check("client_datetime", r#""2024-01-02T03:04:05+24:00""#, "expected a date");
    check("client_datetime", "NaN", "expected a date");
    check("client_datetime", "1e18", "expected a date");
    check("type", "5", "expected text");
    check("type", r#""nope""#, "no message type is called `nope`");
    check("type", r#""delete_run""#, "no message type is called `delete_run`");
    for field in ["name", "value", "step", "epoch", "context", "dtype", "client_datetime", "type"] {
        let without = METRIC.replace(&format!("\"{field}\":"), "\"other\":");
        assert_eq!(only_rejection(&without).1, field);
    }
}

#[test]
fn a_frame_that_is_not_a_message_is_rejected_as_a_whole() {
    let check = |frame: &str, message: &str| {
        let error = decode_frame(frame.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(message), "{frame}: {error}");
    };
    check("", "expected a value at byte 0");
    check("{bad", "expected a key in double quotes at byte 1");
    check("5", "not an integer");
    check("-Infinity", "not a number");
    check("\"x\"", "not text");
    check("null", "not null");
    check("true", "not a boolean");
    check("{} {}", "expected the end at byte 3");
    check("[{},]", "expected a value at byte 4");
    check("[{}", "expected `,` or `]`");
    check("{\"a\": 01}", "expected `,` or `}`");
    check("{\"a\": .5}", "expected a value");
    check("{\"a\": 1.}", "expected a digit");
    check("{\"a\": +1}", "expected a value");
    check("{\"a\": nul}", "expected a value");
    check("{\"a\": \"\u{1}\"}", "control character");
    check("{\"a\": \"\\x\"}", "expected an escape");
    check("{\"a\": \"\\u12g4\"}", "hexadecimal");
    check("{\"a\": [1, {\"b\": ]}}", "expected a value");
    check("{\"a\": [1}", "expected `,` or `]`");
    assert_eq!(decode_frame(b"[\"\xff\"]").unwrap_err(), FrameError::Utf8(2));
}

#[test]
fn items_are_validated_independently() {
    let bad = metric_with("value", r#""x""#);
    let text =
        format!("[{METRIC}, {bad}, 5, {METRIC}, {{}}, {{\"type\": \"add_tag\", \"tag_name\": \"t\"}}]");
    let frame = decode_frame(text.as_bytes()).unwrap();
    assert_eq!(frame.metrics.iter().map(|it| it.item).collect::<Vec<_>>(), [0, 3]);
    assert_eq!(frame.event_items, [5]);
    let rejected: Vec<_> = frame.rejections.reasons.iter().map(|it| (it.item, it.field.as_ref())).collect();
    assert_eq!(rejected, [(1, "value"), (2, ""), (4, "type")]);
}

#[test]
fn a_frame_of_garbage_keeps_a_limited_number_of_reasons() {
    let frame = format!("[{}]", vec!["1"; 5000].join(","));
    let frame = decode_frame(frame.as_bytes()).unwrap();
    assert_eq!((frame.rejections.count, frame.rejections.reasons.len()), (5000, MAX_REASONS));
}

#[test]
fn the_last_of_duplicate_keys_wins() {
    let EventKind::AddTag(tag) =
        only_event(r#"{"tag_name": "a", "type": "nope", "type": "add_tag", "tag\u005fname": "b"}"#)
            .kind
            .unwrap()
    else {
        panic!("no tag")
    };
    assert_eq!(tag.name, "b");
}

#[test]
fn members_are_accepted_in_any_order_and_notation() {
    let messages = [
        r#"{"type": "add_tag", "tag_name": "a"}"#,
        r#"{"type": "add_tag", "tag_name": "b"}"#,
        r#"{"tag_name": "c", "type": "add_tag"}"#,
        r#"{"type":"add_tag","tag_name":"d"}"#,
        r#"{ "type" :  "add_tag" , "tag_name"  :"e" }"#,
        r#"{"type": "add_tag", "tag_names": "x", "tag_name": "f"}"#,
        r#"{"type": "add_tag", "tag\u005fname": "g"}"#,
        r#"{"type": "add_tag", "tag\u005fname": "h"}"#,
        r#"{"1":1,"2":1,"3":1,"4":1,"5":1,"6":1,"7":1,"8":1,"9":1,"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,
            "j":1,"k":1,"l":1,"m":1,"n":1,"type": "add_tag","tag_name": "i"}"#,
        r#"{"type":   "add_tag", "tag_name": "j"}"#,
    ];
    let text = format!("[{}]", messages.join(","));
    let frame = decode_frame(text.as_bytes()).unwrap();
    assert_eq!(
        frame
            .events
            .iter()
            .map(|event| match &event.kind {
                Some(EventKind::AddTag(tag)) => tag.name.clone(),
                other => panic!("{other:?}"),
            })
            .collect::<String>(),
        "abcdefghij"
    );
}

#[test]
fn strings_are_unescaped() {
    let check =
        |text: &str, expected: &str| assert_eq!(only_metric(&metric_with("name", text)).name, expected);
    check(r#""gr\u00f6\u00dfe \u6a21\u578b \ud83d\ude80""#, "größe 模型 🚀");
    check("\"größe 模型 🚀\"", "größe 模型 🚀");
    check(r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t");
    check(r#""\ud800""#, "\u{fffd}");
    check(r#""\ud800x\udc00""#, "\u{fffd}x\u{fffd}");
    check(r#""\ud800\u0041""#, "\u{fffd}A");
    check(r#""\ud83d\ud83d\ude80""#, "\u{fffd}🚀");
    check(r#""""#, "");
    check("\"\u{7f}\"", "\u{7f}");
}

#[test]
fn contexts_are_passed_on_as_text() {
    let check =
        |text: &str, expected: &str| assert_eq!(only_metric(&metric_with("context", text)).context, expected);
    check("null", "");
    check("{}", "");
    check(
        r#"{"b": 1, "a": [1.0, NaN, {"x": null}], "b": 2}"#,
        r#"{"b": 1, "a": [1.0, NaN, {"x": null}], "b": 2}"#,
    );
    check(r#"{"\ud83d\ude80": "\u00e9"}"#, r#"{"\ud83d\ude80": "\u00e9"}"#);
    check(r#"{"a": "\ud800 \\ud800 \udc00"}"#, r#"{"a": "\ufffd \\ud800 \ufffd"}"#);
}

#[test]
fn objects_sent_as_metrics_become_objects() {
    for dtype in ["image", "text", "distribution", "audio", "figure", "html", "point_cloud", "images"] {
        let frame = METRIC.replace("0.5", r#"{"type": "text", "data": "x"}"#).replace("float", dtype);
        let event = only_event(&frame);
        let Some(EventKind::LogObject(object)) = event.kind else { panic!("{dtype}") };
        assert_eq!((object.dtype.as_str(), object.step, object.epoch), (dtype, Some(3), None));
        assert_eq!(object.context, r#"{"subset": "train"}"#);
        assert_eq!(event.client_time_us, Some(1_704_164_645_123_456));
    }
    let frame = METRIC.replace("0.5", "{}").replace("\"float\"", "null");
    assert_eq!(only_rejection(&frame).1, "value");
}

#[test]
fn every_message_type_becomes_its_event() {
    let check =
        |frame: &str, expected: EventKind| assert_eq!(only_event(frame).kind, Some(expected), "{frame}");
    check(
        r#"{"type": "create_run", "client_datetime": 0, "force_resume": "on"}"#,
        EventKind::CreateRun(pb::CreateRun { force_resume: true, ..Default::default() }),
    );
    for (step, parent_step) in [("7", Some(7)), ("null", None)] {
        let parent_run_id = "trunk".to_owned();
        check(
            &format!(
                r#"{{"type": "create_run", "client_datetime": 0, "parent_run_id": "trunk", "parent_step": {step}}}"#
            ),
            EventKind::CreateRun(pb::CreateRun { parent_run_id, parent_step, ..Default::default() }),
        );
    }
    check(
        r#"{"type": "finish_run", "client_datetime": null}"#,
        EventKind::FinishRun(pb::FinishRun::default()),
    );
    let outcome = Outcome { kind: OutcomeKind::Failed.into(), message: "out of memory".into() };
    check(
        r#"{"type": "finish_run", "outcome": "failed", "message": "out of memory"}"#,
        EventKind::FinishRun(pb::FinishRun { outcome: Some(outcome) }),
    );
    check(
        r#"{"type": "set_run_property", "name": "n", "description": null, "archived": 0, "experiment": ""}"#,
        EventKind::SetRunProperty(pb::SetRunProperty {
            name: Some("n".into()),
            description: None,
            archived: Some(false),
            experiment: Some(String::new()),
        }),
    );
    check(
        r#"{"type": "remove_tag", "tag_name": ""}"#,
        EventKind::RemoveTag(pb::RemoveTag { name: String::new() }),
    );
    check(
        r#"{"type": "log_terminal_line", "line": "l", "step": "2"}"#,
        EventKind::LogTerminalLine(pb::LogTerminalLine { line: "l".into(), step: 2 }),
    );
    check(
        r#"{"type": "log_record", "message": "m", "level": 20, "timestamp": 1.5, "logger_info": ["f", 1], "extra_args": {}}"#,
        EventKind::LogRecord(pb::LogRecord {
            message: "m".into(),
            level: 20,
            timestamp: 1.5,
            logger_info: vec![0x82, 0x61, b'f', 1].into(),
            extra_args: vec![0xa0].into(),
        }),
    );
    check(
        r#"{"type": "log_custom_object", "name": "t", "value": {"data": "x"}}"#,
        EventKind::LogObject(pb::LogObject {
            name: "t".into(),
            dtype: "custom".into(),
            value: vec![0xa1, 0x64, b'd', b'a', b't', b'a', 0x61, b'x'].into(),
            ..Default::default()
        }),
    );
    check(
        r#"{"type": "blob_ref", "s3_key": "k", "artifact_path": "p"}"#,
        EventKind::BlobRef(pb::BlobRef {
            key: "k".into(),
            path: "p".into(),
            content_type: "application/octet-stream".into(),
            ..Default::default()
        }),
    );
}

#[test]
fn an_invalid_event_field_is_named() {
    let check = |frame: &str, field: &str| assert_eq!(only_rejection(frame).1, field, "{frame}");
    check(r#"{"type": "create_run"}"#, "client_datetime");
    check(r#"{"type": "create_run", "client_datetime": 0, "force_resume": null}"#, "force_resume");
    check(r#"{"type": "create_run", "client_datetime": 0, "force_resume": 2}"#, "force_resume");
    check(r#"{"type": "log_hparams", "value": [1]}"#, "value");
    check(r#"{"type": "log_hparams"}"#, "value");
    check(r#"{"type": "add_tag", "tag_name": null}"#, "tag_name");
    check(r#"{"type": "log_custom_object", "name": "t", "value": {}, "dtype": null}"#, "dtype");
    check(r#"{"type": "log_terminal_line", "line": "l", "step": null}"#, "step");
    check(r#"{"type": "log_record", "message": "m", "level": null, "timestamp": 1}"#, "level");
    check(
        r#"{"type": "log_record", "message": "m", "level": 1, "timestamp": 1, "extra_args": []}"#,
        "extra_args",
    );
    check(
        r#"{"type": "blob_ref", "s3_key": "k", "artifact_path": "p", "content_type": null}"#,
        "content_type",
    );
}

/// Recorded text frames of the client.
fn recorded_frames() -> Vec<(String, String)> {
    let path = "../../tests/vectors/ws_transcripts.jsonl";
    let lines = std::fs::read_to_string(path).unwrap();
    let records = lines.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
    let frames: Vec<(String, String)> = records
        .filter(|it| it["method"] == "TEXT" && it["direction"] == "client->server")
        .map(|it| (it["scenario"].as_str().unwrap().into(), it["raw"].as_str().unwrap().into()))
        .collect();
    assert!(frames.len() > 50);
    frames
}

#[test]
fn vectors_ws_transcripts_contain_only_valid_items() {
    for (scenario, text) in recorded_frames() {
        let frame = decode_frame(text.as_bytes()).unwrap();
        let items = text.matches("\"type\": \"").count();
        assert!(frame.rejections.is_empty(), "{scenario}: {:?}", frame.rejections);
        assert!(frame.metrics.len() + frame.events.len() <= items, "{scenario}");
        if let Ok(strict) = serde_json::from_str::<Json>(&text) {
            let count = strict.as_array().map_or(1, Vec::len);
            assert_eq!(frame.metrics.len() + frame.events.len(), count, "{scenario}");
        }
    }
}

#[test]
fn a_frame_truncated_at_any_byte_is_rejected() {
    for (scenario, text) in recorded_frames() {
        for end in 0..text.len() {
            assert!(decode_frame(&text.as_bytes()[..end]).is_err(), "{scenario} at {end}");
        }
    }
}

#[test]
fn a_frame_with_any_byte_changed_never_panics() {
    let frames = recorded_frames();
    let mut refused = 0;
    for (index, (_, text)) in frames.iter().enumerate().filter(|(_, (_, text))| text.len() < 2000) {
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = b"\"\\{}[],:0-eNIu \x00\xff"[(at + index) % 17];
            refused += usize::from(decode_frame(&bytes).is_err());
        }
    }
    assert!(refused > 1000);
}
