//! Parsers for the files of an archived run. Files that archives made by other programs lack
//! are treated as empty.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::Path,
};

use matyan_proto::{
    backup::v1::{self as pb, piece::Content},
    common::v1::{Outcome, OutcomeKind},
};
use matyan_value::{
    Map, Value, cbor,
    json::{self, JsonStyle},
};

use super::{
    ARTIFACTS, BLOB_LIST, BLOBS, JsonObject, RUNS, Result, damaged,
    entities::cursor,
    file_error,
    lines::{self, LineReader},
    run_folder,
    run_step::{self, PIECE_BYTES, RunStep, piece},
};

fn outcome(run: &JsonObject) -> Result<Option<Outcome>> {
    let Some(name) = run.text("outcome")? else { return Ok(None) };
    let Some(kind) = OutcomeKind::from_name(&name) else {
        return Err(run.error(format!("`outcome` is unknown: `{name}`")));
    };
    Ok(Some(Outcome { kind: kind.into(), message: run.text("outcome_message")?.unwrap_or_default() }))
}

fn quarantine(quarantine: &JsonObject) -> Result<pb::Quarantine> {
    let reason = quarantine.text("reason")?.unwrap_or_default();
    Ok(pb::Quarantine { reason, since_us: quarantine.time("since")?.unwrap_or_default() })
}

fn head(run: &JsonObject, name: &str) -> Result<pb::RunHead> {
    let run_id = run.text("hash")?.unwrap_or_else(|| name.to_owned());
    if run_id != name && run_folder(&run_id) != name {
        return Err(run.error(format!("the run `{run_id}` is in the folder of another run")));
    }
    let created_us = run.time("created_at")?.or(run.time("client_start_ts")?).unwrap_or_default();
    let updated_us = run.time("updated_at")?.unwrap_or(created_us);
    let link = |id: Option<String>, name: Option<String>| match (&id, &name) {
        (None, None) => None,
        _ => Some(pb::Link { id: id.unwrap_or_default(), name: name.unwrap_or_default() }),
    };
    let tags = run.list("tags")?.into_iter();
    let tags = tags.map(|tag| Ok(link(tag.text("id")?, tag.text("name")?).unwrap_or_default()));
    let parent = run.inner("parent")?.map(|parent| {
        Ok(pb::Parent { run_id: parent.required_text("hash")?, step: parent.integer("step")? })
    });
    let client_started_us = run.time("client_start_ts")?;
    Ok(pb::RunHead {
        name: run.text("name")?.unwrap_or_else(|| matyan_value::spoken_name(&run_id)),
        description: run.text("description")?.unwrap_or_default(),
        created_us,
        updated_us,
        finalized_us: run.time("finalized_at")?,
        archived: run.bool("is_archived")?.unwrap_or_default(),
        active: run.bool("active")?.unwrap_or_default(),
        experiment: link(run.text("experiment_id")?, run.text("experiment_name")?),
        tags: tags.collect::<Result<_>>()?,
        client_started_us,
        first_started_us: run.time("first_start_ts")?.or(client_started_us),
        duration_us: run.time("duration")?,
        parent: parent.transpose()?,
        implicit: run.bool("is_implicit")?.unwrap_or_default(),
        given_up: run.bool("is_given_up")?.unwrap_or_default(),
        reopened_us: run.time("reopened_at")?,
        binned_us: run.time("binned_at")?,
        client: run.text("client")?.unwrap_or_default(),
        last_data_us: run.time("last_data_at")?.unwrap_or(updated_us),
        outcome: outcome(run)?,
        cursor: run.inner("cursor")?.map(|at| cursor(&at)).transpose()?,
        quarantine: run.inner("quarantine")?.map(|at| quarantine(&at)).transpose()?,
        run_id,
        // Read from files of their own.
        params: bytes::Bytes::new(),
    })
}

/// The description of a run, without its data.
pub struct RunDescription {
    pub head: pb::RunHead,
    /// Whether the archive has a name. Otherwise `head` has the name that a server gives such a run.
    pub is_named: bool,
    /// What the archive says of each artifact, by its path.
    artifacts: Option<JsonObject>,
}

impl RunDescription {
    pub(super) fn read(root: &Path, name: &str) -> Result<Self> {
        let file = |file: &str| format!("{RUNS}/{name}/{file}");
        let run = lines::object(root, &file("run.json"))?;
        let mut head = head(&run, name)?;
        let mut params = lines::object(root, &file("attrs.json"))?;
        let artifacts = params.inner(ARTIFACTS)?;
        head.params = params_of(root, &file("attrs.cbor"), &mut params)?;
        Ok(Self { head, is_named: run.text("name")?.is_some(), artifacts })
    }

    /// The JSON of the archive about the artifacts: an object with a member for each path.
    pub fn artifacts_json(&self) -> String {
        let entries = self.artifacts.iter().flat_map(JsonObject::entries);
        let map: Map = entries.map(|(path, facts)| (path.clone(), facts.clone())).collect();
        json::map_text(&map, JsonStyle::ARCHIVE)
    }

    pub(super) fn artifacts(&self) -> Result<Vec<pb::Artifact>> {
        let Some(artifacts) = &self.artifacts else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for (path, _) in artifacts.entries() {
            let Some(artifact) = artifacts.inner(path)? else { continue };
            found.push(pb::Artifact {
                path: path.clone(),
                blob_key: artifact.text("s3_key")?.unwrap_or_default(),
                content_type: artifact.text("content_type")?.unwrap_or_default(),
                size: artifact.unsigned("size")?,
                content_hash: artifact.bytes("blake3")?.into(),
                time_us: artifact.time("time")?.unwrap_or_default(),
            });
        }
        Ok(found)
    }
}

/// Whether a run was in the bin of its server.
pub(super) fn is_binned(root: &Path, name: &str) -> Result<bool> {
    let run = lines::object(root, &format!("{RUNS}/{name}/run.json"))?;
    Ok(run.time("binned_at")?.is_some())
}

/// Returns the exact params if the run has a file with them, otherwise those in the JSON.
fn params_of(root: &Path, exact: &str, params: &mut JsonObject) -> Result<bytes::Bytes> {
    if root.join(exact).exists() {
        let text = lines::text(root, exact)?;
        let bytes = hex::decode(text.trim()).map_err(|error| damaged(exact, error.to_string()))?;
        cbor::decode_map(&bytes).map_err(|error| damaged(exact, error.to_string()))?;
        return Ok(bytes.into());
    }
    let map: Map =
        params.entries().filter(|(key, _)| *key != ARTIFACTS).map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok(cbor::encode_map(&map).into())
}

/// Reads the traces, the only file that is a JSON list; wrapping it makes it an object like the
/// others.
pub(super) fn traces(root: &Path, file: &str) -> Result<Vec<JsonObject>> {
    let text = format!("{{\"traces\": {}}}", lines::text(root, file)?);
    JsonObject::parse(Path::new(file), 0, &text)?.list("traces")
}

pub(super) fn producers(root: &Path, file: &str) -> Result<Vec<pb::Piece>> {
    let mut pieces = Vec::new();
    let Some(mut lines) = LineReader::open(root, file, 0)? else { return Ok(pieces) };
    while let Some(line) = lines.next()? {
        let id = bytes::Bytes::from(line.bytes("producer")?);
        let mut definitions = Vec::new();
        for one in line.list("definitions")? {
            let text = |key: &str| Ok::<_, super::Error>(one.text(key)?.unwrap_or_default());
            definitions.push(pb::Definition {
                name: text("name")?,
                context: text("context")?,
                dtype: text("dtype")?,
            });
        }
        pieces.push(piece(match line.unsigned("sequence")? {
            Some(sequence) => Content::Producer(pb::Producer {
                id,
                sequence,
                items: line.number("items")?,
                seen_us: line.time("seen_at")?.unwrap_or_default(),
            }),
            None => Content::Dictionary(pb::Dictionary {
                producer: id,
                first: line.number("first")?,
                definitions,
            }),
        }));
    }
    Ok(pieces)
}

pub(super) fn log_record(line: &JsonObject, value: Value) -> Result<(Content, usize)> {
    let Value::Map(map) = value else { return Err(line.error("`value` is not a log record")) };
    let value = line.with(map);
    // A field of another type was already converted by the program that wrote the archive.
    let part = |key: &str, is_good: fn(&Value) -> bool| match value.exact(key)? {
        Some(part) if is_good(&part) => Ok::<_, super::Error>(cbor::encode(&part)),
        _ => Ok(Vec::new()),
    };
    let timestamp = match value.exact("timestamp")? {
        Some(Value::Float(float)) => float,
        _ => value.float("timestamp")?.unwrap_or_default(),
    };
    let record = pb::LogRecord {
        message: value.text("message")?.unwrap_or_default(),
        level: level(&value)?,
        timestamp,
        logger_info: part("logger_info", |part| matches!(part, Value::List(_)))?.into(),
        extra_args: part("args", |part| matches!(part, Value::Map(_)))?.into(),
    };
    let bytes = record.message.len() + record.logger_info.len() + record.extra_args.len() + PIECE_BYTES;
    Ok((Content::Record(record), bytes))
}

/// Parses a level: a number, or its name in Python's logging.
fn level(value: &JsonObject) -> Result<i64> {
    const NAMES: [(&str, i64); 6] =
        [("CRITICAL", 50), ("ERROR", 40), ("WARNING", 30), ("INFO", 20), ("DEBUG", 10), ("NOTSET", 0)];
    match value.get("log_level") {
        Some(Value::Text(name)) => {
            let known = NAMES.iter().find(|(known, _)| known == name).map(|(_, level)| *level);
            // Python calls a level without a name `Level 42`.
            let level = known.or_else(|| name.strip_prefix("Level ")?.parse().ok());
            level.ok_or_else(|| value.error(format!("`log_level`: `{name}` is not a log level")))
        }
        _ => Ok(value.integer("log_level")?.unwrap_or_default()),
    }
}

/// Returns the files below `blobs`, sorted, with their content types where known.
pub(super) fn blobs(root: &Path, folder: &str, artifacts: &[pb::Artifact]) -> Result<VecDeque<RunStep>> {
    // Keyed by file: the path of the blob and its content type.
    let mut described: BTreeMap<String, (String, String)> = BTreeMap::new();
    for artifact in artifacts {
        let described_by = (artifact.path.clone(), artifact.content_type.clone());
        described.insert(artifact.path.clone(), described_by);
    }
    if let Some(mut lines) = LineReader::open(root, &format!("{folder}/{BLOB_LIST}"), 0)? {
        while let Some(line) = lines.next()? {
            let path = line.required_text("path")?;
            let file = line.text("file")?.unwrap_or_else(|| path.clone());
            described.insert(file, (path, line.text("content_type")?.unwrap_or_default()));
        }
    }
    let mut steps = VecDeque::new();
    for (name, number) in files(&root.join(folder).join(BLOBS))?.into_iter().zip(1..) {
        let file = root.join(folder).join(BLOBS).join(&name);
        let size = fs::metadata(&file).map_err(file_error(&file))?.len();
        // A file that is not described anywhere is named by its path.
        let (path, content_type) = described.remove(&name).unwrap_or((name, String::new()));
        let blob = pb::Blob { path, content_type, size };
        steps.push_back(RunStep::Blob { blob, file, position: run_step::BLOBS | number });
    }
    Ok(steps)
}

/// Returns the paths below a folder, sorted.
fn files(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop().filter(|next| next.is_dir()) {
        for entry in fs::read_dir(&next).map_err(file_error(&next))? {
            let path = entry.map_err(file_error(&next))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(name) = path.strip_prefix(folder).ok().and_then(Path::to_str) {
                found.push(name.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Returns the blob files by the stem of their name, which an archive made over REST derives
/// from opaque URIs.
pub(super) fn payloads(root: &Path, folder: &str) -> Result<BTreeMap<String, String>> {
    let paths = files(&root.join(folder).join(BLOBS))?.into_iter();
    Ok(paths.map(|path| (sanitised(path.rsplit('/').next().unwrap_or_default()), path)).collect())
}

/// Converts an opaque URI the way such archives derive file names from it.
pub(super) fn sanitised(text: &str) -> String {
    text.chars().map(|it| if it.is_ascii_alphanumeric() || "-_.".contains(it) { it } else { '_' }).collect()
}
