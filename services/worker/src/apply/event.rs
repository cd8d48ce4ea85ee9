//! The effect of each event on a run. Every function returns a verdict: `Err` holds the reason
//! the event can never be applied, and is returned before anything is changed.

use matyan_model::{
    artifact::{Artifact, artifact_put},
    entity::{Entity, Experiment, Tag, entity_find, entity_find_or_create},
    ids::RunId,
    keys,
    logs::{LogRecord, log_record_put, terminal_line_put},
    object::singular_dtype,
    run::{Deletion, Head, Parent, head_get, run_delete},
};
use matyan_proto::{
    ingest::v1::{self as pb, Event, event::Kind},
    limits,
};
use matyan_value::cbor;

use super::{ApplyFailure, decode_queue::DecodedRecord, run_state::LiveState, step::Step};
use crate::record::Entry;

/// `Err` holds the reason for parking the item.
pub(super) type Verdict = Result<(), String>;

impl Step<'_> {
    pub(super) async fn apply_event(
        &mut self,
        record: &DecodedRecord,
        event: &Event,
        item: u32,
    ) -> Result<Verdict, ApplyFailure> {
        let entry = &record.entry;
        let time_us = event.client_time_us.unwrap_or(entry.received_us);
        let Some(kind) = &event.kind else {
            return Ok(Err("the event has an unknown kind".into()));
        };
        match kind {
            Kind::CreateRun(create) => self.create_run(entry, create, event.client_time_us).await,
            Kind::FinishRun(_) => self.finish_run_event(entry, event.client_time_us).await,
            Kind::SetRunProperty(set) => self.set_property(entry, set).await,
            Kind::AddTag(add) => self.add_tag(entry, &add.name).await,
            Kind::RemoveTag(remove) => self.remove_tag(entry, &remove.name).await,
            Kind::LogParams(log) => self.log_params(entry, &log.value).await,
            Kind::LogObject(object) => self.log_object(entry, object, record.blob(item), time_us).await,
            Kind::LogTerminalLine(line) => self.log_line(entry, line).await,
            Kind::LogRecord(record) => self.log_record(entry, record).await,
            Kind::BlobRef(blob) => self.blob_ref(entry, blob, time_us).await,
            Kind::DeleteRun(_) => self.delete_run(entry).await,
        }
    }

    async fn create_run(
        &mut self,
        entry: &Entry,
        create: &pb::CreateRun,
        client_time_us: Option<i64>,
    ) -> Result<Verdict, ApplyFailure> {
        let parent = self.parent(create).await?;
        let edit = self.edit(entry.received_us).await?;
        let props = &mut edit.props;
        props.set_created(entry.received_us);
        (props.active, props.is_given_up) = (true, false);
        props.finalized_us = None;
        props.duration_us = None;
        props.first_start_us = props.first_start_us.or(client_time_us);
        props.client_start_us = client_time_us.or(props.client_start_us);
        props.parent = props.parent.or(parent);
        props.updated_us = entry.received_us;
        Ok(Ok(()))
    }

    /// A missing parent is ignored: it may have been deleted while the message was in
    /// transit.
    async fn parent(&self, create: &pb::CreateRun) -> Result<Option<Parent>, ApplyFailure> {
        if create.parent_run_id.is_empty() {
            return Ok(None);
        }
        let id = RunId::new(create.parent_run_id.as_str());
        let head = head_get(self.transaction.unchecked(), self.run.project, &id).await?;
        Ok(match head {
            Some(Head::Live(number)) => Some(Parent { number: number.0, step: create.parent_step }),
            Some(Head::Tombstone(_)) | None => None,
        })
    }

    async fn finish_run_event(
        &mut self,
        entry: &Entry,
        client_time_us: Option<i64>,
    ) -> Result<Verdict, ApplyFailure> {
        let props = &mut self.edit(entry.received_us).await?.props;
        (props.active, props.is_given_up) = (false, false);
        let start_us = props.first_start_us.or(props.client_start_us);
        props.duration_us = start_us.zip(client_time_us).map(|(start, end)| end.saturating_sub(start).max(0));
        props.finalized_us = Some(match props.duration_us {
            Some(duration) => props.created_us.saturating_add(duration),
            None => entry.received_us,
        });
        props.updated_us = entry.received_us;
        Ok(Ok(()))
    }

    async fn set_property(
        &mut self,
        entry: &Entry,
        set: &pb::SetRunProperty,
    ) -> Result<Verdict, ApplyFailure> {
        self.live(entry.received_us).await?;
        let experiment = match &set.experiment {
            Some(name) => {
                let (created_us, updated_us) = (entry.received_us, entry.received_us);
                let experiment =
                    Experiment { name: name.clone(), created_us, updated_us, ..Experiment::default() };
                Some(self.named(&experiment).await?)
            }
            None => None,
        };
        let props = &mut self.edit(entry.received_us).await?.props;
        props.set_created(entry.received_us);
        props.name = set.name.clone().unwrap_or_else(|| std::mem::take(&mut props.name));
        props.description = set.description.clone().unwrap_or_else(|| std::mem::take(&mut props.description));
        props.archived = set.archived.unwrap_or(props.archived);
        props.experiment = experiment.or_else(|| props.experiment.take());
        props.updated_us = entry.received_us;
        Ok(Ok(()))
    }

    async fn add_tag(&mut self, entry: &Entry, name: &str) -> Result<Verdict, ApplyFailure> {
        self.live(entry.received_us).await?;
        let (created_us, updated_us) = (entry.received_us, entry.received_us);
        let tag = Tag { name: name.to_owned(), created_us, updated_us, ..Tag::default() };
        let id = self.named(&tag).await?;
        let edit = self.edit(entry.received_us).await?;
        edit.props.set_created(entry.received_us);
        edit.tag_add(&id);
        edit.props.updated_us = entry.received_us;
        Ok(Ok(()))
    }

    async fn remove_tag(&mut self, entry: &Entry, name: &str) -> Result<Verdict, ApplyFailure> {
        // A tag created by this transaction is not visible in its snapshot.
        let made_here = self.entities.get(&(Tag::KIND, name.to_owned())).cloned();
        let id = match made_here {
            Some(id) => Some(id),
            None => entity_find(self.transaction.unchecked(), self.run.project, Tag::KIND, name).await?,
        };
        let edit = self.edit(entry.received_us).await?;
        match id {
            Some(id) => {
                edit.tag_remove(&id);
                edit.props.updated_us = entry.received_us;
            }
            None => {
                tracing::warn!(
                    run = self.run.id.as_str(),
                    tag = name,
                    "ignored the removal of an unknown tag"
                )
            }
        }
        Ok(Ok(()))
    }

    /// Returns the id of a tag or an experiment by its name, creating it if it is missing.
    async fn named<E: Entity>(&mut self, entity: &E) -> Result<String, ApplyFailure> {
        let name = entity.unique_name().expect("tags and experiments have unique names");
        let key = (E::KIND, name.to_owned());
        if let Some(id) = self.entities.get(&key) {
            return Ok(id.clone());
        }
        let new_id = self.deps.new_id();
        let id = entity_find_or_create(&mut self.transaction, self.run.project, entity, &new_id).await?;
        self.entities.insert(key, id.clone());
        Ok(id)
    }

    async fn log_params(&mut self, entry: &Entry, value: &[u8]) -> Result<Verdict, ApplyFailure> {
        let message = match cbor::decode_map(value) {
            Ok(message) => message,
            Err(error) => return Ok(Err(format!("`value` of the params is not a map: {error}"))),
        };
        self.edit(entry.received_us).await?;
        // Taken out temporarily, because reading the params borrows the transaction.
        let mut edit = self.edit.take().expect("the document was loaded above");
        let is_empty = message.is_empty();
        let merged = edit.params_merge(self.transaction.unchecked(), message).await?;
        if merged.is_ok() && !is_empty {
            edit.props.updated_us = entry.received_us;
        }
        self.edit = Some(edit);
        let limit = limits::RUN_PARAMS_BYTES;
        Ok(merged.map_err(|bytes| format!("the run's params would have {bytes} bytes; the limit is {limit}")))
    }

    async fn log_line(&mut self, entry: &Entry, line: &pb::LogTerminalLine) -> Result<Verdict, ApplyFailure> {
        let number = self.live(entry.received_us).await?;
        let batch = self.transaction.batch();
        let writing = &mut self.state.live.writing;
        let sequence = writing.next_line;
        let bytes = terminal_line_put(batch, self.run.project, number, sequence, line.step, &line.line);
        writing.next_line += 1;
        writing.bytes += bytes as u64;
        Ok(Ok(()))
    }

    /// Stores a log record, unless the run already has the same one, for example because a
    /// client resent it.
    async fn log_record(&mut self, entry: &Entry, record: &pb::LogRecord) -> Result<Verdict, ApplyFailure> {
        for (name, value) in [("logger_info", &record.logger_info), ("extra_args", &record.extra_args)] {
            if !value.is_empty()
                && let Err(error) = cbor::decode(value)
            {
                return Ok(Err(format!("`{name}` is {error}")));
            }
        }
        let record = LogRecord {
            message: record.message.clone(),
            level: record.level,
            timestamp: record.timestamp,
            logger_info: record.logger_info.to_vec(),
            extra_args: record.extra_args.to_vec(),
        };
        let number = self.live(entry.received_us).await?;
        let digest = record.digest();
        let seen = keys::log_record_seen(self.run.project, number, &digest);
        if !self.log_records.insert(digest) || self.transaction.unchecked().get(&seen).await?.is_some() {
            return Ok(Ok(()));
        }
        let writing = &mut self.state.live.writing;
        let sequence = writing.next_log_record;
        let bytes = log_record_put(self.transaction.batch(), self.run.project, number, sequence, &record);
        writing.next_log_record += 1;
        writing.bytes += bytes as u64;
        Ok(Ok(()))
    }

    async fn blob_ref(
        &mut self,
        entry: &Entry,
        blob: &pb::BlobRef,
        time_us: i64,
    ) -> Result<Verdict, ApplyFailure> {
        if blob.path.is_empty() || blob.path.len() > limits::ARTIFACT_PATH_BYTES {
            return Ok(Err(format!(
                "`path` has {} bytes; it must have 1 to {}",
                blob.path.len(),
                limits::ARTIFACT_PATH_BYTES
            )));
        }
        if blob.key.len() > limits::BLOB_REFERENCE_BYTES {
            let (size, most) = (blob.key.len(), limits::BLOB_REFERENCE_BYTES);
            return Ok(Err(format!("`key` has {size} bytes; the limit is {most}")));
        }
        let artifact = Artifact {
            blob_key: blob.key.clone(),
            content_type: blob.content_type.clone(),
            size: blob.size,
            hash: blob.content_hash.as_ref().try_into().ok(),
            time_us,
        };
        let number = self.live(entry.received_us).await?;
        self.edit(entry.received_us).await?.props.updated_us = entry.received_us;
        artifact_put(self.transaction.batch(), self.run.project, number, &blob.path, &artifact);
        Ok(Ok(()))
    }

    async fn delete_run(&mut self, entry: &Entry) -> Result<Verdict, ApplyFailure> {
        let deletion = Deletion {
            at: entry.position,
            time_us: entry.received_us,
            caller: &entry.caller,
            project_name: &self.run.project_name,
        };
        let head = self.state.head.clone();
        let (project, id) = (self.run.project, &self.run.id);
        let head = run_delete(&mut self.transaction, project, id, head.as_ref(), deletion).await?;
        self.state.head = Some(head);
        self.state.live = LiveState::default();
        self.unresolve();
        Ok(Ok(()))
    }

    pub(super) fn object_dtype(dtype: &str) -> &str {
        if dtype.is_empty() { "custom" } else { singular_dtype(dtype) }
    }
}
