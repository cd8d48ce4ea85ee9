//! Every setting of every command: read from flags, environment and config file, in that order
//! of precedence, and checked before anything starts. All violations are reported together,
//! each with the setting's name and the next step; secrets are never printed.
//!
//! `table` says everything about a setting; the rest of this folder reads them. Environment
//! variables keep the names of Matyan 0.3 where it had one. There are deliberately no settings
//! for values that were determined by measurement: they are constants of the crate that uses
//! them.

mod access;
mod access_file;
mod blobs;
mod clients;
mod fdb;
mod flags;
mod kafka;
mod listing;
mod memory;
mod parse;
mod project_limit;
mod reader;
mod role;
mod secret;
mod setting;
mod source;
mod storage;
mod table;
mod violations;

#[cfg(test)]
#[cfg(feature = "full")]
mod tests;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

pub(crate) use access::{AccessSettings, ProviderSettings};
pub(crate) use access_file::{AccessFile, DeclaredRole, DeclaredToken};
pub(crate) use blobs::BlobStore;
pub(crate) use flags::setting_flags;
pub(crate) use listing::print_settings;
pub(crate) use parse::{AccessMode, LogFormat};
pub(crate) use role::{Program, Role};
pub(crate) use secret::Secret;
pub(crate) use source::Environment;
pub(crate) use storage::{Log, StorageSettings, Store};
pub(crate) use violations::Violations;

use matyan_blob::UploadLimits;
use matyan_edge::{Protocol, UiSettings};
use matyan_model::project_quota::{ProjectQuotas, Quota};
use matyan_wire::ingestion::RecordFormat;
use matyan_worker::{ControlSettings, IngestSettings};

use project_limit::ProjectLimits;
use reader::Reader;
use setting::Setting;

const NO_LOGDIR: &str = "set without a directory to follow; set --logdir (MATYAN_LOGDIR) as well, or neither";
const NO_PAIR: &str = "missing; set both a certificate and its key, or neither";

/// Settings of a server, grouped by subject.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) role: Role,
    pub(crate) storage: StorageSettings,
    pub(crate) listen: ListenSettings,
    pub(crate) access: AccessSettings,
    pub(crate) telemetry: TelemetrySettings,
    pub(crate) edge: matyan_edge::Settings,
    pub(crate) frontier: matyan_frontier::Settings,
    pub(crate) upload_limits: UploadLimits,
    /// Maximum bytes of the blobs of a project, by the name of the project, in place of `upload_limits.max_project_bytes`;
    /// 0: no limit.
    pub(crate) project_upload_bytes: ProjectLimits,
    pub(crate) project_quotas: Arc<ProjectQuotas>,
    pub(crate) backend: BackendSettings,
    pub(crate) control: ControlSettings,
    pub(crate) ingestion: IngestSettings,
    /// Directory of event files of TensorBoard to follow.
    #[cfg_attr(
        not(feature = "tensorboard"),
        expect(dead_code, reason = "only used by builds that follow event files")
    )]
    pub(crate) logdir: Option<PathBuf>,
    /// Project of the runs that are found in `logdir`; empty for the default project.
    #[cfg_attr(
        not(feature = "tensorboard"),
        expect(dead_code, reason = "only used by builds that follow event files")
    )]
    pub(crate) logdir_project: String,
    /// File to which the addresses of the ports are written once the server is ready.
    pub(crate) ready_file: Option<PathBuf>,
    /// Time limit at shutdown for connections to end, and again for brokers to respond.
    pub(crate) shutdown_timeout: Duration,
    /// Variables of Matyan 0.3 that are set but no longer have any effect.
    pub(crate) ignored_variables: Vec<&'static str>,
}

/// Settings of the ports.
#[derive(Debug)]
pub(crate) struct ListenSettings {
    pub(crate) host: IpAddr,
    /// Port of the query side, for roles that have one.
    pub(crate) port: u16,
    /// Port of the ingest side, for roles that have one.
    pub(crate) frontier_port: u16,
    /// Port for health checks and metrics of a worker; 0 disables it.
    pub(crate) metrics_port: u16,
    /// Certificate and key for every port; without them, ports are unencrypted.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
}

#[derive(Debug)]
pub(crate) struct TelemetrySettings {
    /// Filter directives for `tracing`.
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    /// Collector of spans; without a collector, no spans are created.
    #[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "only used by builds that export traces"))]
    pub(crate) otlp_endpoint: Option<String>,
    /// Name of this process in traces.
    #[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "only used by builds that export traces"))]
    pub(crate) service_name: String,
}

#[derive(Debug)]
pub(crate) struct BackendSettings {
    /// Address of the backend, for a frontier in another process.
    pub(crate) url: Option<String>,
    /// Maximum age of cached summaries of all params of a project.
    pub(crate) params_cache_ttl: Duration,
    /// Maximum memory of the tables of runs.
    pub(crate) run_table_bytes: usize,
    /// The browser UI, on the query port.
    pub(crate) ui: Option<UiSettings>,
}

/// Settings of `topics create`.
#[derive(Debug)]
#[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "only used by builds with Kafka"))]
pub(crate) struct TopicsSettings {
    pub(crate) kafka: matyan_log::kafka_settings::Settings,
    pub(crate) topics: matyan_log::kafka_settings::CreateTopics,
}

/// Settings of `access recover`, which opens no ports: it reads no settings of ports or sign-ins.
#[derive(Debug)]
pub(crate) struct RecoverySettings {
    pub(crate) store: Store,
    /// The data directory of an embedded store; `None` for any other store.
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) telemetry: TelemetrySettings,
}

impl RecoverySettings {
    pub(crate) fn resolve(
        flags: BTreeMap<String, String>,
        environment: Environment,
    ) -> Result<Self, Violations> {
        let mut reader = Reader::open(Program::RecoverAccess, flags, environment);
        let store = storage::read_store(&mut reader);
        let data_dir = reader.read(&table::DATA_DIR);
        let data_dir = matches!(store, Store::Embedded).then_some(data_dir);
        let telemetry = TelemetrySettings::read(Role::Up, &mut reader);
        reader.finish(Self { store, data_dir, telemetry })
    }
}

/// Reads the settings of Kafka for `topics close`.
pub(crate) fn resolve_kafka(
    flags: BTreeMap<String, String>,
    environment: Environment,
) -> Result<matyan_log::kafka_settings::Settings, Violations> {
    let mut reader = Reader::open(Program::CloseTopic, flags, environment);
    let kafka = storage::read_kafka(&mut reader);
    reader.finish(kafka)
}

impl TopicsSettings {
    pub(crate) fn resolve(
        flags: BTreeMap<String, String>,
        environment: Environment,
    ) -> Result<Self, Violations> {
        let mut reader = Reader::open(Program::CreateTopics, flags, environment);
        let kafka = storage::read_kafka(&mut reader);
        let topics = kafka::read_topics(&mut reader);
        reader.finish(Self { kafka, topics })
    }
}

impl Settings {
    /// Whether the process accepts data: as a frontier, or as a backend that speaks the protocols of other trackers, whose
    /// clients send data to its query port.
    pub(crate) fn accepts_data(&self) -> bool {
        self.role.has_frontier()
            || self.role.has_backend() && self.edge.protocols.iter().any(|protocol| protocol.needs_frontier())
    }

    /// The store; `None` for a role that has no access to state.
    pub(crate) fn store(&self) -> Option<&Store> {
        self.role.has_store().then_some(&self.storage.store)
    }

    /// Returns the settings, or everything that is wrong with them.
    pub(crate) fn resolve(
        role: Role,
        flags: BTreeMap<String, String>,
        environment: Environment,
    ) -> Result<Self, Violations> {
        Self::resolve_from(role, Reader::open(Program::Server(role), flags, environment))
    }

    /// Resolves what a reader finds, which may be the reader of a build without some clients.
    fn resolve_from(role: Role, mut reader: Reader) -> Result<Self, Violations> {
        let settings = Self::read(role, &mut reader);
        let ListenSettings { port, frontier_port, .. } = settings.listen;
        if role == Role::Up && port == frontier_port && port != 0 {
            reader.refuse(&table::FRONTIER_PORT, "same as PORT; set two different ports");
        }
        reader.finish(settings)
    }

    /// Resolves only where blobs are stored, for `bucket create`.
    pub(crate) fn resolve_blobs(
        flags: BTreeMap<String, String>,
        environment: Environment,
    ) -> Result<BlobStore, Violations> {
        let mut reader = Reader::open(Program::CreateBucket, flags, environment);
        let blobs = storage::read_blobs(&mut reader);
        reader.finish(blobs)
    }

    fn read(role: Role, reader: &mut Reader) -> Self {
        let storage = StorageSettings::read(role, reader);
        let listen = ListenSettings::read(role, reader);
        Self {
            role,
            telemetry: TelemetrySettings::read(role, reader),
            access: AccessSettings::read(role, listen.host, listen.tls.is_some(), reader),
            edge: read_edge(listen.host, reader),
            listen,
            frontier: matyan_frontier::Settings {
                format: storage.message_format,
                dictionary_bytes: match storage.message_format {
                    RecordFormat::Protobuf => 128 << 20,
                    RecordFormat::Json => 512 << 20,
                },
                ..Default::default()
            },
            upload_limits: UploadLimits {
                max_bytes: reader.read(&table::MAX_UPLOAD_BYTES),
                min_free_bytes: reader.read(&table::MIN_FREE_BYTES),
                max_project_bytes: reader.read(&table::MAX_PROJECT_UPLOAD_BYTES),
            },
            project_upload_bytes: reader.read(&table::PROJECT_UPLOAD_BYTES),
            project_quotas: Arc::new(read_quotas(reader)),
            backend: BackendSettings {
                url: reader.optional(&table::BACKEND_URL),
                params_cache_ttl: reader.read(&table::PROJECT_PARAMS_CACHE_TTL),
                run_table_bytes: reader
                    .optional(&table::RUN_TABLE_BYTES)
                    .unwrap_or_else(memory::default_table_bytes),
                ui: read_ui(role, reader),
            },
            control: ControlSettings {
                finish_stale: reader.read(&table::FINISH_STALE_HOURS),
                owns_blobs: storage.is_in_one_directory(),
            },
            ingestion: IngestSettings {
                max_pending_bytes: reader.read(&table::MAX_PENDING_PAYLOAD_BYTES),
                large_quarantine_bytes: reader.read(&table::LARGE_QUARANTINE_BYTES),
                writer_cache_bytes: reader.read(&table::WRITER_CACHE_BYTES),
                ..IngestSettings::default()
            },
            logdir: read_logdir(reader),
            logdir_project: read_logdir_project(reader),
            ready_file: reader.optional(&table::READY_FILE),
            shutdown_timeout: reader.read(&table::SHUTDOWN_FLUSH_TIMEOUT),
            ignored_variables: reader.unused(),
            storage,
        }
    }
}

impl ListenSettings {
    fn read(role: Role, reader: &mut Reader) -> Self {
        // The only port of a frontier is set by PORT, like the port of any other role.
        let frontier_port = if role == Role::Frontier { &table::PORT } else { &table::FRONTIER_PORT };
        Self {
            host: reader.read(&table::HOST),
            port: reader.read(&table::PORT),
            frontier_port: reader.read(frontier_port),
            metrics_port: reader.read(&table::METRICS_PORT),
            tls: read_tls(reader),
        }
    }
}

impl TelemetrySettings {
    fn read(role: Role, reader: &mut Reader) -> Self {
        let otlp_endpoint = reader.optional(&table::OTLP_ENDPOINT);
        if otlp_endpoint.is_some() {
            reader.require_in_build(&table::OTLP_ENDPOINT, &clients::OTLP);
        }
        Self {
            log_level: reader.read(&table::LOG_LEVEL),
            log_format: reader.read(&table::LOG_FORMAT),
            otlp_endpoint,
            service_name: reader.read_or(&table::SERVICE_NAME, role.service_name()),
        }
    }
}

fn read_tls(reader: &mut Reader) -> Option<(PathBuf, PathBuf)> {
    let certificate = reader.optional(&table::TLS_CERT_FILE);
    match (certificate, reader.optional(&table::TLS_KEY_FILE)) {
        (Some(certificate), Some(key)) => return Some((certificate, key)),
        (None, None) => {}
        (Some(_), None) => reader.refuse(&table::TLS_KEY_FILE, NO_PAIR),
        (None, Some(_)) => reader.refuse(&table::TLS_CERT_FILE, NO_PAIR),
    }
    None
}

fn read_edge(host: IpAddr, reader: &mut Reader) -> matyan_edge::Settings {
    let is_on_network = !host.is_loopback();
    let max_connections = reader.read(&table::MAX_CONNECTIONS);
    let defaults = matyan_edge::Settings::default();
    let mut allowed_hosts = reader.read(&table::ALLOWED_HOSTS);
    if is_on_network {
        allowed_hosts.extend(machine_name());
    }
    matyan_edge::Settings {
        allowed_hosts,
        closed_hosts: reader.read(&table::CLOSED_HOSTS),
        is_on_network,
        is_behind_tls_proxy: reader.read(&table::ACCESS_BEHIND_PROXY),
        max_connections,
        max_open: defaults.max_open.max(max_connections),
        max_calls: defaults.max_calls.max(max_connections),
        request_timeout: reader.read(&table::REQUEST_TIMEOUT),
        cors_origins: reader.read(&table::CORS_ORIGINS),
        protocols: read_protocols(reader),
        metrics_enabled: reader.read(&table::METRICS_ENABLED),
        ..defaults
    }
}

fn read_quotas(reader: &mut Reader) -> ProjectQuotas {
    let mut quota = |limit: &Setting<u64>, project_limits: &Setting<ProjectLimits>| Quota {
        limit: reader.read(limit),
        project_limits: reader.read(project_limits),
    };
    ProjectQuotas {
        runs: quota(&table::MAX_PROJECT_RUNS, &table::PROJECT_RUNS),
        series: quota(&table::MAX_PROJECT_SERIES, &table::PROJECT_SERIES),
        bytes: quota(&table::MAX_PROJECT_BYTES, &table::PROJECT_BYTES),
    }
}

fn read_logdir(reader: &mut Reader) -> Option<PathBuf> {
    let logdir = reader.optional(&table::LOGDIR);
    if logdir.is_some() {
        reader.require_in_build(&table::LOGDIR, &clients::TENSORBOARD);
    }
    logdir
}

fn read_logdir_project(reader: &mut Reader) -> String {
    let project = reader.optional(&table::LOGDIR_PROJECT);
    if project.is_some() && !reader.is_set(&table::LOGDIR) {
        reader.refuse(&table::LOGDIR_PROJECT, NO_LOGDIR);
    }
    project.unwrap_or_default()
}

/// The protocols that the process answers: by default, all protocols that this build includes. The build must include
/// every protocol that the setting names.
fn read_protocols(reader: &mut Reader) -> Vec<Protocol> {
    if !reader.is_set(&table::PROTOCOLS) {
        let mut protocols = reader.read(&table::PROTOCOLS);
        protocols.retain(|protocol| protocol.is_included());
        return protocols;
    }
    // `read` would return the default in place of an invalid value, which is refused already.
    let named = reader.optional(&table::PROTOCOLS).unwrap_or_default();
    for protocol in &named {
        reader.require_in_build(&table::PROTOCOLS, clients::of_protocol(*protocol));
    }
    named
}

/// Host name of this machine, by which other machines may address it.
fn machine_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_owned();
    (!name.is_empty()).then_some(name)
}

fn read_ui(role: Role, reader: &mut Reader) -> Option<UiSettings> {
    let dir = reader.optional(&table::UI_DIR);
    role.has_backend().then(|| UiSettings {
        dir,
        base_path: reader.read(&table::UI_BASE_PATH),
        api_base_path: reader.read(&table::UI_API_BASE_PATH),
        api_host_base: reader.read(&table::UI_API_HOST_BASE),
        api_auth_token: reader.read(&table::UI_API_AUTH_TOKEN),
        allows_report_code: reader.read(&table::UI_REPORTS),
    })
}
