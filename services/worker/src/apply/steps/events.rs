//! The effect of each event on a run. Every function returns a verdict: `Err` holds the reason
//! the event can never be applied, and is returned before anything is changed.

use matyan_model::{
    artifact::{Artifact, artifact_put},
    entity::{Entity, Experiment, Tag},
    ids::RunId,
    run::{Deletion, Head, Outcome, Parent, RunEdit, head_get},
};
use matyan_proto::{
    ingest::v1::{self as pb, Event, event::Kind},
    limits,
};
use matyan_value::cbor;

use super::{
    branch::share_series,
    edits::{EditEffect, SeriesEdit},
};
use crate::{
    apply::{
        apply_failure::{ApplyFailure, Verdict},
        decoded_record::{DecodedRecord, LargePayload},
        run_state::{RunState, goals::goal_definitions, logs::parse_log_record, object::NewObject},
        transaction::RunTransaction,
    },
    record::Entry,
};

/// Applies an event of an entry to its run.
pub(crate) struct EventWriter<'s, 'a> {
    pub(crate) transaction: &'s mut RunTransaction<'a>,
    pub(crate) run: &'s mut RunState,
    pub(crate) entry: &'s Entry,
}

impl EventWriter<'_, '_> {
    pub(crate) async fn apply_event(
        &mut self,
        record: &DecodedRecord,
        event: &Event,
        item: u32,
    ) -> Result<Verdict, ApplyFailure> {
        let time_us = event.client_time_us.unwrap_or(self.entry.received_us);
        let Some(kind) = &event.kind else {
            return Ok(Err("the event has an unknown kind".into()));
        };
        match kind {
            Kind::CreateRun(create) => self.create_run(create, event.client_time_us).await,
            Kind::FinishRun(finish) => self.finish_run(finish, event.client_time_us).await,
            Kind::SetRunProperty(set) => self.set_property(set).await,
            Kind::AddTag(add) => self.add_tag(&add.name).await,
            Kind::RemoveTag(remove) => self.remove_tag(&remove.name).await,
            Kind::LogParams(log) => self.log_params(&log.value).await,
            Kind::LogObject(object) => self.log_object(object, record.payload(item), time_us).await,
            Kind::LogTerminalLine(line) => self.log_line(line).await,
            Kind::LogRecord(record) => self.log_record(record).await,
            Kind::BlobRef(blob) => self.blob_ref(blob, time_us).await,
            Kind::EditSeries(edit) => self.edit_series(edit).await,
            Kind::DeleteRun(_) => self.delete_run().await,
        }
    }

    /// The document of the live run.
    async fn edit(&mut self) -> Result<&mut RunEdit, ApplyFailure> {
        let live = self.run.live(self.transaction, self.entry.received_us).await?;
        live.document.edit(self.transaction, live.number).await
    }

    /// Returns the id of a tag or an experiment by its name, creating it if it is missing.
    async fn entity_id<E: Entity>(&mut self, entity: &E) -> Result<String, ApplyFailure> {
        let live = self.run.live(self.transaction, self.entry.received_us).await?;
        live.document.find_or_create(self.transaction, entity).await
    }

    async fn create_run(
        &mut self,
        create: &pb::CreateRun,
        client_time_us: Option<i64>,
    ) -> Result<Verdict, ApplyFailure> {
        let parent = self.parent(create).await?;
        let received_us = self.entry.received_us;
        let edit = self.edit().await?;
        let parent = parent.filter(|_| edit.props.parent.is_none());
        let mut shared = Ok(());
        if let Some(of) = parent {
            let live = self.run.live(self.transaction, received_us).await?;
            if live.number.0 == of.number {
                return Ok(Err("`parent_run_id` is the run itself: name another one".to_owned()));
            }
            shared = share_series(self.transaction, live, of).await?;
            self.run.forget_series();
        }
        let edit = self.edit().await?;
        edit.touch(received_us);
        if let Some(parent) = parent {
            edit.set_parent(parent, RunId::new(create.parent_run_id.as_str()));
        }
        let props = &mut edit.props;
        props.set_created(create.created_us.map_or(received_us, |created_us| created_us.min(received_us)));
        props.active = true;
        props.is_given_up = false;
        props.finalized_us = None;
        props.duration_us = None;
        props.outcome = None;
        if props.client.is_none() && !create.client.is_empty() {
            props.client = Some(create.client.clone());
        }
        props.first_start_us = props.first_start_us.or(client_time_us);
        props.client_start_us = client_time_us.or(props.client_start_us);
        Ok(shared)
    }

    /// A missing parent is ignored: it may have been deleted while the message was in
    /// transit.
    async fn parent(&self, create: &pb::CreateRun) -> Result<Option<Parent>, ApplyFailure> {
        if create.parent_run_id.is_empty() {
            return Ok(None);
        }
        let id = RunId::new(create.parent_run_id.as_str());
        let head = head_get(self.transaction.snapshot(), self.transaction.project(), &id).await?;
        Ok(match head {
            Some(Head::Live(number)) => Some(Parent { number: number.0, step: create.parent_step }),
            Some(Head::Tombstone(_)) | None => None,
        })
    }

    async fn finish_run(
        &mut self,
        finish: &pb::FinishRun,
        client_time_us: Option<i64>,
    ) -> Result<Verdict, ApplyFailure> {
        let received_us = self.entry.received_us;
        let edit = self.edit().await?;
        edit.touch(received_us);
        let props = &mut edit.props;
        props.active = false;
        props.is_given_up = false;
        props.outcome = finish.outcome.as_ref().and_then(Outcome::from_api);
        let start_us = props.first_start_us.or(props.client_start_us);
        props.duration_us = start_us.zip(client_time_us).map(|(start, end)| end.saturating_sub(start).max(0));
        props.finalized_us = Some(match props.duration_us {
            Some(duration) => props.created_us.saturating_add(duration),
            None => received_us,
        });
        Ok(Ok(()))
    }

    async fn set_property(&mut self, set: &pb::SetRunProperty) -> Result<Verdict, ApplyFailure> {
        let received_us = self.entry.received_us;
        let experiment = match &set.experiment {
            Some(name) => {
                let experiment = Experiment {
                    name: name.clone(),
                    created_us: received_us,
                    updated_us: received_us,
                    ..Experiment::default()
                };
                Some(self.entity_id(&experiment).await?)
            }
            None => None,
        };
        let edit = self.edit().await?;
        edit.touch(received_us);
        let props = &mut edit.props;
        props.set_created(received_us);
        props.name = set.name.clone().unwrap_or_else(|| std::mem::take(&mut props.name));
        props.description = set.description.clone().unwrap_or_else(|| std::mem::take(&mut props.description));
        props.archived = set.archived.unwrap_or(props.archived);
        props.experiment = experiment.or_else(|| props.experiment.take());
        Ok(Ok(()))
    }

    async fn add_tag(&mut self, name: &str) -> Result<Verdict, ApplyFailure> {
        let received_us = self.entry.received_us;
        let tag =
            Tag { name: name.to_owned(), created_us: received_us, updated_us: received_us, ..Tag::default() };
        let full = || Ok(Err(format!("the run has reached the limit of {} tags", limits::TAGS_PER_RUN)));
        let live = self.run.live(self.transaction, received_us).await?;
        let has_room = live.document.edit(self.transaction, live.number).await?.props.has_room_for_tags();
        // A tag that no run gets is not created.
        if !has_room && live.document.find(self.transaction, Tag::KIND, name).await?.is_none() {
            return full();
        }
        let id = self.entity_id(&tag).await?;
        let edit = self.edit().await?;
        if !edit.tag_add(&id) {
            return full();
        }
        edit.props.set_created(received_us);
        edit.touch(received_us);
        Ok(Ok(()))
    }

    async fn remove_tag(&mut self, name: &str) -> Result<Verdict, ApplyFailure> {
        let received_us = self.entry.received_us;
        let live = self.run.live(self.transaction, received_us).await?;
        let id = live.document.find(self.transaction, Tag::KIND, name).await?;
        let edit = live.document.edit(self.transaction, live.number).await?;
        match id {
            Some(id) => {
                edit.tag_remove(&id);
                edit.touch(received_us);
            }
            None => {
                let run = self.transaction.run().id.as_str();
                tracing::warn!(run, tag = name, "ignored the removal of an unknown tag")
            }
        }
        Ok(Ok(()))
    }

    async fn log_params(&mut self, value: &[u8]) -> Result<Verdict, ApplyFailure> {
        let message = match cbor::decode_map(value) {
            Ok(message) => message,
            Err(error) => return Ok(Err(format!("`value` of the params is not a map: {error}"))),
        };
        let received_us = self.entry.received_us;
        let live = self.run.live(self.transaction, received_us).await?;
        let goals = goal_definitions(&message);
        let merged = live.document.merge_params(self.transaction, live.number, message, received_us).await?;
        if merged.is_ok() {
            live.document.define_goals(self.transaction, goals, received_us).await?;
        }
        let limit = limits::RUN_PARAMS_BYTES;
        Ok(merged.map_err(|bytes| format!("the run's params would have {bytes} bytes; the limit is {limit}")))
    }

    async fn log_object(
        &mut self,
        object: &pb::LogObject,
        payload: Option<&LargePayload>,
        time_us: i64,
    ) -> Result<Verdict, ApplyFailure> {
        let blob = match payload.and_then(|payload| payload.stored.as_ref()) {
            Some(Err(reason)) => return Ok(Err(reason.clone())),
            stored => stored.and_then(|stored| stored.as_ref().ok()),
        };
        let object = match NewObject::parse(object, blob, time_us) {
            Ok(object) => object,
            Err(reason) => return Ok(Err(reason)),
        };
        let live = self.run.live(self.transaction, self.entry.received_us).await?;
        live.objects.write_object(self.transaction, live.number, &mut live.writing, &object).await
    }

    async fn log_line(&mut self, line: &pb::LogTerminalLine) -> Result<Verdict, ApplyFailure> {
        let live = self.run.live(self.transaction, self.entry.received_us).await?;
        live.recent_lines.write(self.transaction, live.number, &mut live.writing, line);
        Ok(Ok(()))
    }

    async fn log_record(&mut self, record: &pb::LogRecord) -> Result<Verdict, ApplyFailure> {
        let record = match parse_log_record(record) {
            Ok(record) => record,
            Err(reason) => return Ok(Err(reason)),
        };
        let live = self.run.live(self.transaction, self.entry.received_us).await?;
        live.log_records.write(self.transaction, live.number, &mut live.writing, &record).await?;
        Ok(Ok(()))
    }

    async fn blob_ref(&mut self, blob: &pb::BlobRef, time_us: i64) -> Result<Verdict, ApplyFailure> {
        if blob.path.is_empty() || blob.path.len() > limits::ARTIFACT_PATH_BYTES {
            return Ok(Err(format!(
                "`path` has {} bytes; it must have 1 to {}",
                blob.path.len(),
                limits::ARTIFACT_PATH_BYTES
            )));
        }
        if blob.key.len() > limits::BLOB_REFERENCE_BYTES {
            return Ok(Err(format!(
                "`key` has {} bytes; the limit is {}",
                blob.key.len(),
                limits::BLOB_REFERENCE_BYTES
            )));
        }
        let artifact = Artifact {
            blob_key: blob.key.clone(),
            content_type: blob.content_type.clone(),
            size: blob.size,
            hash: blob.content_hash.as_ref().try_into().ok(),
            time_us,
        };
        let received_us = self.entry.received_us;
        let edit = self.edit().await?;
        edit.touch(received_us);
        let number = edit.number();
        let project = self.transaction.project();
        artifact_put(self.transaction.batch(), project, number, &blob.path, &artifact);
        Ok(Ok(()))
    }

    async fn edit_series(&mut self, edit: &pb::EditSeries) -> Result<Verdict, ApplyFailure> {
        let edit = match SeriesEdit::parse(edit) {
            Ok(edit) => edit,
            Err(reason) => return Ok(Err(reason)),
        };
        // An edit creates no run.
        let Some(number) = self.run.live_number() else { return Ok(Ok(())) };
        let effect = edit.apply(self.transaction, number).await?;
        if effect != EditEffect::None {
            self.run.forget_series();
            let live = self.run.live(self.transaction, self.entry.received_us).await?;
            live.writing.series_edits += 1;
            live.edits_series = true;
            live.writing.deleted_series += u32::from(effect == EditEffect::Dropped);
        }
        Ok(Ok(()))
    }

    async fn delete_run(&mut self) -> Result<Verdict, ApplyFailure> {
        let deletion = Deletion {
            at: self.entry.position,
            time_us: self.entry.received_us,
            now_us: self.transaction.now_us(),
            caller: &self.entry.caller,
            project_name: &self.transaction.run().project_name,
        };
        self.run.delete(self.transaction, deletion).await?;
        Ok(Ok(()))
    }
}
