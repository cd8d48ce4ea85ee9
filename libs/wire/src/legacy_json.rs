//! Records in the format of Matyan 0.3: a JSON envelope `{"type","run_id","timestamp","payload"}`
//! for each item. Needed only while a running Matyan 0.3 is replaced. As in Matyan 0.3, everything
//! that JSON cannot represent is lost.
//!
//! Ids are in headers, which Matyan 0.3 ignores.

pub(crate) mod member_values;
mod payload;
mod read;
mod write;

use bytes::Bytes;

use crate::{
    UnreadableRecord,
    headers::{ACKNOWLEDGED, EPHEMERAL, Headers, ITEM, ITEMS, JSON_TYPE, PRODUCER, SEQUENCE, find, header},
    ingestion::typed,
};
pub use read::Envelope;
pub use write::{EnvelopeSeries, EnvelopeWriter, payload_bytes};

/// The batch to which the item of an envelope belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeBatch {
    /// Id of the batch's producer.
    pub producer: [u8; 16],
    /// Number of the batch among all batches of its producer.
    pub sequence: u64,
    /// The last batch that the client knows to be durable.
    pub acknowledged: u64,
    /// Whether the producer ends with its connection.
    pub is_ephemeral: bool,
    /// Number of the item in its batch.
    pub item: u32,
    /// Number of items in the batch.
    pub items: u32,
}

impl EnvelopeBatch {
    /// Appends the headers of an item.
    pub fn push_to(&self, headers: &mut Headers) {
        headers.extend([
            header(PRODUCER, hex::encode(self.producer)),
            header(SEQUENCE, self.sequence.to_string()),
            header(ACKNOWLEDGED, self.acknowledged.to_string()),
            header(ITEM, self.item.to_string()),
            header(ITEMS, self.items.to_string()),
        ]);
        if self.is_ephemeral {
            headers.push(header(EPHEMERAL, "1"));
        }
    }

    /// Reads the headers of an item; `None` if they have no producer, as in Matyan 0.3.
    pub fn from_headers(headers: &Headers) -> Result<Option<Self>, UnreadableRecord> {
        let Some(producer) = find(headers, PRODUCER) else { return Ok(None) };
        let mut id = [0; 16];
        hex::decode_to_slice(producer, &mut id)
            .map_err(|error| UnreadableRecord::new(format!("header `{PRODUCER}`: {error}")))?;
        let number = |name: &str| -> Result<u64, UnreadableRecord> {
            let text = find(headers, name).and_then(|value| std::str::from_utf8(value).ok());
            text.and_then(|text| text.parse().ok())
                .ok_or_else(|| UnreadableRecord::new(format!("header `{name}` is not a number")))
        };
        let small = |name: &str| {
            u32::try_from(number(name)?)
                .map_err(|_| UnreadableRecord::new(format!("header `{name}` is too large")))
        };
        Ok(Some(Self {
            producer: id,
            sequence: number(SEQUENCE)?,
            acknowledged: number(ACKNOWLEDGED)?,
            is_ephemeral: find(headers, EPHEMERAL).is_some_and(|value| value == "1"),
            item: small(ITEM)?,
            items: small(ITEMS)?,
        }))
    }
}

/// Returns the headers of an envelope, without the headers of its batch and author.
pub fn headers(trace: Option<Bytes>) -> Headers {
    typed(JSON_TYPE, trace)
}
