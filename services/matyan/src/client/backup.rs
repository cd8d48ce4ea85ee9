//! `matyan backup`: reads a project from a running server into an archive. It proceeds run by
//! run, so that memory stays small and an interrupted backup can resume with the next run.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use matyan_archive::{
    pack,
    writer::{
        ArchiveContents, ArchiveWriter, BackupFilters, BackupOrigin, BlobFile, RunWriter, is_already_exists,
    },
};
use matyan_proto::backup::v1::{
    Blob, Entity, ListRunsRequest, ReadBlobRequest, ReadProjectRequest, ReadRunRequest, Settings, Tombstone,
    backup_service_client::BackupServiceClient, read_project_response::Content,
};
use serde_json::json;
use time::{OffsetDateTime, PrimitiveDateTime, format_description::well_known::Iso8601};
use tonic::{Code, Status};

use super::{
    Error, Failure, client, connection::Connection, flags::ClientFlags, output::Output, progress::Progress,
    run_ids,
};

type Client = BackupServiceClient<Connection>;

/// Blobs read concurrently: enough to hide the latency of a remote blob store.
const CONCURRENT_BLOBS: usize = 8;
/// Maximum attempts at reading a run: a run that receives data may have to be read several times.
const ATTEMPTS: usize = 5;

const BACKUP_EXAMPLES: &str = "\
Examples:
  matyan backup /backups                                     creates a directory matyan-backup-20260131-120000 in /backups
  matyan backup /backups --compress                          one file instead
  matyan backup . --runs 3fd1c0,77aa01 --no-blobs
  matyan backup . --experiment gpt --since 2026-01-01

An interrupted backup resumes when the same command is given again. The exit code is 3 if blobs that runs refer to are
missing from the blob store: everything else is in the archive, and the missing ones are listed in runs/*/lost.jsonl.";

#[derive(Debug, Args)]
#[command(after_help = BACKUP_EXAMPLES)]
pub(crate) struct BackupFlags {
    /// Directory in which the archive is created
    output: PathBuf,
    /// Only these runs, by their hashes or at least the first four characters of these
    #[arg(long, value_name = "RUN,RUN", value_delimiter = ',')]
    runs: Vec<String>,
    /// Only the runs of this experiment
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
    /// Only runs created at or after this date or time
    #[arg(long, value_name = "ISO")]
    since: Option<String>,
    /// Omit the contents of artifacts, images and audio
    #[arg(long)]
    no_blobs: bool,
    /// Pack the archive into one `.tar.gz`
    #[arg(long)]
    compress: bool,
    #[command(flatten)]
    client: ClientFlags,
}

pub(super) async fn run(flags: BackupFlags) -> Result<(), Error> {
    let out = &mut Output::new(flags.client.connection.json);
    let since_us = flags.since.as_deref().map(since).transpose()?;
    let channel = flags.client.connect().await?;
    let filters = BackupFilters {
        runs: run_ids::complete_all(&channel, flags.runs.clone()).await?,
        experiment: flags.experiment.clone(),
        since: flags.since.clone(),
        blobs: !flags.no_blobs,
    };
    let mut client = client!(BackupServiceClient, channel);
    let origin = read_origin(&mut client, &flags.client.connection.server).await?;
    // Before anything is created: a mistyped filter leaves nothing. A regular backup of new runs may
    // find none, and that is not a mistake.
    let runs = list_runs(&mut client, &filters, since_us).await?;
    let is_selected = !filters.runs.is_empty() || filters.experiment.is_some();
    if is_selected && runs.is_empty() {
        return Err(Error::Message(
            "no selected run matches, so no archive was written: `matyan runs ls` lists the runs".to_owned(),
        ));
    }
    let mut archive = match ArchiveWriter::resume(&flags.output, &filters, &origin)? {
        Some(archive) => archive,
        None => create(&flags.output, &filters, &origin)?,
    };
    let progress = Progress::new(runs.len() as u64, "runs", out.json);
    let mut skipped = 0_u64;
    for run_id in runs {
        if !archive.has_run(&run_id) {
            if Box::pin(read_run(&mut client, &archive, &run_id, &progress)).await? {
                archive.mark_run_done(&run_id);
            } else {
                skipped += 1;
            }
        }
        progress.increment();
    }
    let (settings, entities, tombstones) = read_project_state(&mut client, &archive).await?;
    let is_resumed = archive.is_resumed;
    let (root, contents) = archive.finish(&settings, &entities, &tombstones)?;
    progress.finish();
    let path =
        if flags.compress { pack(&root).map_err(|source| Error::Unpacked { root, source })? } else { root };
    print_summary(out, &path, &contents, skipped, is_resumed)?;
    // Lost blobs do not invalidate the archive, but the exit code must show them.
    match contents.lost {
        0 => Ok(()),
        lost => Err(Error::Incomplete { lost }),
    }
}

fn print_summary(
    out: &mut Output,
    path: &Path,
    contents: &ArchiveContents,
    skipped: u64,
    is_resumed: bool,
) -> std::io::Result<()> {
    if out.json {
        return out.object(&json!({
            "archive": path.to_string_lossy(),
            "runs": contents.runs,
            "runs_deleted_meanwhile": skipped,
            "entities": contents.entities,
            "blobs": contents.blobs,
            "blob_bytes": contents.blob_bytes,
            "blobs_lost": contents.lost,
            "blobs_lost_are_listed_in": contents.lost_in,
            "resumed": is_resumed,
        }));
    }
    let entities: u64 = contents.entities.values().sum();
    out.line(format!(
        "{}: {} runs, {entities} entities, {} blobs of {} bytes",
        path.display(),
        contents.runs,
        contents.blobs,
        contents.blob_bytes
    ))?;
    for list in &contents.lost_in {
        out.line(format!("{list} in {} lists lost blobs", path.display()))?;
    }
    if skipped > 0 {
        out.line(format!("{skipped} runs were deleted during the backup, and are not in it"))?;
    }
    Ok(())
}

/// Parses a date, or a date and a time, in UTC unless it has an offset.
fn since(text: &str) -> Result<i64, Error> {
    let moment = OffsetDateTime::parse(text, &Iso8601::DEFAULT)
        .or_else(|_| PrimitiveDateTime::parse(text, &Iso8601::DEFAULT).map(PrimitiveDateTime::assume_utc))
        .or_else(|_| time::Date::parse(text, &Iso8601::DEFAULT).map(|date| date.midnight().assume_utc()));
    let micros = moment.ok().and_then(|moment| i64::try_from(moment.unix_timestamp_nanos() / 1_000).ok());
    micros.ok_or_else(|| {
        Error::Message(format!(
            "invalid date `{text}`: use a date such as 2026-01-31 or 2026-01-31T12:00:00Z"
        ))
    })
}

/// The origin of the backup. The log positions come first, before any run is read.
async fn read_origin(client: &mut Client, server: &str) -> Result<BackupOrigin, Error> {
    let mut messages = client.read_project(ReadProjectRequest {}).await?.into_inner();
    let first = messages.message().await?.and_then(|message| message.content);
    let Some(Content::Cut(cut)) = first else {
        return Err(Error::Message(
            "the server sent no log positions: run `matyan status` to see its version".into(),
        ));
    };
    Ok(BackupOrigin { server: server.trim_end_matches('/').to_owned(), cut })
}

fn create(output: &Path, filters: &BackupFilters, origin: &BackupOrigin) -> Result<ArchiveWriter, Error> {
    let mut now = OffsetDateTime::from(std::time::SystemTime::now());
    loop {
        match ArchiveWriter::begin(output, filters, origin, now) {
            // Another backup started within this second: take the name of the next
            // second.
            Err(error) if is_already_exists(&error) => now += time::Duration::SECOND,
            made => return Ok(made?),
        }
    }
}

async fn list_runs(
    client: &mut Client,
    filters: &BackupFilters,
    since_us: Option<i64>,
) -> Result<Vec<String>, Error> {
    let experiment = filters.experiment.clone().unwrap_or_default();
    let request = ListRunsRequest { run_ids: filters.runs.clone(), experiment, since_us };
    let mut messages = client.list_runs(request).await?.into_inner();
    let mut runs = Vec::new();
    while let Some(message) = messages.message().await? {
        runs.extend(message.run_ids);
    }
    Ok(runs)
}

/// Reads a run into the archive. Returns false if the run has been deleted.
async fn read_run(
    client: &mut Client,
    archive: &ArchiveWriter,
    run_id: &str,
    progress: &Progress,
) -> Result<bool, Error> {
    for attempt in 1.. {
        match Box::pin(read_run_once(client, archive, run_id, progress)).await {
            Ok(()) => return Ok(true),
            Err(Failure::Server(status)) if status.code() == Code::NotFound => return Ok(false),
            // The run changed while it was read: start over.
            Err(Failure::Server(status)) if status.code() == Code::OutOfRange && attempt < ATTEMPTS => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    Ok(false)
}

async fn read_run_once(
    client: &mut Client,
    archive: &ArchiveWriter,
    run_id: &str,
    progress: &Progress,
) -> Result<(), Failure> {
    let request = ReadRunRequest { run_id: run_id.to_owned() };
    let mut messages = client.read_run(request).await?.into_inner();
    let head = messages.message().await?.and_then(|message| message.head);
    let head = head.ok_or_else(|| Status::internal("the server sent no head for a run"))?;
    let mut run = archive.begin_run(head)?;
    let mut blobs = Vec::new();
    while let Some(message) = messages.message().await? {
        progress.add_bytes(prost_len(&message));
        for piece in message.pieces {
            run.add(piece)?;
        }
        blobs.extend(message.blobs);
        for lost in &message.lost {
            run.record_lost_blob(lost);
        }
    }
    if archive.includes_blobs() {
        read_blobs(client, &mut run, run_id, blobs, progress).await?;
    }
    Ok(run.finish()?)
}

fn prost_len(message: &impl prost::Message) -> u64 {
    message.encoded_len() as u64
}

/// Reads blobs concurrently, and adds them in order.
async fn read_blobs(
    client: &Client,
    run: &mut RunWriter,
    run_id: &str,
    blobs: Vec<Blob>,
    progress: &Progress,
) -> Result<(), Failure> {
    let directory = run.folder();
    let paths: BTreeSet<String> = blobs.into_iter().map(|blob| blob.path).collect();
    let reads = paths.iter().map(|path| {
        let request = ReadBlobRequest { run_id: run_id.to_owned(), path: path.clone() };
        read_blob(client.clone(), request, (directory.as_path(), &paths), progress)
    });
    let mut done = std::pin::pin!(stream::iter(reads).buffered(CONCURRENT_BLOBS));
    while let Some(file) = done.try_next().await? {
        run.finish_blob(file)?;
    }
    Ok(())
}

async fn read_blob(
    mut client: Client,
    request: ReadBlobRequest,
    (directory, paths): (&Path, &BTreeSet<String>),
    progress: &Progress,
) -> Result<BlobFile, Failure> {
    let mut messages = client.read_blob(request).await.map_err(changed_while_read)?.into_inner();
    let first = messages.message().await?.and_then(|message| message.blob);
    let first = first.ok_or_else(|| Status::internal("the server sent a blob without a name"))?;
    let mut file = BlobFile::create(directory, first, paths)?;
    while let Some(message) = messages.message().await? {
        progress.add_bytes(message.chunk.len() as u64);
        file.write(&message.chunk)?;
    }
    Ok(file)
}

/// Maps a missing blob to `OUT_OF_RANGE`: the blob was listed, so it has been deleted or replaced
/// since then, and its run must be read a second time.
fn changed_while_read(status: Status) -> Status {
    match status.code() {
        Code::NotFound => Status::out_of_range(format!("changed while it was read: {}", status.message())),
        _ => status,
    }
}

/// Reads settings, entities and tombstones, and studies into the archive. This comes last, so that it includes
/// everything that runs refer to.
async fn read_project_state(
    client: &mut Client,
    archive: &ArchiveWriter,
) -> Result<(Settings, Vec<Entity>, Vec<Tombstone>), Error> {
    let mut messages = client.read_project(ReadProjectRequest {}).await?.into_inner();
    let mut settings = Settings::default();
    let mut entities = Vec::new();
    let mut tombstones = Vec::new();
    let mut studies = archive.begin_studies()?;
    while let Some(message) = messages.message().await? {
        match message.content {
            Some(Content::Settings(found)) => settings = found,
            Some(Content::Entity(entity)) => entities.push(entity),
            Some(Content::Tombstone(tombstone)) => tombstones.push(tombstone),
            Some(Content::Study(part)) => studies.add(&part)?,
            Some(Content::Cut(_)) | None => {}
        }
    }
    studies.finish()?;
    Ok((settings, entities, tombstones))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_again_when_one_of_its_blobs_is_missing() {
        assert_eq!(changed_while_read(Status::not_found("the blob")).code(), Code::OutOfRange);
        assert_eq!(changed_while_read(Status::unavailable("the store")).code(), Code::Unavailable);
    }

    #[test]
    fn since_takes_a_date_or_a_time() {
        for (text, seconds) in [
            ("2026-01-31", 1_769_817_600),
            ("2026-01-31T12:00:00", 1_769_860_800),
            ("2026-01-31T12:00:00Z", 1_769_860_800),
            ("2026-01-31T12:00:00.5+01:00", 1_769_857_200),
        ] {
            let since = since(text).unwrap();
            assert_eq!(since / 1_000_000, seconds, "{text}");
        }
        for wrong in ["", "yesterday", "2026-13-01"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
