//! Tests of which log a partition belongs to, given the stored state.

use super::*;

const ID: Option<[u8; 16]> = Some([1; 16]);
const OTHER: Option<[u8; 16]> = Some([2; 16]);

fn state(number: u32, identity: Option<[u8; 16]>) -> LogState {
    LogState { number, identity, partitions: 2 }
}

fn applied(log: u32, next: u64) -> Option<AppliedPosition> {
    let last = LastRecord { offset: next - 1, digest: [9; 16], appended_us: 0 };
    Some(AppliedPosition { log, next, last: Some(last) })
}

fn check(
    known: Option<LogState>,
    applied: Option<AppliedPosition>,
    identity: Option<[u8; 16]>,
    (bounds_first, end): (u64, u64),
    (number, log, offset, is_verified): (u32, u32, u64, bool),
) {
    let bounds = PartitionInfo { first: bounds_first, end };
    let (state, start) = decide(known, applied, identity, 2, bounds).unwrap();
    let found = (state.number, start.log, start.offset, start.expected.is_some());
    assert_eq!(found, (number, log, offset, is_verified), "{known:?} {applied:?}");
    assert_eq!(state.identity, identity);
}

#[test]
fn rule_01_a_log_with_an_identity_is_recognized_by_it() {
    check(None, None, ID, (0, 0), (0, 0, 0, false));
    check(Some(state(4, ID)), None, ID, (3, 9), (4, 4, 3, false));
    check(Some(state(4, ID)), applied(4, 7), ID, (3, 9), (4, 4, 7, false));
    check(Some(state(4, ID)), applied(4, 7), OTHER, (0, 2), (5, 5, 0, false));
    // Another partition found the new log first.
    check(Some(state(5, OTHER)), applied(4, 7), OTHER, (0, 9), (5, 5, 0, false));
    // The log ends before the applied position: its tail was lost.
    check(Some(state(4, ID)), applied(4, 7), ID, (3, 5), (5, 5, 5, false));
}

#[test]
fn rule_01_a_log_without_identity_is_recognized_by_the_last_record() {
    check(None, None, None, (0, 0), (0, 0, 0, false));
    check(Some(state(4, None)), applied(4, 7), None, (3, 9), (4, 4, 6, true));
    // At the end of the partition, the last record is still reread.
    check(Some(state(4, None)), applied(4, 7), None, (3, 7), (4, 4, 6, true));
    // Retention has deleted the record: the same log.
    check(Some(state(4, None)), applied(4, 7), None, (7, 9), (4, 4, 7, false));
    // Past the end: a different log.
    check(Some(state(4, None)), applied(4, 7), None, (0, 6), (5, 5, 0, false));
    check(Some(state(5, None)), applied(4, 7), None, (0, 6), (5, 5, 0, false));
    // Another partition found a new log; this one is still checked separately.
    check(Some(state(5, None)), applied(4, 7), None, (0, 9), (5, 4, 6, true));
    // Retention has overtaken it: it starts at its position, and so is found to have lost
    // records.
    check(Some(state(5, None)), applied(4, 7), None, (8, 9), (5, 4, 7, false));
}

#[test]
fn rule_02_a_changed_partition_count_is_refused() {
    let bounds = PartitionInfo { first: 0, end: 9 };
    for identity in [None, ID] {
        let refused = decide(Some(state(0, identity)), None, identity, 3, bounds).unwrap_err();
        assert!(matches!(refused, Error::Partitions { known: 2, found: 3 }));
    }
    // A new log may have any number of partitions.
    assert!(decide(Some(state(0, ID)), None, OTHER, 3, bounds).is_ok());
}
