//! One run: the event files of a folder, and their positions.

use std::{
    collections::HashMap,
    io::ErrorKind,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use matyan_channels::Channels;
use matyan_proto::{
    common::v1::{Outcome, OutcomeKind},
    ingest::v1::{CreateRun, FinishRun, SetRunProperty, event::Kind},
    limits::PARAMS_BYTES,
};
use matyan_tfrecord::{ChunkEnd, EventContent, SessionOutcome, fitting_name};
use matyan_value::{Map, Value, cbor};
use tokio::task::spawn_blocking;
use tonic::{Code, Status};

use crate::{
    batch::{RunBatch, publish},
    error::FollowError,
    file_part::{FilePart, is_same_file, read_part},
    names::{folder_label, run_id},
    object_files::store_files,
    position::{self, RunPosition},
    scan::{FileStat, FolderFiles},
    settings::FollowSettings,
};

/// A run whose files have not grown for this time has ended. It continues when they grow again.
const IDLE: Duration = Duration::from_secs(3_600);

/// Time between two writes of the position of a run that grows.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);

/// The result of one call of `advance`.
#[derive(Debug, Default)]
pub(crate) struct Advance {
    pub(crate) points: u64,
    pub(crate) objects: u64,
    /// The id of the run, if it was started.
    pub(crate) begun: Option<String>,
    pub(crate) problems: Vec<String>,
    /// True if there may be more to read.
    pub(crate) has_more: bool,
}

/// The state of a run.
#[derive(Debug)]
pub(crate) struct RunState {
    run_id: String,
    label: String,
    position: RunPosition,
    is_loaded: bool,
    /// True if the position was not written since the last change.
    is_unsaved: bool,
    saved_at: Option<Instant>,
    /// Files that are read to their end, with the size and time that they had then.
    seen: HashMap<String, FileStat>,
    /// True if the server has refused a request for the run, and would refuse the same request again.
    is_refused: bool,
}

impl RunState {
    /// A run that is not read yet. Its folder has files.
    pub(crate) fn new(folder: &Path, files: &FolderFiles) -> Self {
        let label = folder_label(folder);
        let first = files.keys().next().map(String::as_str).unwrap_or_default();
        Self {
            run_id: run_id(&label, first),
            label,
            position: RunPosition::default(),
            is_loaded: false,
            is_unsaved: false,
            saved_at: None,
            seen: HashMap::new(),
            is_refused: false,
        }
    }

    /// Whether a folder with these files still has the run: if all files of a run are gone, other files belong to a
    /// new run.
    pub(crate) fn is_of(&self, files: &FolderFiles) -> bool {
        let known = &self.position.files;
        known.is_empty() || known.keys().any(|name| files.contains_key(name))
    }

    /// Whether there is work for the run, whose folder has these files.
    pub(crate) fn has_work(&self, files: &FolderFiles) -> bool {
        if self.is_refused {
            return false;
        }
        !self.is_loaded
            || self.unread(files).is_some()
            || self.is_save_due()
            || self.idle_since(files).is_some()
    }

    /// The first file that is not read to its end.
    fn unread<'a>(&self, files: &'a FolderFiles) -> Option<(&'a String, &'a FileStat)> {
        files.iter().find(|(name, stat)| self.seen.get(*name) != Some(*stat))
    }

    /// Reads and publishes the next part of the new data, or ends the run. Cancel-safe: data that was not published
    /// is read again.
    pub(crate) async fn advance(
        &mut self,
        channels: &Channels,
        settings: &FollowSettings,
        folder: &Path,
        files: &FolderFiles,
    ) -> Result<Advance, FollowError> {
        match self.try_advance(channels, settings, folder, files).await {
            Ok(advance) => Ok(advance),
            // Other runs are not affected.
            Err(status) if status.code() == Code::InvalidArgument => {
                self.is_refused = true;
                let problem = format!("{}: left out: {}", self.shown_label(), status.message());
                Ok(Advance { problems: vec![problem], ..Advance::default() })
            }
            Err(status) => Err(status.into()),
        }
    }

    async fn try_advance(
        &mut self,
        channels: &Channels,
        settings: &FollowSettings,
        folder: &Path,
        files: &FolderFiles,
    ) -> Result<Advance, Status> {
        let mut advance = Advance::default();
        if !self.is_loaded {
            self.load(channels, files).await?;
            self.is_loaded = true;
            self.pass_read_files(&settings.root.join(folder), files).await;
        }
        self.position.files.retain(|name, _| files.contains_key(name));
        self.seen.retain(|name, _| files.contains_key(name));
        let Some((name, stat)) = self.unread(files) else {
            self.finish_if_idle(channels, files).await?;
            self.save_if_due(channels).await?;
            return Ok(advance);
        };
        let path = settings.root.join(folder).join(name);
        let known = self.position.files.get(name).cloned().unwrap_or_default();
        let plugins = self.position.plugins.clone();
        let size = stat.size;
        let read = spawn_blocking({
            let path = path.clone();
            move || read_part(&path, size, &known, plugins)
        });
        advance.has_more = true;
        let part = match read.await.expect("reading a file does not panic") {
            Ok(part) => part,
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    advance.problems.push(format!("cannot read {}: {error}", path.display()));
                }
                self.seen.insert(name.clone(), *stat);
                return Ok(advance);
            }
        };
        note_damage(&part, &path, &mut advance);
        self.publish_part(channels, settings, (name, *stat), part, &mut advance).await?;
        self.save_if_due(channels).await?;
        Ok(advance)
    }

    /// Finds out which run the folder has, and reads its position. The run may have begun with any of the files, or with
    /// a file that is gone: a file that another writer adds later may come before the others in the order of names.
    async fn load(&mut self, channels: &Channels, files: &FolderFiles) -> Result<(), Status> {
        for name in files.keys() {
            if let Some(found) = position::find(channels, run_id(&self.label, name)).await? {
                (self.run_id, self.position) = found;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Marks files that are read to their end. A file that was written again can have the same size, so its first bytes
    /// are compared.
    async fn pass_read_files(&mut self, folder: &Path, files: &FolderFiles) {
        let folder = folder.to_owned();
        let files = files.clone();
        let known = self.position.files.clone();
        let read = spawn_blocking(move || {
            let is_read = |name: &String, stat: &FileStat| {
                known.get(name).is_some_and(|known| {
                    known.offset == stat.size && is_same_file(&folder.join(name), stat.size, known)
                })
            };
            files.into_iter().filter(|(name, stat)| is_read(name, stat)).collect::<Vec<_>>()
        });
        self.seen.extend(read.await.expect("reading a file does not panic"));
    }

    async fn publish_part(
        &mut self,
        channels: &Channels,
        settings: &FollowSettings,
        (name, stat): (&str, FileStat),
        part: FilePart,
        advance: &mut Advance,
    ) -> Result<(), Status> {
        let FilePart { reading, records, position, plugins, end, .. } = part;
        let mut next = RunPosition { plugins, ..self.position.clone() };
        next.files.insert(name.to_owned(), position);
        if records > 0 {
            if !self.position.is_begun {
                // A restarted follower finds the run by its position, even if this process is killed here.
                position::begin(channels, &self.run_id).await?;
            }
            self.add_file(channels, name).await?;
            let mut batch = self.beginning(settings, &reading);
            let has_outcome = reading.outcome.is_some();
            self.fill(channels, &mut batch, reading, advance).await?;
            if let Some(refusal) = publish(channels, &self.run_id, batch).await? {
                let label = self.shown_label();
                let problem =
                    format!("{label}: the server refused {} items: {}", refusal.items, refusal.reason);
                advance.problems.push(problem);
            }
            if !next.is_begun {
                advance.begun = Some(self.run_id.clone());
            }
            next.is_begun = true;
            next.has_outcome |= has_outcome;
            next.is_finished = false;
        }
        self.position = next;
        self.is_unsaved = true;
        if end != ChunkEnd::Full {
            self.seen.insert(name.to_owned(), stat);
        }
        Ok(())
    }

    /// Makes the run known under a file that is not its first one, before any of the file's points are published.
    async fn add_file(&self, channels: &Channels, name: &str) -> Result<(), Status> {
        let id_of_file = run_id(&self.label, name);
        if id_of_file == self.run_id || self.position.files.contains_key(name) {
            return Ok(());
        }
        position::add_file(channels, &id_of_file, &self.run_id).await
    }

    /// A batch that starts the run, or resumes it.
    fn beginning(&self, settings: &FollowSettings, reading: &EventContent) -> RunBatch {
        let mut batch = RunBatch::default();
        let RunPosition { is_begun, is_finished, .. } = self.position;
        if !is_begun || is_finished {
            let created_us = reading.created_us();
            let create = CreateRun {
                force_resume: is_finished,
                created_us,
                client: "TensorBoard".to_owned(),
                ..CreateRun::default()
            };
            batch.add(Kind::CreateRun(create), reading.first_us);
        }
        if !is_begun {
            let label = if self.label.is_empty() { settings.root_name() } else { self.label.clone() };
            let properties = SetRunProperty {
                name: Some(fitting_name(&label).into_owned()),
                experiment: Some(fitting_name(&settings.experiment).into_owned()),
                ..SetRunProperty::default()
            };
            batch.add(Kind::SetRunProperty(properties), None);
            let path = Map::from([("path".to_owned(), Value::Text(label))]);
            batch.log_params(&Map::from([("tensorboard".to_owned(), Value::Map(path))]));
        }
        batch
    }

    /// Adds the content of a part of a file to a batch. Files of objects are stored first.
    async fn fill(
        &self,
        channels: &Channels,
        batch: &mut RunBatch,
        reading: EventContent,
        advance: &mut Advance,
    ) -> Result<(), Status> {
        let EventContent { points, objects, hparams, outcome, last_us, left_out, .. } = reading;
        for (reason, count) in left_out {
            advance.problems.push(format!("{}: left out: {reason} ({count})", self.shown_label()));
        }
        if !hparams.is_empty() {
            let params = Map::from([("hparams".to_owned(), Value::Map(hparams))]);
            if cbor::encode_map(&params).len() <= PARAMS_BYTES {
                batch.log_params(&params);
            } else {
                let problem = "left out hyperparameters of more than 4 MiB";
                advance.problems.push(format!("{}: {problem}", self.shown_label()));
            }
        }
        advance.objects += objects.len() as u64;
        for object in objects {
            let time_us = object.time_us;
            batch.add(store_files(channels, &self.run_id, object).await?, time_us);
        }
        advance.points += points.len() as u64;
        for point in &points {
            batch.point(&fitting_name(&point.tag), point);
        }
        if let Some(outcome) = outcome {
            batch.add(finish(Some(outcome)), last_us);
        }
        Ok(())
    }

    /// The time of the last write to a run that has not ended, if that is long ago.
    fn idle_since(&self, files: &FolderFiles) -> Option<SystemTime> {
        let RunPosition { is_begun, is_finished, has_outcome, .. } = self.position;
        if !is_begun || is_finished || has_outcome {
            return None;
        }
        let modified = files.values().map(|stat| stat.modified).max()?;
        // A time in the future comes from another clock.
        let age = SystemTime::now().duration_since(modified).unwrap_or_default();
        (age >= IDLE).then_some(modified)
    }

    async fn finish_if_idle(&mut self, channels: &Channels, files: &FolderFiles) -> Result<(), Status> {
        let Some(modified) = self.idle_since(files) else { return Ok(()) };
        let ended = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut batch = RunBatch::default();
        batch.add(finish(None), i64::try_from(ended.as_micros()).ok());
        publish(channels, &self.run_id, batch).await?;
        self.position.is_finished = true;
        self.is_unsaved = true;
        Ok(())
    }

    fn is_save_due(&self) -> bool {
        self.is_unsaved && self.saved_at.is_none_or(|saved| saved.elapsed() >= SAVE_INTERVAL)
    }

    async fn save_if_due(&mut self, channels: &Channels) -> Result<(), Status> {
        if self.is_save_due() { self.save(channels).await } else { Ok(()) }
    }

    /// Writes the position of the run.
    pub(crate) async fn save(&mut self, channels: &Channels) -> Result<(), Status> {
        if self.is_unsaved {
            position::save(channels, &self.run_id, &self.position).await?;
            self.is_unsaved = false;
            self.saved_at = Some(Instant::now());
        }
        Ok(())
    }

    /// The folder in messages.
    fn shown_label(&self) -> &str {
        if self.label.is_empty() { "." } else { &self.label }
    }
}

/// Adds the damage of a part of a file to the problems.
fn note_damage(part: &FilePart, path: &Path, advance: &mut Advance) {
    let path = path.display();
    if part.is_restarted {
        advance.problems.push(format!("{path} was replaced or truncated; reading it from its beginning"));
    }
    if let Some(first) = part.damaged.first() {
        let count = part.damaged.len();
        advance.problems.push(format!("{path}: left out {count} damaged records, the first at byte {first}"));
    }
    if part.end == ChunkEnd::Damaged {
        let at = part.position.offset;
        let problem = format!(
            "{path} is damaged at byte {at}: data before this byte is kept, and data after it cannot be read"
        );
        advance.problems.push(problem);
    }
}

fn finish(outcome: Option<SessionOutcome>) -> Kind {
    let outcome = outcome.map(|outcome| {
        let kind = match outcome {
            SessionOutcome::Finished => OutcomeKind::Finished,
            SessionOutcome::Failed => OutcomeKind::Failed,
        };
        Outcome { kind: kind.into(), message: String::new() }
    });
    Kind::FinishRun(FinishRun { outcome })
}
