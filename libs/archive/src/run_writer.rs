//! Writes one run as files, from the pieces that a server sends. The run is written to a
//! separate folder and moved to its final one when it is complete, so that an interrupted
//! backup contains complete runs only.

use std::{
    fs,
    path::{Path, PathBuf},
};

use matyan_proto::backup::v1::{self as pb, lost_blob::What, piece::Content};
use matyan_value::{
    Map, Value, cbor,
    json::{self, JsonStyle},
};

use super::{
    ARTIFACTS, BLOB_LIST, BLOBS, Fields, LOST, PARKED, PARTS, RUNS, Result,
    blob_file::BlobFile,
    checksums::{Checksums, SummedFile, append},
    damaged, durable,
    entities::cursor_fields,
    file_error, lines,
    parked_items::parked_fields,
    run_folder,
    sequences_file::SequencesFile,
};

pub struct RunWriter {
    root: PathBuf,
    folder: PartialFolder,
    head: pb::RunHead,
    artifacts: Map,
    sequences: SequencesFile,
    producers: String,
    /// Created with the first parked item.
    parked: Option<SummedFile>,
    blobs: String,
    lost: String,
}

/// Folder of a run that is being written, with the checksums of its files.
struct PartialFolder {
    path: PathBuf,
    /// Name of the final folder.
    name: String,
    sums: Checksums,
}

impl PartialFolder {
    /// Writes a file that readers load completely, so its size is limited.
    fn object_file(&mut self, name: &str, text: &str) -> Result<()> {
        lines::check_size(text.len(), || format!("{RUNS}/{}/{name}", self.name))?;
        self.file(name, text)
    }

    fn file(&mut self, name: &str, text: &str) -> Result<()> {
        let mut file = SummedFile::create(&self.path.join(name))?;
        file.write(text.as_bytes())?;
        self.sums.insert(format!("{RUNS}/{}/{name}", self.name), file.finish()?);
        Ok(())
    }
}

impl RunWriter {
    pub(super) fn begin(root: &Path, head: pb::RunHead) -> Result<Self> {
        let name = run_folder(&head.run_id);
        let folder = root.join(PARTS).join(&name);
        // Left by an interrupted attempt.
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(file_error(&folder))?;
        }
        fs::create_dir_all(&folder).map_err(file_error(&folder))?;
        Ok(Self {
            sequences: SequencesFile::create(&folder, &name)?,
            root: root.to_owned(),
            folder: PartialFolder { path: folder, name, sums: Checksums::new() },
            head,
            artifacts: Map::new(),
            producers: String::new(),
            parked: None,
            blobs: String::new(),
            lost: String::new(),
        })
    }

    pub fn add(&mut self, piece: pb::Piece) -> Result<()> {
        match piece.content {
            Some(Content::Points(points)) => self.sequences.points(&points)?,
            Some(Content::Object(object)) => self.sequences.object(&object)?,
            Some(Content::Line(line)) => self.sequences.line(&line)?,
            Some(Content::Record(record)) => self.sequences.record(&record)?,
            Some(Content::Artifact(artifact)) => self.artifact(artifact),
            Some(Content::Producer(producer)) => self.producer(&producer),
            Some(Content::Dictionary(dictionary)) => self.dictionary(&dictionary),
            Some(Content::Parked(item)) => self.parked(&item)?,
            None => {
                return Err(damaged(
                    &self.folder.name,
                    "the server sent an unknown kind of data: use a newer client",
                ));
            }
        }
        Ok(())
    }

    fn artifact(&mut self, artifact: pb::Artifact) {
        let fields = Fields::default()
            .text("s3_key", &artifact.blob_key)
            .text("content_type", &artifact.content_type)
            .time("time", artifact.time_us);
        let fields = match artifact.size {
            Some(size) => fields.unsigned("size", size),
            None => fields,
        };
        let fields = if artifact.content_hash.is_empty() {
            fields
        } else {
            fields.text("blake3", &hex::encode(&artifact.content_hash))
        };
        self.artifacts.insert(artifact.path, fields.value());
    }

    fn producer(&mut self, producer: &pb::Producer) {
        let fields = Fields::default()
            .text("producer", &hex::encode(&producer.id))
            .unsigned("sequence", producer.sequence)
            .unsigned("items", producer.items.into())
            .time("seen_at", producer.seen_us);
        self.producers.push_str(&(fields.json() + "\n"));
    }

    fn dictionary(&mut self, dictionary: &pb::Dictionary) {
        let definitions = Value::List(
            dictionary
                .definitions
                .iter()
                .map(|one| {
                    Fields::default()
                        .text("name", &one.name)
                        .text("context", &one.context)
                        .text("dtype", &one.dtype)
                        .value()
                })
                .collect(),
        );
        let fields = Fields::default()
            .text("producer", &hex::encode(&dictionary.producer))
            .unsigned("first", dictionary.first.into())
            .set("definitions", definitions);
        self.producers.push_str(&(fields.json() + "\n"));
    }

    fn parked(&mut self, item: &pb::ParkedItem) -> Result<()> {
        let line = parked_fields(item).json() + "\n";
        lines::check_size(line.len(), || format!("{RUNS}/{}/{PARKED}", self.folder.name))?;
        let file = match &mut self.parked {
            Some(file) => file,
            empty => empty.insert(SummedFile::create(&self.folder.path.join(PARKED))?),
        };
        file.write(line.as_bytes())
    }

    /// Records a blob that the server could not send because its blob store has lost it.
    pub fn record_lost_blob(&mut self, lost: &pb::LostBlob) {
        let fields = Fields::default().text("s3_key", &lost.blob_key);
        let fields = match &lost.what {
            Some(What::Artifact(path)) => fields.text("artifact", path),
            Some(What::Payload(payload)) => fields
                .text("name", &payload.name)
                .text("context", &payload.context)
                .integer("step", payload.step),
            None => fields,
        };
        self.lost.push_str(&(fields.json() + "\n"));
    }

    /// Returns the folder in which blob files are created.
    pub fn folder(&self) -> PathBuf {
        self.folder.path.clone()
    }

    pub fn finish_blob(&mut self, blob: BlobFile) -> Result<()> {
        let fields = Fields::default()
            .text("path", &blob.blob.path)
            .text("content_type", &blob.blob.content_type)
            .unsigned("size", blob.blob.size);
        let fields = if blob.name == blob.blob.path { fields } else { fields.text("file", &blob.name) };
        self.blobs.push_str(&(fields.json() + "\n"));
        self.folder.sums.insert(format!("{RUNS}/{}/{BLOBS}/{}", self.folder.name, blob.name), blob.finish()?);
        Ok(())
    }

    /// Writes the files whose content is known only at the end, and moves the run to its
    /// final folder.
    pub fn finish(mut self) -> Result<()> {
        let (traces, sequences_sum) = self.sequences.finish()?;
        let mut params = if self.head.params.is_empty() {
            Map::new()
        } else {
            cbor::decode_map(&self.head.params)
                .map_err(|error| damaged(&self.folder.name, error.to_string()))?
        };
        let whole = Value::Map(params.clone());
        // JSON cannot represent these params exactly.
        if json::is_lossy(&whole) {
            self.folder.object_file("attrs.cbor", &hex::encode(cbor::encode(&whole)))?;
        }
        params.insert(ARTIFACTS.to_owned(), Value::Map(std::mem::take(&mut self.artifacts)));
        self.folder.object_file("attrs.json", &json::map_text(&params, JsonStyle::ARCHIVE))?;
        self.folder.object_file("run.json", &run_json(&self.head))?;
        self.folder.object_file("traces.json", &traces.traces_json())?;
        self.folder.object_file("contexts.json", &traces.contexts_json())?;
        for (name, text) in [
            ("producers.jsonl", std::mem::take(&mut self.producers)),
            (BLOB_LIST, std::mem::take(&mut self.blobs)),
            (LOST, std::mem::take(&mut self.lost)),
        ] {
            if !text.is_empty() {
                self.folder.file(name, &text)?;
            }
        }
        if let Some(parked) = self.parked.take() {
            self.folder.sums.insert(format!("{RUNS}/{}/{PARKED}", self.folder.name), parked.finish()?);
        }
        self.folder.sums.insert(format!("{RUNS}/{}/sequences.jsonl", self.folder.name), sequences_sum);
        // The files must be on disk before the run appears.
        durable::sync_all(&self.folder.path)?;
        let runs = self.root.join(RUNS);
        let folder = runs.join(&self.folder.name);
        fs::rename(&self.folder.path, &folder).map_err(file_error(&folder))?;
        durable::sync(&runs)?;
        // A run counts as complete once all of its files are listed, so this comes last.
        append(&self.root, &self.folder.sums)
    }
}

fn run_json(head: &pb::RunHead) -> String {
    // All fields are named, so that the compiler reports a new one.
    let pb::RunHead {
        run_id,
        name,
        description,
        created_us,
        updated_us,
        finalized_us,
        archived,
        active,
        experiment,
        tags,
        client_started_us,
        first_started_us,
        duration_us,
        parent,
        implicit,
        // In files of their own.
        params: _,
        last_data_us,
        cursor,
        given_up,
        reopened_us,
        outcome,
        quarantine,
        binned_us,
        client,
    } = head;
    let experiment = experiment.as_ref();
    let tags = tags.iter().map(|tag| Fields::default().text("id", &tag.id).text("name", &tag.name).value());
    let fields = Fields::default()
        .text("hash", run_id)
        .text("name", name)
        .text("description", description)
        .time("created_at", *created_us)
        .time("updated_at", *updated_us)
        .optional_time("finalized_at", *finalized_us)
        .bool("is_archived", *archived)
        .bool("active", *active)
        .optional_text("experiment_id", experiment.map(|link| link.id.as_str()))
        .optional_text("experiment_name", experiment.map(|link| link.name.as_str()))
        .set("tags", Value::List(tags.collect()))
        .optional_time("client_start_ts", *client_started_us)
        .optional_time("first_start_ts", *first_started_us)
        .optional_time("duration", *duration_us)
        .bool("is_implicit", *implicit)
        .bool("is_given_up", *given_up)
        .optional_time("reopened_at", *reopened_us)
        .time("last_data_at", *last_data_us)
        .optional_text("outcome", outcome.as_ref().and_then(|outcome| outcome.kind().name()))
        .optional_text("outcome_message", outcome.as_ref().map(|outcome| outcome.message.as_str()));
    let fields = if client.is_empty() { fields } else { fields.text("client", client) };
    // Left out of runs that are not in the bin, so that archives of older versions stay the same.
    let fields = match binned_us {
        Some(binned_us) => fields.time("binned_at", *binned_us),
        None => fields,
    };
    let fields = match parent {
        Some(parent) => fields.set("parent", parent_fields(parent).value()),
        None => fields,
    };
    let fields = match quarantine {
        Some(quarantine) => fields.set("quarantine", quarantine_fields(quarantine).value()),
        None => fields,
    };
    match cursor {
        Some(cursor) => fields.set("cursor", cursor_fields(cursor).value()).json(),
        None => fields.json(),
    }
}

fn parent_fields(parent: &pb::Parent) -> Fields {
    let step = parent.step.map_or(Value::Null, Value::Integer);
    Fields::default().text("hash", &parent.run_id).set("step", step)
}

fn quarantine_fields(quarantine: &pb::Quarantine) -> Fields {
    Fields::default().text("reason", &quarantine.reason).time("since", quarantine.since_us)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_run_appears_only_when_it_is_complete() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(RUNS)).unwrap();
        let head = pb::RunHead { run_id: "r".into(), ..Default::default() };
        let mut run = RunWriter::begin(root.path(), head.clone()).unwrap();
        let line = pb::TerminalLine { number: 1, text: "x".into() };
        run.add(pb::Piece { content: Some(Content::Line(line)) }).unwrap();
        drop(run);
        assert!(!root.path().join("runs/r").exists());
        let run = RunWriter::begin(root.path(), head).unwrap();
        run.finish().unwrap();
        let names: HashSet<_> = fs::read_dir(root.path().join("runs/r"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let expected = ["run.json", "attrs.json", "traces.json", "contexts.json", "sequences.jsonl"];
        assert_eq!(names, expected.map(str::to_owned).into());
        assert_eq!(fs::read_to_string(root.path().join("runs/r/sequences.jsonl")).unwrap(), "");
    }
}
