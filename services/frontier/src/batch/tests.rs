use matyan_access::AccessToken;
use matyan_proto::common::v1::{Outcome, OutcomeKind};
use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;
use pb::event::Kind;

mod rows;

fn run() -> RunId {
    RunId::parse("run".into()).unwrap()
}

fn bytes(batch: &pb::IngestionBatch) -> Bytes {
    batch.encode_to_vec().into()
}

fn check_with(dictionary: &mut Dictionary, batch: &pb::IngestionBatch) -> CheckedBatch {
    check(&run(), dictionary, |_| Ok(()), bytes(batch)).unwrap()
}

fn check_alone(batch: &pb::IngestionBatch) -> CheckedBatch {
    check_with(&mut Dictionary::default(), batch)
}

fn event(kind: Kind) -> pb::Event {
    pb::Event { client_time_us: None, kind: Some(kind) }
}

fn tag(name: &str) -> pb::Event {
    event(Kind::AddTag(pb::AddTag { name: name.into() }))
}

fn series(name: &str) -> pb::SeriesDef {
    pb::SeriesDef { name: name.into(), ..pb::SeriesDef::default() }
}

fn points(series: &[u32]) -> pb::Points {
    let values = series.iter().map(|number| f64::from(*number)).collect();
    pb::Points { series: series.to_vec(), values, ..pb::Points::default() }
}

/// A batch without definitions, which needs no base.
fn points_only(series: &[u32]) -> pb::IngestionBatch {
    pb::IngestionBatch { points: vec![points(series)], ..Default::default() }
}

fn rejected(checked: CheckedBatch) -> Vec<(u32, u32, String)> {
    let (entries, total) = checked.rejections.into_parts();
    assert_eq!(total, entries.iter().map(|entry| entry.count).sum::<u32>());
    entries.into_iter().map(|entry| (entry.item, entry.count, entry.field)).collect()
}

/// Checks that the event is refused with an error for the given field, and that a good event
/// after it is kept.
#[track_caller]
fn check_refused(kind: Kind, field: &str) {
    let batch = pb::IngestionBatch { events: vec![event(kind), tag("good")], ..Default::default() };
    let checked = check_alone(&batch);
    let kept = pb::IngestionBatch::decode(checked.bytes.clone()).unwrap();
    assert_eq!(kept.events, [tag("good")]);
    assert_eq!(rejected(checked), [(0, 1, field.to_owned())]);
}

#[track_caller]
fn check_accepted(kind: Kind) {
    let batch = pb::IngestionBatch { events: vec![event(kind)], ..Default::default() };
    let checked = check_alone(&batch);
    assert_eq!((checked.bytes.clone(), rejected(checked)), (bytes(&batch), vec![]));
}

fn map(entries: &[(&str, &str)]) -> Bytes {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    encoder.map(entries.len() as u64).unwrap();
    for (key, value) in entries {
        encoder.str(key).unwrap().str(value).unwrap();
    }
    encoder.into_writer().into()
}

fn list(members: &[Bytes]) -> Bytes {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    encoder.array(members.len() as u64).unwrap();
    let mut encoded = encoder.into_writer();
    for member in members {
        encoded.extend_from_slice(member);
    }
    encoded.into()
}

#[test]
fn a_good_batch_keeps_its_exact_bytes() {
    let batch = pb::IngestionBatch {
        series: vec![series("loss"), series("")],
        events: vec![tag("a"), event(Kind::FinishRun(pb::FinishRun::default()))],
        points: vec![
            points(&[0, 1, 0]),
            pb::Points { steps: vec![5], epochs: vec![1, 2], ..points(&[1, 1]) },
        ],
        ..Default::default()
    };
    // Unknown fields, which newer clients may send, are kept too.
    let newer: Bytes = [batch.encode_to_vec(), vec![0x98, 0x06, 0x01]].concat().into();
    let checked = check(&run(), &mut Dictionary::default(), |_| Ok(()), newer.clone()).unwrap();
    assert_eq!(checked.bytes, newer);
    assert_eq!(checked.bytes.as_ptr(), newer.as_ptr(), "nothing was copied");
    assert_eq!(rejected(checked), []);
}

#[test]
fn an_empty_batch_stays_empty() {
    assert!(check_alone(&pb::IngestionBatch::default()).bytes.is_empty());
}

#[test]
fn bytes_that_are_not_a_batch_are_rejected_as_a_whole() {
    for garbage in [&b"\xff"[..], b"\x1a\x05abc", b"{\"type\":\"create_run\"}", b"\x1a\x02\xff\xff"] {
        let mut dictionary = Dictionary::new(&mut vec![series("a"), series("b")]);
        let checked = check(&run(), &mut dictionary, |_| Ok(()), Bytes::from_static(garbage)).unwrap();
        assert!(checked.bytes.is_empty());
        assert_eq!(rejected(checked), [(0, 1, "batch".into())], "{garbage:x?}");
        assert_eq!(dictionary.len(), 2);
    }
}

/// An encoded field with this content.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    prost::encoding::encode_key(number, WireType::LengthDelimited, &mut encoded);
    prost::encoding::encode_varint(content.len() as u64, &mut encoded);
    encoded.extend_from_slice(content);
    encoded
}

#[test]
fn oversized_batches_are_rejected_before_they_are_decoded() {
    let events = [0x1a, 0x00].repeat(limits::BATCH_EVENTS + 1);
    let definitions = [0x0a, 0x00].repeat(limits::SERIES_PER_RUN + 1);
    // One-byte numbers, each of which takes eight bytes in memory.
    let steps = field(4, &field(3, &vec![0; limits::BATCH_BYTES - 100]));
    for bytes in [events, definitions, steps, vec![0; limits::BATCH_BYTES + 1]] {
        let checked = check(&run(), &mut Dictionary::default(), |_| Ok(()), bytes.into()).unwrap();
        assert_eq!(rejected(checked), [(0, 1, "batch".into())]);
    }
}

#[test]
fn too_many_items_are_rejected_and_their_series_stay_defined() {
    let mut dictionary = Dictionary::default();
    let batch = pb::IngestionBatch {
        series: vec![series("loss")],
        points: vec![points(&vec![0; limits::BATCH_ITEMS + 1])],
        ..Default::default()
    };
    let checked = check_with(&mut dictionary, &batch);
    assert_eq!(checked.batch.series.len(), 1);
    assert_eq!(rejected(checked), [(0, limits::BATCH_ITEMS as u32 + 1, "batch".into())]);
    assert_eq!(dictionary.len(), 1);
}

#[test]
fn a_dictionary_grows_with_its_batches() {
    let mut dictionary = Dictionary::default();
    let first = pb::IngestionBatch { series: vec![series("a"), series("b")], ..Default::default() };
    assert_eq!(rejected(check_with(&mut dictionary, &first)), []);
    let second = pb::IngestionBatch {
        series: vec![series("c")],
        series_base: 2,
        points: vec![points(&[0, 1, 2])],
        ..Default::default()
    };
    assert_eq!(rejected(check_with(&mut dictionary, &second)), []);
    for base in [0, 2, 4] {
        let batch = pb::IngestionBatch { series: vec![series("d")], series_base: base, ..Default::default() };
        let error = check(&run(), &mut dictionary, |_| Ok(()), bytes(&batch)).unwrap_err();
        assert!(matches!(error, Error::OutOfSequence(_)), "{error}");
    }
    assert_eq!(rejected(check_with(&mut dictionary, &points_only(&[2, 3]))), [(1, 1, "series".into())]);
}

#[test]
fn points_of_unknown_series_are_rejected_one_by_one() {
    let batch = pb::IngestionBatch {
        series: vec![series("loss")],
        events: vec![tag("a")],
        points: vec![
            pb::Points { steps: vec![10, 11, 12, 13], times_us: vec![7], ..points(&[0, 1, 1, 0]) },
            points(&[0, 9]),
            points(&[5]),
        ],
        ..Default::default()
    };
    let checked = check_alone(&batch);
    let kept = pb::IngestionBatch::decode(checked.bytes.clone()).unwrap();
    assert_eq!(kept, checked.batch);
    assert_eq!(
        kept.points,
        [pb::Points { steps: vec![10, 13], times_us: vec![7], ..points(&[0, 0]) }, points(&[0]),]
    );
    assert_eq!(
        rejected(checked),
        [(2, 2, "series".into()), (6, 1, "series".into()), (7, 1, "series".into())]
    );
}

#[test]
fn groups_with_unequal_columns_are_rejected() {
    for (group, count, field) in [
        (pb::Points { series: vec![0], ..points(&[0, 0]) }, 2, "series"),
        (pb::Points { values: vec![], ..points(&[0, 0, 0]) }, 3, "series"),
        (pb::Points { steps: vec![1, 2], ..points(&[0, 0, 0]) }, 3, "steps"),
        (pb::Points { epochs: vec![1; 4], ..points(&[0, 0, 0]) }, 3, "epochs"),
        (pb::Points { times_us: vec![1, 2], ..points(&[0]) }, 1, "times_us"),
    ] {
        let batch = pb::IngestionBatch {
            series: vec![series("a")],
            points: vec![group, points(&[0, 7])],
            ..Default::default()
        };
        let checked = check_alone(&batch);
        assert_eq!(checked.batch.points, [points(&[0])]);
        let expected = [(0, count, field.to_owned()), (count + 1, 1, "series".to_owned())];
        assert_eq!(rejected(checked), expected);
    }
}

#[test]
fn a_bad_definition_keeps_its_number_and_loses_its_points() {
    let long = |length: usize| "x".repeat(length);
    for (bad, field) in [
        (series(&long(limits::NAME_BYTES + 1)), "name"),
        (pb::SeriesDef { dtype: long(limits::DTYPE_BYTES + 1), ..series("a") }, "dtype"),
        (pb::SeriesDef { context: "{".into(), ..series("a") }, "context"),
        (pb::SeriesDef { context: "[1]".into(), ..series("a") }, "context"),
    ] {
        let mut dictionary = Dictionary::default();
        let batch = pb::IngestionBatch {
            series: vec![series("a"), bad, series("b")],
            points: vec![points(&[0, 1, 2])],
            ..Default::default()
        };
        let checked = check_with(&mut dictionary, &batch);
        assert_eq!(checked.batch.series, [series("a"), pb::SeriesDef::default(), series("b")]);
        assert_eq!(checked.batch.points, [points(&[0, 2])]);
        assert_eq!(rejected(checked), [(1, 1, field.to_owned())]);

        // The stream continues: the number stays bad, and the next number is the number
        // that the client expects.
        let next = pb::IngestionBatch {
            series: vec![series("c")],
            series_base: 3,
            points: vec![points(&[1, 3])],
            ..Default::default()
        };
        let checked = check_with(&mut dictionary, &next);
        assert_eq!(checked.batch.points, [points(&[3])]);
        assert_eq!(rejected(checked), [(0, 1, field.to_owned())]);
    }
}

#[test]
fn only_the_first_bad_definitions_are_described() {
    let mut dictionary = Dictionary::default();
    let mut definitions = vec![series(&"x".repeat(limits::NAME_BYTES + 1)); 1_000];
    definitions[500] = series("good");
    let numbers: Vec<u32> = (0..1_000).collect();
    let batch =
        pb::IngestionBatch { series: definitions, points: vec![points(&numbers)], ..Default::default() };
    let checked = check_with(&mut dictionary, &batch);
    assert_eq!(checked.batch.points, [points(&[500])]);
    let field = |item: u32| if item < 100 { "name" } else { "series" };
    let expected = (0..1_000).filter(|item| *item != 500).map(|item| (item, 1, field(item).to_owned()));
    assert_eq!(rejected(checked), expected.collect::<Vec<_>>());
}

#[test]
fn a_batch_of_rejected_items_still_carries_its_definitions() {
    let batch =
        pb::IngestionBatch { series: vec![series("a")], points: vec![points(&[1])], ..Default::default() };
    let kept = pb::IngestionBatch::decode(check_alone(&batch).bytes).unwrap();
    assert_eq!(kept, pb::IngestionBatch { series: vec![series("a")], ..Default::default() });
}

#[test]
fn definitions_beyond_the_limit_are_left_out_of_the_log() {
    let mut dictionary = Dictionary::new(&mut vec![pb::SeriesDef::default(); limits::SERIES_PER_RUN - 1]);
    let base = limits::SERIES_PER_RUN as u32 - 1;
    let limit = limits::SERIES_PER_RUN as u32;
    let batch = pb::IngestionBatch {
        series: vec![series("last"), series("too much")],
        series_base: base,
        points: vec![points(&[base, base + 1])],
        ..Default::default()
    };
    let checked = check_with(&mut dictionary, &batch);
    assert_eq!((checked.batch.series_base, &checked.batch.series[..]), (base, &[series("last")][..]));
    assert_eq!(checked.batch.points, [points(&[base])]);
    assert_eq!(rejected(checked), [(1, 1, "series".into())]);

    // The client keeps counting; the log does not.
    let next = pb::IngestionBatch {
        series: vec![series("more")],
        series_base: limit + 1,
        points: vec![points(&[0])],
        ..Default::default()
    };
    let checked = check_with(&mut dictionary, &next);
    assert_eq!((checked.batch.series_base, checked.batch.series.len()), (limit, 0));
    assert_eq!(pb::IngestionBatch::decode(checked.bytes).unwrap().points, [points(&[0])]);
}

#[test]
fn a_dictionary_is_bounded_in_bytes() {
    let name = "x".repeat(limits::NAME_BYTES);
    let fits = limits::DICTIONARY_BYTES / limits::NAME_BYTES;
    let mut definitions = vec![series(&name); fits + 1];
    Dictionary::new(&mut definitions);
    assert_eq!(definitions.iter().filter(|definition| definition.name.is_empty()).count(), 1);
}

#[test]
fn events_within_the_limits_are_accepted() {
    let text = |length: usize| "x".repeat(length);
    check_accepted(Kind::CreateRun(pb::CreateRun::default()));
    check_accepted(Kind::CreateRun(pb::CreateRun {
        parent_run_id: "other".into(),
        parent_step: Some(-1),
        force_resume: true,
        ..Default::default()
    }));
    check_accepted(Kind::SetRunProperty(pb::SetRunProperty {
        name: Some(text(limits::NAME_BYTES)),
        description: Some(text(limits::DESCRIPTION_BYTES)),
        archived: Some(true),
        experiment: Some(String::new()),
    }));
    let outcome = |kind: OutcomeKind, message| Outcome { kind: kind.into(), message };
    let finish = |outcome| Kind::FinishRun(pb::FinishRun { outcome: Some(outcome) });
    check_accepted(finish(outcome(OutcomeKind::Failed, text(limits::DESCRIPTION_BYTES))));
    check_accepted(Kind::AddTag(pb::AddTag { name: String::new() }));
    check_accepted(Kind::RemoveTag(pb::RemoveTag { name: text(limits::NAME_BYTES) }));
    check_accepted(Kind::LogParams(pb::LogParams { value: map(&[("lr", "x"), ("", "")]) }));
    check_accepted(Kind::LogTerminalLine(pb::LogTerminalLine { line: text(1 << 20), step: -1 }));
    check_accepted(Kind::LogRecord(pb::LogRecord {
        message: text(1 << 20),
        timestamp: f64::NAN,
        logger_info: Bytes::from_static(&[0x82, 0x61, b'f', 0x01]),
        extra_args: map(&[("k", "v")]),
        ..Default::default()
    }));
    check_accepted(Kind::LogObject(pb::LogObject {
        name: String::new(),
        context: "{\"x\":NaN}".into(),
        dtype: "image".into(),
        value: map(&[("s3_key", "run/seq/a/0.png")]),
        ..Default::default()
    }));
    let blob = pb::BlobRef { key: "run/a/b".into(), path: "a/b".into(), ..Default::default() };
    check_accepted(Kind::BlobRef(blob.clone()));
    check_accepted(Kind::BlobRef(pb::BlobRef { content_hash: Bytes::from_static(&[0; 32]), ..blob }));
}

#[test]
fn events_over_the_limits_are_refused() {
    let text = |length: usize| "x".repeat(length);
    let property = |set: fn(&mut pb::SetRunProperty, String), length| {
        let mut property = pb::SetRunProperty::default();
        set(&mut property, "x".repeat(length));
        Kind::SetRunProperty(property)
    };
    check_refused(property(|to, text| to.name = Some(text), limits::NAME_BYTES + 1), "name");
    check_refused(property(|to, text| to.experiment = Some(text), limits::NAME_BYTES + 1), "experiment");
    check_refused(
        property(|to, text| to.description = Some(text), limits::DESCRIPTION_BYTES + 1),
        "description",
    );
    check_refused(Kind::AddTag(pb::AddTag { name: text(limits::NAME_BYTES + 1) }), "name");
    check_refused(Kind::RemoveTag(pb::RemoveTag { name: text(limits::NAME_BYTES + 1) }), "name");
    let params = |value: Bytes| Kind::LogParams(pb::LogParams { value });
    check_refused(params(map(&[("k", &text(limits::PARAMS_BYTES))])), "value");
    check_refused(params(Bytes::new()), "value");
    check_refused(params(Bytes::from_static(&[0x80])), "value");
    check_refused(params(Bytes::from_static(&[0xa1, 0x61, b'k'])), "value");
    let parent = |parent_run_id: &str, parent_step| {
        Kind::CreateRun(pb::CreateRun {
            parent_run_id: parent_run_id.into(),
            parent_step,
            ..Default::default()
        })
    };
    check_refused(parent("a/b", Some(0)), "parent_run_id");
    check_refused(parent("", Some(0)), "parent_run_id");
    check_accepted(parent("a", None));
    let line = |length| Kind::LogTerminalLine(pb::LogTerminalLine { line: text(length), step: 0 });
    check_accepted(line(limits::LOG_BYTES));
    check_refused(line(limits::LOG_BYTES + 1), "line");
    let record = pb::LogRecord::default();
    let message = text(limits::LOG_BYTES);
    check_accepted(Kind::LogRecord(pb::LogRecord { message: message.clone(), ..record.clone() }));
    let extra_args = map(&[("k", "v")]);
    check_refused(Kind::LogRecord(pb::LogRecord { message, extra_args, ..record.clone() }), "message");
    check_refused(Kind::LogRecord(pb::LogRecord { logger_info: map(&[]), ..record.clone() }), "logger_info");
    check_refused(
        Kind::LogRecord(pb::LogRecord { extra_args: Bytes::from_static(&[0xff]), ..record }),
        "extra_args",
    );
}

#[test]
fn events_that_are_not_for_clients_are_refused() {
    check_refused(Kind::DeleteRun(pb::DeleteRun {}), "delete_run");
    check_refused(Kind::EditSeries(pb::EditSeries::default()), "edit_series");
    let batch = pb::IngestionBatch { events: vec![pb::Event::default(), tag("a")], ..Default::default() };
    assert_eq!(rejected(check_alone(&batch)), [(0, 1, "kind".into())]);
}

#[test]
fn runs_are_not_created_before_1970() {
    let create = |created_us| Kind::CreateRun(pb::CreateRun { created_us, ..Default::default() });
    check_refused(create(Some(-1)), "created_us");
    check_accepted(create(Some(0)));
}

#[test]
fn the_name_of_a_client_is_short() {
    let create = |length| Kind::CreateRun(pb::CreateRun { client: "c".repeat(length), ..Default::default() });
    check_refused(create(limits::CLIENT_BYTES + 1), "client");
    check_accepted(create(limits::CLIENT_BYTES));
}

#[test]
fn objects_are_checked() {
    let object = pb::LogObject { value: map(&[]), ..Default::default() };
    let text = |length: usize| "x".repeat(length);
    check_refused(
        Kind::LogObject(pb::LogObject { name: text(limits::NAME_BYTES + 1), ..object.clone() }),
        "name",
    );
    check_refused(
        Kind::LogObject(pb::LogObject { dtype: text(limits::DTYPE_BYTES + 1), ..object.clone() }),
        "dtype",
    );
    check_refused(Kind::LogObject(pb::LogObject { context: "5".into(), ..object.clone() }), "context");
    check_refused(
        Kind::LogObject(pb::LogObject { value: Bytes::from_static(&[1]), ..object.clone() }),
        "value",
    );
    for key in ["other/x", "/x", "run/../other/x", "../x", "ru/n", "run2/x"] {
        let value = map(&[("type", "image"), ("s3_key", key)]);
        check_refused(Kind::LogObject(pb::LogObject { value, ..object.clone() }), "s3_key");
        let value = list(&[map(&[]), map(&[("s3_key", key)])]);
        check_refused(Kind::LogObject(pb::LogObject { value, ..object.clone() }), "s3_key");
    }
    let value = list(&[map(&[("s3_key", "run/seq/a/0.png")]), map(&[])]);
    check_accepted(Kind::LogObject(pb::LogObject { value, ..object.clone() }));
    // Accepted, as in Matyan 0.3; there are no blobs outside a run's folder.
    check_accepted(Kind::LogObject(pb::LogObject { value: map(&[("s3_key", "k")]), ..object }));
}

#[test]
fn blobs_stay_in_their_run() {
    let blob =
        |key: &str, path: &str| pb::BlobRef { key: key.into(), path: path.into(), ..Default::default() };
    for path in ["", "/x", "..", "../x", "a/../../x", "a//b", "a/", "a\nb", &"x".repeat(2_000)] {
        check_refused(Kind::BlobRef(blob(&format!("run/{path}"), path)), "path");
    }
    for key in ["", "x", "other/x", "run/y", "run/x/", "/run/x"] {
        check_refused(Kind::BlobRef(blob(key, "x")), "key");
    }
    let good = blob("run/x", "x");
    check_refused(Kind::BlobRef(pb::BlobRef { content_type: "a\nb".into(), ..good.clone() }), "content_type");
    check_refused(
        Kind::BlobRef(pb::BlobRef { content_hash: Bytes::from_static(&[0; 31]), ..good }),
        "content_hash",
    );
}

#[test]
fn rule_104_tokens_in_params_lines_and_records_are_masked() {
    let token = AccessToken::generate(&mut StdRng::seed_from_u64(1));
    let text = token.reveal();
    let line = |line: String| event(Kind::LogTerminalLine(pb::LogTerminalLine { line, step: 0 }));
    let events = |token: &str| {
        vec![
            event(Kind::LogParams(pb::LogParams { value: map(&[("MATYAN_TOKEN", token)]) })),
            event(Kind::LogParams(pb::LogParams { value: map(&[(token, "x")]) })),
            line(format!("+ export MATYAN_TOKEN={token} MATYAN_TOKEN={token}")),
            event(Kind::FinishRun(pb::FinishRun {
                outcome: Some(Outcome {
                    kind: OutcomeKind::Failed.into(),
                    message: format!("no answer from https://_:{token}@host"),
                }),
            })),
            event(Kind::LogRecord(pb::LogRecord {
                message: format!("uses {token}"),
                extra_args: map(&[("token", token)]),
                ..Default::default()
            })),
            event(Kind::SetRunProperty(pb::SetRunProperty {
                name: Some(token.to_owned()),
                description: Some(format!("started with {token}")),
                archived: None,
                experiment: Some(token.to_owned()),
            })),
            tag(token),
            event(Kind::RemoveTag(pb::RemoveTag { name: token.to_owned() })),
            tag("good"),
        ]
    };
    let batch = |events| pb::IngestionBatch { events, ..Default::default() };
    let checked = check_alone(&batch(events(text)));
    let mask = format!("mtk_masked_{}_{}", token.digest().id(), "*".repeat(26));
    assert_eq!(checked.batch.events, events(&mask));
    assert_eq!(checked.bytes, bytes(&batch(events(&mask))));
    assert_eq!((checked.masked_tokens, checked.rejections.total()), (12, 0));
    // What is not a token is kept as it is.
    let other = batch(vec![line(format!("mtk_ {}", &text[..53]))]);
    let checked = check_alone(&other);
    assert_eq!((checked.bytes, checked.masked_tokens), (bytes(&other), 0));
}

fn any_points() -> impl Strategy<Value = pb::Points> {
    let column = || prop::collection::vec(any::<i64>(), 0..4);
    let numbers = prop::collection::vec(0..4_u32, 0..4);
    let listed = (numbers, prop::collection::vec(any::<f64>(), 0..4), column(), column()).prop_map(
        |(series, values, steps, times_us)| pb::Points {
            series,
            values,
            steps,
            times_us,
            ..Default::default()
        },
    );
    let bytes = || prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 0..40)];
    let in_rows = (0..4_u32, 0..4_u32, bytes(), bytes(), column()).prop_map(
        |(first_series, series_count, values, narrow_values, steps)| pb::Points {
            steps,
            rows: Some(pb::Rows {
                first_series,
                series_count,
                values: values.into(),
                narrow_values: narrow_values.into(),
            }),
            ..Default::default()
        },
    );
    prop_oneof![listed, in_rows]
}

proptest! {
    /// The remaining batch has nothing more to reject, and every item is either kept or
    /// rejected.
    #[test]
    fn the_remaining_batch_is_good(
        names in prop::collection::vec(0..1_100_usize, 0..4),
        tags in prop::collection::vec(1_000..1_050_usize, 0..4),
        groups in prop::collection::vec(any_points(), 0..4),
    ) {
        let batch = pb::IngestionBatch {
            series: names.iter().map(|length| series(&"x".repeat(*length))).collect(),
            events: tags.iter().map(|length| tag(&"x".repeat(*length))).collect(),
            points: groups,
            ..Default::default()
        };
        let items = |batch: &pb::IngestionBatch| batch.events.len() + batch.points.iter().map(points::items).sum::<usize>();
        let first = check_alone(&batch);
        prop_assert_eq!(items(&first.batch) + first.rejections.total(), items(&batch));
        let mut again = Dictionary::default();
        let second = check(&run(), &mut again, |_| Ok(()), first.bytes.clone()).unwrap();
        prop_assert_eq!(second.rejections.total(), 0);
        prop_assert_eq!(second.bytes, first.bytes);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(garbage: Vec<u8>) {
        check(&run(), &mut Dictionary::default(), |_| Ok(()), garbage.into()).ok();
    }
}
