//! Objects: numbered like metric series, with large payloads in the blob store, and stored by
//! step.

use std::collections::hash_map::Entry as Slot;

use bytes::Bytes;
use matyan_model::{
    ids::{RunNumber, SeriesNumber},
    object::{
        BlobRef, INLINE_BYTES, Object, ObjectHeader, ObjectValue, object_get, object_put,
        object_series_create, object_series_find,
    },
};
use matyan_proto::{ingest::v1 as pb, limits};
use matyan_value::{Context, cbor};

use super::{ApplyFailure, event::Verdict, payloads::blob_put, step::Step};
use crate::record::Entry;

impl Step<'_> {
    pub(super) async fn log_object(
        &mut self,
        entry: &Entry,
        object: &pb::LogObject,
        blob: Option<&BlobRef>,
        time_us: i64,
    ) -> Result<Verdict, ApplyFailure> {
        let context = match object_check(object) {
            Ok(context) => context,
            Err(reason) => return Ok(Err(reason)),
        };
        let number = self.live(entry.received_us).await?;
        let Some((series, header)) = self.object_series(number, &object.name, &context).await? else {
            return Ok(Err(format!(
                "the run has reached the limit of {} object series",
                limits::SERIES_PER_RUN
            )));
        };
        let Some(step) = object.step.or_else(|| header.next_step()) else {
            return Ok(Err("no step is left after the last one".into()));
        };
        let stored = match self.objects.get(&(series, step)) {
            Some(epoch) => Some(*epoch),
            None => {
                let stored =
                    object_get(self.transaction.unchecked(), self.run.project, number, series, step).await?;
                stored.map(|object| object.epoch)
            }
        };
        let epoch = object.epoch.or(stored.flatten());
        let value = self.payload(&object.value, blob).await?;
        let key = (object.name.clone(), context.digest());
        let dtype = Self::object_dtype(&object.dtype);
        if let Some((_, header)) = self.state.live.objects.get_mut(&key) {
            header.add(step, dtype, stored.is_none());
        }
        self.dirty_objects.insert(key);
        self.objects.insert((series, step), epoch);
        self.state.live.writing.bytes += object.value.len() as u64;
        let row = Object { step, epoch, time_us, value };
        object_put(self.transaction.batch(), self.run.project, number, series, &row);
        Ok(Ok(()))
    }

    /// Returns the series of this name and context, creating it if it is missing; `None` if
    /// the run has too many.
    async fn object_series(
        &mut self,
        number: RunNumber,
        name: &str,
        context: &Context,
    ) -> Result<Option<(SeriesNumber, ObjectHeader)>, ApplyFailure> {
        let slot = match self.state.live.objects.entry((name.to_owned(), context.digest())) {
            Slot::Occupied(known) => return Ok(Some(known.get().clone())),
            Slot::Vacant(slot) => slot,
        };
        let (snapshot, project) = (self.transaction.unchecked(), self.run.project);
        let digest = context.digest();
        if let Some(found) = object_series_find(snapshot, project, number, name, &digest).await? {
            return Ok(Some(slot.insert(found).clone()));
        }
        let writing = &mut self.state.live.writing;
        if writing.object_series as usize >= limits::SERIES_PER_RUN {
            return Ok(None);
        }
        let series = SeriesNumber(writing.object_series);
        writing.object_series += 1;
        let header = ObjectHeader::new(name, context.stored());
        object_series_create(self.transaction.batch(), project, number, series, &header, &digest);
        Ok(Some(slot.insert((series, header)).clone()))
    }

    /// A value in its stored form. A large value is usually uploaded in advance, except
    /// after skipped repeats, which the upload could not foresee.
    async fn payload(&self, value: &Bytes, blob: Option<&BlobRef>) -> Result<ObjectValue, ApplyFailure> {
        if value.len() <= INLINE_BYTES {
            return Ok(ObjectValue::Inline(value.clone()));
        }
        Ok(ObjectValue::Blob(match blob {
            Some(blob) => blob.clone(),
            None => blob_put(self.deps, self.run, value.clone(), "application/cbor").await?,
        }))
    }
}

/// Returns the parsed context if the object can be stored at all.
fn object_check(object: &pb::LogObject) -> Result<Context, String> {
    if object.name.len() > limits::NAME_BYTES {
        return Err(format!("`name` has {} bytes; the limit is {}", object.name.len(), limits::NAME_BYTES));
    }
    cbor::decode_map(&object.value).map_err(|error| format!("`value` is not a map: {error}"))?;
    Context::parse(&object.context).map_err(|error| error.to_string())
}
