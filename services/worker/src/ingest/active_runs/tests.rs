//! Tests of the shares of runs in the window.

use matyan_model::ids::{Project, RunId};

use super::*;
use crate::{
    ingest::{log_identity::PartitionStart, partition::Partition},
    tests::harness::{TestEnv, record},
};

struct Runs {
    env: TestEnv,
    runs: ActiveRuns,
    partition: Partition,
    offset: u64,
}

fn key(run: &str) -> RunKey {
    RunKey { project: Project(0), project_name: "".into(), id: RunId::new(run) }
}

impl Runs {
    async fn new(window: usize) -> Self {
        let start = PartitionStart { identity: [1; 16], ..PartitionStart::default() };
        let runs = ActiveRuns::new(window, 1 << 20);
        let partition = Partition::new(start);
        Self { env: TestEnv::new().await, runs, partition, offset: 0 }
    }

    /// Reads the next record of the partition, which has about this size.
    fn read(&mut self, run: &str, bytes: usize) -> Admission {
        let offset = self.offset;
        self.offset += 1;
        self.read_at(run, bytes, offset)
    }

    fn read_at(&mut self, run: &str, bytes: usize, offset: u64) -> Admission {
        let key = key(run);
        if !self.runs.has(&key) {
            self.runs.insert(key.clone(), self.env.writer(run));
        }
        let record = record(offset).run(run);
        let read = self.partition.read(&record.stored());
        let entry = crate::record::Entry { bytes, ..record.entry() };
        self.runs.offer(&key, entry, &read)
    }

    fn is_queued(&mut self, run: &str, bytes: usize) -> bool {
        matches!(self.read(run, bytes), Admission::Queued { .. })
    }

    fn set_bytes(&mut self, run: &str, bytes: usize) {
        let run = self.runs.runs.get_mut(&key(run)).unwrap();
        self.runs.idle_bytes += bytes;
        self.runs.idle_bytes -= std::mem::replace(&mut run.bytes, bytes);
    }

    /// Applies everything that is taken of a run.
    fn apply(&mut self, run: &str) {
        let key = key(run);
        while let Some(Turn { writer, bytes, .. }) = self.runs.take_turn(&key) {
            self.runs.put_back(&key, writer, bytes, Vec::new());
        }
    }
}

#[tokio::test]
async fn rule_40_stuck_runs_leave_room_for_many_records_of_others() {
    let mut runs = Runs::new(1 << 20).await;
    for stuck in 0..6 {
        while runs.is_queued(&format!("stuck-{stuck}"), 1_000) {}
    }
    // Busy runs that have no applied records yet.
    for run in ["a", "b"] {
        let queued = (0..8).filter(|_| runs.is_queued(run, 500)).count();
        assert_eq!(queued, 8, "with {} of {} bytes in use", runs.runs.window(), 1 << 20);
    }
    // A run alone may still use its share.
    let mut alone = Runs::new(1 << 20).await;
    let queued = (0..2_000).filter(|_| alone.is_queued("alone", 1_000)).count();
    assert_eq!(queued, (1 << 18) / 1_000);
}

/// However small their records are.
#[tokio::test]
async fn no_more_is_read_while_many_runs_are_applied() {
    let mut runs = Runs::new(1 << 30).await;
    for run in 0..BUSY_RUNS {
        assert!(runs.runs.has_room(), "with {run} runs");
        assert!(runs.is_queued(&format!("run-{run}"), 100) && runs.is_queued(&format!("run-{run}"), 100));
    }
    assert!(!runs.runs.has_room());
    runs.apply("run-7");
    assert!(runs.runs.has_room());
}

/// Each run takes memory, so a long backlog of large records must not be read to its end.
#[tokio::test]
async fn no_more_is_read_while_the_records_of_many_runs_are_left_in_the_log() {
    let mut runs = Runs::new(1_000).await;
    assert!(runs.is_queued("large", 1_500));
    for run in 0..DEFERRED_RUNS {
        assert!(runs.runs.may_defer(), "with {run} runs");
        assert_eq!(runs.read(&format!("run-{run}"), 600), Admission::Deferred);
    }
    assert!(!runs.runs.may_defer());
    runs.apply("large");
    assert_eq!(runs.runs.first_deferred(0).map(|point| point.offset), Some(1));
    runs.runs.rewind(0, 1);
    assert!(runs.runs.has_room() && !runs.runs.may_defer(), "only records that were left are read");
    assert_eq!(runs.read_at("run-0", 600, 1), Admission::Queued { needs_turn: true });
    runs.runs.skip(0, ReadPoint { offset: 2, before: None });
    assert!(!runs.runs.may_defer());
    runs.runs.restart(0);
    assert!(runs.runs.may_defer());
}

#[tokio::test]
async fn rule_40_the_worker_returns_only_to_runs_that_have_room() {
    let mut runs = Runs::new(1 << 20).await;
    for run in ["stuck", "slow"] {
        while runs.is_queued(run, 10_000) {}
    }
    let of_slow = runs.offset - 1;
    assert_eq!(runs.runs.first_deferred(0), None, "none has room");
    runs.apply("slow");
    assert_eq!(runs.runs.first_deferred(0).map(|point| point.offset), Some(of_slow));
    runs.runs.rewind(0, of_slow);
    assert_eq!(runs.runs.deferred.returning(0), [key("slow")]);
    assert_eq!(runs.read_at("slow", 10_000, of_slow), Admission::Queued { needs_turn: true });
    runs.runs.caught_up(0);
    assert!(!runs.runs.is_returning(0));
    let of_stuck = runs.runs.first_left(0).unwrap();
    assert!(of_stuck.offset < of_slow);
    runs.apply("stuck");
    assert_eq!(runs.runs.first_deferred(0), Some(of_stuck));
}

#[tokio::test]
async fn rule_40_a_run_has_records_before_a_position_until_its_own_are_applied() {
    let mut runs = Runs::new(1 << 20).await;
    while runs.is_queued("busy", 10_000) {}
    assert!(runs.is_queued("r", 100));
    let at = LogPosition { log: 0, partition: 0, offset: runs.offset };
    let own = runs.offset - 1;
    let first_before = |runs: &Runs, run: &str, at| runs.runs.first_before(&key(run), at);
    assert_eq!((first_before(&runs, "r", at), first_before(&runs, "busy", at)), (Some(own), Some(0)));
    assert_eq!(first_before(&runs, "r", LogPosition { offset: own, ..at }), None, "its own record");
    assert_eq!(first_before(&runs, "r", LogPosition { partition: 1, ..at }), None);
    let Turn { writer, bytes, .. } = runs.runs.take_turn(&key("r")).unwrap();
    assert_eq!(first_before(&runs, "r", at), Some(own), "it is being applied");
    runs.runs.put_back(&key("r"), writer, bytes, Vec::new());
    assert_eq!(first_before(&runs, "r", at), None);
    runs.apply("busy");
    let left = first_before(&runs, "busy", at);
    assert!(left.is_some_and(|left| 0 < left && left < own), "some are left in the log: {left:?}");
}

/// Otherwise, the partition would be reread from that record in vain, without end.
#[tokio::test]
async fn rule_40_the_worker_does_not_return_to_a_record_that_does_not_fit() {
    let mut runs = Runs::new(1 << 20).await;
    assert!(runs.is_queued("r", 60_000));
    assert!(!runs.is_queued("r", 250_000));
    assert_eq!(runs.runs.first_deferred(0), None);
    runs.apply("r");
    assert_eq!(runs.runs.first_deferred(0).map(|point| point.offset), Some(1));
}

/// A run whose records were left in the log is kept, however much memory it takes. Others are not dropped instead.
#[tokio::test]
async fn rule_40_idle_runs_are_kept_next_to_large_ones_that_cannot_be_dropped() {
    let mut runs = Runs::new(1_000).await;
    for run in 0..8 {
        assert!(runs.is_queued(&format!("idle-{run}"), 100));
        runs.apply(&format!("idle-{run}"));
    }
    assert!(runs.is_queued("large", 1_500));
    assert_eq!(runs.read("deferred", 600), Admission::Deferred);
    runs.set_bytes("deferred", 5 << 20);
    runs.runs.trim();
    let kept = |runs: &Runs| (0..8).filter(|run| runs.runs.has(&key(&format!("idle-{run}")))).count();
    assert_eq!((kept(&runs), runs.runs.has(&key("deferred"))), (8, true));
    // One large run is dropped alone, because it was written before the others.
    runs.set_bytes("idle-0", 1 << 20);
    runs.runs.trim();
    assert_eq!((kept(&runs), runs.runs.has(&key("idle-0"))), (7, false));
}

/// A run that writes much would fill the window, and a run whose quarantine ends has waited long enough.
#[tokio::test]
async fn a_run_rests_only_while_there_is_little_to_apply() {
    const WINDOW: usize = 16 << 20;
    let mut runs = Runs::new(WINDOW).await;
    let may_rest = |runs: &Runs| runs.runs.may_rest(&key("r")).is_some();
    assert!(runs.is_queued("r", 100));
    assert!(!may_rest(&runs), "it has had no turn");
    runs.apply("r");
    assert_eq!(runs.read("r", 100), Admission::Queued { needs_turn: true });
    assert!(may_rest(&runs));
    assert_eq!(runs.read("r", REST_BYTES - 101), Admission::Queued { needs_turn: false });
    assert!(may_rest(&runs));
    assert_eq!(runs.read("r", 1), Admission::Queued { needs_turn: true });
    assert!(!may_rest(&runs));
    assert_eq!(runs.read("r", 1), Admission::Queued { needs_turn: false });
    runs.apply("r");

    assert!(runs.is_queued("r", 100) && may_rest(&runs));
    for run in 0..WINDOW / REST_SHARE / (1 << 20) {
        assert!(may_rest(&runs), "next to {run} others");
        assert!(runs.is_queued(&format!("large-{run}"), 1 << 20));
    }
    assert!(!may_rest(&runs));
    for run in 0..WINDOW / REST_SHARE / (1 << 20) {
        runs.apply(&format!("large-{run}"));
    }

    for run in 0..BUSY_RUNS / REST_SHARE - 1 {
        assert!(may_rest(&runs), "next to {run} others");
        assert!(runs.is_queued(&format!("small-{run}"), 100));
    }
    assert!(!may_rest(&runs));
    runs.apply("small-0");
    assert!(may_rest(&runs));
    runs.runs.wake(&key("r"));
    assert!(!may_rest(&runs));
}
