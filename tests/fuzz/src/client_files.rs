//! Files on the side of clients: spools of the SDK, which a power failure may have damaged, and files of other trackers
//! that are imported.

use std::io::Cursor;

use bytes::{BufMut, Bytes};
use flate2::Crc;
use matyan_leveldb::{LogItem, LogReader};
use matyan_proto::log::v1::LogEntry;
use matyan_protobuf::FieldsByNumber;
use matyan_sdk::fuzzing::{encoded_records, read_manifest, read_records, read_sealed_record};
use matyan_tfrecord::{EventContent, Plugins, read_chunk};
use matyan_value::Value;
use prost::Message as _;

/// Numbers of fields of an entry of the log.
const RUN_ID: u64 = 1;
const PRODUCER_ID: u64 = 5;
const BATCH: u64 = 8;

/// Bytes at the beginning of a file of W&B.
const FILE_HEADER: &[u8] = b":W&B\xe1\xbe\x00";

/// The records of a segment. The bytes are also read as the payload of a record, whose checksum is right, so that
/// mutations reach the payloads.
pub(crate) fn spool_records(bytes: &[u8]) {
    let read = read_records(bytes);
    assert!(read <= bytes.len().next_multiple_of(8), "{read} of {} bytes", bytes.len());
    for kind in 0..8 {
        read_sealed_record(kind, bytes);
    }
}

/// The manifest of an upload: a manifest that can be read is written back unchanged.
pub(crate) fn upload_manifest(bytes: &[u8]) {
    if let Ok(written) = read_manifest(bytes) {
        let again = read_manifest(&written).expect("a manifest that was written can be read");
        assert_eq!(again, written);
    }
}

/// A log of LevelDB. The bytes are also read as records, whose checksums are right.
pub(crate) fn leveldb_log(bytes: &[u8]) {
    read_log(bytes);
    let records: Vec<&[u8]> = bytes.chunks(1_000).take(20).collect();
    let mut file = FILE_HEADER.to_vec();
    for record in &records {
        put_piece(&mut file, 1, record);
    }
    let found: Vec<LogItem> = records.iter().map(|record| LogItem::Record(record.to_vec())).collect();
    assert_eq!(read_log(&file), found);
}

fn read_log(file: &[u8]) -> Vec<LogItem> {
    let mut reader = LogReader::new(file);
    let mut found = Vec::new();
    while let Some(next) = reader.next_found().expect("memory can be read") {
        found.push(next);
    }
    let records = found.iter().map(|one| match one {
        LogItem::Record(record) => record.len(),
        LogItem::Problem(_) => 0,
    });
    assert!(records.sum::<usize>() <= file.len(), "records are longer than their file");
    found
}

fn put_piece(file: &mut Vec<u8>, piece_type: u8, content: &[u8]) {
    let mut crc = Crc::new();
    crc.update(&[piece_type]);
    crc.update(content);
    file.put_u32_le(crc.sum());
    file.put_u16_le(u16::try_from(content.len()).expect("a short piece"));
    file.put_u8(piece_type);
    file.put_slice(content);
}

/// An event file of TensorBoard. Its events are read twice, because the plugins of tags are known the second time.
pub(crate) fn event_file(bytes: &[u8]) {
    let chunk = read_chunk(Cursor::new(bytes), 0, bytes.len() as u64, u64::MAX).expect("memory can be read");
    let mut plugins = Plugins::default();
    for record in chunk.records.iter().chain(&chunk.records) {
        read_event(record, &mut plugins);
    }
}

/// An event of TensorBoard.
pub(crate) fn event_record(bytes: &[u8]) {
    let mut plugins = Plugins::default();
    read_event(bytes, &mut plugins);
    read_event(bytes, &mut plugins);
}

fn read_event(record: &[u8], plugins: &mut Plugins) {
    let mut content = EventContent::default();
    content.add(record, plugins);
    for part in content.objects.iter().flat_map(|object| &object.parts) {
        if let (Some(Value::Integer(count)), Some(Value::List(weights))) =
            (part.value.get("bin_count"), part.value.get("data"))
        {
            assert_eq!(usize::try_from(*count).ok(), Some(weights.len()), "bins of a distribution");
        }
    }
}

/// Maximum depth of nested messages that are read.
const NESTING: u32 = 8;

/// A message of another tracker, and the messages in it. A message that can be read with its schema is read here, too,
/// and has the same contents.
pub(crate) fn protobuf_message(bytes: &[u8]) {
    read_fields(Bytes::copy_from_slice(bytes), NESTING);
    let Ok(entry) = LogEntry::decode(bytes) else { return };
    // A message that is encoded again has each field once and no groups, which no tracker writes.
    let fields = FieldsByNumber::parse(entry.encode_to_vec().into()).expect("an encoded message can be read");
    assert_eq!(fields.text(RUN_ID), entry.run_id);
    assert_eq!(fields.content(PRODUCER_ID), entry.producer_id);
    assert_eq!(fields.content(BATCH), entry.batch);
}

fn read_fields(message: Bytes, nesting: u32) {
    let size = message.len();
    let Ok(fields) = FieldsByNumber::parse(message) else { return };
    let mut content = 0;
    for number in fields.numbers() {
        assert!(fields.contains(number));
        content += fields.contents(number).map(|it| it.len()).sum::<usize>();
        assert!(
            fields
                .contents(number)
                .last()
                .is_none_or(|last| { fields.content(number).is_empty() || fields.content(number) == last })
        );
        assert!(fields.text(number).is_empty() == fields.content(number).is_empty());
        let is_number = fields.integer(number) != 0;
        assert!(!is_number || fields.content(number).is_empty(), "a value of several types");
        for nested in fields.contents(number).filter(|_| nesting > 0) {
            read_fields(nested.clone(), nesting - 1);
        }
    }
    assert!(content <= size, "the contents are longer than their message");
}

pub(crate) fn messages() -> Vec<Vec<u8>> {
    let entry = LogEntry {
        run_id: "run".into(),
        producer_id: vec![7; 16].into(),
        batch: b"\x0a\x02hi\x10\x04".to_vec().into(),
        ..LogEntry::default()
    };
    // Packed doubles and floats, a repeated number, and a tensor in a value of a summary.
    let numbers = [&b"\x0a\x10"[..], &1.5f64.to_le_bytes(), &[0; 8], b"\x15", &0.5f32.to_le_bytes()].concat();
    let integers = b"\x08\x01\x08\x96\x01\x0a\x03\x01\xac\x02".to_vec();
    let tensor = b"\x2a\x15\x0a\x13\x0a\x04loss\x42\x0b\x08\x01\x12\x00\x2a\x04\x00\x00\x80\x3f\x10".to_vec();
    vec![entry.encode_to_vec(), numbers, integers, tensor]
}

pub(crate) fn spools() -> Vec<Vec<u8>> {
    // The payload of a terminal line, whose number is changed when it is sent.
    let line = [&[0; 8][..], b"\x08\x02\x42\x06\x0a\x02hi\x10\x04"].concat();
    let records = encoded_records();
    vec![[&records[..], &[0; 64]].concat(), [&[0; 16], &records[..]].concat(), records, line]
}

pub(crate) fn manifests() -> Vec<Vec<u8>> {
    let manifest = |source: &str, encoding: &str, announcement: &str| {
        format!(
            r#"{{"format":1,"path":"p","content_type":"c","source":{source},"encoding":{encoding},
                "announcement":{announcement},"time_us":5,"parts":[3]}}"#
        )
        .into_bytes()
    };
    vec![
        manifest(r#""data""#, r#""identity""#, r#""artifact""#),
        manifest(
            r#"{"file":{"path":"/a b","size":3,"modified_us":9}}"#,
            r#"{"png":{"width":1,"height":2,"channels":3}}"#,
            r#"{"object":"00"}"#,
        ),
        manifest(r#""data""#, r#"{"wav":{"rate":1,"channels":2,"samples":"f32"}}"#, r#""part""#),
    ]
}

pub(crate) fn leveldb_logs() -> Vec<Vec<u8>> {
    let mut file = FILE_HEADER.to_vec();
    put_piece(&mut file, 1, b"a record");
    put_piece(&mut file, 2, b"the first piece, ");
    put_piece(&mut file, 3, b"a middle piece, ");
    put_piece(&mut file, 4, b"the last piece");
    let cut = file[..file.len() - 3].to_vec();
    vec![file, cut, b"content".to_vec()]
}
