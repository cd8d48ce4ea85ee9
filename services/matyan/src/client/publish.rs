//! `matyan publish`: writes a copy of a run that any web server shows. The format of its files is in
//! `published.proto`.

mod artifacts;
mod environment;
mod folder;
mod goals;
mod levels;
mod logs;
mod media;
mod metrics;
mod pages;
mod site;

use std::{
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

use self::folder::PartialFolder;
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
  python -m http.server --directory site          preview the copy at http://127.0.0.1:8000/

The copy has the params, metrics, objects, logs and notes of the run. Anyone who can
open it can read all of them: check the logs for passwords before you publish them.";

const INTERRUPTED: &str = "the command was interrupted: nothing was published";

/// Folder of the data of a run.
const DATA: &str = "data";

#[derive(Debug, Args)]
#[command(after_help = PUBLISH_EXAMPLES)]
pub(crate) struct PublishFlags {
    /// Hash of the run, or its first characters, at least four
    run: String,
    /// Directory to create; its parent need not exist
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Replace an earlier copy in the directory
    #[arg(long)]
    force: bool,
    /// Also copy the artifacts of the run, including files that clients added, such as `wandb-metadata.json`
    #[arg(long)]
    artifacts: bool,
    /// Also copy the environment of the script: its variables, packages, arguments, paths, host and user
    #[arg(long)]
    environment: bool,
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

/// A copy that is being written.
struct RunCopy<'c> {
    channel: &'c Connection,
    run_id: &'c str,
    root: &'c Path,
    has_environment: bool,
    progress: &'c Progress,
    size: CopySize,
    payloads: u64,
}

impl RunCopy<'_> {
    /// The path of a file with data.
    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(DATA).join(name)
    }

    /// The number of the next payload.
    fn next_payload(&mut self) -> u64 {
        self.payloads += 1;
        self.payloads
    }

    fn file_done(&mut self, bytes: u64) {
        self.size.add(bytes);
        self.progress.add_bytes(bytes);
    }
}

pub(super) async fn run(flags: PublishFlags) -> Result<(), Error> {
    let channel = flags.client.connect().await?;
    let run_id = run_ids::complete(&channel, flags.run.clone()).await?;
    // The partial folder is removed, too, if a signal ends the command.
    let interrupted = interruption()?;
    let folder = PartialFolder::create(&flags.output, flags.force)?;
    let out = &mut Output::new(flags.client.connection.json);
    let progress = Progress::new(0, "parts", out.json);
    let mut copy = RunCopy {
        channel: &channel,
        run_id: &run_id,
        root: folder.path(),
        has_environment: flags.environment,
        progress: &progress,
        size: CopySize::default(),
        payloads: 0,
    };
    let written = tokio::select! {
        written = write(&mut copy, &flags) => written,
        () = interrupted => Err(Error::Message(INTERRUPTED.to_owned())),
    };
    let size = copy.size;
    progress.finish();
    let is_active = written?;
    folder.keep()?;
    if is_active {
        notice("matyan: the run is still active: the copy contains only what was logged so far");
    }
    let shown = flags.output.display();
    let CopySize { files, bytes } = size;
    out.result(
        &json!({"run_id": run_id, "directory": shown.to_string(), "files": files, "bytes": bytes}),
        format!("{shown}: {files} files, {}", indicatif::HumanBytes(bytes)),
    )?;
    if !out.json {
        out.line(format!("preview it: python -m http.server --directory {shown}"))?;
    }
    Ok(())
}

/// Writes all files, and returns whether the run is active.
async fn write(copy: &mut RunCopy<'_>, flags: &PublishFlags) -> Result<bool, Error> {
    for name in ["series", "objects", "payloads", "artifacts"] {
        let path = copy.path(name);
        fs::create_dir_all(&path).map_err(file_error(&path))?;
    }
    let now = OffsetDateTime::now_utc();
    let now_ms = i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    site::write(&EMBEDDED_UI, copy.root, copy.run_id, now_ms, &mut copy.size)?;
    write_run(copy, flags.artifacts).await
}

/// Writes the files with data, and returns whether the run is active.
async fn write_run(copy: &mut RunCopy<'_>, has_artifacts: bool) -> Result<bool, Error> {
    let mut run = read_run(copy).await?;
    let series = read_series(copy).await?;
    copy.progress.set(0, series.len() as u64 + 1);
    let (metrics, others): (Vec<_>, Vec<_>) =
        series.into_iter().partition(|info| info.r#type() == SeriesType::Metric);
    let mut published = PublishedRun {
        notes: read_notes(copy).await?,
        goals: goals::read(copy, &metrics).await?,
        omits_artifacts: !has_artifacts,
        ..PublishedRun::default()
    };
    for info in &metrics {
        published.series.push(metrics::write(copy, info).await?);
        copy.progress.increment();
    }
    for (index, info) in others.iter().filter(|info| media::is_shown(info)).enumerate() {
        published.sequences.push(media::write(copy, index, info).await?);
        copy.progress.increment();
    }
    logs::write(copy, &mut published).await?;
    if has_artifacts {
        artifacts::write(copy, &mut published).await?;
    }
    check_not_deleted(copy).await?;
    let is_active = run.props.as_ref().is_some_and(|props| props.active);
    run.series = metrics;
    published.run = Some(run);
    let path = copy.path("run.bin");
    let encoded = published.encode_to_vec();
    fs::write(&path, &encoded).map_err(file_error(&path))?;
    copy.file_done(encoded.len() as u64);
    copy.progress.increment();
    Ok(is_active)
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
