//! Files on the side of clients: spools of the SDK, which a power failure may have damaged, and files of other trackers
//! that are imported.

use bytes::BufMut;
use flate2::Crc;
use matyan_leveldb::{Found, LogReader};
use matyan_sdk::fuzzing::{encoded_records, read_manifest, read_records, read_sealed_record};

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

/// The manifest of an upload: one that is read is written again as it is.
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
    let found: Vec<Found> = records.iter().map(|record| Found::Record(record.to_vec())).collect();
    assert_eq!(read_log(&file), found);
}

fn read_log(file: &[u8]) -> Vec<Found> {
    let mut reader = LogReader::new(file);
    let mut found = Vec::new();
    while let Some(next) = reader.next_found().expect("memory can be read") {
        found.push(next);
    }
    let records = found.iter().map(|one| match one {
        Found::Record(record) => record.len(),
        Found::Problem(_) => 0,
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
