//! Tests of lines and records on the embedded store: replacement, pieces, and reading from
//! either end.

use matyan_store::Store;

use super::*;
use crate::testing::TestStore;

const P: Project = Project(0);
const N: RunNumber = RunNumber(1);

async fn put_lines(store: &TestStore, lines: &[(i64, String)]) {
    let mut batch = Batch::default();
    for (sequence, (number, text)) in (0..).zip(lines) {
        assert_eq!(terminal_line_put(&mut batch, P, N, sequence, *number, text), text.len());
    }
    store.commit(batch).await.unwrap();
}

async fn lines(store: &TestStore, range: (i64, i64), scan: LogScan) -> Vec<(i64, usize)> {
    let snapshot = store.snapshot().await.unwrap();
    let lines = terminal_lines_list(&*snapshot, P, N, range, scan).await.unwrap();
    lines.into_iter().map(|line| (line.number, line.text.len())).collect()
}

const ALL: LogScan = LogScan { count: usize::MAX, bytes: usize::MAX, last: false };

#[tokio::test]
async fn a_shorter_line_replaces_a_longer_one() {
    let store = TestStore::open().await;
    put_lines(&store, &[(0, "x".repeat(3 * rows::PIECE_BYTES + 1)), (1, String::new())]).await;
    assert_eq!(lines(&store, (0, 9), ALL).await, [(0, 3 * rows::PIECE_BYTES + 1), (1, 0)]);
    put_lines(&store, &[(0, "short".into())]).await;
    assert_eq!(lines(&store, (0, 9), ALL).await, [(0, 5), (1, 0)]);
    assert_eq!(lines(&store, (0, 9), LogScan { last: true, ..ALL }).await, [(0, 5), (1, 0)]);
}

#[tokio::test]
async fn a_character_may_be_split_between_two_pieces() {
    let store = TestStore::open().await;
    let text = format!("x{}", "é".repeat(rows::PIECE_BYTES));
    put_lines(&store, &[(7, text.clone())]).await;
    let snapshot = store.snapshot().await.unwrap();
    let read = terminal_lines_list(&*snapshot, P, N, (i64::MIN, i64::MAX), ALL).await.unwrap();
    assert_eq!(read, [TerminalLine { number: 7, text }]);
}

#[tokio::test]
async fn first_and_last_lines_are_in_ascending_order() {
    let store = TestStore::open().await;
    let texts: Vec<_> = (-3..7).map(|number| (number, "x".repeat(100))).collect();
    put_lines(&store, &texts).await;
    let numbers =
        async |range, scan| lines(&store, range, scan).await.iter().map(|line| line.0).collect::<Vec<_>>();
    assert_eq!(numbers((-2, 1), ALL).await, [-2, -1, 0, 1]);
    assert_eq!(numbers((-9, 9), LogScan { count: 2, ..ALL }).await, [-3, -2]);
    assert_eq!(numbers((-9, 9), LogScan { count: 2, last: true, ..ALL }).await, [5, 6]);
    assert_eq!(numbers((-9, 3), LogScan { bytes: 250, last: true, ..ALL }).await, [1, 2, 3]);
    assert_eq!(numbers((-9, 9), LogScan { bytes: 0, ..ALL }).await, [-3], "at least one line is returned");
    assert_eq!(numbers((7, 9), ALL).await, [0_i64; 0]);
}

fn record(message: String) -> LogRecord {
    LogRecord { message, level: 20, timestamp: 1.5, logger_info: vec![0x80], extra_args: Vec::new() }
}

#[tokio::test]
async fn records_are_read_back_by_sequence() {
    let store = TestStore::open().await;
    let long = record("x".repeat(2 * rows::PIECE_BYTES));
    let records = [record("a".into()), long, record("b".into())];
    let mut batch = Batch::default();
    for (record, sequence) in records.iter().zip(0..) {
        log_record_put(&mut batch, P, N, sequence, record);
    }
    store.commit(batch).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    let read = async |range, scan| log_records_list(&*snapshot, P, N, range, scan).await.unwrap();
    let all: Vec<_> = (0..).zip(records.clone()).collect();
    assert_eq!(read(0..u64::MAX, ALL).await, all);
    assert_eq!(read(1..3, LogScan { count: 1, last: true, ..ALL }).await, all[2..]);
    assert_eq!(read(1..2, ALL).await, all[1..2]);
    assert!(snapshot.get(&keys::log_record_seen(P, N, &records[1].digest())).await.unwrap().is_some());
    assert_ne!(records[0].digest(), records[2].digest());
}

#[tokio::test]
async fn written_lines_are_listed_in_the_order_of_writing() {
    let store = TestStore::open().await;
    put_lines(&store, &[(5, "a".into()), (-1, "b".into()), (5, "c".into())]).await;
    let written = async |sequences, rows| {
        lines_written_list(&*store.snapshot().await.unwrap(), P, N, sequences, rows).await.unwrap()
    };
    assert_eq!(written(0..9, 9).await, [(0, 5), (1, -1), (2, 5)]);
    assert_eq!(written(1..2, 9).await, [(1, -1)]);
    assert_eq!(written(0..9, 1).await, [(0, 5)]);
}
