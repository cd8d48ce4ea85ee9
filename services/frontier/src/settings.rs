//! What an operator may change about the frontier. Limits of the API are not here: they are `matyan_proto::limits`.

use std::time::Duration;

use matyan_log::RecordFormat;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub format: RecordFormat,
    /// Which log this is, as acknowledged positions name it: counts up when a topic is made anew. None where that may happen
    /// unseen.
    pub log_number: Option<u32>,
    /// How long a batch that the log refuses is held and tried again, from its receipt on. The published client gives up
    /// after 45 s.
    pub hold: Duration,
    /// Unacknowledged bytes of one stream, as records: beyond, it is not read. One batch is always taken.
    pub stream_bytes: usize,
    /// Unacknowledged batches of one stream, likewise.
    pub stream_batches: usize,
    /// Unacknowledged bytes of all streams and calls together. A batch beyond waits.
    pub total_bytes: usize,
    /// Bytes of one upload through this server: whoever holds a URL may write, and the disk is also the log's.
    pub max_upload_bytes: u64,
    /// Acknowledgements of one run are delayed beyond this rate.
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
            max_upload_bytes: 100 << 30,
            run_bytes_per_second: 256 << 20,
        }
    }
}
