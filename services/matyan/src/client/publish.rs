//! `matyan publish`: writes a copy of a run, or of a report, a dashboard or a named view with its runs, that any web server
//! shows. The format of its files is in `published.proto`.

mod artifacts;
mod bucket;
mod columns;
mod document;
mod environment;
mod folder;
mod goals;
mod levels;
mod logs;
mod media;
mod metrics;
mod pages;
mod panels;
mod report;
mod several;
mod site;
mod upload_list;
mod view;

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use clap::Args;
use matyan_proto::{
    common::v1::SeriesType,
    notes::v1::{self as notes, Owner, note_service_client::NoteServiceClient, owner::Kind},
    published::v1::PublishedRun,
    runs::v1::{GetRequest, Run, RunParts, SeriesInfo, run_service_client::RunServiceClient},
    series::v1::{ListRequest, series_service_client::SeriesServiceClient},
};
use prost::Message as _;
use serde_json::json;
use time::OffsetDateTime;
use tonic::Code;

use self::{
    artifacts::Artifacts,
    bucket::{BucketFolder, Place},
    document::{Document, Subject},
    folder::PartialFolder,
    several::SeveralCopy,
    site::Page,
};
use super::{
    Error, client,
    connection::Connection,
    flags::ClientFlags,
    interruption::interruption,
    output::{Output, notice},
    progress::Progress,
    run_error, run_ids,
};
use crate::embedded_ui::EMBEDDED_UI;

const PUBLISH_EXAMPLES: &str = "\
Examples:
  matyan publish 3fd1c0 --output site
  matyan publish 3fd1c0 --output site --force --artifacts
  matyan publish 'Losses of the sweep' --output site       a report, a dashboard or a saved view
  matyan publish view:Sweep --output s3://papers/sweep --runs 50      with S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY
  python3 -m http.server --directory site                  preview the copy at http://127.0.0.1:8000/

The copy of a run has its params, metrics, objects, logs and notes; the copy of a report, a dashboard or a view
has the params and metrics of the runs that it shows. Anyone who can open a copy can read all of it: check it
for passwords before you publish it.";

const INTERRUPTED: &str = "the command was interrupted: nothing was published";
const UPLOAD_INTERRUPTED: &str = "the command was interrupted: the bucket may have a part of the copy. Run the same command again to complete it";

/// Folder of all data of a copy.
const DATA: &str = "data";
/// Folders of the files that the runs of a copy share, and of the files that each run has for itself.
const SHARED_FOLDERS: [&str; 2] = ["payloads", "artifacts"];
const OWN_FOLDERS: [&str; 2] = ["series", "objects"];

#[derive(Debug, Args)]
#[command(after_help = PUBLISH_EXAMPLES)]
pub(crate) struct PublishFlags {
    /// Hash of a run, or at least its first four characters; or the name or the id of a report, a dashboard or a saved
    /// view. If several have this name, write `run:`, `report:`, `dashboard:` or `view:` before it
    #[arg(value_name = "RUN|REPORT|DASHBOARD|VIEW")]
    subject: String,
    /// Directory to create, with its parents; or a folder of a bucket, such as `s3://BUCKET/FOLDER`, `gs://…` or `azure://…`,
    /// with the endpoint and credentials in the settings of a server, such as `S3_ENDPOINT`
    #[arg(long, short, value_name = "DIR|URL")]
    output: PathBuf,
    /// Replace an earlier copy in the same place
    #[arg(long)]
    force: bool,
    /// Also copy the artifacts of runs, including files that clients added, such as `wandb-metadata.json`
    #[arg(long)]
    artifacts: bool,
    /// Also copy the environment of scripts: their variables, packages, arguments, paths, host and user
    #[arg(long)]
    environment: bool,
    /// Also copy the terminal lines, log records and notes of the runs of a report, a dashboard or a view; the copy of a run
    /// always has them
    #[arg(long)]
    logs: bool,
    /// Also copy the images and other objects of the runs of a report, a dashboard or a view that shows none; the copy of a
    /// run always has them
    #[arg(long)]
    media: bool,
    /// Maximum number of runs of a view, and of each panel of a report or a dashboard; the newest are copied
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: u32,
    #[command(flatten)]
    client: ClientFlags,
}

/// Number and total size of the files of a copy.
#[derive(Clone, Copy, Debug, Default)]
struct CopySize {
    files: u64,
    bytes: u64,
}

impl CopySize {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// Totals of the files that were written so far.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    size: CopySize,
    payloads: u64,
    artifacts: u64,
}

/// The copy of a run that is being written.
struct RunCopy<'c> {
    channel: &'c Connection,
    run_id: &'c str,
    root: &'c Path,
    /// Folder of the files of the run below the folder of all data; empty in a copy of one run.
    folder: String,
    has_environment: bool,
    progress: &'c Progress,
    totals: Totals,
}

impl RunCopy<'_> {
    /// The path of a file with data of the run.
    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(DATA).join(&self.folder).join(name)
    }

    /// The path of a file in a folder that all runs have in common.
    fn shared_path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(DATA).join(name)
    }

    /// The number of the next payload.
    fn next_payload(&mut self) -> u64 {
        self.totals.payloads += 1;
        self.totals.payloads
    }

    /// The number of the next artifact.
    fn next_artifact(&mut self) -> u64 {
        self.totals.artifacts += 1;
        self.totals.artifacts
    }

    fn file_done(&mut self, bytes: u64) {
        self.totals.size.add(bytes);
        self.progress.add_bytes(bytes);
    }

    /// Progress counts the parts of a run, or else the runs of a copy.
    fn counts_parts(&self) -> bool {
        self.folder.is_empty()
    }

    fn part_done(&self) {
        if self.counts_parts() {
            self.progress.increment();
        }
    }
}

/// The parts of a run that are copied, besides its properties and params, and the last values of its metrics.
#[derive(Clone, Debug)]
struct Contents {
    has_points: bool,
    has_objects: bool,
    /// Terminal lines, log records and notes.
    has_logs: bool,
    artifacts: Artifacts,
}

impl Contents {
    fn of_run(has_artifacts: bool) -> Self {
        let artifacts = if has_artifacts { Artifacts::All } else { Artifacts::Only(HashSet::new()) };
        Self { has_points: true, has_objects: true, has_logs: true, artifacts }
    }
}

/// The outcome of a copy.
struct CopyOutcome {
    subject: serde_json::Value,
    is_active: bool,
    size: CopySize,
}

pub(super) async fn run(flags: PublishFlags) -> Result<(), Error> {
    let channel = flags.client.connect().await?;
    let subject = document::find(&channel, &flags.subject).await?;
    // The partial folder is removed, too, if a signal ends the command.
    let interrupted = interruption()?;
    let destination = Destination::create(&flags).await?;
    let is_bucket = matches!(destination, Destination::Bucket(_));
    let out = &mut Output::new(flags.client.connection.json);
    let progress = Progress::new(0, if is_run(&subject) { "parts" } else { "runs" }, out.json);
    let written = tokio::select! {
        written = write_to(destination, &channel, subject, &flags, &progress) => written,
        () = interrupted => {
            let message = if is_bucket { UPLOAD_INTERRUPTED } else { INTERRUPTED };
            Err(Error::Message(message.to_owned()))
        }
    };
    progress.finish();
    let CopyOutcome { mut subject, is_active, size } = written?;
    if is_active {
        notice("matyan: a run is still active: the copy contains only what was logged so far");
    }
    let shown = flags.output.display();
    let CopySize { files, bytes } = size;
    subject["directory"] = shown.to_string().into();
    subject["files"] = files.into();
    subject["bytes"] = bytes.into();
    out.result(&subject, format!("{shown}: {files} files, {}", indicatif::HumanBytes(bytes)))?;
    if !out.json && !is_bucket {
        out.line(format!("preview it: python3 -m http.server --directory {shown}"))?;
    }
    Ok(())
}

/// Where a copy will be. It is written to a directory that is there only until the copy is complete.
enum Destination {
    Directory(PartialFolder),
    Bucket(BucketFolder),
}

impl Destination {
    async fn create(flags: &PublishFlags) -> Result<Self, Error> {
        match Place::parse(&flags.output) {
            Some(place) => Ok(Self::Bucket(BucketFolder::create(place, flags.force).await?)),
            None => Ok(Self::Directory(PartialFolder::create(&flags.output, flags.force)?)),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Directory(folder) => folder.path(),
            Self::Bucket(folder) => folder.path(),
        }
    }

    /// `is_quiet` hides the progress of an upload.
    async fn keep(self, is_quiet: bool) -> Result<(), Error> {
        match self {
            Self::Directory(folder) => folder.keep(),
            Self::Bucket(folder) => folder.keep(is_quiet).await,
        }
    }
}

/// Writes a copy, and moves it to its destination.
async fn write_to(
    destination: Destination,
    channel: &Connection,
    subject: Subject,
    flags: &PublishFlags,
    progress: &Progress,
) -> Result<CopyOutcome, Error> {
    let done = write(channel, destination.path(), subject, flags, progress).await?;
    // An upload has its own bar.
    progress.finish();
    destination.keep(flags.client.connection.json).await?;
    Ok(done)
}

fn is_run(subject: &Subject) -> bool {
    matches!(subject, Subject::Run(_))
}

/// Writes all files.
async fn write(
    channel: &Connection,
    root: &Path,
    subject: Subject,
    flags: &PublishFlags,
    progress: &Progress,
) -> Result<CopyOutcome, Error> {
    let index = site::index(&EMBEDDED_UI)?;
    create_folders(&root.join(DATA), &SHARED_FOLDERS)?;
    let (pages, mut done) = match subject {
        Subject::Run(run_id) => write_only(channel, root, &run_id, flags, progress).await?,
        Subject::Document(document) => write_several(channel, root, document, flags, progress).await?,
    };
    let now = OffsetDateTime::now_utc();
    let now_ms = i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    site::write_pages(index, root, &pages, now_ms, &mut done.size)?;
    site::write_folder(&EMBEDDED_UI, &root.join(site::FILES), &mut done.size)?;
    Ok(done)
}

/// Writes the copy of one run, and returns its page.
async fn write_only(
    channel: &Connection,
    root: &Path,
    run_id: &str,
    flags: &PublishFlags,
    progress: &Progress,
) -> Result<(Vec<Page>, CopyOutcome), Error> {
    let folder = String::new();
    let totals = Totals::default();
    let has_environment = flags.environment;
    let mut copy = RunCopy { channel, run_id, root, folder, has_environment, progress, totals };
    let run = write_run(&mut copy, &Contents::of_run(flags.artifacts)).await?;
    let subject = json!({"run_id": run_id});
    let page = Page { id: run_id.to_owned(), ..Page::default() };
    Ok((vec![page], CopyOutcome { subject, is_active: is_active(&run), size: copy.totals.size }))
}

/// Writes the copy of a document with its runs, and returns its pages.
async fn write_several(
    channel: &Connection,
    root: &Path,
    document: Document,
    flags: &PublishFlags,
    progress: &Progress,
) -> Result<(Vec<Page>, CopyOutcome), Error> {
    let mut subject = json!({"kind": document.word(), "id": document.id()});
    let mut copy = SeveralCopy { channel, root, flags, progress, totals: Totals::default() };
    let written = copy.write(document).await?;
    subject["runs"] = written.runs.into();
    let size = copy.totals.size;
    Ok((written.pages, CopyOutcome { subject, is_active: written.has_active_runs, size }))
}

fn create_folders(root: &Path, names: &[&str]) -> Result<(), Error> {
    for name in names {
        let path = root.join(name);
        fs::create_dir_all(&path).map_err(file_error(&path))?;
    }
    Ok(())
}

fn is_active(run: &PublishedRun) -> bool {
    run.run.as_ref().and_then(|run| run.props.as_ref()).is_some_and(|props| props.active)
}

/// Writes the files of a run, and returns what its first file has.
async fn write_run(copy: &mut RunCopy<'_>, contents: &Contents) -> Result<PublishedRun, Error> {
    create_folders(&copy.path(""), &OWN_FOLDERS)?;
    let mut run = read_run(copy).await?;
    let series = read_series(copy).await?;
    if copy.counts_parts() {
        copy.progress.set(0, series.len() as u64 + 1);
    }
    let (metrics, others): (Vec<_>, Vec<_>) =
        series.into_iter().partition(|info| info.r#type() == SeriesType::Metric);
    let mut published = PublishedRun {
        goals: goals::read(copy, &metrics).await?,
        omits_artifacts: !contents.artifacts.are_all(),
        ..PublishedRun::default()
    };
    for info in metrics.iter().filter(|_| contents.has_points) {
        published.series.push(metrics::write(copy, info).await?);
        copy.part_done();
    }
    let shown = others.iter().filter(|info| contents.has_objects && media::is_shown(info));
    for (index, info) in shown.enumerate() {
        published.sequences.push(media::write(copy, index, info).await?);
        copy.part_done();
    }
    if contents.has_logs {
        published.notes = read_notes(copy).await?;
        logs::write(copy, &mut published).await?;
    }
    if !contents.artifacts.are_none() {
        artifacts::write(copy, &contents.artifacts, &mut published).await?;
    }
    check_not_deleted(copy).await?;
    run.series = metrics;
    published.run = Some(run);
    let path = copy.path("run.bin");
    let encoded = published.encode_to_vec();
    fs::write(&path, &encoded).map_err(file_error(&path))?;
    copy.file_done(encoded.len() as u64);
    copy.part_done();
    Ok(published)
}

async fn read_run(copy: &RunCopy<'_>) -> Result<Run, Error> {
    let parts = RunParts { props: true, params: true, system_params: true, ..RunParts::default() };
    let request = GetRequest { run_id: copy.run_id.to_owned(), parts: Some(parts) };
    let answer = client!(RunServiceClient, copy.channel.clone()).get(request).await;
    let mut run = answer.map_err(run_error(copy.run_id))?.into_inner().run.unwrap_or_default();
    if !copy.has_environment {
        run.params = environment::without_environment(&run.params)?.into();
    }
    Ok(run)
}

/// Fails if the run was deleted while its parts were read: parts that are gone are left out without an error.
async fn check_not_deleted(copy: &RunCopy<'_>) -> Result<(), Error> {
    let request = GetRequest { run_id: copy.run_id.to_owned(), parts: Some(RunParts::default()) };
    match client!(RunServiceClient, copy.channel.clone()).get(request).await {
        Err(status) if status.code() == Code::NotFound => {
            let run_id = copy.run_id;
            Err(Error::Message(format!(
                "run `{run_id}` was deleted while it was copied: nothing was published; `matyan runs ls` lists all runs"
            )))
        }
        answer => Ok(answer.map(drop)?),
    }
}

async fn read_series(copy: &RunCopy<'_>) -> Result<Vec<SeriesInfo>, Error> {
    let request = ListRequest { run_id: copy.run_id.to_owned(), ..ListRequest::default() };
    let answer = client!(SeriesServiceClient, copy.channel.clone()).list(request).await;
    let mut messages = answer.map_err(run_error(copy.run_id))?.into_inner();
    let mut series = Vec::new();
    while let Some(message) = messages.message().await? {
        series.extend(message.series);
    }
    Ok(series)
}

async fn read_notes(copy: &RunCopy<'_>) -> Result<Vec<notes::Note>, Error> {
    let owner = Owner { kind: Some(Kind::RunId(copy.run_id.to_owned())) };
    let request = notes::ListRequest { owner: Some(owner) };
    let answer = client!(NoteServiceClient, copy.channel.clone()).list(request).await;
    let mut messages = answer.map_err(run_error(copy.run_id))?.into_inner();
    let mut notes = Vec::new();
    while let Some(message) = messages.message().await? {
        notes.extend(message.notes);
    }
    Ok(notes)
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |error| {
        let path = path.display();
        Error::Message(format!("failed to write {path} ({error}): make room, or choose another --output"))
    }
}

#[cfg(test)]
mod tests;
