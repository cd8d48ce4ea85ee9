//! Tests of the estimate: it is not too low, refuses what would grow, and passes what clients may send.

use prost::bytes::Bytes;

use super::*;
use crate::{
    DESCRIPTORS,
    backup::v1::{Entity, RestoreProjectRequest, StudyPart},
    common::v1::SeriesKey,
    ingest::v1::{
        AddTag, Event, IngestionBatch, LogObject, Points, SeriesDef, StreamBatch, StreamRequest, event,
        stream_request,
    },
    objects::v1::BatchRequest,
    series::v1::{FollowRequest, PointsResponse, SeriesPosition},
    studies::v1::{CreateTrialRequest, Trial, TrialParam},
};

fn layouts() -> MessageLayouts {
    MessageLayouts::from_descriptors(DESCRIPTORS).unwrap()
}

fn check_encoded<M: Name>(encoded: &[u8]) -> Result<(), MessageTooLarge> {
    let layouts = layouts();
    layouts.check(layouts.message::<M>().unwrap(), encoded)
}

fn check<M: Name>(message: &M) -> Result<(), MessageTooLarge> {
    check_encoded::<M>(&message.encode_to_vec())
}

fn entry_bytes<M: Name>(field: &str) -> usize {
    let layouts = layouts();
    let message = layouts.message::<M>().unwrap();
    message.fields.iter().find(|it| it.name == field).unwrap().entry_bytes
}

#[test]
fn the_estimate_of_an_entry_is_not_below_its_size() {
    let estimates = [
        (entry_bytes::<IngestionBatch>("events"), size_of::<Event>()),
        (entry_bytes::<IngestionBatch>("points"), size_of::<Points>()),
        (entry_bytes::<IngestionBatch>("series"), size_of::<SeriesDef>()),
        (entry_bytes::<RestoreProjectRequest>("entities"), size_of::<Entity>()),
        (entry_bytes::<RestoreProjectRequest>("studies"), size_of::<StudyPart>()),
        (entry_bytes::<BatchRequest>("sequences"), size_of::<SeriesKey>()),
        (entry_bytes::<Trial>("params"), size_of::<TrialParam>()),
        (entry_bytes::<Trial>("user_attributes"), size_of::<(String, String)>()),
    ];
    for (estimate, actual) in estimates {
        assert!((actual..3 * actual).contains(&estimate), "{estimate} {actual}");
    }
}

/// Two bytes on the wire for each entry, in every list of every request.
#[test]
fn rule_116_a_request_of_empty_entries_is_refused() {
    let layouts = layouts();
    let mut refused = 0;
    for name in &layouts.requests {
        let request = &layouts.messages[layouts.by_name[name]];
        for field in request.fields.iter().filter(|field| field.entry_bytes > TEXT_BYTES && field.number < 16)
        {
            // The key of a field with content, and no bytes of content.
            let key = u8::try_from(field.number << 3 | 2).unwrap();
            let encoded = [key, 0].repeat(DECODED_BYTES / field.entry_bytes + 1);
            assert!(encoded.len() <= limits::MESSAGE_BYTES);
            let error = layouts.check(request, &encoded).unwrap_err();
            assert_eq!(error.field, field.name, "{name}");
            refused += 1;
        }
    }
    assert!(refused > 15, "{refused}");
}

#[test]
fn what_lists_inside_of_entries_take_is_counted() {
    let trial = [0x32, 0x00].repeat(1_000);
    let mut encoded = Vec::new();
    while encoded.len() < limits::MESSAGE_BYTES {
        encoded.extend(packed(2, &trial));
    }
    let error = check_encoded::<CreateTrialRequest>(&encoded).unwrap_err();
    assert!(error.to_string().contains("`template`"), "{error}");
}

#[test]
fn packed_numbers_are_counted() {
    // Sixteen MiB of steps, in one group of points.
    let steps = packed(3, &vec![0; limits::BATCH_BYTES - 100]);
    let error = check_encoded::<IngestionBatch>(&packed(4, &steps)).unwrap_err();
    assert_eq!(error.field, "points");
}

/// A field with this content.
fn packed(field: u32, content: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    prost::encoding::encode_key(field, WireType::LengthDelimited, &mut encoded);
    prost::encoding::encode_varint(content.len() as u64, &mut encoded);
    encoded.extend_from_slice(content);
    encoded
}

#[test]
fn the_largest_batches_are_decoded() {
    let count = limits::BATCH_ITEMS;
    let points = Points {
        series: vec![1; count],
        values: vec![1.0; count],
        steps: (0..count as i64).collect(),
        epochs: vec![7; count],
        times_us: vec![1; count],
        ..Points::default()
    };
    let points = IngestionBatch { points: vec![points], ..Default::default() };
    check(&points).unwrap();
    let object = LogObject { name: "o".repeat(100), dtype: "text".into(), ..LogObject::default() };
    let object = Event { kind: Some(event::Kind::LogObject(object)), ..Event::default() };
    check(&IngestionBatch { events: vec![object; limits::BATCH_EVENTS], ..Default::default() }).unwrap();
    let tag = Event { kind: Some(event::Kind::AddTag(AddTag { name: String::new() })), ..Event::default() };
    check(&IngestionBatch { events: vec![tag; limits::BATCH_EVENTS], ..Default::default() }).unwrap();
    let series = SeriesDef { name: "s".repeat(60), ..SeriesDef::default() };
    check(&IngestionBatch { series: vec![series; limits::SERIES_PER_RUN], ..Default::default() }).unwrap();
    let batch = StreamBatch { batch: vec![0; limits::BATCH_BYTES].into(), ..StreamBatch::default() };
    check(&StreamRequest { message: Some(stream_request::Message::Batch(batch)) }).unwrap();
}

#[test]
fn the_largest_reading_requests_are_decoded() {
    let key = SeriesKey { name: "s".repeat(20), context: r#"{"subset":"val"}"#.into() };
    let position = SeriesPosition { position: Bytes::from_static(&[7; 40]), ..SeriesPosition::default() };
    let follow =
        FollowRequest { resume: vec![position; limits::SERIES_PER_CALL], ..FollowRequest::default() };
    check(&follow).unwrap();
    check(&BatchRequest { sequences: vec![key; limits::SERIES_PER_CALL], ..BatchRequest::default() })
        .unwrap();
    let entities = RestoreProjectRequest { entities: vec![Entity::default(); 10_000], ..Default::default() };
    check(&entities).unwrap();
}

#[test]
fn a_malformed_message_passes_and_is_refused_by_the_decoder() {
    for garbage in [&b"\xff"[..], b"\x1a\x05abc", b"\x1a\x02\xff\xff", b"\x0b\x0b", &[0x0b; 1_000]] {
        check_encoded::<IngestionBatch>(garbage).unwrap();
        assert!(IngestionBatch::decode(garbage).is_err());
    }
}

#[test]
fn only_requests_are_limited_in_calls() {
    let layouts = layouts();
    assert!(layouts.request::<FollowRequest>().is_some());
    assert!(layouts.request::<PointsResponse>().is_none() && layouts.message::<PointsResponse>().is_some());
    assert!(layouts.request::<SeriesKey>().is_none());
}
