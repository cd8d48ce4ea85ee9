//! Columns of doubles that arrive in pieces. A column is one entry of the codec, whose length
//! precedes its bytes; the bytes are passed on as they arrive.

use crate::stream::Encoder;

/// A column that is not complete yet.
pub(super) struct ColumnWriter {
    /// Number of values still to come.
    remaining: u64,
}

impl ColumnWriter {
    /// Starts a column at the current path.
    pub(super) fn begin(count: u64, encoder: &mut Encoder) -> Self {
        encoder.begin_doubles(count);
        ColumnWriter { remaining: count }
    }

    /// Writes a piece, unless the column does not have the announced length.
    pub(super) fn append(
        &mut self,
        values: impl ExactSizeIterator<Item = f64>,
        more: bool,
        encoder: &mut Encoder,
    ) {
        let remaining = self.remaining.checked_sub(values.len() as u64);
        let Some(remaining) = remaining.filter(|remaining| more || *remaining == 0) else {
            encoder.mark_inconsistent();
            return;
        };
        self.remaining = remaining;
        encoder.append_raw(&values.flat_map(f64::to_le_bytes).collect::<Vec<u8>>());
    }
}
