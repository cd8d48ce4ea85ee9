//! What an operator may set about the edge. Plain data: transports and the metrics registry are passed beside it.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Origins that a browser may call from.
    pub cors_origins: Vec<String>,
    /// False: HTTP requests are not recorded. The route for metrics stays.
    pub metrics_enabled: bool,
    /// WebSockets open at a time; more get 503.
    pub max_connections: usize,
    /// Bytes of frames that all WebSockets of a port may hold while they are read and wait, beside two small ones for each;
    /// beyond, none is read on. At least one frame of the largest size always fits.
    pub total_bytes: usize,
    /// How long a frame may wait for the log before it is given up. The Python client stops for good after 45 s of silence.
    pub hold: Duration,
    /// A ping goes out this often; a peer from which nothing came since the last one is gone.
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
