//! Columns of doubles that arrive in pieces. A column is one entry of the codec, whose length
//! precedes its bytes; the bytes are passed on as they arrive.

use crate::stream::Encoder;

/// A column of which more is to come.
pub(super) struct ColumnWriter {
    /// Number of values still to come.
    remaining: u64,
}

impl ColumnWriter {
    /// Starts a column at the current path. Returns `None` if it is too long for an entry.
    pub(super) fn begin(count: u64, encoder: &mut Encoder) -> Option<Self> {
        encoder.begin_doubles(count).then_some(ColumnWriter { remaining: count })
    }

    /// Writes a piece. Returns false if the column does not have the announced length, so that the
    /// rest of the body would be unreadable; then nothing is written.
    #[must_use]
    pub(super) fn append(
        &mut self,
        values: impl ExactSizeIterator<Item = f64>,
        more: bool,
        encoder: &mut Encoder,
    ) -> bool {
        let Some(remaining) = self.remaining.checked_sub(values.len() as u64) else { return false };
        if remaining > 0 && !more {
            return false;
        }
        self.remaining = remaining;
        encoder.append_raw(&values.flat_map(f64::to_le_bytes).collect::<Vec<u8>>());
        true
    }
}
