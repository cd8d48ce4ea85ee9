//! Tests of positions and turns in a partition.

use bytes::Bytes;

use super::*;

fn record(offset: u64, value: &'static str) -> Record {
    let key = Bytes::from("k");
    let value = Bytes::from(value);
    Record { offset, key, value, headers: Vec::new(), appended_us: 0, leader_epoch: None }
}

fn at(offset: u64) -> LogPosition {
    LogPosition { log: 3, partition: 0, offset }
}

const START: PartitionStart = PartitionStart {
    log: 3,
    identity: [1; 16],
    offset: 0,
    before: None,
    end: None,
    is_headless: false,
    is_middle: false,
    middle_us: None,
};

fn partition() -> Partition {
    Partition::new(START)
}

/// Reads and takes a record; returns whether it is new.
fn take(partition: &mut Partition, offset: u64) -> bool {
    let read = partition.read(&record(offset, "v"));
    if read.is_new {
        partition.take(&read);
    }
    read.is_new
}

fn complete(partition: &mut Partition, position: LogPosition) -> Option<(u32, u64)> {
    let before = partition.reported;
    partition.complete(position);
    let applied = partition.applied(None)?;
    (applied.next > before).then_some((applied.log, applied.next))
}

/// Until then, no record after it may be taken.
#[tokio::test(start_paused = true)]
async fn a_record_that_is_held_back_is_read_again() {
    let mut partition = partition();
    let mut runs = ActiveRuns::new(1_000, 1_000);
    assert!(take(&mut partition, 0) && partition.is_new(&record(1, "v")));
    partition.hold_back();
    assert!(!partition.is_readable());
    assert!(partition.seek(0, &mut runs).is_none());
    tokio::time::sleep(HOLD_BACK_TIME).await;
    assert_eq!(partition.seek(0, &mut runs).map(|point| point.offset), Some(1));
    partition.note_seek();
    assert!(partition.is_readable() && take(&mut partition, 1));
}

#[test]
fn rule_10_the_lowest_unapplied_offset_is_reported() {
    let mut partition = partition();
    assert!([4, 5, 9].map(|offset| take(&mut partition, offset)).iter().all(|is_new| *is_new));
    assert!(!take(&mut partition, 5), "it is a redelivery");
    let other_log = LogPosition { log: 2, ..at(4) };
    let waiting = partition.applied(None).unwrap();
    assert_eq!((waiting.next, waiting.last, waiting.read_to()), (0, None, 10));
    assert_eq!(partition.applied(None), None, "it was reported");
    assert_eq!(complete(&mut partition, at(9)), None);
    assert_eq!(complete(&mut partition, other_log), None);
    assert_eq!(complete(&mut partition, at(4)), Some((3, 5)));
    assert_eq!(complete(&mut partition, at(7)), None, "it was never taken");
    let applied = {
        partition.complete(at(5));
        partition.applied(None).unwrap()
    };
    assert_eq!((applied.next, applied.last.map(|last| last.offset), applied.read), (10, Some(9), None));
}

#[test]
fn rule_10_records_left_in_the_log_hold_the_position() {
    let mut partition = partition();
    take(&mut partition, 0);
    let left = partition.read(&record(1, "v")).at;
    take(&mut partition, 2);
    for offset in [0, 2] {
        partition.complete(at(offset));
    }
    let applied = partition.applied(Some(left)).unwrap();
    assert_eq!((applied.next, applied.last.map(|last| last.offset)), (1, Some(0)));
    assert_eq!(partition.applied(Some(left)), None, "it was reported");
    assert_eq!(partition.applied(None).map(|applied| applied.next), Some(3));
}

#[test]
fn rule_40_records_after_a_stuck_one_are_not_tracked_once_they_are_applied() {
    let mut partition = partition();
    assert!(take(&mut partition, 0));
    for offset in 1..400_000 {
        assert!(take(&mut partition, offset));
        assert_eq!(complete(&mut partition, at(offset)), None);
    }
    assert_eq!(partition.unapplied.len(), 1);
    assert_eq!(complete(&mut partition, at(0)), Some((3, 400_000)));
}

#[test]
fn rule_40_a_failed_seek_is_repeated_later_and_blocks_only_its_partition() {
    let mut runs = ActiveRuns::new(1 << 20, 1 << 20);
    let mut partition = partition();
    take(&mut partition, 0);
    partition.turn_to(ReadPoint { offset: 0, before: None });
    partition.hold_back();
    assert!(!partition.is_readable(), "what arrives is out of order");
    assert_eq!(partition.seek(0, &mut runs), None, "not at once");
    assert!(partition.next_seek(0, &runs).is_some());
    partition.retry_at = Some(Instant::now());
    assert_eq!(partition.seek(0, &mut runs).map(|point| point.offset), Some(0));
    partition.note_seek();
    assert!(partition.is_readable());
}

#[test]
fn rule_40_turns_last_longer_where_seeks_take_long() {
    let mut partition = partition();
    let latency = Duration::from_millis(40);
    partition.turn = ReadTurn { started: Instant::now(), bytes: 2 * PART_BYTES, latency };
    assert_eq!(partition.turn_at() - partition.turn.started, Duration::from_millis(320));
    partition.turn.latency = Duration::ZERO;
    assert_eq!(partition.turn_at() - partition.turn.started, NEW_RECORDS_TIME);
}

#[test]
fn rule_43_a_log_is_read_from_its_middle_after_a_restart_as_well() {
    let at_us = |appended_us| Record { appended_us, ..record(7, "v") };
    let mut partition = Partition::new(PartitionStart { offset: 7, is_middle: true, ..START });
    let read = partition.read(&at_us(50));
    partition.take(&read);
    assert!(partition.is_after_middle(&at_us(PIPELINE_US)));
    assert!(!partition.is_after_middle(&at_us(PIPELINE_US + 50)), "pipelines have ended");
    partition.complete(at(7));
    assert_eq!(partition.applied(None).unwrap().middle_us, Some(50));
    let restarted = Partition::new(PartitionStart { offset: 8, middle_us: Some(50), ..START });
    assert!(restarted.is_after_middle(&at_us(PIPELINE_US)));
    assert!(!self::partition().is_after_middle(&at_us(0)));
}
