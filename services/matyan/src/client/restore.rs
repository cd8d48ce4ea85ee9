//! `matyan restore`: restores an archive to a running server. The whole archive is checked
//! before anything is sent; a run becomes visible only when it is complete; an interrupted
//! restore resumes where it stopped.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{StreamExt, stream};
use matyan_archive::reader::{ArchiveReader, RunReader, RunStep};
use matyan_proto::{
    backup::v1::{
        BeginRunRequest, Blob, Cut, Entity, FinishRunRequest, RestoreProjectRequest, RestoreProjectResponse,
        RunHead, RunState, WriteBlobRequest, WriteRunRequest, backup_service_client::BackupServiceClient,
        entity::Kind, note::Owner,
    },
    limits,
};
use prost::Message;
use serde_json::json;
use tonic::{Code, Status, transport::Channel};

use super::{Error, Failure, client, connect, flags::RestoreFlags, output::Output, progress::Progress};

type Client = BackupServiceClient<Channel>;

/// Limits of one call, in entities and bytes: far below the message size limit.
const CALL_ENTITIES: usize = 1_000;
const CALL_BYTES: usize = 4 << 20;

/// Counts of what was restored.
#[derive(Debug, Default)]
struct Told {
    restored: u64,
    /// Runs already restored from the same archive.
    again: u64,
    kept: Vec<String>,
    entities_made: u64,
    entities_kept: u64,
    tombstones: u64,
    notes_lost: u64,
    links_lost: u64,
    blobs: u64,
    /// Blobs that were already missing when the backup was made.
    blobs_lost: u64,
    objects_lost: u64,
    positions: Option<Positions>,
}

/// How the server took the log positions of the archive.
#[derive(Clone, Copy, Debug, Default)]
struct Positions {
    taken: bool,
    records_lost: u64,
    /// The archive holds only some of the runs.
    filtered: bool,
}

pub(super) async fn run(flags: RestoreFlags, out: &mut Output) -> Result<(), Error> {
    let mut archive = ArchiveReader::open(&flags.path)?;
    let checking = Progress::new(0, "files", out.json);
    archive.check(flags.dry_run, |checked| checking.at(checked.files, checked.total))?;
    checking.finish();
    let mut client = client!(BackupServiceClient, connect(&flags.client.server).await?)
        .max_encoding_message_size(limits::MESSAGE_BYTES);
    let told = Told { blobs_lost: archive.blobs_lost()?, ..Told::default() };
    let mut restore = Restore { archive: &archive, flags: &flags, client: &mut client, told };
    let (cut, runs) = (archive.cut()?, archive.parents_first()?);
    let notes = restore.project(cut.as_ref()).await?;
    let progress = Progress::new(runs.len() as u64, "runs", out.json);
    for folder in &runs {
        Box::pin(restore.run(folder, cut.as_ref(), &progress)).await?;
        progress.one();
    }
    restore.notes(notes).await?;
    progress.finish();
    let told = restore.told;
    Ok(tell(out, &flags, &told)?)
}

fn tell(out: &mut Output, flags: &RestoreFlags, told: &Told) -> std::io::Result<()> {
    if out.json {
        let positions = told.positions.unwrap_or_default();
        return out.object(&json!({
            "dry_run": flags.dry_run,
            "runs_restored": told.restored,
            "runs_restored_before": told.again,
            "runs_kept": told.kept,
            "entities_made": told.entities_made,
            "entities_kept": told.entities_kept,
            "tombstones": told.tombstones,
            "blobs": told.blobs,
            "blobs_lost": told.blobs_lost,
            "objects_lost": told.objects_lost,
            "links_lost": told.links_lost,
            "notes_lost": told.notes_lost,
            "log_positions_taken": positions.taken,
            "log_records_lost": positions.records_lost,
        }));
    }
    let (would, restored, again) = (if flags.dry_run { "would be " } else { "" }, told.restored, told.again);
    out.line(format!(
        "{restored} runs {would}restored with {} blobs; {again} had been restored before",
        told.blobs
    ))?;
    let (made, kept) = (told.entities_made, told.entities_kept);
    out.line(format!("{made} entities {would}created; {kept} already exist"))?;
    if !told.kept.is_empty() {
        out.line(format!(
            "{} runs already exist and {would}left unchanged: {}",
            told.kept.len(),
            told.kept.join(" ")
        ))?;
    }
    if told.links_lost + told.notes_lost > 0 {
        let (links, notes) = (told.links_lost, told.notes_lost);
        out.line(format!("{links} links and {notes} notes refer to runs or entities that exist neither here nor in the archive"))?;
    }
    if told.blobs_lost > 0 {
        out.line(format!(
            "{} blobs were missing when the backup was made: see runs/*/lost.jsonl",
            told.blobs_lost
        ))?;
    }
    if told.objects_lost > 0 {
        out.line(format!(
            "{} steps of images and other objects have no object in the archive",
            told.objects_lost
        ))?;
    }
    match told.positions.filter(|positions| positions.taken) {
        Some(positions) => out.line(log_goes_on(positions)),
        None => Ok(()),
    }
}

fn log_goes_on(positions: Positions) -> String {
    let goes_on = match positions.filtered {
        true => {
            "workers read the log from its start, and skip records that the archive already has for its runs"
        }
        false => "the log continues from the backup position",
    };
    match positions.records_lost {
        0 => goes_on.to_owned(),
        lost => format!("{goes_on}; {lost} records after it have been deleted from the log"),
    }
}

struct Restore<'a> {
    archive: &'a ArchiveReader,
    flags: &'a RestoreFlags,
    client: &'a mut Client,
    told: Told,
}

impl Restore<'_> {
    /// Restores everything that runs refer to. Returns the notes, which refer to runs.
    async fn project(&mut self, cut: Option<&Cut>) -> Result<Vec<Entity>, Error> {
        let mut entities = self.archive.entities(now_us())?;
        name_experiments(&mut entities);
        let (notes, others): (Vec<_>, Vec<_>) =
            entities.into_iter().partition(|entity| matches!(entity.kind, Some(Kind::Note(_))));
        if self.flags.dry_run {
            self.told.entities_made +=
                if self.flags.skip_entities { 0 } else { (others.len() + notes.len()) as u64 };
            return Ok(Vec::new());
        }
        // Positions go first: from then on no worker starts before them.
        let settings = self.archive.settings()?.filter(|_| !self.flags.skip_entities);
        let first = RestoreProjectRequest { settings, cut: cut.cloned(), ..Default::default() };
        let answer = self.send(first).await?;
        self.told.positions = cut.map(|cut| Positions {
            taken: answer.cut_taken,
            records_lost: answer.records_lost,
            filtered: cut.filtered,
        });
        for tombstones in in_calls(self.archive.tombstones()?) {
            let cut = cut.cloned();
            self.send(RestoreProjectRequest { tombstones, cut, ..Default::default() }).await?;
        }
        if self.flags.skip_entities {
            return Ok(Vec::new());
        }
        for entities in in_calls(others) {
            self.send(RestoreProjectRequest { entities, ..Default::default() }).await?;
        }
        Ok(notes)
    }

    async fn send(&mut self, request: RestoreProjectRequest) -> Result<RestoreProjectResponse, Status> {
        let answer = self.client.restore_project(request).await?.into_inner();
        self.told.entities_made += u64::from(answer.entities_made);
        self.told.entities_kept += u64::from(answer.entities_kept);
        self.told.tombstones += u64::from(answer.tombstones_made);
        Ok(answer)
    }

    /// Restores notes one by one, as the run of a note may exist neither here nor in the
    /// archive.
    async fn notes(&mut self, notes: Vec<Entity>) -> Result<(), Error> {
        for note in notes {
            match self.send(RestoreProjectRequest { entities: vec![note], ..Default::default() }).await {
                Ok(_) => {}
                Err(status) if status.code() == Code::NotFound => self.told.notes_lost += 1,
                Err(status) => return Err(status.into()),
            }
        }
        Ok(())
    }

    async fn run(&mut self, folder: &str, cut: Option<&Cut>, progress: &Progress) -> Result<(), Error> {
        let with_blobs = !self.flags.skip_blobs;
        let source: bytes::Bytes = self.archive.content_id(folder, with_blobs).to_vec().into();
        let head = self.archive.open_run(folder, false, 0)?.head;
        let begun = self.client.begin_run(BeginRunRequest {
            run_id: head.run_id.clone(),
            source: source.clone(),
            created_us: head.created_us,
            dry_run: self.flags.dry_run,
        });
        let begun = begun.await?.into_inner();
        match begun.state() {
            RunState::Restored => self.told.again += 1,
            RunState::Live => self.told.kept.push(head.run_id),
            RunState::Open | RunState::Unspecified if self.flags.dry_run => {
                self.told.restored += 1;
                self.told.blobs += self.archive.open_run(folder, with_blobs, begun.position)?.blobs();
            }
            RunState::Open | RunState::Unspecified => {
                let run = self.archive.open_run(folder, with_blobs, begun.position)?;
                let run_id = head.run_id.clone();
                match self.whole(run, (head, source, cut.cloned()), progress).await {
                    Ok(()) => self.told.restored += 1,
                    // The run was created here while it was being restored.
                    Err(Failure::Server(status)) if status.code() == Code::AlreadyExists => {
                        self.told.kept.push(run_id);
                    }
                    Err(failure) => return Err(failure.into()),
                }
            }
        }
        Ok(())
    }

    async fn whole(
        &mut self,
        run: RunReader,
        (head, source, cut): (RunHead, bytes::Bytes, Option<Cut>),
        progress: &Progress,
    ) -> Result<(), Failure> {
        let target = Target { run_id: head.run_id.clone(), source: source.clone() };
        self.content(run, &target, progress).await?;
        let finish = FinishRunRequest { run_id: target.run_id, source, head: Some(head), cut };
        let answer = self.client.finish_run(finish).await?.into_inner();
        self.told.links_lost += u64::from(answer.links_lost);
        Ok(())
    }

    async fn content(&mut self, run: RunReader, target: &Target, progress: &Progress) -> Result<(), Failure> {
        let mut run = run;
        let mut next = run.next_step()?;
        while let Some(RunStep::Blob { blob, file, position }) = next {
            progress.bytes(blob.size);
            self.blob(target, blob, &file, position).await?;
            self.told.blobs += 1;
            next = run.next_step()?;
        }
        let Some(RunStep::Pieces { pieces, position }) = next else {
            self.told.objects_lost += run.objects_lost;
            return Ok(());
        };
        let (run_id, source) = (target.run_id.clone(), target.source.clone());
        let first = WriteRunRequest { run_id, source, pieces, position };
        let ended = Arc::new(Ended::default());
        let sent = self.client.write_run(stream::iter([first]).chain(steps(run, ended.clone()))).await;
        self.told.objects_lost += ended.objects_lost.load(Ordering::Relaxed);
        ended.result(sent)
    }

    async fn blob(&mut self, target: &Target, blob: Blob, file: &Path, position: u64) -> Result<(), Failure> {
        let failed = |source| matyan_archive::Error::File { path: file.to_owned(), source };
        let mut opened = File::open(file).map_err(failed)?;
        let (run_id, source) = (target.run_id.clone(), target.source.clone());
        let first = WriteBlobRequest { run_id, source, blob: Some(blob), position, ..Default::default() };
        // If the file becomes unreadable the stream ends early, and the server discards
        // the blob.
        let (ended, path) = (Arc::new(Ended::default()), file.to_owned());
        let chunks = std::iter::from_fn({
            let ended = ended.clone();
            move || {
                let mut chunk = vec![0; limits::CHUNK_BYTES / 4];
                match opened.read(&mut chunk) {
                    Ok(0) => return None,
                    Ok(read) => chunk.truncate(read),
                    Err(source) => {
                        ended.fail(matyan_archive::Error::File { path: path.clone(), source });
                        return None;
                    }
                }
                Some(WriteBlobRequest { chunk: chunk.into(), ..Default::default() })
            }
        });
        let sent = self.client.write_blob(stream::iter(std::iter::once(first).chain(chunks))).await;
        ended.result(sent)
    }
}

/// The run that is being restored.
struct Target {
    run_id: String,
    source: bytes::Bytes,
}

/// The outcome of reading a run or blob from the archive, shared between the stream that reads
/// and the call that sends.
#[derive(Default)]
struct Ended {
    error: Mutex<Option<matyan_archive::Error>>,
    objects_lost: AtomicU64,
}

impl Ended {
    fn fail(&self, error: matyan_archive::Error) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// The result of a call. An error in the archive takes precedence over the status that
    /// the truncated stream caused.
    fn result<A>(&self, sent: Result<A, Status>) -> Result<(), Failure> {
        match self.error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error.into()),
            None => Ok(sent.map(drop)?),
        }
    }
}

/// The remaining pieces of a run, as messages. An error ends the stream.
fn steps(
    mut run: RunReader,
    ended: Arc<Ended>,
) -> impl futures::Stream<Item = WriteRunRequest> + Send + 'static {
    stream::iter(std::iter::from_fn(move || {
        let step = run.next_step();
        ended.objects_lost.store(run.objects_lost, Ordering::Relaxed);
        match step {
            Ok(Some(RunStep::Pieces { pieces, position })) => {
                Some(WriteRunRequest { pieces, position, ..Default::default() })
            }
            Ok(Some(RunStep::Blob { .. }) | None) => None,
            Err(error) => {
                ended.fail(error);
                None
            }
        }
    }))
}

/// Fills in the names of experiments in notes, which have only their ids: an experiment may get
/// another id where it is restored.
fn name_experiments(entities: &mut [Entity]) {
    let names: HashMap<String, String> = entities
        .iter()
        .filter_map(|entity| match &entity.kind {
            Some(Kind::Experiment(experiment)) => Some((entity.id.clone(), experiment.name.clone())),
            _ => None,
        })
        .collect();
    for entity in entities {
        if let Some(Kind::Note(note)) = &mut entity.kind
            && let Some(Owner::Experiment(link)) = &mut note.owner
            && let Some(name) = names.get(&link.id)
        {
            link.name.clone_from(name);
        }
    }
}

/// Splits messages into calls within the limits, with at least one message each.
fn in_calls<M: Message>(messages: Vec<M>) -> Vec<Vec<M>> {
    let (mut calls, mut bytes): (Vec<Vec<M>>, _) = (Vec::new(), 0);
    for message in messages {
        let own = message.encoded_len();
        match calls.last_mut() {
            Some(call) if call.len() < CALL_ENTITIES && bytes + own <= CALL_BYTES => {
                call.push(message);
                bytes += own;
            }
            _ => {
                calls.push(vec![message]);
                bytes = own;
            }
        }
    }
    calls
}

fn now_us() -> i64 {
    let now = time::OffsetDateTime::from(std::time::SystemTime::now());
    i64::try_from(now.unix_timestamp_nanos() / 1_000).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of the calls for `count` entities of `bytes` bytes.
    fn calls(count: usize, bytes: usize) -> Vec<usize> {
        let entity = Entity { id: "x".repeat(bytes), ..Entity::default() };
        in_calls(vec![entity; count]).iter().map(Vec::len).collect()
    }

    #[test]
    fn calls_respect_the_size_limits() {
        assert!(calls(0, 1).is_empty());
        assert_eq!(calls(2_500, 1), [1_000, 1_000, 500]);
        assert_eq!(calls(10, 1 << 20), [3, 3, 3, 1], "encoding overhead counts");
        assert_eq!(calls(2, CALL_BYTES + 1), [1, 1]);
    }

    #[test]
    fn an_archive_of_some_runs_does_not_move_log_positions() {
        let told = |filtered, records_lost| log_goes_on(Positions { taken: true, records_lost, filtered });
        assert_eq!(told(false, 0), "the log continues from the backup position");
        assert!(told(true, 0).contains("read the log from its start"));
        assert!(told(false, 7).ends_with("; 7 records after it have been deleted from the log"));
    }
}
