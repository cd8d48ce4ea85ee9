//! `matyan restore`: puts an archive back into a running server. The archive is checked whole before anything is sent; a run is
//! seen only when all of it is there; whatever was cut off goes on where it was.

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
use matyan_proto::{
    backup::v1::{
        BeginRunRequest, Blob, Cut, Entity, FinishRunRequest, RestoreProjectRequest, RestoreProjectResponse,
        RunState, WriteBlobRequest, WriteRunRequest, backup_service_client::BackupServiceClient,
        entity::Kind, note::Owner,
    },
    limits,
};
use serde_json::json;
use tonic::{Code, Status, transport::Channel};

use super::{
    Error,
    archive::{
        self,
        reader::{Archive, Run, Step},
    },
    client, connect,
    flags::RestoreFlags,
    output::Output,
    progress::Progress,
};

type Client = BackupServiceClient<Channel>;

/// Entities of one call.
const ENTITIES: usize = 1_000;

/// What came of it.
#[derive(Debug, Default)]
struct Told {
    restored: u64,
    /// Were restored from this very archive before.
    again: u64,
    kept: Vec<String>,
    entities_made: u64,
    entities_kept: u64,
    tombstones: u64,
    notes_lost: u64,
    links_lost: u64,
    blobs: u64,
    objects_lost: u64,
    cut: Option<(bool, u64)>,
}

pub(super) async fn run(flags: RestoreFlags, out: &mut Output) -> Result<(), Error> {
    let mut archive = Archive::open(&flags.path)?;
    let checking = Progress::new(0, "files", out.json);
    archive.check(flags.dry_run, |checked| checking.at(checked.files, checked.of))?;
    checking.finish();
    let mut client = client!(BackupServiceClient, connect(&flags.client.server).await?)
        .max_encoding_message_size(limits::MESSAGE_BYTES);
    let mut restore =
        Restore { archive: &archive, flags: &flags, client: &mut client, told: Told::default() };
    let cut = archive.cut()?;
    let notes = restore.project(cut.as_ref()).await?;
    let progress = Progress::new(archive.runs.len() as u64, "runs", out.json);
    for folder in &archive.runs {
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
        let (taken, lost) = told.cut.unwrap_or_default();
        return out.object(&json!({
            "dry_run": flags.dry_run,
            "runs_restored": told.restored,
            "runs_restored_before": told.again,
            "runs_kept": told.kept,
            "entities_made": told.entities_made,
            "entities_kept": told.entities_kept,
            "tombstones": told.tombstones,
            "blobs": told.blobs,
            "objects_lost": told.objects_lost,
            "links_lost": told.links_lost,
            "notes_lost": told.notes_lost,
            "log_positions_taken": taken,
            "log_records_lost": lost,
        }));
    }
    let (would, restored, again) = (if flags.dry_run { "would be " } else { "" }, told.restored, told.again);
    out.line(format!("{restored} runs {would}restored with {} blobs, {again} were before", told.blobs))?;
    let (made, kept) = (told.entities_made, told.entities_kept);
    out.line(format!("{made} entities {would}made, {kept} were there"))?;
    if !told.kept.is_empty() {
        out.line(format!(
            "{} runs live here and {would}left as they are: {}",
            told.kept.len(),
            told.kept.join(" ")
        ))?;
    }
    if told.links_lost + told.notes_lost > 0 {
        let (links, notes) = (told.links_lost, told.notes_lost);
        out.line(format!("{links} links and {notes} notes lead to what is neither here nor in the archive"))?;
    }
    if told.objects_lost > 0 {
        out.line(format!(
            "{} steps of images and the like have no object in the archive",
            told.objects_lost
        ))?;
    }
    match told.cut {
        Some((true, 0)) => out.line("the log goes on where the backup was cut"),
        Some((true, lost)) => out
            .line(format!("the log goes on behind the backup, but {lost} records between are gone from it")),
        Some((false, _)) | None => Ok(()),
    }
}

struct Restore<'a> {
    archive: &'a Archive,
    flags: &'a RestoreFlags,
    client: &'a mut Client,
    told: Told,
}

impl Restore<'_> {
    /// Everything that runs refer to. Answers with what refers to runs.
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
        // The positions first: from then on no worker begins before them.
        let settings = self.archive.settings()?.filter(|_| !self.flags.skip_entities);
        let first = RestoreProjectRequest { settings, cut: cut.cloned(), ..Default::default() };
        let answer = self.send(first).await?;
        self.told.cut = cut.map(|_| (answer.cut_taken, answer.records_lost));
        for tombstones in self.archive.tombstones()?.chunks(ENTITIES) {
            let (tombstones, cut) = (tombstones.to_vec(), cut.cloned());
            self.send(RestoreProjectRequest { tombstones, cut, ..Default::default() }).await?;
        }
        if self.flags.skip_entities {
            return Ok(Vec::new());
        }
        for entities in others.chunks(ENTITIES) {
            self.send(RestoreProjectRequest { entities: entities.to_vec(), ..Default::default() }).await?;
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

    /// One by one: the run of a note may be neither here nor in the archive.
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
        let source: bytes::Bytes = self.archive.source(folder, with_blobs).to_vec().into();
        let head = self.archive.run(folder, false, 0)?.head;
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
            RunState::Open | RunState::Unspecified if self.flags.dry_run => self.told.restored += 1,
            RunState::Open | RunState::Unspecified => {
                let run = self.archive.run(folder, with_blobs, begun.position)?;
                let target = Target { run_id: head.run_id.clone(), source: source.clone() };
                self.content(run, &target, progress).await?;
                let (run_id, cut) = (head.run_id.clone(), cut.cloned());
                let finish = FinishRunRequest { run_id, source, head: Some(head), cut };
                match self.client.finish_run(finish).await {
                    Ok(answer) => {
                        self.told.links_lost += u64::from(answer.into_inner().links_lost);
                        self.told.restored += 1;
                    }
                    // It was made while this one was on its way.
                    Err(status) if status.code() == Code::AlreadyExists => self.told.kept.push(target.run_id),
                    Err(status) => return Err(status.into()),
                }
            }
        }
        Ok(())
    }

    async fn content(&mut self, run: Run, target: &Target, progress: &Progress) -> Result<(), Error> {
        let mut run = run;
        let mut next = run.next_step()?;
        while let Some(Step::Blob { blob, file, position }) = next {
            progress.bytes(blob.size);
            self.blob(target, blob, &file, position).await?;
            self.told.blobs += 1;
            next = run.next_step()?;
        }
        let Some(Step::Pieces { pieces, position }) = next else {
            self.told.objects_lost += run.objects_lost;
            return Ok(());
        };
        let (run_id, source) = (target.run_id.clone(), target.source.clone());
        let first = WriteRunRequest { run_id, source, pieces, position };
        let ended = Arc::new(Ended::default());
        let sent = self.client.write_run(stream::iter([first]).chain(steps(run, ended.clone()))).await;
        self.told.objects_lost += ended.objects_lost.load(Ordering::Relaxed);
        // What is wrong with the archive tells more than what the server made of the cut stream.
        match ended.error() {
            Some(error) => Err(Error::Archive(error)),
            None => sent.map(|_| ()).map_err(Error::from),
        }
    }

    async fn blob(&mut self, target: &Target, blob: Blob, file: &Path, position: u64) -> Result<(), Error> {
        let opened = File::open(file);
        let opened = opened.map_err(|source| archive::Error::File { path: file.to_owned(), source })?;
        let (run_id, source) = (target.run_id.clone(), target.source.clone());
        let first = WriteBlobRequest { run_id, source, blob: Some(blob), position, ..Default::default() };
        // A file that cannot be read any more ends early, and the server keeps nothing of it.
        let chunks = std::iter::from_fn({
            let mut opened = opened;
            move || {
                let mut chunk = vec![0; limits::CHUNK_BYTES / 4];
                let read = opened.read(&mut chunk).ok().filter(|read| *read > 0)?;
                chunk.truncate(read);
                Some(WriteBlobRequest { chunk: chunk.into(), ..Default::default() })
            }
        });
        self.client.write_blob(stream::iter(std::iter::once(first).chain(chunks))).await?;
        Ok(())
    }
}

/// The run that is written.
struct Target {
    run_id: String,
    source: bytes::Bytes,
}

/// How the reading of a run ended, as whoever sends it learns.
#[derive(Default)]
struct Ended {
    error: Mutex<Option<archive::Error>>,
    objects_lost: AtomicU64,
}

impl Ended {
    fn error(&self) -> Option<archive::Error> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What is left of a run, as messages; an error ends them.
fn steps(mut run: Run, ended: Arc<Ended>) -> impl futures::Stream<Item = WriteRunRequest> + Send + 'static {
    stream::iter(std::iter::from_fn(move || {
        let step = run.next_step();
        ended.objects_lost.store(run.objects_lost, Ordering::Relaxed);
        match step {
            Ok(Some(Step::Pieces { pieces, position })) => {
                Some(WriteRunRequest { pieces, position, ..Default::default() })
            }
            Ok(Some(Step::Blob { .. }) | None) => None,
            Err(error) => {
                *ended.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                None
            }
        }
    }))
}

/// Notes name experiments by their ids alone; those may have another id where they come to.
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

fn now_us() -> i64 {
    let now = time::OffsetDateTime::from(std::time::SystemTime::now());
    i64::try_from(now.unix_timestamp_nanos() / 1_000).unwrap_or_default()
}
