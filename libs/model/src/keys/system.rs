//! Keys of the system rows, which start with nil and belong to no project.

use foundationdb_tuple::Bytes as TupleBytes;
use matyan_store::{Key, Range, Result};

use super::{LogTopic, System, corrupt, subtree, system, tail};
use crate::ids::{Job, ProducerId, Project, RunId};

pub fn format() -> Key {
    system(System::Format, ())
}

pub fn migration() -> Key {
    system(System::Migration, ())
}

pub fn log(topic: LogTopic) -> Key {
    system(System::Log, (topic as u16,))
}

pub fn replaced_log(topic: LogTopic, identity: &[u8; 16]) -> Key {
    system(System::ReplacedLog, (topic as u16, TupleBytes::from(&identity[..])))
}

pub fn applied(topic: LogTopic, partition: u32) -> Key {
    system(System::Applied, (topic as u16, partition))
}

/// Rows of every partition; the tail is (partition: u32).
pub fn applied_all(topic: LogTopic) -> Range {
    subtree(system(System::Applied, (topic as u16,)))
}

pub fn lock(job: Job) -> Key {
    of_job(System::Lock, job)
}

/// Holds when a job last succeeded.
pub fn job(job: Job) -> Key {
    of_job(System::Job, job)
}

/// Holds how far an interrupted job has come.
pub fn job_cursor(job: Job) -> Key {
    of_job(System::JobCursor, job)
}

/// Decode the tail with `decode_job`.
pub fn jobs() -> Range {
    subtree(system(System::Job, ()))
}

/// Decode the tail with `decode_job`.
pub fn locks() -> Range {
    subtree(system(System::Lock, ()))
}

/// The number of the default project is omitted.
fn of_job(row: System, Job { name, project }: Job) -> Key {
    if project == Project::default() { system(row, (name,)) } else { system(row, (name, project.0)) }
}

pub fn decode_job(range: &Range, key: &Key) -> Result<(String, Project)> {
    match tail(&range.start, key) {
        Ok((name,)) => Ok((name, Project::default())),
        Err(_) => {
            let (name, project) = tail(&range.start, key)?;
            Ok((name, Project(project)))
        }
    }
}

pub fn adopted_positions() -> Key {
    system(System::AdoptedPositions, ())
}

pub fn project_by_name(name: &str) -> Key {
    system(System::Project, (name,))
}

/// The tail is (name: String).
pub fn projects() -> Range {
    subtree(system(System::Project, ()))
}

/// Counts how often a quarantine was to end, in any project.
pub fn quarantine_resumes() -> Key {
    system(System::QuarantineResumes, ())
}

/// The part of an outbox key before its stamp.
pub fn outbox_prefix() -> Key {
    system(System::Outbox, ())
}

/// All events, oldest first.
pub fn outbox() -> Range {
    Range::prefix(outbox_prefix())
}

/// Stage of the sweep of idle producers: a producer with only a mark is kept for an hour, a
/// producer with a dictionary for a month. The mark of a producer with an id of its own stays with
/// the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SweepStage {
    Mark = 0,
    Dictionary = 1,
    OwnDictionary = 2,
}

pub fn idle_producer(
    stage: SweepStage,
    seen_us: i64,
    project: Project,
    id: &RunId,
    producer: ProducerId,
) -> Key {
    let producer = TupleBytes::from(&producer.0[..]);
    system(System::IdleProducer, (stage as u16, seen_us, project.0, id.as_str(), producer))
}

/// Producers last seen before `before_us`, longest idle first; decode the tail with
/// `decode_idle_producer`.
pub fn idle_producers(stage: SweepStage, before_us: i64) -> Range {
    let start = system(System::IdleProducer, (stage as u16,));
    Range::new(start, system(System::IdleProducer, (stage as u16, before_us)))
}

pub fn decode_idle_producer(range: &Range, key: &Key) -> Result<(i64, Project, RunId, ProducerId)> {
    let (seen_us, project, id, producer): (i64, u32, String, TupleBytes<'_>) = tail(&range.start, key)?;
    let producer = producer.as_ref().try_into().map_err(|_| corrupt(key))?;
    Ok((seen_us, Project(project), RunId::new(id), ProducerId(producer)))
}
