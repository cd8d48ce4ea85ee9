//! The object series of a run: numbered like metric series, with large payloads in the blob
//! store, and stored by step.

use std::collections::{HashMap, HashSet, hash_map::Entry as Slot};

use matyan_model::{
    ids::{RunNumber, SeriesNumber},
    object::{
        BlobRef, Object, ObjectHeader, ObjectValue, object_get, object_header_put, object_put,
        object_series_create, object_series_find, singular_dtype,
    },
    run::WritingState,
};
use matyan_proto::{ingest::v1::LogObject, limits};
use matyan_value::{
    Context,
    cbor::{self, CborItem, CborReader},
};

use crate::apply::{
    apply_failure::{ApplyFailure, Verdict},
    transaction::RunTransaction,
};

/// Name and context digest of a series.
type SeriesIdentity = (String, [u8; 16]);

#[derive(Debug, Default)]
pub(crate) struct ObjectSeries {
    known: HashMap<SeriesIdentity, (SeriesNumber, ObjectHeader)>,
    /// Objects written in this transaction, with their final epochs.
    written: HashMap<(SeriesNumber, i64), Option<i64>>,
    dirty_headers: HashSet<SeriesIdentity>,
}

/// An object to be written.
pub(crate) struct NewObject<'m> {
    message: &'m LogObject,
    context: Context,
    /// Location of the value if it is too large for the row.
    blob: Option<&'m BlobRef>,
    time_us: i64,
}

impl<'m> NewObject<'m> {
    /// Checks a message; `Err` holds the reason that it can never be stored.
    pub(crate) fn parse(
        message: &'m LogObject,
        blob: Option<&'m BlobRef>,
        time_us: i64,
    ) -> Result<Self, String> {
        if message.name.len() > limits::NAME_BYTES {
            let size = message.name.len();
            return Err(format!("`name` has {size} bytes; the limit is {}", limits::NAME_BYTES));
        }
        check_objects(&message.value)?;
        let context = Context::parse(&message.context).map_err(|error| error.to_string())?;
        Ok(Self { message, context, blob, time_us })
    }

    fn dtype(&self) -> &str {
        if self.message.dtype.is_empty() { "custom" } else { singular_dtype(&self.message.dtype) }
    }
}

/// Checks the objects of a step: a map, or a list of maps.
fn check_objects(encoded: &[u8]) -> Result<(), String> {
    // Nothing is built in memory, where an object may take hundreds of times its bytes.
    let is_map = || matches!(CborReader::new(encoded).item(), Ok(CborItem::Map(_)));
    match cbor::tree_weight(encoded) {
        Ok(_) if is_map() || cbor::is_list_of_maps(encoded) => Ok(()),
        Ok(_) => Err("`value` is not a map, and not a list of maps".to_owned()),
        Err(error) => Err(format!("`value` is not a map: {error}")),
    }
}

impl ObjectSeries {
    pub(crate) async fn write_object(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        number: RunNumber,
        writing: &mut WritingState,
        object: &NewObject<'_>,
    ) -> Result<Verdict, ApplyFailure> {
        let message = object.message;
        let Some((series, header)) = self.series(transaction, number, writing, object).await? else {
            return Ok(Err(format!(
                "the run has reached the limit of {} object series",
                limits::SERIES_PER_RUN
            )));
        };
        let Some(step) = message.step.or_else(|| header.next_step()) else {
            return Ok(Err("no step is left after the last one".into()));
        };
        let project = transaction.project();
        let stored = match self.written.get(&(series, step)) {
            Some(epoch) => Some(*epoch),
            None => {
                let stored = object_get(transaction.snapshot(), project, number, series, step).await?;
                stored.map(|object| object.epoch)
            }
        };
        let epoch = message.epoch.or(stored.flatten());
        let value = match object.blob {
            Some(blob) => ObjectValue::Blob(blob.clone()),
            None => ObjectValue::Inline(message.value.clone()),
        };
        let key = (message.name.clone(), object.context.digest());
        if let Some((_, header)) = self.known.get_mut(&key) {
            header.add(step, object.dtype(), stored.is_none());
        }
        self.dirty_headers.insert(key);
        self.written.insert((series, step), epoch);
        writing.bytes += message.value.len() as u64;
        writing.objects += 1;
        let row = Object { step, epoch, time_us: object.time_us, value };
        object_put(transaction.batch(), project, number, series, &row);
        Ok(Ok(()))
    }

    /// Returns the series of an object, creating it if it is missing; `None` if the run has too
    /// many.
    async fn series(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        number: RunNumber,
        writing: &mut WritingState,
        object: &NewObject<'_>,
    ) -> Result<Option<(SeriesNumber, ObjectHeader)>, ApplyFailure> {
        let name = &object.message.name;
        let digest = object.context.digest();
        let slot = match self.known.entry((name.clone(), digest)) {
            Slot::Occupied(known) => return Ok(Some(known.get().clone())),
            Slot::Vacant(slot) => slot,
        };
        let project = transaction.project();
        if let Some(found) =
            object_series_find(transaction.snapshot(), project, number, name, &digest).await?
        {
            return Ok(Some(slot.insert(found).clone()));
        }
        if writing.object_series as usize >= limits::SERIES_PER_RUN {
            return Ok(None);
        }
        let series = SeriesNumber(writing.object_series);
        writing.object_series += 1;
        let header = ObjectHeader::new(name, object.context.stored());
        object_series_create(transaction.batch(), project, number, series, &header, &digest);
        Ok(Some(slot.insert((series, header)).clone()))
    }

    /// Writes the headers that this transaction has changed.
    pub(crate) fn write_headers(&mut self, transaction: &mut RunTransaction<'_>, number: RunNumber) {
        self.written = HashMap::new();
        let project = transaction.project();
        for name in std::mem::take(&mut self.dirty_headers) {
            if let Some((series, header)) = self.known.get(&name) {
                object_header_put(transaction.batch(), project, number, *series, header);
            }
        }
    }

    /// Approximate memory use between transactions.
    pub(crate) fn bytes(&self) -> usize {
        self.known.keys().map(|(name, _)| 2 * name.len() + 128).sum()
    }
}
