//! Every setting of every command: read from flags, environment and config file, in that order
//! of precedence, and checked before anything starts. All violations are reported together,
//! each with the setting's name and the next step; secrets are never printed.
//!
//! Environment variables keep the names of Matyan 0.3 where it had one. There are deliberately
//! no settings for values that were determined by measurement: they are constants of the crate
//! that uses them.

mod blobs;
mod distributed;
mod fdb;
mod kafka;
mod names;
mod parse;
mod reader;
mod role;
mod secret;
mod source;
mod violations;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

pub(crate) use blobs::BlobStore;
pub(crate) use distributed::{Log, Store};
#[cfg(feature = "fdb")]
pub(crate) use fdb::Fdb;
pub(crate) use role::Role;
pub(crate) use secret::Secret;
pub(crate) use source::Environment;
pub(crate) use violations::Violations;

use matyan_edge::UiSettings;
use matyan_record::ingestion::RecordFormat;

use crate::cli::ServerArguments;
use reader::Reader;
use source::Sources;

const NO_PAIR: &str = "missing; set both a certificate and its key, or neither";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) role: Role,
    pub(crate) host: IpAddr,
    /// Port of the query side, for roles that have one.
    pub(crate) port: u16,
    /// Port of the ingest side, for roles that have one.
    pub(crate) frontier_port: u16,
    /// Port for health checks and metrics of a worker; 0 disables it.
    pub(crate) metrics_port: u16,
    /// Certificate and key for every port; without them, ports are unencrypted.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// `None` if the process stores nothing on this machine.
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) store: Store,
    pub(crate) log: Log,
    pub(crate) blobs: BlobStore,
    /// Filter directives for `tracing`.
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    /// Collector that spans are sent to; without one, no spans are created.
    pub(crate) otlp_endpoint: Option<String>,
    /// Name of this process in traces.
    pub(crate) service_name: String,
    pub(crate) ready_file: Option<PathBuf>,
    /// Lifetime of an upload URL.
    pub(crate) upload_lifetime: Duration,
    /// Key that signs blob tokens and upload URLs; if absent, one is kept in the data
    /// directory.
    pub(crate) secret: Option<Secret>,
    /// Time limit at shutdown, first for connections to end, and then for brokers to
    /// respond.
    pub(crate) shutdown_timeout: Duration,
    /// Maximum number of WebSockets per port.
    pub(crate) max_connections: usize,
    /// Maximum size of an upload through this process.
    pub(crate) max_upload_bytes: u64,
    pub(crate) cors_origins: Vec<String>,
    /// False if HTTP requests are not counted.
    pub(crate) metrics_enabled: bool,
    /// Maximum age of cached summaries of all params of a project.
    pub(crate) params_cache_ttl: Duration,
    /// Runs without data for this long are finished; they become active again when more
    /// arrives.
    pub(crate) finish_stale: Option<Duration>,
    /// The browser UI; without it, the query port serves only APIs.
    pub(crate) ui: Option<UiSettings>,
    /// Format in which the frontier writes records.
    pub(crate) message_format: RecordFormat,
    /// Variables of Matyan 0.3 that are set but no longer have any effect.
    pub(crate) unused: Vec<&'static str>,
}

/// Settings of `topics create`.
#[derive(Debug)]
pub(crate) struct TopicsSettings {
    pub(crate) kafka: matyan_log::kafka::Settings,
    pub(crate) topics: matyan_log::kafka::CreateTopics,
}

impl TopicsSettings {
    pub(crate) fn resolve(
        flags: BTreeMap<String, String>,
        environment: Environment,
    ) -> Result<Self, Violations> {
        let mut reader = Reader::default();
        let sources = Sources::open(flags, environment, reader.violations());
        let kafka = distributed::kafka(&sources, &mut reader);
        let topics = kafka::read_topics(&sources, &mut reader);
        reader.finish(Self { kafka, topics })
    }
}

impl Settings {
    /// Returns the settings, or all violations.
    pub(crate) fn resolve(arguments: ServerArguments, environment: Environment) -> Result<Self, Violations> {
        let mut reader = Reader::default();
        let sources = Sources::open(arguments.flags, environment, reader.violations());
        let settings = Self::read(arguments.role, &sources, &mut reader);
        if settings.role == Role::Up && settings.port == settings.frontier_port && settings.port != 0 {
            reader.refuse(names::FRONTIER_PORT.variables[0], "same as PORT; set two different ports");
        }
        reader.finish(settings)
    }

    /// Resolves only where blobs are stored.
    pub(crate) fn resolve_blobs(
        flags: BTreeMap<String, String>,
        environment: Environment,
    ) -> Result<BlobStore, Violations> {
        let mut reader = Reader::default();
        let sources = Sources::open(flags, environment, reader.violations());
        // Same as for the services, unlike `up`, which needs no bucket.
        let blobs = distributed::blobs(Role::Frontier, &sources, &mut reader);
        reader.finish(blobs)
    }

    fn read_ui(role: Role, from: &Sources, reader: &mut Reader) -> Option<UiSettings> {
        let dir = reader.optional(from, names::UI_DIR, parse::path).filter(|_| role.has_backend())?;
        Some(UiSettings {
            dir,
            base_path: reader.parse(from, names::UI_BASE_PATH, "", parse::base_path),
            api_base_path: reader.parse(from, names::UI_API_BASE_PATH, "/api/v1", parse::base_path),
            // The page and the API are on the same port, under any host name that
            // the browser uses.
            api_host_base: reader.parse(from, names::UI_API_HOST_BASE, "", parse::api_host),
            api_auth_token: reader.parse(from, names::UI_API_AUTH_TOKEN, "", parse::token),
        })
    }

    fn read_tls(from: &Sources, reader: &mut Reader) -> Option<(PathBuf, PathBuf)> {
        let certificate = reader.optional(from, names::TLS_CERT_FILE, parse::path);
        match (certificate, reader.optional(from, names::TLS_KEY_FILE, parse::path)) {
            (Some(certificate), Some(key)) => return Some((certificate, key)),
            (None, None) => {}
            (Some(_), None) => reader.refuse(names::TLS_KEY_FILE.variables[0], NO_PAIR),
            (None, Some(_)) => reader.refuse(names::TLS_CERT_FILE.variables[0], NO_PAIR),
        }
        None
    }

    fn read(role: Role, from: &Sources, reader: &mut Reader) -> Self {
        // On a laptop, a port must not be open to the network by default; in a
        // container, any other address would be unreachable.
        let host = if role == Role::Up { "127.0.0.1" } else { "0.0.0.0" };
        // A frontier's only port has the plain name.
        let frontier_port = if role == Role::Frontier { names::PORT } else { names::FRONTIER_PORT };
        let (store, log) = distributed::read(role, from, reader);
        let data_dir = reader.parse(from, names::DATA_DIR, "matyan-data", parse::path);
        Self {
            role,
            store,
            log,
            host: reader.parse(from, names::HOST, host, parse::address),
            port: reader.parse(from, names::PORT, "53800", parse::port),
            frontier_port: reader.parse(from, frontier_port, "53801", parse::port),
            metrics_port: reader.parse(from, names::METRICS_PORT, "9090", parse::port_or_none),
            tls: Self::read_tls(from, reader),
            data_dir: distributed::has_data_dir(role, from).then_some(data_dir),
            blobs: distributed::blobs(role, from, reader),
            log_level: reader.parse(from, names::LOG_LEVEL, "info", parse::log_level),
            log_format: reader.parse(from, names::LOG_FORMAT, "text", parse::log_format),
            otlp_endpoint: reader.optional(from, names::OTLP_ENDPOINT, parse::endpoint),
            service_name: reader.parse(from, names::SERVICE_NAME, role.service_name(), parse::service_name),
            ready_file: reader.optional(from, names::READY_FILE, parse::path),
            upload_lifetime: reader.parse(from, names::S3_PRESIGN_EXPIRY, "3600", parse::lifetime),
            secret: distributed::secret(role, from, reader),
            shutdown_timeout: reader.parse(from, names::SHUTDOWN_FLUSH_TIMEOUT, "5", parse::seconds),
            max_connections: reader.parse(from, names::MAX_CONNECTIONS, "10000", parse::connections),
            max_upload_bytes: reader.parse(
                from,
                names::MAX_UPLOAD_BYTES,
                "107374182400",
                parse::upload_bytes,
            ),
            cors_origins: reader.parse(from, names::CORS_ORIGINS, parse::CORS_DEFAULT, parse::origins),
            metrics_enabled: reader.parse(from, names::METRICS_ENABLED, "true", parse::boolean),
            params_cache_ttl: reader.parse(from, names::PROJECT_PARAMS_CACHE_TTL, "30", parse::seconds),
            finish_stale: reader.parse(from, names::FINISH_STALE_HOURS, "24", parse::hours_or_never),
            ui: Self::read_ui(role, from, reader),
            message_format: reader.parse(
                from,
                names::KAFKA_MESSAGE_FORMAT,
                "protobuf",
                parse::message_format,
            ),
            unused: from.unused(),
        }
    }
}
