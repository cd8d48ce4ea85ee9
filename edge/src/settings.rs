//! Settings of the edge. Plain data: transports and the metrics registry are passed separately.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Origins whose pages may call the API from a browser.
    pub cors_origins: Vec<String>,
    /// Whether HTTP requests are recorded in metrics. The metrics route always exists.
    pub metrics_enabled: bool,
    /// Maximum number of open WebSockets; additional ones are refused with 503.
    pub max_connections: usize,
    /// Memory budget in bytes for frames that are being read or processed, shared by all
    /// WebSockets of a port, in addition to two small frames for each. When it is
    /// exhausted, no more frames are read. At least one frame of maximum size always fits.
    pub total_bytes: usize,
    /// Maximum time that a frame waits for the log before it is rejected. The Python client
    /// gives up for good after 45 s without a response.
    pub hold: Duration,
    /// Interval between pings; a peer that has sent nothing since the previous ping is
    /// considered dead.
    pub ping_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let origins = [
            "http://localhost:3000",
            "http://localhost:8000",
            "http://localhost:8080",
            "http://127.0.0.1:8000",
            "http://localhost:53800",
            "http://127.0.0.1:53800",
        ];
        Settings {
            cors_origins: origins.map(str::to_owned).to_vec(),
            metrics_enabled: true,
            max_connections: 10_000,
            total_bytes: 256 << 20,
            hold: Duration::from_secs(40),
            ping_interval: Duration::from_secs(20),
        }
    }
}
