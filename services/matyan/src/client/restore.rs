//! `matyan restore`: restores an archive to a running server. The whole archive is checked
//! before anything is sent; a run becomes visible only when it is complete; an interrupted
//! restore resumes where it stopped.

use std::{
    collections::HashMap,
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use clap::Args;
use futures::{StreamExt, stream};
use matyan_archive::reader::{ArchiveReader, RunReader, RunStep};
use matyan_proto::{
    backup::v1::{
        BeginRunRequest, Blob, Cut, Entity, FinishRunRequest, RestoreProjectRequest, RestoreProjectResponse,
        RunHead, RunState, WriteBlobRequest, WriteRunRequest, backup_service_client::BackupServiceClient,
        entity::Kind, note::Owner,
    },
    limits,
    runs::v1::{GetRequest, RunParts, run_service_client::RunServiceClient},
};
use parking_lot::Mutex;
use prost::Message;
use serde_json::json;
use tonic::{Code, Status};

use super::{
    Error, Failure, client,
    connection::Connection,
    flags::ClientFlags,
    output::{Output, now_us},
    progress::Progress,
};

type Client = BackupServiceClient<Connection>;

/// Limits of one call, in entities and bytes: far below the message size limit.
const CALL_ENTITIES: usize = 1_000;
const CALL_BYTES: usize = 4 << 20;

/// Counts of restored items.
#[derive(Debug, Default)]
struct RestoreSummary {
    restored: u64,
    /// Runs already restored from the same archive.
    restored_before: u64,
    kept: Vec<String>,
    /// The kept runs that were created at another time than the run in the archive, so that they are not
    /// the same run.
    recreated: Vec<String>,
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

/// The server's handling of the log positions of the archive.
#[derive(Clone, Copy, Debug, Default)]
struct Positions {
    taken: bool,
    records_lost: u64,
    /// The archive contains only some of the runs.
    filtered: bool,
}

const RESTORE_EXAMPLES: &str = "\
Examples:
  matyan restore /backups/matyan-backup-20260131-120000
  matyan restore matyan-backup-20260131-120000.tar.gz --dry-run

Existing data is left unchanged. An interrupted restore resumes when the same command is given again.";

#[derive(Debug, Args)]
#[command(after_help = RESTORE_EXAMPLES)]
pub(crate) struct RestoreFlags {
    /// Archive to restore: a directory or a `.tar.gz`
    path: PathBuf,
    /// Check the whole archive and show the result of restoring it, without changing anything
    #[arg(long)]
    dry_run: bool,
    /// Omit experiments, tags, dashboards, reports, notes and studies; runs keep their links to
    /// existing entities
    #[arg(long)]
    skip_entities: bool,
    /// Omit the contents of artifacts, images and audio
    #[arg(long)]
    skip_blobs: bool,
    #[command(flatten)]
    client: ClientFlags,
}

pub(super) async fn run(flags: RestoreFlags) -> Result<(), Error> {
    let out = &mut Output::new(flags.client.connection.json);
    let mut archive = ArchiveReader::open(&flags.path)?;
    let checking = Progress::new(0, "files", out.json);
    archive.check(flags.dry_run, |checked| checking.set(checked.files, checked.total))?;
    checking.finish();
    let connection = flags.client.connect().await?;
    let runs = client!(RunServiceClient, connection.clone());
    let mut client =
        client!(BackupServiceClient, connection).max_encoding_message_size(limits::MESSAGE_BYTES);
    let summary = RestoreSummary { blobs_lost: archive.blobs_lost()?, ..RestoreSummary::default() };
    let mut restore = RestoreSession { archive: &archive, flags: &flags, client: &mut client, runs, summary };
    let cut = archive.cut()?;
    let runs = archive.parents_first()?;
    let notes = restore.project(cut.as_ref()).await?;
    let progress = Progress::new(runs.len() as u64, "runs", out.json);
    for folder in &runs {
        Box::pin(restore.run(folder, cut.as_ref(), &progress)).await?;
        progress.increment();
    }
    restore.notes(notes).await?;
    restore.studies().await?;
    progress.finish();
    let summary = restore.summary;
    print_summary(out, &flags, &summary)?;
    if summary.recreated.is_empty() {
        return Ok(());
    }
    Err(Error::RunsNotRestored { runs: summary.recreated })
}

fn print_summary(out: &mut Output, flags: &RestoreFlags, summary: &RestoreSummary) -> std::io::Result<()> {
    if out.json {
        let positions = summary.positions.unwrap_or_default();
        return out.object(&json!({
            "dry_run": flags.dry_run,
            "runs_restored": summary.restored,
            "runs_restored_before": summary.restored_before,
            "runs_kept": summary.kept,
            "runs_recreated": summary.recreated,
            "entities_made": summary.entities_made,
            "entities_kept": summary.entities_kept,
            "tombstones": summary.tombstones,
            "blobs": summary.blobs,
            "blobs_lost": summary.blobs_lost,
            "objects_lost": summary.objects_lost,
            "links_lost": summary.links_lost,
            "notes_lost": summary.notes_lost,
            "log_positions_taken": positions.taken,
            "log_records_lost": positions.records_lost,
        }));
    }
    out.line(format!(
        "{} runs {}restored with {} blobs; {} had been restored before",
        summary.restored,
        if flags.dry_run { "would be " } else { "" },
        summary.blobs,
        summary.restored_before
    ))?;
    let made = summary.entities_made;
    if flags.dry_run {
        // Only the server knows which entities it has.
        out.line(format!("{made} entities would be created, except those that already exist"))?;
    } else {
        out.line(format!("{made} entities created; {} already exist", summary.entities_kept))?;
    }
    if !summary.kept.is_empty() {
        out.line(format!(
            "{} runs already exist and {} left unchanged: {}",
            summary.kept.len(),
            if flags.dry_run { "would be" } else { "were" },
            summary.kept.join(" ")
        ))?;
    }
    if summary.links_lost + summary.notes_lost > 0 {
        out.line(format!(
            "{} links and {} notes refer to runs or entities that exist neither here nor in the archive",
            summary.links_lost, summary.notes_lost
        ))?;
    }
    if summary.blobs_lost > 0 {
        out.line(format!(
            "{} blobs were missing when the backup was made: see runs/*/lost.jsonl",
            summary.blobs_lost
        ))?;
    }
    if summary.objects_lost > 0 {
        out.line(format!(
            "{} steps of images and other objects have no object in the archive",
            summary.objects_lost
        ))?;
    }
    match summary.positions.filter(|positions| positions.taken) {
        Some(positions) => out.line(log_position_message(positions)),
        None => Ok(()),
    }
}

fn log_position_message(positions: Positions) -> String {
    let message = if positions.filtered {
        "workers read the log from its start, and skip records that the archive already has for its runs"
    } else {
        "the log continues from the backup position"
    };
    match positions.records_lost {
        0 => message.to_owned(),
        lost => format!("{message}; {lost} records after it have been deleted from the log"),
    }
}

struct RestoreSession<'a> {
    archive: &'a ArchiveReader,
    flags: &'a RestoreFlags,
    client: &'a mut Client,
    runs: RunServiceClient<Connection>,
    summary: RestoreSummary,
}

impl RestoreSession<'_> {
    /// Restores everything that runs refer to. Returns the notes, which refer to runs.
    async fn project(&mut self, cut: Option<&Cut>) -> Result<Vec<Entity>, Error> {
        let mut entities = self.archive.entities(now_us())?;
        name_experiments(&mut entities);
        let (notes, others): (Vec<_>, Vec<_>) =
            entities.into_iter().partition(|entity| matches!(entity.kind, Some(Kind::Note(_))));
        if self.flags.dry_run {
            self.summary.entities_made +=
                if self.flags.skip_entities { 0 } else { (others.len() + notes.len()) as u64 };
            return Ok(Vec::new());
        }
        // Positions are restored first: from then on, no worker starts before them.
        let settings = self.archive.settings()?.filter(|_| !self.flags.skip_entities);
        let first = RestoreProjectRequest { settings, cut: cut.cloned(), ..Default::default() };
        let answer = self.send(first).await?;
        self.summary.positions = cut.map(|cut| Positions {
            taken: answer.cut_taken,
            records_lost: answer.records_lost,
            filtered: cut.filtered,
        });
        for tombstones in split_into_calls(self.archive.tombstones()?) {
            let cut = cut.cloned();
            self.send(RestoreProjectRequest { tombstones, cut, ..Default::default() }).await?;
        }
        if self.flags.skip_entities {
            return Ok(Vec::new());
        }
        for entities in split_into_calls(others) {
            self.send(RestoreProjectRequest { entities, ..Default::default() }).await?;
        }
        Ok(notes)
    }

    async fn send(&mut self, request: RestoreProjectRequest) -> Result<RestoreProjectResponse, Status> {
        let answer = self.client.restore_project(request).await?.into_inner();
        self.summary.entities_made += u64::from(answer.entities_made);
        self.summary.entities_kept += u64::from(answer.entities_kept);
        self.summary.tombstones += u64::from(answer.tombstones_made);
        Ok(answer)
    }

    /// Restores notes one by one, because the run of a note may exist neither here nor in
    /// the archive.
    async fn notes(&mut self, notes: Vec<Entity>) -> Result<(), Error> {
        for note in notes {
            match self.send(RestoreProjectRequest { entities: vec![note], ..Default::default() }).await {
                Ok(_) => {}
                Err(status) if status.code() == Code::NotFound => self.summary.notes_lost += 1,
                Err(status) => return Err(status.into()),
            }
        }
        Ok(())
    }

    /// Restores studies after the runs of their trials, a bounded number of parts at a time.
    async fn studies(&mut self) -> Result<(), Error> {
        if self.flags.dry_run || self.flags.skip_entities {
            return Ok(());
        }
        let mut parts = self.archive.studies()?;
        let mut studies = Vec::new();
        let mut bytes = 0;
        while let Some(part) = parts.next_part()? {
            let size = part.encoded_len();
            if !studies.is_empty() && (studies.len() == CALL_ENTITIES || bytes + size > CALL_BYTES) {
                let studies = std::mem::take(&mut studies);
                self.send(RestoreProjectRequest { studies, ..Default::default() }).await?;
                bytes = 0;
            }
            bytes += size;
            studies.push(part);
        }
        if !studies.is_empty() {
            self.send(RestoreProjectRequest { studies, ..Default::default() }).await?;
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
            RunState::Restored => self.summary.restored_before += 1,
            // Existing runs are never overwritten.
            RunState::Live => self.keep(head.run_id, head.created_us).await?,
            RunState::Open | RunState::Unspecified if self.flags.dry_run => {
                self.summary.restored += 1;
                self.summary.blobs += self.archive.open_run(folder, with_blobs, begun.position)?.blobs();
            }
            RunState::Open | RunState::Unspecified => {
                let run = self.archive.open_run(folder, with_blobs, begun.position)?;
                let run_id = head.run_id.clone();
                let created_us = head.created_us;
                match self.write_run_and_finish(run, (head, source, cut.cloned()), progress).await {
                    Ok(()) => self.summary.restored += 1,
                    // The run was created here while it was being restored.
                    Err(Failure::Server(status)) if status.code() == Code::AlreadyExists => {
                        self.keep(run_id, created_us).await?;
                    }
                    Err(failure) => return Err(failure.into()),
                }
            }
        }
        Ok(())
    }

    /// Counts a run that exists on the server, and finds out whether it is the run of the archive. A
    /// worker that reads the rest of a log creates runs that have only the records in it.
    async fn keep(&mut self, run_id: String, created_us: i64) -> Result<(), Error> {
        let parts = RunParts { props: true, ..RunParts::default() };
        let request = GetRequest { run_id: run_id.clone(), parts: Some(parts) };
        match self.runs.get(request).await {
            Ok(found) => {
                let found = found.into_inner().run.and_then(|run| run.props).map(|props| props.created_us);
                if found != Some(created_us) {
                    self.summary.recreated.push(run_id.clone());
                }
            }
            // The run was deleted in this moment.
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => return Err(status.into()),
        }
        self.summary.kept.push(run_id);
        Ok(())
    }

    async fn write_run_and_finish(
        &mut self,
        run: RunReader,
        (head, source, cut): (RunHead, bytes::Bytes, Option<Cut>),
        progress: &Progress,
    ) -> Result<(), Failure> {
        let target = RunTarget { run_id: head.run_id.clone(), source: source.clone() };
        self.content(run, &target, progress).await?;
        let finish = FinishRunRequest { run_id: target.run_id, source, head: Some(head), cut };
        let answer = self.client.finish_run(finish).await?.into_inner();
        self.summary.links_lost += u64::from(answer.links_lost);
        Ok(())
    }

    async fn content(
        &mut self,
        run: RunReader,
        target: &RunTarget,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let mut run = run;
        let mut next = run.next_step()?;
        while let Some(RunStep::Blob { blob, file, position }) = next {
            progress.add_bytes(blob.size);
            self.blob(target, blob, &file, position).await?;
            self.summary.blobs += 1;
            next = run.next_step()?;
        }
        let Some(RunStep::Pieces { pieces, position }) = next else {
            self.summary.objects_lost += run.objects_lost;
            return Ok(());
        };
        let first = WriteRunRequest {
            run_id: target.run_id.clone(),
            source: target.source.clone(),
            pieces,
            position,
        };
        let ended = Arc::new(ReadOutcome::default());
        let sent = self.client.write_run(stream::iter([first]).chain(steps(run, ended.clone()))).await;
        self.summary.objects_lost += ended.objects_lost.load(Ordering::Relaxed);
        ended.result(sent)
    }

    async fn blob(
        &mut self,
        target: &RunTarget,
        blob: Blob,
        file: &Path,
        position: u64,
    ) -> Result<(), Failure> {
        let mut opened = self.archive.open_blob(file)?;
        let first = WriteBlobRequest {
            run_id: target.run_id.clone(),
            source: target.source.clone(),
            blob: Some(blob),
            position,
            ..WriteBlobRequest::default()
        };
        // If the file becomes unreadable the stream ends early, and the server discards
        // the blob.
        let ended = Arc::new(ReadOutcome::default());
        let path = file.to_owned();
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
struct RunTarget {
    run_id: String,
    source: bytes::Bytes,
}

/// The outcome of reading a run or blob from the archive, shared between the stream that reads
/// and the call that sends.
#[derive(Default)]
struct ReadOutcome {
    error: Mutex<Option<matyan_archive::Error>>,
    objects_lost: AtomicU64,
}

impl ReadOutcome {
    fn fail(&self, error: matyan_archive::Error) {
        *self.error.lock() = Some(error);
    }

    /// The result of a call. An error in the archive takes precedence over the status that
    /// the truncated stream caused.
    fn result<A>(&self, sent: Result<A, Status>) -> Result<(), Failure> {
        match self.error.lock().take() {
            Some(error) => Err(error.into()),
            None => Ok(sent.map(drop)?),
        }
    }
}

/// The messages with the remaining pieces of a run. An error ends the stream.
fn steps(
    mut run: RunReader,
    ended: Arc<ReadOutcome>,
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
/// a different id when it is restored.
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
fn split_into_calls<M: Message>(messages: Vec<M>) -> Vec<Vec<M>> {
    let mut calls: Vec<Vec<M>> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        let size = message.encoded_len();
        match calls.last_mut() {
            Some(call) if call.len() < CALL_ENTITIES && bytes + size <= CALL_BYTES => {
                call.push(message);
                bytes += size;
            }
            _ => {
                calls.push(vec![message]);
                bytes = size;
            }
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of the calls for `count` entities of `bytes` bytes.
    fn calls(count: usize, bytes: usize) -> Vec<usize> {
        let entity = Entity { id: "x".repeat(bytes), ..Entity::default() };
        split_into_calls(vec![entity; count]).iter().map(Vec::len).collect()
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
        let text =
            |filtered, records_lost| log_position_message(Positions { taken: true, records_lost, filtered });
        assert_eq!(text(false, 0), "the log continues from the backup position");
        assert!(text(true, 0).contains("read the log from its start"));
        assert!(text(false, 7).ends_with("; 7 records after it have been deleted from the log"));
    }
}
