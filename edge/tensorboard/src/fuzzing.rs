//! The readers of event files, for fuzz targets.

use std::io::Cursor;

use matyan_value::Value;

use crate::{plugins::Plugins, records::read_chunk, values::EventContent};

/// Reads the records of a file and their events, twice, because the plugins of tags are known the second time. Panics
/// if a distribution does not have the number of bins that it states.
pub fn read_file(bytes: &[u8]) {
    let Ok(chunk) = read_chunk(Cursor::new(bytes), 0, bytes.len() as u64, u64::MAX) else { return };
    let mut plugins = Plugins::default();
    for record in chunk.records.iter().chain(&chunk.records) {
        read_event(record, &mut plugins);
    }
}

/// Reads one event.
pub fn read_record(bytes: &[u8]) {
    let mut plugins = Plugins::default();
    read_event(bytes, &mut plugins);
    read_event(bytes, &mut plugins);
}

fn read_event(record: &[u8], plugins: &mut Plugins) {
    let mut reading = EventContent::default();
    reading.add(record, plugins);
    for part in reading.objects.iter().flat_map(|object| &object.parts) {
        if let (Some(Value::Integer(count)), Some(Value::List(weights))) =
            (part.value.get("bin_count"), part.value.get("data"))
        {
            assert_eq!(usize::try_from(*count).ok(), Some(weights.len()), "bins of a distribution");
        }
    }
}
