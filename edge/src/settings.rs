//! Settings of the edge. Plain data: transports and the metrics registry are passed separately.

use std::time::Duration;

/// A protocol of another tracker whose unmodified clients the query port answers. Each is a cargo feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Mlflow,
    Optuna,
    Wandb,
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::Mlflow, Self::Optuna, Self::Wandb];

    /// The name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mlflow => "mlflow",
            Self::Optuna => "optuna",
            Self::Wandb => "wandb",
        }
    }

    /// Returns the protocol with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name() == name)
    }

    /// Whether its clients send data that goes to a frontier.
    pub const fn needs_frontier(self) -> bool {
        match self {
            Self::Mlflow | Self::Wandb => true,
            Self::Optuna => false,
        }
    }

    /// Whether this build answers the protocol.
    pub const fn is_included(self) -> bool {
        match self {
            Self::Mlflow => cfg!(feature = "mlflow"),
            Self::Optuna => cfg!(feature = "optuna"),
            Self::Wandb => cfg!(feature = "wandb"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// Host names of this server besides the names of the loopback interface: `a.example`,
    /// `*.example`, or `*` for any.
    pub allowed_hosts: Vec<String>,
    /// Host names, in the same form, under which administration, backups and metrics are refused.
    pub closed_hosts: Vec<String>,
    /// Whether other machines can connect. Then names that only a local network resolves are
    /// allowed as well.
    pub is_on_network: bool,
    /// Whether a proxy serves TLS for this server, so that browsers reach it by https.
    pub is_behind_tls_proxy: bool,
    /// Origins other than the server's own whose pages may call the API, and show its pages in a
    /// frame.
    pub cors_origins: Vec<String>,
    /// Protocols of other trackers that the query port answers, of those that this build includes.
    pub protocols: Vec<Protocol>,
    /// Whether HTTP requests are recorded in metrics. The metrics route always exists.
    pub metrics_enabled: bool,
    /// Maximum number of open connections of a port, except WebSockets; additional ones are
    /// closed.
    pub max_open: usize,
    /// Maximum number of requests of a port at the same time, without WebSockets; further requests are refused.
    pub max_calls: usize,
    /// Maximum number of these calls that hold an open blob.
    pub max_blob_calls: usize,
    /// Maximum number of searches, exports and charts among these calls.
    pub max_searches: usize,
    /// Maximum number of open WebSockets; additional ones are refused with 503.
    pub max_connections: usize,
    /// Memory budget in bytes for frames that are being read or processed, shared by all
    /// WebSockets of a port, in addition to two small frames for each. When it is
    /// exhausted, no more frames are read. At least one frame of maximum size always fits.
    pub total_bytes: usize,
    /// Memory budget in bytes for the dictionaries of all JSON WebSockets of a port, in addition to a
    /// small one for each. When it is exhausted, dictionaries start again.
    pub dictionary_bytes: usize,
    /// Memory budget in bytes for the bodies of REST and gRPC requests that are being read,
    /// shared by all connections of a port.
    pub body_bytes: usize,
    /// Memory budget in bytes for large answers of a port that are sent or wait for their clients. When it is
    /// exhausted, further large answers wait, in a quarter as much memory, and are then refused.
    pub answer_bytes: usize,
    /// Maximum time that a frame waits for the log before it is rejected. The Python client
    /// gives up for good after 45 s without a response.
    pub hold: Duration,
    /// Maximum time of a call, except of calls that last as long as their client wants.
    pub request_timeout: Duration,
    /// Time within which the rest of a small body must arrive if its request was answered early, so that the
    /// connection can be kept.
    pub unread_body_wait: Duration,
    /// Interval between pings; a peer that has sent nothing since the previous ping is
    /// considered dead.
    pub ping_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            allowed_hosts: Vec::new(),
            closed_hosts: Vec::new(),
            is_on_network: false,
            is_behind_tls_proxy: false,
            cors_origins: Vec::new(),
            protocols: Protocol::ALL.into_iter().filter(|it| it.is_included()).collect(),
            metrics_enabled: true,
            max_open: 10_000,
            max_calls: 10_000,
            max_blob_calls: 8_192,
            max_searches: 1_024,
            max_connections: 10_000,
            total_bytes: 128 << 20,
            dictionary_bytes: 128 << 20,
            body_bytes: 144 << 20,
            answer_bytes: 256 << 20,
            hold: Duration::from_secs(40),
            request_timeout: Duration::from_secs(3_600),
            unread_body_wait: Duration::from_millis(100),
            ping_interval: Duration::from_secs(20),
        }
    }
}
