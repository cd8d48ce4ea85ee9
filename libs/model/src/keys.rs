//! Key layout: every key of the store, in one table. No other crate, and nothing in this one outside this module, packs a
//! key. Value formats are described next to the types that they encode. The table and the enums that select the kind of a row
//! are kept in this one file, because only together do they show that no two keys can collide.
//!
//! Keys are tuples in FoundationDB's encoding. They sort as their elements do, and a shorter tuple is a prefix of every
//! longer one that starts with the same elements, so "everything of a run" is one range. An element that clients choose never
//! determines the kind of a row: the numbers of `Space`, `RunIdPart`, and `RunRow` do, and they come before it.
//!
//! **System rows** start with nil and belong to no project:
//!
//! | key | content |
//! |---|---|
//! | (nil, 0) | format of the store |
//! | (nil, 1, topic) | number, identity, and partition count of a topic's log |
//! | (nil, 2, topic, partition) | position up to which a partition is applied, and digest of the last record |
//! | (nil, 3, job) | owner token of a job lock; with a project number, of the job in that project |
//! | (nil, 4, project name) | number and state of a project or a deleted project |
//! | (nil, 5) + stamp | outbox: an event for the control topic |
//! | (nil, 6, stage, time, project, run id, producer) | producers that are swept unless they were seen after this time |
//! | (nil, 7, job) | when a job last succeeded; with a project number, in that project |
//! | (nil, 8) | digest of the log positions that were adopted from an archive |
//! | (nil, 9) | progress of a migration from an older format, while one is under way |
//! | (nil, 10, topic, identity) | number of a log that was replaced by another, which is read since then |
//! | (nil, 11, job) | progress of an interrupted job; with a project number, in that project |
//! | (nil, 12, principal) | principal of access control |
//! | (nil, 13, principal, 0) | role of a principal in all projects |
//! | (nil, 13, principal, 1, project name) | role of a principal in one project |
//! | (nil, 14, digest) | credential, such as a token or a session |
//! | (nil, 15) | number of times that a quarantine was to end |
//! | (nil, 16, 0, time, id) | entry of the audit log that belongs to no project |
//! | (nil, 16, 0, time, id, project name) | entry of the audit log |
//! | (nil, 16, 1, project name, time, id) | the same entry, for readers of its project |
//! | (nil, 17, issuer, subject) | principal of someone who signs in with a provider |
//!
//! **Project rows** start with the number of the project, then the space. Under the largest
//! number, which no project has, are parked items of projects that do not exist:
//!
//! | key | content |
//! |---|---|
//! | (p, 1, run id, 0) | head: live run number or tombstone |
//! | (p, 1, run id, 1) | cursor: position of the last record applied to this run id |
//! | (p, 1, run id, 2, producer) | mark: last applied sequence number of a producer |
//! | (p, 1, run id, 3, producer, first) | dictionary of a producer: its definitions from number `first` on, as received |
//! | (p, 2, run number) | run document: props, tag ids, experiment id, small params |
//! | (p, 3, run number, part, …) | everything else of a run, see below |
//! | (p, 4, index, …, run number) | indexes: see `index_*` |
//! | (p, 5, run number) | run id of every number ever assigned; never cleared, so that no number is reused |
//! | (p, 6, kind, id, piece) | entity: experiment, tag, note, dashboard, app, report, named document |
//! | (p, 7, kind, name) | id of the entity with this name |
//! | (p, 8, kind, id, counter) | counter of an entity, changed by atomic adds |
//! | (p, 9, 0) | name and description of the project |
//! | (p, 9, 1, piece) | pinned sequences of the project |
//! | (p, 10) + stamp + (run number) | change: a transaction touched this run |
//! | (p, 11, run id, log, partition, offset, item, part) | parked item, with the reason why it was not applied |
//! | (p, 12, experiment id, note id) | notes of an experiment |
//! | (p, 13, counter) | counters of the project, changed by atomic adds |
//! | (p, 14, run id) | list of tombstones |
//! | (p, 15, run number) | list of dead run numbers whose rows have yet to be swept |
//! | (p, 16, due, run number, series, chunk) | garbage: a replaced chunk, to be cleared after this time |
//! | (p, 17, run number) | list of runs that have blocks to fold |
//! | (p, 18, kind, id) | list of deleted entities whose links have yet to be swept |
//! | (p, 19, 0) | number of changes, changed by atomic adds; watches wait for it to change |
//! | (p, 19, 1) | stamp up to which changes have been trimmed |
//! | (p, 19, 2, version) | mark: number of changes at a version of the store |
//! | (p, 19, 3) | time until which someone waits for new data, so that it is applied without rests |
//! | (p, 20, time, run id, log, partition, offset, item) | parked items by the time of their records |
//! | (p, 21, run id, 0) | a run that is being restored: its number, its source, when the restore started |
//! | (p, 21, run id, 1) | progress of the restore |
//! | (p, 22, blob reference) | payload that waits for the blob store: its run, size, and hash |
//! | (p, 23, blob reference, piece) | content of such a payload |
//! | (p, 24, run id) | quarantine of a run: its reason, and whether it is ending |
//! | (p, 25, run number) | ancestors of a branch |
//! | (p, 26, run number, step, run number of a branch) | branches that share the points of a run up to a step |
//! | (p, 27, run number, page) | series of a deleted branch that hide points of its ancestors from its own branches |
//! | (p, 28, part, …) | studies and their trials, see below |
//! | (p, 29, 0) | name of the primary metric |
//! | (p, 29, 1, metric) | goal of a metric |
//! | (p, 30, cohort) | cohort: runs whose values of metrics are stored together |
//! | (p, 31, cohort, name, context digest) | values of a metric in the runs of a cohort |
//! | (p, 32, run number) | list of runs whose values of metrics may have changed since a cohort took them, or are in none |
//! | (p, 33, run number) | list of runs whose params have changed since a cohort took them, or are in none |
//! | (p, 34, cohort) | cohort: runs whose params are stored together |
//! | (p, 35, path, cohort, part) | values of a param in the runs of a cohort |
//! | (p, 36, cohort, part) | paths of the params of a cohort |
//! | (p, 37, run number) | list of runs whose params have index rows of an earlier format |
//! | (p, 38, kind, 0) | generations of the list of space 32 (kind 0) or 33 (kind 1): which of them have rows |
//! | (p, 38, kind, 1) | number of runs that have left the list since its last generation began, changed by atomic adds |
//! | (p, 38, kind, 2, generation, run number) | the same list in later generations |
//!
//! The rows of a run id (space 1) outlive its deletion. All others contain the run number,
//! which is never reused, so rows under a dead number are ignored and can be cleared later, in
//! steps.
//!
//! **Parts of a run** (space 3, after the run number):
//!
//! | part | rest of the key | content |
//! |---|---|---|
//! | 0 | | writing state: next numbers of series and blocks, time of the last data, counts |
//! | 1 | sequence | block: the points of one applied transaction, of all its series |
//! | 2 | | fold row: which blocks are being folded, and up to which series |
//! | 3 | series | header of a metric series |
//! | 4 | kind, name, context digest | series number by kind, name, and context |
//! | 5 | series, first step | chunk list of a series: one row per chunk |
//! | 6 | series, chunk | chunk: sealed or tail points of one series |
//! | 7 | series, level, page | pyramid page |
//! | 8 | piece | params too large for the document: one CBOR map, split into pieces |
//! | 9 | series | header of an object series |
//! | 10 | series, step | object |
//! | 11 | line, piece | terminal line |
//! | 12 | sequence, piece | log record |
//! | 13 | digest | log records that are already stored |
//! | 14 | path | artifact |
//! | 15 | series | summary of the folded points of a series |
//! | 16 | note id | notes of the run |
//! | 17 | sequence | number of the terminal line that was written under this sequence number |
//! | 18 | | source from which the run was restored |
//! | 19 | producer | mark, held back until the restore is complete |
//! | 20 | producer, first | dictionary, held back likewise |
//! | 21 | edit id | outcome of an edit of a series |
//! | 22 | | cohort of the run's values of metrics |
//! | 23 | | cohort of its params |
//!
//! **Studies** (space 28). A study has a number, which is its id, and its trials are numbered from 0:
//!
//! | part | rest of the key | content |
//! |---|---|---|
//! | 0 | | last study number that was assigned; numbers are never reused |
//! | 1 | name | number of the study with this name |
//! | 2 | study | study: its name, directions, and experiment |
//! | 3 | study | number of its trials, which is also the next trial number |
//! | 4 | study, kind, key, piece | attribute of a study |
//! | 5 | study, param, piece | distribution of a param in a study |
//! | 6 | study, trial, 0 | trial: its state, values, times, and run |
//! | 6 | study, trial, 1, param, piece | param of a trial |
//! | 6 | study, trial, 2, kind, key, piece | attribute of a trial |
//! | 6 | study, trial, 3, step | intermediate value of a trial |
//! | 7 | study | list of deleted studies whose rows have yet to be swept |
//! | 8 | study, trial, kind | list of trials with points that may not be in the log yet |
//! | 9 | study | time of the last part of a study whose restore is not finished |

mod access;
mod cohort;
mod entity;
mod feed;
mod index;
mod owner;
mod run_parts;
mod study;
mod system;

pub use access::*;
pub use cohort::*;
pub use entity::*;
pub use feed::*;
pub use index::*;
pub use owner::*;
pub use run_parts::*;
pub use study::*;
pub use system::*;

use foundationdb_tuple::{Bytes as TupleBytes, TuplePack, TupleUnpack, pack, unpack};
use matyan_store::{Error, Key, Range, Result};

use crate::ids::{ProducerId, Project, RunId, RunNumber};

/// Kinds of system rows, after nil.
#[derive(Clone, Copy)]
enum System {
    Format = 0,
    Log = 1,
    Applied = 2,
    Lock = 3,
    Project = 4,
    Outbox = 5,
    IdleProducer = 6,
    Job = 7,
    AdoptedPositions = 8,
    Migration = 9,
    ReplacedLog = 10,
    JobCursor = 11,
    Principal = 12,
    Grant = 13,
    Credential = 14,
    QuarantineResumes = 15,
    Audit = 16,
    Identity = 17,
}

/// Kinds of project rows, after the project number.
#[derive(Clone, Copy)]
enum Space {
    RunId = 1,
    Document = 2,
    Run = 3,
    Index = 4,
    Number = 5,
    Entity = 6,
    EntityName = 7,
    EntityCounter = 8,
    ProjectInfo = 9,
    Change = 10,
    Parked = 11,
    ExperimentNote = 12,
    ProjectCounter = 13,
    Tombstone = 14,
    DeadRun = 15,
    Garbage = 16,
    Unfolded = 17,
    DeadEntity = 18,
    ChangeMark = 19,
    ParkedByTime = 20,
    Staged = 21,
    PendingPayload = 22,
    PendingPayloadPiece = 23,
    Quarantine = 24,
    Branch = 25,
    Sharer = 26,
    Hiding = 27,
    Study = 28,
    MetricGoal = 29,
    Cohort = 30,
    CohortColumn = 31,
    Uncollected = 32,
    UncollectedParams = 33,
    ParamCohort = 34,
    ParamColumn = 35,
    ParamCohortPaths = 36,
    IndexedParams = 37,
    UncollectedLater = 38,
}

/// Kinds of rows of a list of uncollected runs, after the kind of cohort.
#[derive(Clone, Copy)]
enum ListPart {
    Generations = 0,
    LeftRuns = 1,
    Run = 2,
}

/// Kinds of rows of a run id, after the id.
#[derive(Clone, Copy)]
enum RunIdPart {
    Head = 0,
    Cursor = 1,
    Mark = 2,
    Dictionary = 3,
}

/// Kinds of rows of a run, after the run number.
#[derive(Clone, Copy)]
enum RunRow {
    Writing = 0,
    Block = 1,
    Fold = 2,
    SeriesHeader = 3,
    SeriesByName = 4,
    ChunkList = 5,
    Chunk = 6,
    Pyramid = 7,
    Params = 8,
    ObjectHeader = 9,
    Object = 10,
    TerminalLine = 11,
    LogRecord = 12,
    LogRecordSeen = 13,
    Artifact = 14,
    SeriesSummary = 15,
    Note = 16,
    LineWritten = 17,
    Origin = 18,
    StagedMark = 19,
    StagedDictionary = 20,
    SeriesEdit = 21,
    Cohort = 22,
    ParamCohort = 23,
}

/// Kinds of rows of studies, after the space.
#[derive(Clone, Copy)]
enum StudyPart {
    Last = 0,
    Name = 1,
    Study = 2,
    TrialCount = 3,
    Attribute = 4,
    Distribution = 5,
    Trial = 6,
    Dead = 7,
    UnloggedPoints = 8,
    Unfinished = 9,
}

/// Kinds of rows of a trial, after its number.
#[derive(Clone, Copy)]
enum TrialPart {
    Head = 0,
    Param = 1,
    Attribute = 2,
    IntermediateValue = 3,
}

/// Kinds of series, which are numbered separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SeriesKind {
    Metric = 0,
    Object = 1,
}

/// Kinds of entities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntityKind {
    Experiment = 0,
    Tag = 1,
    Note = 2,
    Dashboard = 3,
    App = 4,
    Report = 5,
    Document = 6,
}

impl EntityKind {
    /// The name of the kind in error messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Experiment => "experiment",
            Self::Tag => "tag",
            Self::Note => "note",
            Self::Dashboard => "dashboard",
            Self::App => "app",
            Self::Report => "report",
            Self::Document => "document",
        }
    }
}

/// Counters of a project, and of an entity (`Runs` only).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    Series = 0,
    Points = 1,
    Bytes = 2,
    Runs = 3,
    Parked = 4,
    /// Bytes of payloads that wait for the blob store.
    PendingBytes = 5,
    /// Bytes of payloads that the blob store will never accept.
    RefusedBytes = 6,
}

/// Topics whose positions are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogTopic {
    Ingestion = 0,
    Control = 1,
}

fn system<T: TuplePack>(row: System, rest: T) -> Key {
    join_key(pack(&((), row as u16)), rest)
}

fn project<T: TuplePack>(project: Project, space: Space, rest: T) -> Key {
    join_key(pack(&(project.0, space as u16)), rest)
}

fn run_id<T: TuplePack>(project: Project, id: &RunId, part: RunIdPart, rest: T) -> Key {
    join_key(pack(&(project.0, Space::RunId as u16, id.as_str(), part as u16)), rest)
}

fn run<T: TuplePack>(project: Project, number: RunNumber, part: RunRow, rest: T) -> Key {
    join_key(pack(&(project.0, Space::Run as u16, number.0, part as u16)), rest)
}

fn join_key<T: TuplePack>(mut key: Vec<u8>, rest: T) -> Key {
    rest.pack_root(&mut key).expect("writing to memory does not fail");
    key.into()
}

/// The keys of all tuples that continue `prefix`. This is not every key with the bytes of
/// `prefix`: the key of "a\0" starts with the bytes of the key of "a", but is a different
/// tuple.
fn subtree(prefix: Key) -> Range {
    let mut end = Vec::with_capacity(prefix.len() + 1);
    end.extend_from_slice(&prefix);
    // No tuple element is encoded with 0xff as its first byte.
    end.push(0xff);
    Range::new(prefix, end)
}

/// The first text that is larger than every text with this prefix; `None` if there is none. Texts are encoded in their
/// order.
fn after_prefix(prefix: &str) -> Option<String> {
    let mut after = prefix.to_owned();
    while let Some(last) = after.pop() {
        if let Some(next) = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32) {
            after.push(next);
            return Some(after);
        }
    }
    None
}

/// The elements of `key` after the elements of `prefix`, which is the start of the range that was
/// scanned.
pub fn tail<'de, T: TupleUnpack<'de>>(prefix: &Key, key: &'de Key) -> Result<T> {
    let rest = key.strip_prefix(prefix.as_ref()).ok_or_else(|| corrupt(key))?;
    unpack(rest).map_err(|_| corrupt(key))
}

fn corrupt(key: &Key) -> Error {
    Error::corrupt_row(key, format!("the key {} does not have the layout of its range", key.escape_ascii()))
}

/// Every row of a project.
pub fn project_rows(project: Project) -> Range {
    subtree(pack(&(project.0,)).into())
}

// Rows of a run id.

pub fn head(project: Project, id: &RunId) -> Key {
    run_id(project, id, RunIdPart::Head, ())
}

/// Everything under a run id except parked items, the quarantine, and a restore.
pub fn run_id_rows(project: Project, id: &RunId) -> Range {
    subtree(self::project(project, Space::RunId, (id.as_str(),)))
}

/// The rows of all run ids.
pub fn run_ids(project: Project) -> Range {
    subtree(self::project(project, Space::RunId, ()))
}

pub fn cursor(project: Project, id: &RunId) -> Key {
    run_id(project, id, RunIdPart::Cursor, ())
}

pub fn mark(project: Project, id: &RunId, producer: ProducerId) -> Key {
    run_id(project, id, RunIdPart::Mark, (TupleBytes::from(&producer.0[..]),))
}

/// Marks of all producers; decode the tail with `decode_mark_producer`.
pub fn marks(project: Project, id: &RunId) -> Range {
    subtree(run_id(project, id, RunIdPart::Mark, ()))
}

pub fn decode_mark_producer(range: &Range, key: &Key) -> Result<ProducerId> {
    let (producer,): (TupleBytes<'_>,) = tail(&range.start, key)?;
    producer.as_ref().try_into().map(ProducerId).map_err(|_| corrupt(key))
}

/// The page of definitions that starts with number `first`.
pub fn dictionary_page(project: Project, id: &RunId, producer: ProducerId, first: u32) -> Key {
    run_id(project, id, RunIdPart::Dictionary, (TupleBytes::from(&producer.0[..]), first))
}

/// All pages in order; the tail is (first: u32).
pub fn dictionary(project: Project, id: &RunId, producer: ProducerId) -> Range {
    subtree(run_id(project, id, RunIdPart::Dictionary, (TupleBytes::from(&producer.0[..]),)))
}

// Runs that are being restored.

pub fn staged(project: Project, id: &RunId) -> Key {
    self::project(project, Space::Staged, (id.as_str(), 0_u16))
}

pub fn staged_progress(project: Project, id: &RunId) -> Key {
    self::project(project, Space::Staged, (id.as_str(), 1_u16))
}

/// Both rows of every restore; the tail is (run id: String, row: u16).
pub fn staged_all(project: Project) -> Range {
    subtree(self::project(project, Space::Staged, ()))
}

pub fn staged_mark(project: Project, number: RunNumber, producer: ProducerId) -> Key {
    run(project, number, RunRow::StagedMark, (TupleBytes::from(&producer.0[..]),))
}

/// Staged marks of all producers; decode the tail with `decode_mark_producer`.
pub fn staged_marks(project: Project, number: RunNumber) -> Range {
    subtree(run(project, number, RunRow::StagedMark, ()))
}

pub fn staged_page(project: Project, number: RunNumber, producer: ProducerId, first: u32) -> Key {
    run(project, number, RunRow::StagedDictionary, (TupleBytes::from(&producer.0[..]), first))
}

/// All pages in order; the tail is (first: u32).
pub fn staged_dictionary(project: Project, number: RunNumber, producer: ProducerId) -> Range {
    subtree(run(project, number, RunRow::StagedDictionary, (TupleBytes::from(&producer.0[..]),)))
}

/// Staged dictionaries of all producers.
pub fn staged_dictionaries(project: Project, number: RunNumber) -> Range {
    subtree(run(project, number, RunRow::StagedDictionary, ()))
}

// Documents and lists of runs.

pub fn document(project: Project, number: RunNumber) -> Key {
    self::project(project, Space::Document, (number.0,))
}

/// All documents by run number, and thus roughly by creation time; the tail is (number: u64).
pub fn documents(project: Project) -> Range {
    subtree(self::project(project, Space::Document, ()))
}

pub fn number(project: Project, number: RunNumber) -> Key {
    self::project(project, Space::Number, (number.0,))
}

/// Every number ever assigned; the tail is (run number: u64).
pub fn numbers(project: Project) -> Range {
    subtree(self::project(project, Space::Number, ()))
}

pub fn tombstone(project: Project, id: &RunId) -> Key {
    self::project(project, Space::Tombstone, (id.as_str(),))
}

/// The tail is (run id: String).
pub fn tombstones(project: Project) -> Range {
    subtree(self::project(project, Space::Tombstone, ()))
}

pub fn dead_run(project: Project, number: RunNumber) -> Key {
    self::project(project, Space::DeadRun, (number.0,))
}

/// The tail is (number: u64).
pub fn dead_runs(project: Project) -> Range {
    subtree(self::project(project, Space::DeadRun, ()))
}

pub fn unfolded(project: Project, number: RunNumber) -> Key {
    self::project(project, Space::Unfolded, (number.0,))
}

/// The tail is (number: u64).
pub fn unfolded_all(project: Project) -> Range {
    subtree(self::project(project, Space::Unfolded, ()))
}

pub fn branch(project: Project, number: RunNumber) -> Key {
    self::project(project, Space::Branch, (number.0,))
}

/// The tail is (number: u64).
pub fn branches(project: Project) -> Range {
    subtree(self::project(project, Space::Branch, ()))
}

pub fn sharer(project: Project, ancestor: RunNumber, last_step: i64, branch: RunNumber) -> Key {
    self::project(project, Space::Sharer, (ancestor.0, last_step, branch.0))
}

/// The branches that share points of a run at this step or a later one.
pub fn sharers_from(project: Project, ancestor: RunNumber, step: i64) -> Range {
    let start = self::project(project, Space::Sharer, (ancestor.0, step));
    Range::new(start, sharers(project, ancestor).end)
}

/// The tail is (last shared step: i64, number of a branch: u64).
pub fn sharers(project: Project, ancestor: RunNumber) -> Range {
    subtree(self::project(project, Space::Sharer, (ancestor.0,)))
}

/// The branches of all runs.
pub fn sharers_all(project: Project) -> Range {
    subtree(self::project(project, Space::Sharer, ()))
}

pub fn hiding_page(project: Project, number: RunNumber, page: u32) -> Key {
    self::project(project, Space::Hiding, (number.0, page))
}

/// The tail is (page: u32).
pub fn hiding(project: Project, number: RunNumber) -> Range {
    subtree(self::project(project, Space::Hiding, (number.0,)))
}

pub fn quarantine(project: Project, id: &RunId) -> Key {
    self::project(project, Space::Quarantine, (id.as_str(),))
}

/// The tail is (run id: String).
pub fn quarantines(project: Project) -> Range {
    subtree(self::project(project, Space::Quarantine, ()))
}

// Payloads that wait for the blob store.

pub fn pending_payload(project: Project, reference: &str) -> Key {
    self::project(project, Space::PendingPayload, (reference,))
}

/// The tail is (blob reference: String).
pub fn pending_payloads(project: Project) -> Range {
    subtree(self::project(project, Space::PendingPayload, ()))
}

pub fn pending_payload_piece(project: Project, reference: &str, piece: u32) -> Key {
    self::project(project, Space::PendingPayloadPiece, (reference, piece))
}

/// The pieces of one payload, in order.
pub fn pending_payload_pieces(project: Project, reference: &str) -> Range {
    subtree(self::project(project, Space::PendingPayloadPiece, (reference,)))
}

// The project.

pub fn project_info(project: Project) -> Key {
    self::project(project, Space::ProjectInfo, (0_u16,))
}

pub fn project_pinned_piece(project: Project, piece: u32) -> Key {
    self::project(project, Space::ProjectInfo, (1_u16, piece))
}

pub fn project_pinned(project: Project) -> Range {
    subtree(self::project(project, Space::ProjectInfo, (1_u16,)))
}

pub fn primary_metric(project: Project) -> Key {
    self::project(project, Space::MetricGoal, (0_u16,))
}

pub fn metric_goal(project: Project, metric: &str) -> Key {
    self::project(project, Space::MetricGoal, (1_u16, metric))
}

/// The tail is (metric: String).
pub fn metric_goals(project: Project) -> Range {
    subtree(self::project(project, Space::MetricGoal, (1_u16,)))
}

pub fn project_counter(project: Project, counter: Counter) -> Key {
    self::project(project, Space::ProjectCounter, (counter as u16,))
}

#[cfg(test)]
mod tests;
