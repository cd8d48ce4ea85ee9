//! Encodes a decoded frame as `IngestionBatch`es, with metrics in columns that refer to the
//! connection's series dictionary. Metrics that a client logs in the same order at every step become rows: series
//! get their numbers in the order in which they are first logged, so these are neighbors.
//! A batch is encoded only once: the same bytes go through the frontier into the log. A frame
//! becomes one batch, unless it exceeds the advised size.

use std::hash::BuildHasher;
use std::iter::Sum;

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};
use matyan_proto::ingest::v1 as pb;
use matyan_proto::limits::{BATCH_ADVISED_BYTES, BATCH_BYTES, SERIES_PER_RUN};
use matyan_wire::{
    client_json::{Frame, Metric, Rejection},
    row_groups,
};
use prost::Message;

/// Maximum encoded size of a point: its number, its value, and three columns.
const MAX_POINT_BYTES: usize = 5 + 8 + 3 * 10;

/// Maximum overhead of an element of a repeated field.
const ELEMENT_OVERHEAD_BYTES: usize = 16;

/// Minimum size of a metric in a frame: the names of its members alone are longer.
const MIN_METRIC_BYTES: usize = 100;

/// The series named so far on a connection: (name, context, dtype) to number, in order of first
/// appearance.
#[derive(Default)]
pub struct Dictionary {
    /// The texts of all series, one after another: separate strings would take several times as
    /// much memory.
    texts: String,
    series: Vec<SeriesEnds>,
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The number that was found last. Training code logs its series in the same order in
    /// each step, so the next one is the best guess, and comparing is five times faster
    /// than hashing.
    last: usize,
}

/// The ends of the texts of a series, which start where the texts of the series before it end. The
/// ends are far below 4 GiB, because `has_room` limits a dictionary to the size of a frame.
#[derive(Clone, Copy)]
struct SeriesEnds {
    name: u32,
    context: u32,
    dtype: u32,
}

/// Name, context and dtype.
type DefinitionTexts<'a> = (&'a str, &'a str, &'a str);

impl Dictionary {
    /// Returns whether the dictionary can take all series of a frame of `frame_bytes`
    /// bytes, and still be resent in one message. An empty dictionary has room for any
    /// frame.
    pub fn has_room(&self, frame_bytes: usize) -> bool {
        let bytes = self.encoded_bytes() + frame_bytes;
        let series = self.series.len() + frame_bytes / MIN_METRIC_BYTES;
        self.series.is_empty() || (bytes <= BATCH_BYTES && series <= SERIES_PER_RUN)
    }

    /// Upper bound of the size of all definitions in a message.
    fn encoded_bytes(&self) -> usize {
        self.texts.len() + self.series.len() * ELEMENT_OVERHEAD_BYTES
    }

    /// The memory that the dictionary takes.
    pub fn held_bytes(&self) -> usize {
        self.texts.capacity()
            + self.series.capacity() * size_of::<SeriesEnds>()
            + self.numbers.allocation_size()
    }

    /// Encodes the first `len` definitions, or all, for reopening a stream.
    pub fn encode(&self, len: Option<u32>) -> Bytes {
        self.encode_range(0, len)
    }

    fn encode_range(&self, first: u32, end: Option<u32>) -> Bytes {
        let end = end.map_or(self.series.len(), |end| end as usize);
        let series = (first as usize..end).map(|number| definition(self.texts(number))).collect();
        pb::IngestionBatch { series, series_base: first, ..Default::default() }.encode_to_vec().into()
    }

    fn texts(&self, number: usize) -> DefinitionTexts<'_> {
        let start = number.checked_sub(1).map_or(0, |before| self.series[before].dtype as usize);
        let SeriesEnds { name, context, dtype } = self.series[number];
        let name = name as usize;
        let context = context as usize;
        let dtype = dtype as usize;
        (&self.texts[start..name], &self.texts[name..context], &self.texts[context..dtype])
    }

    fn find(&mut self, metric: &Metric<'_>) -> Option<u32> {
        let texts = (&*metric.name, &*metric.context, &*metric.dtype);
        let guess = if self.last + 1 < self.series.len() { self.last + 1 } else { 0 };
        if guess < self.series.len() && self.texts(guess) == texts {
            self.last = guess;
            return Some(guess as u32);
        }
        let hash = self.hasher.hash_one(texts);
        let number = *self.numbers.find(hash, |number| self.texts(*number as usize) == texts)?;
        self.last = number as usize;
        Some(number)
    }

    fn insert(&mut self, metric: &Metric<'_>) -> pb::SeriesDef {
        let texts = (&*metric.name, &*metric.context, &*metric.dtype);
        let end_of = |text: &str, all: &mut String| {
            all.push_str(text);
            all.len() as u32
        };
        self.last = self.series.len();
        let name = end_of(texts.0, &mut self.texts);
        let context = end_of(texts.1, &mut self.texts);
        let dtype = end_of(texts.2, &mut self.texts);
        self.series.push(SeriesEnds { name, context, dtype });
        let hash = self.hasher.hash_one(texts);
        let number = self.last as u32;
        // The table needs the hashes of all others when it grows.
        let mut numbers = std::mem::take(&mut self.numbers);
        numbers.insert_unique(hash, number, |number| self.hasher.hash_one(self.texts(*number as usize)));
        self.numbers = numbers;
        definition(texts)
    }
}

fn definition((name, context, dtype): DefinitionTexts<'_>) -> pb::SeriesDef {
    pb::SeriesDef { name: name.to_owned(), context: context.to_owned(), dtype: dtype.to_owned() }
}

fn definition_bytes(metric: &Metric<'_>) -> usize {
    metric.name.len() + metric.context.len() + metric.dtype.len() + ELEMENT_OVERHEAD_BYTES
}

/// An encoded batch and its number of items, which maps item numbers back to the frame.
#[derive(Debug, PartialEq)]
pub struct Batch {
    pub bytes: Bytes,
    pub items: ItemCounts,
    /// Size of the dictionary before this batch.
    pub series_base: u32,
    /// Trace context of the frame's span; empty if it is not exported.
    pub traceparent: String,
}

impl Batch {
    /// A batch that only defines the series of this one, up to the size of the dictionary after it.
    pub(super) fn without_items(&self, dictionary: &Dictionary, end: Option<u32>) -> Self {
        Batch {
            bytes: dictionary.encode_range(self.series_base, end),
            items: ItemCounts::default(),
            series_base: self.series_base,
            traceparent: self.traceparent.clone(),
        }
    }

    /// Whether it only defines series. No frame makes such a batch.
    pub(super) fn is_without_items(&self) -> bool {
        self.items == ItemCounts::default()
    }
}

/// Numbers of items of a batch. Events are numbered first, as `batch.proto` specifies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemCounts {
    pub events: u32,
    pub points: u32,
}

/// Encodes a frame of `run_id`. An item too large for any batch is added to the frame's
/// rejections.
pub fn encode(run_id: &str, frame: &mut Frame<'_>, dictionary: &mut Dictionary) -> Vec<Batch> {
    let mut builder = BatchBuilder::new(dictionary);
    for (mut event, item) in std::mem::take(&mut frame.events).into_iter().zip(&frame.event_items) {
        set_blob_key(run_id, &mut event);
        if !builder.event(event) {
            let reason = format!("larger than {BATCH_BYTES} bytes when encoded");
            frame.rejections.push(Rejection { item: *item, field: "".into(), reason: reason.into() });
        }
    }
    for metric in &frame.metrics {
        builder.point(metric);
    }
    builder.flush();
    builder.done
}

/// Sets the key of a blob, which presigning derives from the run in the URL and the path,
/// ignoring the key sent by the client.
fn set_blob_key(run_id: &str, event: &mut pb::Event) {
    if let Some(pb::event::Kind::BlobRef(blob)) = &mut event.kind {
        blob.key = format!("{run_id}/{}", blob.path);
    }
}

struct BatchBuilder<'d> {
    dictionary: &'d mut Dictionary,
    batch: pb::IngestionBatch,
    points: pb::Points,
    bytes: usize,
    done: Vec<Batch>,
}

impl<'d> BatchBuilder<'d> {
    fn new(dictionary: &'d mut Dictionary) -> Self {
        let series_base = dictionary.series.len() as u32;
        let batch = pb::IngestionBatch { series_base, ..Default::default() };
        BatchBuilder { dictionary, batch, points: pb::Points::default(), bytes: 0, done: Vec::new() }
    }

    /// Adds an event. Returns false if it does not fit in any batch.
    fn event(&mut self, event: pb::Event) -> bool {
        let bytes = event.encoded_len() + ELEMENT_OVERHEAD_BYTES;
        if bytes > BATCH_BYTES {
            return false;
        }
        self.make_room(bytes);
        self.batch.events.push(event);
        true
    }

    fn point(&mut self, metric: &Metric<'_>) {
        let known = self.dictionary.find(metric);
        let new_bytes = if known.is_some() { 0 } else { definition_bytes(metric) };
        // This may flush, so it must precede adding the definition to the dictionary and the batch.
        self.make_room(MAX_POINT_BYTES + new_bytes);
        let number = known.unwrap_or_else(|| {
            let number = self.dictionary.series.len() as u32;
            self.batch.series.push(self.dictionary.insert(metric));
            number
        });
        self.points.series.push(number);
        self.points.values.push(metric.value);
        self.points.steps.push(metric.step);
        self.points.epochs.push(metric.epoch);
        self.points.times_us.push(metric.time_us);
    }

    /// Starts another batch if adding `bytes` would exceed the advised size.
    fn make_room(&mut self, bytes: usize) {
        if self.bytes > 0 && self.bytes + bytes > BATCH_ADVISED_BYTES {
            self.flush();
        }
        self.bytes += bytes;
    }

    fn flush(&mut self) {
        let next =
            pb::IngestionBatch { series_base: self.dictionary.series.len() as u32, ..Default::default() };
        let mut batch = std::mem::replace(&mut self.batch, next);
        let points = std::mem::take(&mut self.points);
        self.bytes = 0;
        let items = ItemCounts { events: batch.events.len() as u32, points: points.values.len() as u32 };
        if items == ItemCounts::default() {
            return;
        }
        if items.points > 0 {
            batch.points = row_groups::grouped(points);
        }
        let series_base = batch.series_base;
        let bytes = batch.encode_to_vec().into();
        self.done.push(Batch { bytes, items, series_base, traceparent: String::new() });
    }
}

impl Sum for ItemCounts {
    fn sum<I: Iterator<Item = Self>>(batches: I) -> Self {
        batches.fold(ItemCounts::default(), |sum, it| ItemCounts {
            events: sum.events + it.events,
            points: sum.points + it.points,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::item_index::ItemIndex;
    use matyan_wire::client_json::decode_frame;

    use super::*;

    const RUN: &str = "r";

    fn metric(name: &str, step: &str, time: u32) -> String {
        format!(
            r#"{{"type":"log_metric","name":"{name}","value":{time},"step":{step},"epoch":null,"context":null,
               "dtype":"float","client_datetime":{time}}}"#
        )
    }

    fn encode_text(text: &str, dictionary: &mut Dictionary) -> Vec<(pb::IngestionBatch, ItemCounts)> {
        let mut frame = decode_frame(text.as_bytes()).unwrap();
        assert!(frame.rejections.is_empty(), "{:?}", frame.rejections);
        let batches = encode(RUN, &mut frame, dictionary);
        batches.iter().map(|it| (pb::IngestionBatch::decode(&*it.bytes).unwrap(), it.items)).collect()
    }

    #[test]
    fn series_are_defined_once_and_numbered_consecutively() {
        let mut dictionary = Dictionary::default();
        let frame = format!("[{}, {}, {}]", metric("a", "1", 5), metric("b", "1", 5), metric("a", "2", 5));
        let (batch, items) = encode_text(&frame, &mut dictionary).remove(0);
        assert_eq!(items, ItemCounts { events: 0, points: 3 });
        assert_eq!(batch.series.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(batch.points[0].series, [0, 1, 0]);
        assert_eq!(batch.points[0].values, [5.0; 3]);
        assert_eq!(batch.points[0].steps, [1, 1, 2]);
        assert_eq!(batch.points[0].times_us, [5_000_000]);
        assert_eq!(batch.points[0].epochs, [] as [i64; 0]);

        let frame = format!("[{}, {}]", metric("c", "null", 6), metric("b", "null", 7));
        let (batch, _) = encode_text(&frame, &mut dictionary).remove(0);
        assert_eq!((batch.series_base, batch.series.len()), (2, 1));
        assert_eq!(batch.points[0].series, [2, 1]);
        assert_eq!(batch.points[0].steps, [] as [i64; 0]);
        assert_eq!(batch.points[0].times_us, [6_000_000, 7_000_000]);
    }

    #[test]
    fn metrics_in_the_same_order_are_rows() {
        let mut dictionary = Dictionary::default();
        for step in ["1", "2"] {
            let metrics: Vec<String> = (0..40).map(|number| metric(&format!("m{number}"), step, 5)).collect();
            let frame = format!("[{}, {}]", metric("other", step, 5), metrics.join(", "));
            let (batch, items) = encode_text(&frame, &mut dictionary).remove(0);
            assert_eq!(items, ItemCounts { events: 0, points: 41 });
            let [group] = &batch.points[..] else { panic!("{:?}", batch.points) };
            let rows = group.rows.as_ref().unwrap();
            assert_eq!((rows.first_series, rows.series_count, rows.narrow_values.len()), (0, 41, 164));
            assert_eq!(
                (group.steps.len(), group.epochs.len(), &group.times_us[..]),
                (1, 0, &[5_000_000][..])
            );
        }
        // In another order, they are listed.
        let metrics: Vec<String> =
            (0..40).rev().map(|number| metric(&format!("m{number}"), "3", 5)).collect();
        let (batch, _) = encode_text(&format!("[{}]", metrics.join(", ")), &mut dictionary).remove(0);
        assert!(batch.points[0].rows.is_none() && batch.points[0].series.len() == 40);
    }

    #[test]
    fn times_of_the_metrics_of_a_row_may_differ() {
        let mut dictionary = Dictionary::default();
        let metrics: Vec<String> = (0..20).map(|number| metric(&format!("m{number}"), "1", number)).collect();
        let (batch, _) = encode_text(&format!("[{}]", metrics.join(", ")), &mut dictionary).remove(0);
        let [group] = &batch.points[..] else { panic!("{:?}", batch.points) };
        assert!(group.rows.is_some());
        assert_eq!(group.times_us, (0..20).map(|time| time * 1_000_000).collect::<Vec<i64>>());
    }

    #[test]
    fn a_dictionary_distinguishes_names_contexts_and_types() {
        let mut dictionary = Dictionary::default();
        let texts = ["", "a", "b", "ab"];
        for round in 0..2 {
            for number in 0..texts.len().pow(3) {
                let text = |place: u32| texts[number / texts.len().pow(place) % texts.len()].into();
                let metric = Metric {
                    item: 0,
                    name: text(0),
                    context: text(1),
                    dtype: text(2),
                    value: 0.0,
                    step: 0,
                    epoch: 0,
                    time_us: 0,
                };
                // Also search in an order where the guess is wrong.
                dictionary.last = if number % 2 == 0 { dictionary.last } else { 0 };
                let found = dictionary.find(&metric);
                assert_eq!(found, (round == 1).then_some(number as u32));
                if found.is_none() {
                    dictionary.insert(&metric);
                }
            }
        }
    }

    #[test]
    fn a_dictionary_can_be_encoded_as_of_an_earlier_batch() {
        let mut dictionary = Dictionary::default();
        assert_eq!(dictionary.encode(None), Bytes::new());
        let mut bases = Vec::new();
        for names in [["a", "b"], ["b", "c"], ["c", "a"]] {
            let text = format!("[{}, {}]", metric(names[0], "1", 5), metric(names[1], "1", 5));
            let mut frame = decode_frame(text.as_bytes()).unwrap();
            bases.extend(encode(RUN, &mut frame, &mut dictionary).iter().map(|batch| batch.series_base));
        }
        assert_eq!(bases, [0, 2, 3]);
        for (len, expected) in [(Some(0), ""), (Some(2), "ab"), (Some(3), "abc"), (None, "abc")] {
            let batch = pb::IngestionBatch::decode(dictionary.encode(len)).unwrap();
            assert_eq!(batch.series.iter().map(|it| it.name.as_str()).collect::<String>(), expected);
        }
    }

    #[test]
    fn a_dictionary_stays_small_enough_to_be_resent() {
        let least = metric("", "1", 5).replace(['\n', ' '], "").replace("\"context\":null", "\"context\":{}");
        assert!(least.replace("\"float\"", "\"\"").len() >= MIN_METRIC_BYTES, "{least}");
        let mut dictionary = Dictionary::default();
        assert!(dictionary.has_room(BATCH_BYTES), "an empty dictionary has room for any frame");
        let name = "n".repeat(1_000);
        for round in 0..16 {
            assert!(dictionary.has_room(900_000), "{round}");
            let items: Vec<String> =
                (0..800).map(|index| metric(&format!("{name}{round}-{index}"), "1", 5)).collect();
            encode_text(&format!("[{}]", items.join(",")), &mut dictionary);
        }
        assert!(!dictionary.has_room(4 << 20));
        assert!(
            dictionary.encode(None).len() <= dictionary.encoded_bytes()
                && dictionary.encoded_bytes() <= BATCH_BYTES
        );
    }

    #[test]
    fn items_of_a_split_frame_can_be_traced_back() {
        let mut items: Vec<String> =
            (0..40_000).map(|index| metric(&format!("m{}", index % 7), "1", index)).collect();
        let line = "x".repeat(100_000);
        for index in 0..12 {
            let event = format!(r#"{{"type":"log_terminal_line","line":"{line}","step":{index}}}"#);
            items.insert(index * 3000, event);
        }
        let text = format!("[{}]", items.join(","));
        let mut dictionary = Dictionary::default();
        let batches = encode_text(&text, &mut dictionary);
        assert!(batches.len() > 3, "{}", batches.len());
        let counts: Vec<ItemCounts> = batches.iter().map(|(_, items)| *items).collect();
        let frame = decode_frame(text.as_bytes()).unwrap();
        let item_index = ItemIndex::from_frame(&frame);
        let mut seen = 0;
        for (index, (batch, counts_here)) in batches.iter().enumerate() {
            assert!(batch.encoded_len() <= BATCH_ADVISED_BYTES, "{}", batch.encoded_len());
            let before = counts[..index].iter().copied().sum();
            for number in 0..counts_here.events {
                let item = item_index.item(before, *counts_here, number).unwrap();
                assert!(items[item as usize].contains("log_terminal_line"));
                seen += 1;
            }
            for point in 0..counts_here.points {
                let item = item_index.item(before, *counts_here, counts_here.events + point).unwrap();
                let value = batch.points[0].values[point as usize];
                assert!(items[item as usize].contains(&format!("\"value\":{value},")));
                seen += 1;
            }
            assert_eq!(item_index.item(before, *counts_here, 1_000_000), None);
        }
        assert_eq!(seen, items.len());
    }

    #[test]
    fn an_item_too_large_for_any_batch_is_rejected() {
        let zeros = vec!["0.1"; 2_000_000].join(",");
        let text = format!(
            r#"[{{"type":"log_custom_object","name":"f","value":{{"a":[{zeros}]}}}}, {}]"#,
            metric("a", "1", 1)
        );
        let mut frame = decode_frame(text.as_bytes()).unwrap();
        let batches = encode(RUN, &mut frame, &mut Dictionary::default());
        assert_eq!(batches[0].items, ItemCounts { events: 0, points: 1 });
        assert_eq!((frame.rejections.count, frame.rejections.reasons[0].item), (1, 0));
    }

    #[test]
    fn the_key_of_a_blob_is_its_run_and_path() {
        let text = r#"{"type":"blob_ref","s3_key":"other/x","artifact_path":"a/b"}"#;
        let (batch, _) = encode_text(text, &mut Dictionary::default()).remove(0);
        let Some(pb::event::Kind::BlobRef(blob)) = &batch.events[0].kind else { panic!("no blob") };
        assert_eq!(blob.key, "r/a/b");
    }

    #[test]
    fn an_empty_frame_makes_no_batch() {
        assert_eq!(encode_text("[]", &mut Dictionary::default()), []);
    }
}
