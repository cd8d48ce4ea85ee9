//! An archive that is being written: a folder with a mark in it that says what it is of and where it was cut, until the
//! manifest takes the place of the mark. The same backup begun again goes on with it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use matyan_model::value::Value;
use matyan_proto::backup::v1 as pb;
use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

pub(crate) use super::run_writer::{BlobFile, RunWriter};
use super::{
    CHECKSUMS, ENTITIES, Error, Fields, MANIFEST, PROJECT, RUNS, Record, Result, TOMBSTONES, UNFINISHED,
    VERSION, at, entities, folder,
    lines::{self, Lines},
    sums,
};

const PREFIX: &str = "matyan-backup-";

/// What a backup is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters {
    pub(crate) runs: Vec<String>,
    pub(crate) experiment: Option<String>,
    /// As it was given.
    pub(crate) since: Option<String>,
    pub(crate) blobs: bool,
}

impl Filters {
    fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        if !self.runs.is_empty() {
            let runs = self.runs.iter().map(|run| Value::Text(run.clone()));
            fields = fields.set("runs", Value::List(runs.collect()));
        }
        for (key, text) in [("experiment", &self.experiment), ("since", &self.since)] {
            if let Some(text) = text {
                fields = fields.text(key, text);
            }
        }
        fields
    }

    /// As the mark of an unfinished archive has them.
    fn marked(&self) -> String {
        self.fields().bool("blobs", self.blobs).json()
    }
}

pub(crate) struct Archive {
    pub(crate) root: PathBuf,
    pub(crate) is_resumed: bool,
    filters: Filters,
    created: OffsetDateTime,
    cut: pb::Cut,
    /// Folders of the runs that are complete.
    done: Vec<String>,
}

/// What a finished archive holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) runs: usize,
    pub(crate) entities: BTreeMap<&'static str, u64>,
    pub(crate) blobs: u64,
    pub(crate) blob_bytes: u64,
}

impl Archive {
    /// The unfinished archive of the same backup below `output`, if there is one.
    pub(crate) fn resume(output: &Path, filters: &Filters) -> Result<Option<Self>> {
        let entries = match fs::read_dir(output) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(output)(error)),
        };
        let mut roots = Vec::new();
        for entry in entries {
            let entry = entry.map_err(at(output))?;
            if entry.file_name().to_string_lossy().starts_with(PREFIX)
                && entry.path().join(UNFINISHED).is_file()
            {
                roots.push(entry.path());
            }
        }
        roots.sort();
        for root in roots.into_iter().rev() {
            let mark = lines::object(&root, UNFINISHED)?;
            if mark.needed_text("filters")? == filters.marked() {
                return Self::open(root, filters, &mark).map(Some);
            }
        }
        Ok(None)
    }

    fn open(root: PathBuf, filters: &Filters, mark: &Record) -> Result<Self> {
        let cut = mark.inner("log")?.ok_or_else(|| mark.error("`log` is not there"))?;
        let created = OffsetDateTime::parse(&mark.needed_text("created_at")?, &Rfc3339);
        let created = created.map_err(|error| mark.error(format!("`created_at`: {error}")))?;
        let sums = sums::read(&root)?.unwrap_or_default();
        let runs = sums
            .keys()
            .filter_map(|file| file.strip_prefix(RUNS)?.strip_prefix('/')?.strip_suffix("/run.json"));
        let done: Vec<_> = runs.filter(|run| root.join(RUNS).join(run).is_dir()).map(str::to_owned).collect();
        let cut = entities::cut(&cut)?;
        // A line that was being written is no line.
        sums::write(&root, &sums.into_iter().filter(|(file, _)| file.starts_with(RUNS)).collect())?;
        Ok(Self { root, is_resumed: true, filters: filters.clone(), created, cut, done })
    }

    pub(crate) fn begin(output: &Path, filters: &Filters, cut: pb::Cut, now: OffsetDateTime) -> Result<Self> {
        let name = now.format(format_description!("[year][month][day]-[hour][minute][second]"));
        let root = output.join(format!("{PREFIX}{}", name.expect("numbers can be written")));
        fs::create_dir_all(output).map_err(at(output))?;
        fs::create_dir(&root).map_err(at(&root))?;
        let runs = root.join(RUNS);
        fs::create_dir(&runs).map_err(at(&runs))?;
        let archive =
            Self { root, is_resumed: false, filters: filters.clone(), created: now, cut, done: Vec::new() };
        let mark = Fields::default()
            .text("filters", &filters.marked())
            .text("created_at", &archive.created_at())
            .set("log", entities::cut_fields(&archive.cut).value());
        archive.put(UNFINISHED, &mark.json())?;
        Ok(archive)
    }

    fn created_at(&self) -> String {
        self.created.format(&Rfc3339).expect("a moment of this clock can be written")
    }

    pub(crate) fn has(&self, run_id: &str) -> bool {
        self.done.contains(&folder(run_id))
    }

    pub(crate) fn has_blobs(&self) -> bool {
        self.filters.blobs
    }

    pub(crate) fn run(&self, head: pb::RunHead) -> Result<RunWriter> {
        RunWriter::begin(&self.root, head)
    }

    pub(crate) fn run_done(&mut self, run_id: &str) {
        self.done.push(folder(run_id));
    }

    /// Writes a file whole or not at all.
    fn put(&self, name: &str, text: &str) -> Result<()> {
        let (part, path) = (self.root.join(".part"), self.root.join(name));
        fs::write(&part, text).map_err(at(&part))?;
        fs::rename(&part, &path).map_err(at(&path))
    }

    /// Writes what is no run's, and the manifest, and takes the mark away.
    pub(crate) fn finish(
        mut self,
        settings: &pb::Settings,
        entities: &[pb::Entity],
        tombstones: &[pb::Tombstone],
    ) -> Result<(PathBuf, Contents)> {
        self.done.sort();
        let mut contents = Contents { runs: self.done.len(), ..Contents::default() };
        let mut text = String::new();
        for entity in entities {
            let (kind, line) = entities::entity_line(entity);
            *contents.entities.entry(kind).or_default() += 1;
            text.push_str(&(line + "\n"));
        }
        self.put(ENTITIES, &text)?;
        self.put(PROJECT, &(entities::settings_fields(settings).json() + "\n"))?;
        // What is in the archive lived when it was read.
        let deleted = tombstones.iter().filter(|tombstone| !self.has(&tombstone.run_id));
        let deleted: String = deleted.map(|tombstone| entities::tombstone_line(tombstone) + "\n").collect();
        self.put(TOMBSTONES, &deleted)?;
        self.count_blobs(&mut contents)?;
        self.put(MANIFEST, &self.manifest(&contents))?;
        let mut own = sums::Sums::new();
        for name in [ENTITIES, PROJECT, TOMBSTONES, MANIFEST] {
            own.insert(name.to_owned(), sums::sum(&self.root.join(name))?);
        }
        sums::append(&self.root, &own)?;
        let mark = self.root.join(UNFINISHED);
        fs::remove_file(&mark).map_err(at(&mark))?;
        Ok((self.root, contents))
    }

    /// Also of runs that an earlier attempt has read.
    fn count_blobs(&self, contents: &mut Contents) -> Result<()> {
        for run in &self.done {
            let Some(mut lines) = Lines::open(&self.root, &format!("{RUNS}/{run}/blobs.jsonl"), 0)? else {
                continue;
            };
            while let Some(blob) = lines.next()? {
                contents.blobs += 1;
                contents.blob_bytes += blob.natural("size")?.unwrap_or_default();
            }
        }
        Ok(())
    }

    fn manifest(&self, contents: &Contents) -> String {
        let hashes = self.done.iter().map(|run| Value::Text(run.clone()));
        let counts = contents
            .entities
            .iter()
            .fold(Fields::default(), |fields, (kind, count)| fields.natural(kind, *count));
        Fields::default()
            .integer("format_version", VERSION)
            .text("created_at", &self.created_at())
            .natural("run_count", contents.runs as u64)
            .set("run_hashes", Value::List(hashes.collect()))
            .set("entity_counts", counts.value())
            .natural("blob_count", contents.blobs)
            .natural("blob_bytes", contents.blob_bytes)
            .set("filters", self.filters.fields().value())
            .bool("include_blobs", self.filters.blobs)
            .set("log", entities::cut_fields(&self.cut).value())
            .json()
            + "\n"
    }
}

/// The archive in `output` that would be overwritten, as one made in the same second is.
pub(crate) fn exists(error: &Error) -> bool {
    matches!(error, Error::File { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
}

/// Files beside the runs that `sha256sum` does not know.
pub(super) const UNSUMMED: [&str; 2] = [CHECKSUMS, UNFINISHED];
