//! Object series: sequences of texts, images, audio, distributions, figures, HTML pages, point
//! clouds, and types that clients define.
//!
//! Like a metric series, an object series is identified by run, name, and context, but it is
//! numbered separately: a metric and an image series with the same name are two series. Each
//! object is one row, keyed by step. An object over 64 KiB is stored as a blob, and its row
//! holds a reference.

use bytes::Bytes;
use matyan_store::{Batch, Range, Result, Scan, Snapshot};
pub use matyan_value::singular_dtype;
use minicbor::{Decode, Encode};

use crate::{
    ids::{Project, RunNumber, SeriesNumber},
    keys::{self, SeriesKind},
    rows,
};

/// Largest value that is stored in the row itself.
pub const INLINE_BYTES: usize = rows::PIECE_BYTES;

#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ObjectHeader {
    #[n(0)]
    pub name: String,
    /// Canonical text; empty if there is no context.
    #[n(1)]
    pub context: String,
    /// Type of the last object applied.
    #[n(2)]
    pub dtype: String,
    /// Number of distinct steps.
    #[n(3)]
    pub count: u64,
    #[n(4)]
    pub first_step: i64,
    #[n(5)]
    pub last_step: i64,
}

impl ObjectHeader {
    pub fn new(name: &str, context: &str) -> Self {
        Self { name: name.to_owned(), context: context.to_owned(), ..Self::default() }
    }

    /// The step after the highest one, or 0 if there are no objects; `None` if no step
    /// remains.
    pub fn next_step(&self) -> Option<i64> {
        if self.count == 0 { Some(0) } else { self.last_step.checked_add(1) }
    }

    /// Counts an object. `is_new` says whether its step had no object before.
    pub fn add(&mut self, step: i64, dtype: &str, is_new: bool) {
        let is_first = self.count == 0;
        self.first_step = if is_first { step } else { self.first_step.min(step) };
        self.last_step = if is_first { step } else { self.last_step.max(step) };
        self.count += u64::from(is_new);
        self.dtype = singular_dtype(dtype).to_owned();
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub step: i64,
    pub epoch: Option<i64>,
    pub time_us: i64,
    pub value: ObjectValue,
}

/// An encoded value, or the blob that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectValue {
    Inline(Bytes),
    Blob(BlobRef),
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct BlobRef {
    #[n(0)]
    pub key: String,
    #[n(1)]
    pub size: u64,
    /// BLAKE3 of the content.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub hash: [u8; 32],
}

/// Header of an object row. An inline value follows it in the same row.
#[derive(Encode, Decode)]
#[cbor(array)]
struct ObjectRow {
    #[n(0)]
    epoch: Option<i64>,
    #[n(1)]
    time_us: i64,
    #[n(2)]
    blob: Option<BlobRef>,
}

pub fn object_header_put(
    batch: &mut Batch,
    project: Project,
    number: RunNumber,
    series: SeriesNumber,
    header: &ObjectHeader,
) {
    batch.set(keys::object_header(project, number, series), rows::encode(header));
}

/// Creates an object series: its row by name and context, its index row, and its header.
pub fn object_series_create(
    batch: &mut Batch,
    project: Project,
    number: RunNumber,
    series: SeriesNumber,
    header: &ObjectHeader,
    digest: &[u8; 16],
) {
    let by_name = keys::series_by_name(project, number, SeriesKind::Object, &header.name, digest);
    batch.set(by_name, rows::encode(&series.0));
    batch.set(keys::index_series_name(project, SeriesKind::Object, &header.name, number), Vec::new());
    object_header_put(batch, project, number, series, header);
}

pub async fn object_series_find(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    name: &str,
    digest: &[u8; 16],
) -> Result<Option<(SeriesNumber, ObjectHeader)>> {
    let by_name = keys::series_by_name(project, number, SeriesKind::Object, name, digest);
    let Some(series) = rows::get(snapshot, &by_name).await? else { return Ok(None) };
    let series = SeriesNumber(series);
    let key = keys::object_header(project, number, series);
    match rows::get(snapshot, &key).await? {
        Some(header) => Ok(Some((series, header))),
        None => Err(rows::corrupt(&key, &"a named series has no header")),
    }
}

/// The headers of several series, in the given order.
pub async fn object_headers_get(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    series: &[SeriesNumber],
) -> Result<Vec<Option<ObjectHeader>>> {
    let keys: Vec<_> = series.iter().map(|series| keys::object_header(project, number, *series)).collect();
    let values = snapshot.get_many(&keys).await?;
    let decoded = keys.iter().zip(values);
    decoded.map(|(key, value)| value.map(|value| rows::decode(key, &value)).transpose()).collect()
}

/// All object series of a run.
pub async fn object_series_list(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
) -> Result<Vec<(SeriesNumber, ObjectHeader)>> {
    let range = keys::object_headers(project, number);
    rows::decode_all(snapshot, &range, |key, value| {
        let (series,) = keys::tail(&range.start, key)?;
        Ok((SeriesNumber(series), rows::decode(key, value)?))
    })
    .await
}

/// About one megabyte of the headers of the object series of a run, starting at `range`
/// (`keys::object_headers` for the first page), and the range of the rest.
pub async fn object_headers_page(
    snapshot: &dyn Snapshot,
    range: &Range,
) -> Result<(Vec<ObjectHeader>, Option<Range>)> {
    let page = snapshot.scan(range, Scan::default()).await?;
    let headers = page.rows.iter().map(|(key, value)| rows::decode(key, value));
    Ok((headers.collect::<Result<_>>()?, page.rest(range)))
}

/// About one megabyte of the object series of a run, starting at `range` (`keys::object_headers` for
/// the first page), and the range of the rest. Their headers need not be readable.
pub async fn object_series_page(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    range: &Range,
) -> Result<(Vec<SeriesNumber>, Option<Range>)> {
    let all = keys::object_headers(project, number);
    let page = snapshot.scan(range, Scan::default()).await?;
    let series = page.rows.iter().map(|(key, _)| {
        let (series,) = keys::tail(&all.start, key)?;
        Ok(SeriesNumber(series))
    });
    Ok((series.collect::<Result<_>>()?, page.rest(range)))
}

pub fn object_put(
    batch: &mut Batch,
    project: Project,
    number: RunNumber,
    series: SeriesNumber,
    object: &Object,
) {
    let blob = match &object.value {
        ObjectValue::Inline(_) => None,
        ObjectValue::Blob(blob) => Some(blob.clone()),
    };
    let mut row = rows::encode(&ObjectRow { epoch: object.epoch, time_us: object.time_us, blob }).to_vec();
    if let ObjectValue::Inline(value) = &object.value {
        row.extend_from_slice(value);
    }
    batch.set(keys::object(project, number, series, object.step), row);
}

pub async fn object_get(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    series: SeriesNumber,
    step: i64,
) -> Result<Option<Object>> {
    let key = keys::object(project, number, series, step);
    snapshot.get(&key).await?.map(|value| decode(&key, &value, step)).transpose()
}

/// The objects at several steps, in the given order.
pub async fn objects_get(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    series: SeriesNumber,
    steps: &[i64],
) -> Result<Vec<Option<Object>>> {
    let keys: Vec<_> = steps.iter().map(|step| keys::object(project, number, series, *step)).collect();
    let values = snapshot.get_many(&keys).await?;
    let rows = keys.iter().zip(steps).zip(values);
    rows.map(|((key, step), value)| value.map(|value| decode(key, &value, *step)).transpose()).collect()
}

/// One page of a series, by step, and the range of the rest. Use `objects_between` for the
/// first page.
pub async fn objects_list(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    series: SeriesNumber,
    range: &Range,
    scan: Scan,
) -> Result<(Vec<Object>, Option<Range>)> {
    let prefix = keys::objects(project, number, series).start;
    let page = snapshot.scan(range, scan).await?;
    let objects = page.rows.iter().map(|(key, value)| {
        let (step,) = keys::tail(&prefix, key)?;
        decode(key, value, step)
    });
    let objects = objects.collect::<Result<_>>()?;
    let rest = page
        .rows
        .last()
        .filter(|_| page.more)
        .map(|(last, _)| if scan.reverse { range.before(last) } else { range.after(last) });
    Ok((objects, rest))
}

/// Like `objects_list`, only the steps: values are not read, if the store can avoid it.
pub async fn object_steps_list(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    series: SeriesNumber,
    range: &Range,
) -> Result<(Vec<i64>, Option<Range>)> {
    let prefix = keys::objects(project, number, series).start;
    let page = snapshot.scan(range, Scan { keys_only: true, ..Scan::DEFAULT }).await?;
    let steps = page.rows.iter().map(|(key, _)| keys::tail(&prefix, key).map(|(step,)| step));
    let rest = page.rows.last().filter(|_| page.more).map(|(last, _)| range.after(last));
    Ok((steps.collect::<Result<_>>()?, rest))
}

/// The objects from step `first` to step `last`, both included.
pub fn objects_between(
    project: Project,
    number: RunNumber,
    series: SeriesNumber,
    first: i64,
    last: i64,
) -> Range {
    let end = match last.checked_add(1) {
        Some(end) => keys::object(project, number, series, end),
        None => keys::objects(project, number, series).end,
    };
    Range::new(keys::object(project, number, series, first), end)
}

fn decode(key: &matyan_store::Key, value: &Bytes, step: i64) -> Result<Object> {
    let body = rows::body(key, value)?;
    let mut decoder = minicbor::Decoder::new(body);
    let ObjectRow { epoch, time_us, blob } = decoder.decode().map_err(|error| rows::corrupt(key, &error))?;
    let inline = value.slice_ref(&body[decoder.position()..]);
    let value = blob.map_or(ObjectValue::Inline(inline), ObjectValue::Blob);
    Ok(Object { step, epoch, time_us, value })
}

#[cfg(test)]
mod tests;
