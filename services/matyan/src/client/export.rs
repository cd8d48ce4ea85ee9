//! `matyan export`: writes the results of a search to a file for data tools.

use std::{
    fs::{self, Permissions},
    io::{self, IsTerminal as _, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};
use matyan_proto::{
    common::v1::{SeriesKey, SeriesType},
    export::v1::{
        Format, MetricsRequest, ObjectsRequest, Piece, RunsRequest,
        export_service_client::ExportServiceClient,
    },
    runs::v1::ParamPath,
    search::v1::{Query, SearchKind},
};
use serde_json::json;
use tempfile::NamedTempFile;
use tonic::{Code, Status, Streaming};

use super::{
    Error, Failure, client,
    connection::Connection,
    flags::ClientFlags,
    output::{Output, notice},
    progress::Progress,
    run_ids,
    runs::{query_error, search_kind},
};
use crate::plain_text::{Colors, escape};

const EXPORT_EXAMPLES: &str = "\
Examples:
  matyan export metrics --query 'run.hparams.lr < 0.1' --output points.parquet
  matyan export metrics --names loss,accuracy --runs 3fd1c0 --format csv --output -
  matyan export runs --query 'run.active == False' --params hparams.lr,hparams.layers --output runs.csv
  matyan export objects texts --output texts.parquet
  matyan export runs --metric loss --metric 'loss={\"subset\":\"val\"}' --output runs.arrow";

#[derive(Debug, Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub(crate) struct ExportFlags {
    #[command(subcommand)]
    table: TableCommand,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Subcommand)]
enum TableCommand {
    /// Export every point of the metrics that a query finds, one row each
    Metrics(MetricsTable),
    /// Export the runs that a query finds, one row each, with their params
    Runs(RunsTable),
    /// Export the images, texts or other objects that a query finds, one row each
    Objects(ObjectsTable),
}

#[derive(Debug, Args)]
struct MetricsTable {
    /// Only metrics with these names
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    names: Vec<String>,
    #[command(flatten)]
    file: FileFlags,
}

#[derive(Debug, Args)]
struct RunsTable {
    /// Only the params at and below these paths; the keys of a path are separated by dots
    #[arg(long, value_name = "PATH,PATH", value_delimiter = ',', conflicts_with = "no_params")]
    params: Vec<String>,
    /// Leave out all params
    #[arg(long)]
    no_params: bool,
    /// Metric whose last value is a column; its context is {} by default
    #[arg(long = "metric", value_name = "NAME[=CONTEXT]")]
    metrics: Vec<String>,
    #[command(flatten)]
    file: FileFlags,
}

#[derive(Debug, Args)]
struct ObjectsTable {
    /// Type of the objects; the bytes of images, audio, pages and point clouds are not part of the file
    #[arg(value_enum)]
    objects: ObjectKind,
    #[command(flatten)]
    file: FileFlags,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ObjectKind {
    Images,
    Texts,
    Distributions,
    Audios,
    Figures,
    Htmls,
    PointClouds,
}

impl ObjectKind {
    fn to_api(self) -> SeriesType {
        match self {
            Self::Images => SeriesType::Images,
            Self::Texts => SeriesType::Texts,
            Self::Distributions => SeriesType::Distributions,
            Self::Audios => SeriesType::Audios,
            Self::Figures => SeriesType::Figures,
            Self::Htmls => SeriesType::Htmls,
            Self::PointClouds => SeriesType::PointClouds,
        }
    }
}

/// The rows to export, and where to.
#[derive(Debug, Args)]
struct FileFlags {
    /// Query in MatyanQL; by default, everything that is not archived
    #[arg(long, value_name = "QUERY", default_value = "", hide_default_value = true)]
    query: String,
    /// Only these runs, by their hashes or at least the first four characters of these
    #[arg(long, value_name = "RUN,RUN", value_delimiter = ',')]
    runs: Vec<String>,
    /// Format of the file; by default, the name of the file decides
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// File to create; `-` is the standard output. A terminal gets CSV only, with control characters escaped
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FileFormat {
    /// Arrow IPC stream
    Arrow,
    /// Apache Parquet
    Parquet,
    /// CSV with a header; a text that spreadsheets would compute gets an apostrophe in front
    Csv,
    /// CSV with every text as it was logged
    RawCsv,
}

impl FileFormat {
    fn of_name(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "arrow" | "arrows" => Some(Self::Arrow),
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    fn is_text(self) -> bool {
        match self {
            Self::Csv | Self::RawCsv => true,
            Self::Arrow | Self::Parquet => false,
        }
    }

    fn to_api(self) -> Format {
        match self {
            Self::Arrow => Format::Arrow,
            Self::Parquet => Format::Parquet,
            Self::Csv => Format::Csv,
            Self::RawCsv => Format::RawCsv,
        }
    }
}

impl FileFlags {
    fn format(&self) -> Result<Format, Error> {
        let format = self.format.or_else(|| FileFormat::of_name(&self.output)).ok_or_else(|| {
            let message = "the format is not known: use --format arrow, parquet, csv or raw-csv, or a file name with the extension of one";
            Error::Message(message.to_owned())
        })?;
        if self.is_terminal() && !format.is_text() {
            let message =
                "a terminal cannot show this format: write it to a file with -o FILE, or use --format csv";
            return Err(Error::Message(message.to_owned()));
        }
        Ok(format.to_api())
    }

    fn query(&self) -> Option<Query> {
        Some(Query { text: self.query.clone(), report_progress: true, ..Query::default() })
    }

    /// The runs to export; none means all.
    async fn run_ids(&self, channel: &Connection) -> Result<Vec<String>, Error> {
        run_ids::complete_all(channel, self.runs.clone()).await
    }

    fn is_standard_output(&self) -> bool {
        self.output.as_os_str() == "-"
    }

    fn is_terminal(&self) -> bool {
        self.is_standard_output() && io::stdout().is_terminal()
    }
}

pub(super) async fn run(flags: ExportFlags) -> Result<(), Error> {
    let ExportFlags { table, client } = flags;
    let channel = client.connect().await?;
    match export(&table, &channel, client.connection.json).await {
        Err(Failure::Server(status)) if status.code() == Code::InvalidArgument => {
            let (kind, file) = match &table {
                TableCommand::Metrics(MetricsTable { file, .. }) => (SearchKind::Metrics, file),
                TableCommand::Runs(RunsTable { file, .. }) => (SearchKind::Runs, file),
                TableCommand::Objects(ObjectsTable { objects, file }) => {
                    (search_kind(objects.to_api()), file)
                }
            };
            Err(query_error(channel, kind, &file.query, status).await)
        }
        outcome => Ok(outcome?),
    }
}

async fn export(table: &TableCommand, channel: &Connection, json: bool) -> Result<(), Failure> {
    let mut service = client!(ExportServiceClient, channel.clone());
    match table {
        TableCommand::Metrics(MetricsTable { names, file }) => {
            let request = MetricsRequest {
                query: file.query(),
                run_ids: file.run_ids(channel).await?,
                format: file.format()?.into(),
                names: names.clone(),
                steps: None,
            };
            let answer = service.metrics(request).await?.into_inner();
            write_file(file, answer, |it| it.piece, json).await
        }
        TableCommand::Runs(RunsTable { params, no_params, metrics, file }) => {
            let request = RunsRequest {
                query: file.query(),
                run_ids: file.run_ids(channel).await?,
                format: file.format()?.into(),
                param_paths: params.iter().map(|path| param_path(path)).collect(),
                no_params: *no_params,
                metrics: metrics.iter().map(|metric| series_key(metric)).collect(),
            };
            let answer = service.runs(request).await?.into_inner();
            write_file(file, answer, |it| it.piece, json).await
        }
        TableCommand::Objects(ObjectsTable { objects, file }) => {
            let request = ObjectsRequest {
                query: file.query(),
                run_ids: file.run_ids(channel).await?,
                format: file.format()?.into(),
                r#type: objects.to_api().into(),
            };
            let answer = service.objects(request).await?.into_inner();
            write_file(file, answer, |it| it.piece, json).await
        }
    }
}

/// Parses a name, or a name and a context.
fn series_key(text: &str) -> SeriesKey {
    match text.split_once("={") {
        Some((name, context)) => SeriesKey { name: name.to_owned(), context: format!("{{{context}") },
        None => SeriesKey { name: text.to_owned(), context: String::new() },
    }
}

/// Size of a file.
struct WrittenFile {
    rows: u64,
    bytes: u64,
}

async fn write_file<M>(
    flags: &FileFlags,
    answer: Streaming<M>,
    piece: fn(M) -> Option<Piece>,
    json: bool,
) -> Result<(), Failure> {
    let progress = Progress::new(0, "runs", json);
    if flags.is_standard_output() {
        let mut out = io::stdout();
        let written = if flags.is_terminal() {
            copy(answer, piece, &progress, &mut PlainCsv::new(out)).await
        } else {
            copy(answer, piece, &progress, &mut out).await
        };
        progress.finish();
        return written.map(drop);
    }
    let mut partial = PartialFile::create(&flags.output, flags.force)?;
    let written = copy(answer, piece, &progress, &mut partial.file).await;
    progress.finish();
    let WrittenFile { rows, bytes } = written?;
    partial.keep()?;
    let path = flags.output.display();
    Output::new(json).result(
        &json!({"file": path.to_string(), "rows": rows, "bytes": bytes}),
        format!("{path}: {rows} rows, {bytes} bytes"),
    )?;
    Ok(())
}

/// CSV on a terminal, without the control characters in it: names and texts are from other users.
struct PlainCsv<W> {
    terminal: W,
    /// The beginning of a character or of the end of a line, whose rest has not been written yet.
    rest: Vec<u8>,
}

impl<W: Write> PlainCsv<W> {
    fn new(terminal: W) -> Self {
        Self { terminal, rest: Vec::new() }
    }

    /// Shows this number of bytes.
    fn show(&mut self, length: usize) -> io::Result<()> {
        let shown: Vec<u8> = self.rest.drain(..length).collect();
        // Any other carriage return would overwrite its line.
        let text = String::from_utf8_lossy(&shown).replace("\r\n", "\n");
        let text = escape(&text, Colors::Escaped, |it| matches!(it, '\n' | '\t'));
        self.terminal.write_all(text.as_bytes())
    }
}

impl<W: Write> Write for PlainCsv<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        let complete = match std::str::from_utf8(&self.rest) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Ok(text) if text.ends_with('\r') => self.rest.len() - 1,
            Ok(_) | Err(_) => self.rest.len(),
        };
        self.show(complete)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.show(self.rest.len())?;
        self.terminal.flush()
    }
}

fn param_path(text: &str) -> ParamPath {
    ParamPath { segments: text.split('.').map(str::to_owned).collect() }
}

async fn copy<M>(
    mut answer: Streaming<M>,
    piece: fn(M) -> Option<Piece>,
    progress: &Progress,
    out: &mut impl Write,
) -> Result<WrittenFile, Failure> {
    let mut bytes = 0;
    while let Some(message) = answer.message().await? {
        let Piece { data, rows, progress: search, warnings, done } = piece(message).unwrap_or_default();
        for warning in warnings {
            progress.suspend(|| notice(format!("matyan: {}", warning.message)));
        }
        if let Some(search) = search {
            progress.set(search.checked, search.total);
        }
        progress.add_bytes(data.len() as u64);
        bytes += data.len() as u64;
        out.write_all(&data)?;
        if done {
            out.flush()?;
            if rows == 0 {
                progress.suspend(|| {
                    notice("matyan: no rows were found: check the query, and the names if any are given")
                });
            }
            return Ok(WrittenFile { rows, bytes });
        }
    }
    Err(Status::unavailable("the server ended the export early").into())
}

/// A file that is removed unless it is kept. It is created under a name that nobody else can know, so
/// that it follows no link, and gets its own name only when it is complete.
struct PartialFile {
    file: NamedTempFile,
    path: PathBuf,
    replaces: bool,
}

impl PartialFile {
    fn create(path: &Path, replaces: bool) -> Result<Self, Error> {
        if !replaces && fs::exists(path)? {
            let message =
                format!("{} exists: choose another --output, or use --force to replace it", path.display());
            return Err(Error::Message(message));
        }
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Readable by others, as far as the umask allows it, unlike other temporary files.
        let mode = Permissions::from_mode(0o666);
        let mut name = tempfile::Builder::new();
        name.prefix(".matyan-").suffix(".part").permissions(mode);
        let file = name.tempfile_in(directory).map_err(|error| {
            let directory = directory.display();
            Error::Message(format!(
                "failed to create a file in {directory} ({error}): choose another --output"
            ))
        })?;
        Ok(Self { file, path: path.to_owned(), replaces })
    }

    fn keep(self) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        let Self { file, path, replaces } = self;
        let kept = if replaces { file.persist(path) } else { file.persist_noclobber(path) };
        kept.map(drop).map_err(|error| error.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_chooses_its_format() {
        let check =
            |name: &str, expected| assert_eq!(FileFormat::of_name(Path::new(name)), expected, "{name}");
        check("a.b/points.parquet", Some(FileFormat::Parquet));
        check("runs.csv", Some(FileFormat::Csv));
        check("runs.arrow", Some(FileFormat::Arrow));
        check("-", None);
        check("runs.txt", None);
    }

    #[test]
    fn rule_75_a_terminal_gets_no_control_characters() {
        let csv = "name,äß\r\n\"\u{1b}[2J\rx\u{9b}1m\u{202e}\",a\tb\r\n";
        let expected = "name,äß\n\"\\u{1b}[2J\\rx\\u{9b}1m\\u{202e}\",a\tb\n";
        // Pieces end anywhere.
        for size in 1..=csv.len() {
            let mut shown = PlainCsv::new(Vec::new());
            for piece in csv.as_bytes().chunks(size) {
                shown.write_all(piece).unwrap();
            }
            shown.flush().unwrap();
            assert_eq!(String::from_utf8(shown.terminal).unwrap(), expected, "{size}");
        }
        let formats = [FileFormat::Arrow, FileFormat::Parquet, FileFormat::Csv, FileFormat::RawCsv];
        assert_eq!(formats.map(FileFormat::is_text), [false, false, true, true]);
    }

    #[test]
    fn a_metric_may_have_a_context() {
        let check = |text: &str, name: &str, context: &str| {
            let SeriesKey { name: found, context: of } = series_key(text);
            assert_eq!((found.as_str(), of.as_str()), (name, context));
        };
        check("loss", "loss", "");
        check("a=b", "a=b", "");
        check(r#"loss={"subset":"val"}"#, "loss", r#"{"subset":"val"}"#);
    }

    #[test]
    fn a_failed_export_leaves_the_earlier_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.csv");
        fs::write(&path, "earlier").unwrap();
        assert!(PartialFile::create(&path, false).is_err());
        let mut partial = PartialFile::create(&path, true).unwrap();
        partial.file.write_all(b"new").unwrap();
        drop(partial);
        assert_eq!(fs::read(&path).unwrap(), b"earlier");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let mut partial = PartialFile::create(&path, true).unwrap();
        partial.file.write_all(b"new").unwrap();
        partial.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn rule_74_an_export_writes_through_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.csv");
        let other = folder.path().join("other");
        fs::write(&other, "kept").unwrap();
        std::os::unix::fs::symlink(&other, folder.path().join("runs.csv.part")).unwrap();
        let mut partial = PartialFile::create(&path, false).unwrap();
        partial.file.write_all(b"new").unwrap();
        partial.keep().unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read(&other).unwrap()), (b"new".into(), b"kept".into()));
        // As readable as any other file.
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&other));

        // A file that appears meanwhile is not replaced.
        let raced = folder.path().join("raced.csv");
        let partial = PartialFile::create(&raced, false).unwrap();
        fs::write(&raced, "kept").unwrap();
        assert_eq!(partial.keep().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&raced).unwrap(), b"kept");
    }
}
