//! Operator settings of the frontier. Limits of the API are not configurable: they are in
//! `matyan_proto::limits`.

use std::time::Duration;

use matyan_wire::ingestion::RecordFormat;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub format: RecordFormat,
    /// Number of the log in acknowledged positions, which increases when a topic is
    /// recreated. `None` if that cannot be detected.
    pub log_number: Option<u32>,
    /// Time after receipt for which a batch that the log refuses is held and retried. The
    /// published client gives up after 45 s.
    pub hold: Duration,
    /// Maximum unacknowledged bytes of a stream, counted as records. A stream over the limit is not
    /// read. One batch is always accepted.
    pub stream_bytes: usize,
    /// Maximum unacknowledged batches of a stream.
    pub stream_batches: usize,
    /// Maximum unacknowledged bytes of all streams and calls together. Batches over the
    /// limit wait.
    pub total_bytes: usize,
    /// Maximum memory for the definitions of series that all streams keep together, in addition to a
    /// little for each: until the next record, or as long as they are open if records are JSON.
    pub dictionary_bytes: usize,
    /// Maximum rate of a run; acknowledgements are delayed above it.
    pub run_bytes_per_second: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            format: RecordFormat::Protobuf,
            log_number: None,
            hold: Duration::from_secs(40),
            stream_bytes: 8 << 20,
            stream_batches: 1_024,
            total_bytes: 128 << 20,
            dictionary_bytes: 128 << 20,
            run_bytes_per_second: 256 << 20,
        }
    }
}
