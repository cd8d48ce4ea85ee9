//! Writer for the archives of `matyan-client`, whose runs come from answers of a server or from files
//! of other trackers. These archives have no log positions, and no checksums: readers check every
//! line. They are not resumed either, so there is no marker file. The manifest is written last, and an
//! archive without one is deleted by the client.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use matyan_proto::{backup::v1 as pb, common::v1::OutcomeKind};
use matyan_value::{
    Context, Map, Value,
    json::{self, JsonStyle},
};
use matyan_wire::headers::UNKNOWN_TYPE;
use time::OffsetDateTime;

pub use super::client_blobs::BlobCounts;
use super::{
    ARTIFACTS, ENTITIES, Fields, MANIFEST, RUNS, Result, VERSION,
    client_blobs::ClientBlobs,
    fields::microseconds,
    file_error, lines,
    pack::packed,
    run_folder,
    sequences_file::{ObjectStep, SequencesFile},
    series::NUMBERS,
    writer::{rfc3339, stamp},
};

/// An archive that is being written.
pub struct ClientArchive {
    root: PathBuf,
    created: OffsetDateTime,
    filters: Map,
    includes_blobs: bool,
    /// Ids of the complete runs.
    runs: Vec<String>,
    /// Lines of the experiments and tags.
    entities: String,
    entity_counts: BTreeMap<String, u64>,
    blobs: BlobCounts,
}

/// A run that is being written.
pub struct ClientRun {
    run_id: String,
    folder: PathBuf,
    sequences: SequencesFile,
    artifacts: Map,
    /// `None` in archives without blobs.
    blobs: Option<ClientBlobs>,
    /// Number of the files of objects.
    payloads: u64,
}

/// An experiment or a tag.
#[derive(Clone, Debug, Default)]
pub struct ClientEntity {
    pub id: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub color: Option<String>,
    pub archived: bool,
}

/// Description of a run as a whole. Times are in seconds since the Unix epoch.
#[derive(Clone, Debug, Default)]
pub struct RunFacts {
    pub name: String,
    pub description: String,
    pub experiment: Option<String>,
    pub tags: Vec<String>,
    pub params: Map,
    pub created: Option<f64>,
    pub ended: Option<f64>,
    /// State in which the run ended, left out unless a server has it: other trackers have more, such
    /// as `running`.
    pub state: Option<String>,
    /// Text of the error that ended the run.
    pub error: Option<String>,
    pub archived: bool,
}

/// A step of a series of objects.
#[derive(Clone, Debug)]
pub struct ClientStep {
    pub name: String,
    pub context: Context,
    pub dtype: String,
    pub step: i64,
    pub epoch: Option<i64>,
    /// In seconds since the Unix epoch.
    pub time: Option<f64>,
    pub objects: Vec<ClientObject>,
}

/// An object as it is stored with its series.
#[derive(Clone, Debug)]
pub struct ClientObject {
    pub value: Map,
    pub payload: Option<ClientPayload>,
}

/// The file of an object.
#[derive(Clone, Debug)]
pub struct ClientPayload {
    /// Such as `PNG`.
    pub format: String,
    pub content: Vec<u8>,
}

impl ClientArchive {
    /// Creates the folder of an archive below `output`. Its name consists of the prefix, the time and, if
    /// there is an archive of this name, a number.
    pub fn begin(
        output: &Path,
        prefix: &str,
        filters: Map,
        includes_blobs: bool,
        now: SystemTime,
    ) -> Result<Self> {
        let created = OffsetDateTime::from(now);
        fs::create_dir_all(output).map_err(file_error(output))?;
        let root = new_folder(output, &format!("{prefix}-{}", stamp(created)))?;
        let runs = root.join(RUNS);
        fs::create_dir(&runs).map_err(file_error(&runs))?;
        Ok(Self {
            root,
            created,
            filters,
            includes_blobs,
            runs: Vec::new(),
            entities: String::new(),
            entity_counts: BTreeMap::new(),
            blobs: BlobCounts::default(),
        })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Number of the complete runs.
    pub fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Blobs of the complete runs.
    pub fn blobs(&self) -> BlobCounts {
        self.blobs
    }

    pub fn add_entity(&mut self, kind: &str, entity: &ClientEntity) {
        let data = Fields::default()
            .optional_text("id", entity.id.as_deref())
            .optional_text("name", entity.name.as_deref())
            .optional_text("description", entity.description.as_deref())
            .optional_text("color", entity.color.as_deref())
            .bool("is_archived", entity.archived);
        let line = Fields::default().text("entity_type", kind).set("data", data.value());
        self.entities.push_str(&(line.json() + "\n"));
        *self.entity_counts.entry(kind.to_owned()).or_default() += 1;
    }

    pub fn begin_run(&self, run_id: &str) -> Result<ClientRun> {
        let name = run_folder(run_id);
        let folder = self.root.join(RUNS).join(&name);
        fs::create_dir(&folder).map_err(file_error(&folder))?;
        Ok(ClientRun {
            run_id: run_id.to_owned(),
            sequences: SequencesFile::create(&folder, &name)?,
            artifacts: Map::new(),
            blobs: self.includes_blobs.then(|| ClientBlobs::new(&folder)),
            payloads: 0,
            folder,
        })
    }

    /// Completes a run. Its facts may be known only now.
    pub fn finish_run(&mut self, run: ClientRun, facts: RunFacts) -> Result<()> {
        let run_id = run.run_id.clone();
        let blobs = run.finish(facts)?;
        self.blobs.files += blobs.files;
        self.blobs.bytes += blobs.bytes;
        self.runs.push(run_id);
        Ok(())
    }

    /// Writes the files that belong to no run.
    pub fn finish(&self) -> Result<()> {
        write(&self.root.join(ENTITIES), &self.entities)?;
        write(&self.root.join(MANIFEST), &(self.manifest() + "\n"))
    }

    fn manifest(&self) -> String {
        let hashes = self.runs.iter().map(|run| Value::Text(run.clone()));
        let counts = self
            .entity_counts
            .iter()
            .fold(Fields::default(), |fields, (kind, count)| fields.unsigned(kind, *count));
        Fields::default()
            .integer("format_version", VERSION)
            .text("created_at", &rfc3339(self.created))
            .unsigned("run_count", self.runs.len() as u64)
            .set("run_hashes", Value::List(hashes.collect()))
            .set("entity_counts", counts.value())
            .unsigned("blob_count", self.blobs.files)
            .unsigned("blob_bytes", self.blobs.bytes)
            .set("filters", Value::Map(self.filters.clone()))
            .bool("include_blobs", self.includes_blobs)
            .json()
    }
}

impl ClientRun {
    /// Writes points. Their type is set here, because all points of a client have the same type.
    pub fn points(&mut self, points: pb::Points) -> Result<()> {
        self.sequences.points(&pb::Points { dtype: NUMBERS.to_owned(), ..points })
    }

    /// Writes the objects of a step: a single object as it is, several as a list.
    pub fn objects(&mut self, step: ClientStep) -> Result<()> {
        let mut values = Vec::with_capacity(step.objects.len());
        for object in step.objects {
            values.push(self.store_object(&step.dtype, object)?);
        }
        let value = if values.len() == 1 { values.swap_remove(0) } else { Value::List(values) };
        let step = ObjectStep {
            name: &step.name,
            context: step.context.stored(),
            dtype: &step.dtype,
            step: step.step,
            epoch: step.epoch,
            time_us: step.time.map(microseconds),
        };
        self.sequences.object_value(step, value)
    }

    /// Writes the file of an object, if it has one, and returns the value that refers to the file.
    fn store_object(&mut self, dtype: &str, object: ClientObject) -> Result<Value> {
        let mut value = object.value;
        let Some(payload) = object.payload else { return Ok(Value::Map(value)) };
        let extension =
            if payload.format.is_empty() { "bin".to_owned() } else { payload.format.to_lowercase() };
        let path = format!("seq/{dtype}/{}.{extension}", self.payloads);
        self.payloads += 1;
        if let Some(blobs) = &mut self.blobs {
            blobs.add(&path, &mut payload.content.as_slice())?;
        }
        value.insert("format".to_owned(), Value::Text(payload.format));
        value.insert("s3_key".to_owned(), Value::Text(self.blob_key(&path)));
        Ok(Value::Map(value))
    }

    pub fn line(&mut self, line: &pb::TerminalLine) -> Result<()> {
        self.sequences.line(line)
    }

    pub fn record(&mut self, record: &pb::LogRecord) -> Result<()> {
        self.sequences.record(record)
    }

    /// Copies an artifact. In an archive without blobs, it is only listed.
    pub fn artifact(&mut self, path: &str, file: &Path) -> Result<()> {
        let fields =
            Fields::default().text("s3_key", &self.blob_key(path)).text("content_type", UNKNOWN_TYPE);
        self.artifacts.insert(path.to_owned(), fields.value());
        match &mut self.blobs {
            Some(blobs) => blobs.add(path, &mut File::open(file).map_err(file_error(file))?),
            None => Ok(()),
        }
    }

    fn blob_key(&self, path: &str) -> String {
        format!("{}/{path}", self.run_id)
    }

    fn finish(self, facts: RunFacts) -> Result<BlobCounts> {
        let (traces, _) = self.sequences.finish()?;
        let described = run_json(&self.run_id, &facts);
        let mut params = facts.params;
        params.insert(ARTIFACTS.to_owned(), Value::Map(self.artifacts));
        let files = [
            ("run.json", described + "\n"),
            ("attrs.json", json::map_text(&params, JsonStyle::ARCHIVE) + "\n"),
            ("traces.json", traces.traces_json()),
            ("contexts.json", traces.contexts_json()),
        ];
        for (name, text) in files {
            let file = self.folder.join(name);
            lines::check_size(text.len(), || file.display().to_string())?;
            write(&file, &text)?;
        }
        self.blobs.map_or(Ok(BlobCounts::default()), ClientBlobs::finish)
    }
}

/// Returns the properties of a run. Absent texts and times are left out, as is a state that the server does not know.
fn run_json(run_id: &str, facts: &RunFacts) -> String {
    let tags = facts.tags.iter().map(|tag| Fields::default().text("name", tag).value());
    let outcome = facts.state.as_deref().and_then(OutcomeKind::from_name).and_then(OutcomeKind::name);
    let times =
        [("created_at", facts.created), ("first_start_ts", facts.created), ("finalized_at", facts.ended)];
    let texts = [
        ("experiment_name", facts.experiment.as_deref()),
        ("outcome", outcome),
        ("outcome_message", facts.error.as_deref()),
    ];
    let mut fields = Fields::default()
        .text("hash", run_id)
        .text("name", &facts.name)
        .text("description", &facts.description)
        .bool("is_archived", facts.archived)
        .bool("active", facts.ended.is_none())
        .set("tags", Value::List(tags.collect()));
    for (key, time) in times {
        if let Some(time) = time {
            fields = fields.set(key, Value::Float(time));
        }
    }
    for (key, text) in texts {
        if let Some(text) = text {
            fields = fields.text(key, text);
        }
    }
    fields.json()
}

/// Creates a folder. A name that an archive of the same second has gets a number.
fn new_folder(output: &Path, name: &str) -> Result<PathBuf> {
    let mut root = output.join(name);
    let mut number = 1;
    loop {
        if !packed(&root).exists() {
            match fs::create_dir(&root) {
                Ok(()) => return Ok(root),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(file_error(&root)(error)),
            }
        }
        number += 1;
        root = output.join(format!("{name}-{number}"));
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).map_err(file_error(file))
}

#[cfg(test)]
mod tests;
