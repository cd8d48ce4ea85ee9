//! Tests of which log a partition belongs to, given the stored state.

use super::*;

const ID: [u8; 16] = [1; 16];
const OTHER: [u8; 16] = [2; 16];

fn state(number: u32, identity: Option<[u8; 16]>) -> Option<LogState> {
    Some(LogState { number, identity, partitions: 2, ..LogState::default() })
}

fn applied(log: u32, next: u64, identity: Option<[u8; 16]>) -> Option<AppliedPosition> {
    Some(AppliedPosition { log, next, identity, ..AppliedPosition::default() })
}

fn info(identity: [u8; 16], (first, end): (u64, u64)) -> PartitionDescription {
    PartitionDescription { identity, partitions: 2, bounds: Some(PartitionInfo { first, end }) }
}

#[track_caller]
fn check(
    known: Option<LogState>,
    applied: Option<AppliedPosition>,
    info: PartitionDescription,
    (number, log, offset, shortened_to): (u32, u32, u64, Option<u64>),
) {
    let decision = decide(known, applied, (1, None), info).unwrap();
    let found = (decision.state.number, decision.start.log, decision.start.offset);
    assert_eq!(found, (number, log, offset), "{known:?} {applied:?}");
    assert_eq!(decision.applied.and_then(|applied| applied.shortened_to), shortened_to);
    assert_eq!((decision.state.identity, decision.start.identity), (Some(info.identity), info.identity));
    // The stored decision gives the same result.
    let again = decide(Some(decision.state), decision.applied.or(applied), (1, None), info).unwrap();
    assert_eq!(again, decision);
}

#[test]
fn rule_42_a_log_is_recognized_by_its_identity() {
    check(None, None, info(ID, (0, 0)), (0, 0, 0, None));
    check(state(4, Some(ID)), None, info(ID, (3, 9)), (4, 4, 3, None));
    check(state(4, Some(ID)), applied(4, 7, Some(ID)), info(ID, (3, 9)), (4, 4, 7, None));
    // Recreated, also with more records than were applied: read from its first.
    check(state(4, Some(ID)), applied(4, 7, Some(ID)), info(OTHER, (0, 2)), (5, 5, 0, None));
    check(state(4, Some(ID)), applied(4, 7, Some(ID)), info(OTHER, (0, 9)), (5, 5, 0, None));
    // Another partition found the new log first.
    check(state(5, Some(OTHER)), applied(4, 7, Some(ID)), info(OTHER, (0, 9)), (5, 5, 0, None));
    // Another partition of the same log continued after it had lost its tail.
    check(state(5, Some(ID)), applied(4, 7, Some(ID)), info(ID, (0, 9)), (5, 4, 7, None));
}

#[test]
fn rule_43_a_log_that_lost_its_tail_is_not_read() {
    check(state(4, Some(ID)), applied(4, 7, Some(ID)), info(ID, (3, 5)), (4, 4, 7, Some(5)));
    // Records that were appended since change nothing.
    let shortened = applied(4, 7, Some(ID)).map(|own| AppliedPosition { shortened_to: Some(5), ..own });
    check(state(4, Some(ID)), shortened, info(ID, (3, 20)), (4, 4, 7, Some(5)));
    check(state(4, Some(ID)), shortened, info(ID, (3, 4)), (4, 4, 7, Some(4)));
    // A run that waits holds the position back, and records of others after it were applied.
    let read = Some(LastRecord { offset: 11, appended_us: 0, leader_epoch: None });
    let held = applied(4, 7, Some(ID)).map(|own| AppliedPosition { read, ..own });
    check(state(4, Some(ID)), held, info(ID, (3, 9)), (4, 4, 7, Some(9)));
    check(state(4, Some(ID)), held, info(ID, (3, 12)), (4, 4, 7, None));
    // A recreated log is another one.
    check(state(4, Some(ID)), shortened, info(OTHER, (0, 2)), (5, 5, 0, None));
}

/// Its tail was replaced by records of a later leader.
#[test]
fn rule_43_a_log_is_read_up_to_its_lost_tail() {
    let found = |applied, identity, lost_tail| {
        let decision = decide(state(4, Some(ID)), applied, (1, lost_tail), info(identity, (3, 9))).unwrap();
        (decision.start.offset, decision.start.end)
    };
    let own = applied(4, 7, Some(ID));
    assert_eq!(found(own, ID, None), (7, None));
    assert_eq!(found(own, ID, Some(5)), (7, Some(5)));
    // Some records before the tail are not applied yet.
    assert_eq!(found(own, ID, Some(8)), (7, Some(8)));
    assert_eq!(found(None, ID, Some(8)), (3, Some(8)));
    // A recreated log is another one.
    assert_eq!(found(own, OTHER, Some(8)), (3, None));
    assert_eq!(found(None, OTHER, Some(8)), (3, None));
}

/// Positions of a store from before Kafka's topics were known by their ids are not lost, and their records
/// are not applied a second time.
#[test]
fn rule_44_a_store_without_identities_adopts_the_one_of_its_log() {
    check(state(4, Some(ID)), applied(4, 7, None), info(ID, (3, 9)), (4, 4, 7, None));
    check(state(4, None), applied(4, 7, None), info(ID, (3, 9)), (4, 4, 7, None));
    check(state(4, None), applied(4, 7, None), info(ID, (7, 9)), (4, 4, 7, None));
    // Each partition had its own number.
    check(state(5, None), applied(4, 7, None), info(ID, (3, 9)), (5, 4, 7, None));
    check(state(5, None), None, info(ID, (3, 9)), (5, 5, 3, None));
    // It may be another log, or the same log without its tail: the operator knows.
    check(state(4, None), applied(4, 7, None), info(ID, (0, 6)), (4, 4, 7, Some(6)));
}

#[test]
fn rule_02_a_changed_partition_count_is_refused() {
    let grown = PartitionDescription { partitions: 3, ..info(ID, (0, 9)) };
    for identity in [None, Some(ID)] {
        let refused = decide(state(0, identity), None, (0, None), grown).unwrap_err();
        assert!(matches!(refused, Error::Partitions { known: 2, found: 3 }));
    }
    // A new log may have any number of partitions.
    assert!(decide(state(0, Some(OTHER)), None, (0, None), grown).is_ok());
}
