//! A batch as frames of JSON messages.

use matyan_proto::ingest::v1::{Event, IngestionBatch, Rejection, SeriesDef, event::Kind};
use matyan_wire::{
    client_json::{Unwritable, event_messages, point_message},
    rows,
};

/// Most items in a frame, as the published client sends it. A Matyan 0.3 frontier publishes them one
/// by one, and has to answer in time.
const FRAME_ITEMS: usize = 100;

/// Size above which a frame gets no further item.
const FRAME_BYTES: usize = 512 << 10;

/// Largest frame that servers accept.
const LARGEST_FRAME: usize = 16 << 20;

/// Items of a batch that are sent together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct JsonFrame {
    /// Messages, with a comma before each but the first.
    messages: String,
    /// End of each message, and the number of its item in the batch.
    items: Vec<(usize, u32)>,
}

impl JsonFrame {
    /// Number of messages.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The whole frame: an object, or an array of several.
    pub(super) fn text(&self) -> String {
        if self.len() == 1 { self.messages.clone() } else { format!("[{}]", self.messages) }
    }

    /// One message.
    pub(super) fn item_text(&self, index: usize) -> &str {
        // A comma separates it from the previous one.
        let start = index.checked_sub(1).map_or(0, |previous| self.items[previous].0 + 1);
        &self.messages[start..self.items[index].0]
    }

    /// Number in the batch of the item at this index, or of the last item for an index after it.
    pub(super) fn item_number(&self, index: usize) -> u32 {
        self.items.get(index).or(self.items.last()).map_or(0, |(_, number)| *number)
    }

    fn push(&mut self, message: &str, number: u32) {
        if !self.items.is_empty() {
            self.messages.push(',');
        }
        self.messages.push_str(message);
        self.items.push((self.messages.len(), number));
    }
}

/// Writes batches as frames.
#[derive(Debug, Default)]
pub(super) struct FrameWriter {
    complete: Vec<JsonFrame>,
    current: JsonFrame,
    rejections: Vec<Rejection>,
}

impl FrameWriter {
    /// Adds the items of a batch: its events, then its points, and then the end of the run, which is
    /// the last message of the published client. Items are numbered as in the batch.
    pub(super) fn write_batch(&mut self, batch: &IngestionBatch, dictionary: &[SeriesDef]) {
        let (end, others) = match batch.events.split_last() {
            Some((last, others)) if matches!(last.kind, Some(Kind::FinishRun(_))) => (Some(last), others),
            _ => (None, batch.events.as_slice()),
        };
        for (event, number) in others.iter().zip(0..) {
            self.write_event(event, number);
        }
        let mut number = batch.events.len() as u32;
        for points in &batch.points {
            let points = rows::plain(points);
            for index in 0..points.series.len() {
                match point_message(&points, index, dictionary) {
                    Ok(message) => self.push(&message, number),
                    Err(Unwritable { field, reason }) => self.reject(number, field, reason),
                }
                number += 1;
            }
        }
        if let Some(end) = end {
            self.write_event(end, others.len() as u32);
        }
    }

    /// Returns the frames, and the items that JSON cannot say.
    pub(super) fn finish(mut self) -> (Vec<JsonFrame>, Vec<Rejection>) {
        if self.current.len() > 0 {
            self.complete.push(self.current);
        }
        (self.complete, self.rejections)
    }

    fn write_event(&mut self, event: &Event, number: u32) {
        match event_messages(event) {
            Ok(messages) => {
                for message in messages {
                    self.push(&message, number);
                }
            }
            Err(Unwritable { field, reason }) => self.reject(number, field, reason),
        }
    }

    fn push(&mut self, message: &str, number: u32) {
        // Two bytes for the brackets of an array.
        if message.len() + 2 > LARGEST_FRAME {
            return self.reject(number, "", "larger than 16 MiB, which is the limit of this server");
        }
        let bytes = self.current.messages.len() + message.len();
        if self.current.len() == FRAME_ITEMS || (self.current.len() > 0 && bytes > FRAME_BYTES) {
            self.complete.push(std::mem::take(&mut self.current));
        }
        self.current.push(message, number);
    }

    fn reject(&mut self, number: u32, field: &str, reason: &str) {
        self.rejections.push(super::rejection(number, 1, field, reason));
    }
}
