//! The table of all settings. Reading, flags, help texts, `matyan settings` and the pages of
//! reference follow from it; `docs/internals/contributing/setting.md` says how to add a row.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use matyan_edge::Protocol;
use matyan_log::kafka_settings::Compression;
use matyan_sign_in::{ClientSecret, RoleTable};
use matyan_store::Prefix;
use matyan_wire::ingestion::RecordFormat;

use super::{
    access_file::AccessFile,
    parse::{self, AccessMode, LogFormat},
    project_limit::{self, ProjectLimits},
    role::{Program, Role},
    secret::Secret,
    setting::{Definition, Setting},
};

const UP: Program = Program::Server(Role::Up);
const FRONTIER: Program = Program::Server(Role::Frontier);
const BACKEND: Program = Program::Server(Role::Backend);
const INGEST_WORKER: Program = Program::Server(Role::IngestWorker);
const CONTROL_WORKER: Program = Program::Server(Role::ControlWorker);
const SERVERS: &[Program] = &[UP, FRONTIER, BACKEND, INGEST_WORKER, CONTROL_WORKER];

/// Programs that choose a store.
const STORE_PROGRAMS: &[Program] =
    &[UP, FRONTIER, BACKEND, INGEST_WORKER, CONTROL_WORKER, Program::RecoverAccess];

/// The URI of a backend in the data directory.
pub(super) const EMBEDDED: &str = "embedded:";

/// Bucket or container of all clouds.
const BUCKET: &str = "matyan-artifacts";

/// Makes a constant of each row, whose help is its doc comment, and the list of all rows.
macro_rules! settings {
    ($($(#[doc = $help:literal])+ $name:ident: $type:ty = $setting:expr;)*) => {
        $($(#[doc = $help])+ pub(super) const $name: Setting<$type> = $setting.help(concat!($($help),+));)*
        /// The definitions of all settings. Their keys are the keys of a config file.
        pub(super) const ALL: &[Definition] = &[$($name.definition),*];
    };
}

settings! {
    /// `production` refuses to start with development secrets and addresses; `development`
    /// accepts them
    ENVIRONMENT: bool = Setting::new("environment", &["MATYAN_ENVIRONMENT", "ENVIRONMENT"], parse::is_production)
        .default("development").chart("environment");
    /// Port of the query side, or of the only service; 0 picks a free one
    PORT: u16 = Setting::new("port", &["PORT"], parse::port)
        .default("53800").default_of(FRONTIER, "53801").flag("port", "PORT", &[UP, FRONTIER, BACKEND]);
    /// Port of the ingest side; 0 picks a free one
    FRONTIER_PORT: u16 = Setting::new("frontier_port", &["FRONTIER_PORT"], parse::port)
        .default("53801").flag("frontier-port", "PORT", &[UP]);
    /// Port of health checks and Prometheus metrics of a worker; 0 disables it
    METRICS_PORT: u16 = Setting::new("metrics_port", &["METRICS_PORT"], parse::port_or_none)
        .default("9090").flag("metrics-port", "PORT", &[INGEST_WORKER, CONTROL_WORKER]);
    /// Address to listen on
    HOST: IpAddr = Setting::new("host", &["MATYAN_HOST", "HOST"], parse::address)
        // On a laptop, a port must not be open to the network by default; in a
        // container, any other address would be unreachable.
        .default("0.0.0.0").default_of(UP, "127.0.0.1").flag("host", "ADDRESS", SERVERS);
    /// Serve the browser UI in this directory instead of the one in the program
    UI_DIR: PathBuf = Setting::new("ui_dir", &["MATYAN_UI_DIR"], parse::path)
        .flag("ui-dir", "DIR", &[UP, BACKEND]);
    /// Path under which a proxy exposes this server, such as /matyan
    UI_BASE_PATH: String = Setting::new("ui_base_path", &["MATYAN_UI_BASE_PATH"], parse::base_path)
        .default("").flag("ui-base-path", "PATH", &[UP, BACKEND]).chart("ui.basePath");
    /// Path of the API on its host, for UI bundles that read it
    UI_API_BASE_PATH: String = Setting::new("ui_api_base_path", &["MATYAN_UI_API_BASE_PATH"], parse::base_path)
        .default("/api/v1");
    /// Scheme and host of the API, if it is not served with the page
    UI_API_HOST_BASE: String = Setting::new("ui_api_host_base", &["MATYAN_UI_API_HOST_BASE"], parse::api_host)
        // The page and the API are on the same port, under any host name that the
        // browser uses.
        .default("");
    /// Bearer token that the UI sends to a proxy; everyone who opens the page can read it
    UI_API_AUTH_TOKEN: String = Setting::new("ui_api_auth_token", &["MATYAN_UI_API_AUTH_TOKEN"], parse::token)
        .default("").secret();
    /// Whether reports of Aim's UI run the Python code stored in them, with everyone's rights;
    /// their interpreter comes from cdn.jsdelivr.net
    UI_REPORTS: bool = Setting::new("ui_reports", &["MATYAN_UI_REPORTS"], parse::boolean)
        .default("false");
    /// Directory of the embedded store, log and blobs
    DATA_DIR: PathBuf = Setting::new("data_dir", &["MATYAN_DATA_DIR"], parse::path)
        .default("matyan-data").flag("data-dir", "DIR", STORE_PROGRAMS);
    /// Store for state: `embedded:` or `fdb:///path/to/fdb.cluster`; with `fdb:`,
    /// FDB_CLUSTER_FILE names the file
    STORE: String = Setting::new("store", &["MATYAN_STORE"], parse::text)
        .default("fdb:").default_of(UP, EMBEDDED).flag("store", "URI", STORE_PROGRAMS);
    /// Log between ingestion and store: `embedded:` or `kafka://host:port,host:port`; with
    /// `kafka:`, KAFKA_BOOTSTRAP_SERVERS names the brokers
    LOG: String = Setting::new("log", &["MATYAN_LOG"], parse::text)
        .default("kafka:").default_of(UP, EMBEDDED)
        .flag("log", "URI", &[UP, FRONTIER, BACKEND, INGEST_WORKER, CONTROL_WORKER, Program::CreateTopics, Program::CloseTopic]);
    /// Store for large objects: `embedded:`, `file:///directory`, `s3://bucket`, `gs://bucket`,
    /// `azure://container`; without a name, S3_BUCKET, GCS_BUCKET or AZURE_CONTAINER names the bucket
    BLOBS: String = Setting::new("blobs", &["MATYAN_BLOBS"], parse::text)
        .default_of(UP, EMBEDDED).computed("the cloud in BLOB_BACKEND_TYPE")
        .flag("blobs", "URI", &[UP, FRONTIER, BACKEND, INGEST_WORKER, CONTROL_WORKER, Program::CreateBucket]);
    /// TOML file with settings
    CONFIG: String = Setting::new("config", &["MATYAN_CONFIG"], parse::text)
        .flag("config", "FILE", &Program::ALL);
    /// error, warn, info, debug or trace; or filters such as `info,matyan_worker=debug`
    LOG_LEVEL: String = Setting::new("log_level", &["LOG_LEVEL"], parse::log_level)
        .default("info").flag("log-level", "LEVEL", SERVERS).chart("logging.level");
    /// text or json
    LOG_FORMAT: LogFormat = Setting::new("log_format", &["LOG_FORMAT"], parse::log_format)
        .default("text").flag("log-format", "FORMAT", SERVERS).chart("logging.format");
    /// Serve TLS on every port, with the certificate chain in this PEM file
    TLS_CERT_FILE: PathBuf = Setting::new("tls_cert", &["TLS_CERT_FILE"], parse::path)
        .flag("tls-cert", "FILE", SERVERS).chart("tls.existingSecret");
    /// PEM file with the key of the certificate; both files are reloaded when they change
    TLS_KEY_FILE: PathBuf = Setting::new("tls_key", &["TLS_KEY_FILE"], parse::path)
        .flag("tls-key", "FILE", SERVERS).chart("tls.existingSecret");
    /// `on`: callers need a token, and may do what their roles permit; `off`: everyone who can connect may do
    /// everything
    ACCESS: AccessMode = Setting::new("access", &["MATYAN_ACCESS"], parse::access)
        .computed("off, on an address that only this machine can reach").flag("access", "on|off", SERVERS).chart("access");
    /// Whether a proxy in front of this server serves TLS, so that tokens are never sent unencrypted
    ACCESS_BEHIND_PROXY: bool = Setting::new("access_behind_proxy", &["MATYAN_ACCESS_BEHIND_PROXY"], parse::boolean)
        .default("false").flag("access-behind-proxy", "BOOLEAN", &[UP, FRONTIER, BACKEND]).chart("ingress.tlsSecret");
    /// File with the token of the first operator, as `matyan access token generate` prints it; without it, a
    /// token is written to `operator-token` in the data directory
    OPERATOR_TOKEN_FILE: PathBuf = Setting::new("operator_token_file", &["MATYAN_OPERATOR_TOKEN_FILE"], parse::path)
        .chart("operator.tokenKey");
    /// File with roles, and with digests of tokens, that are in force as long as the file has them
    ACCESS_FILE: AccessFile = Setting::new("access_file", &["MATYAN_ACCESS_FILE"], AccessFile::open);
    /// Issuer of a provider of OpenID Connect with which people sign in, exactly as the provider writes it
    OIDC_ISSUER: String = Setting::new("oidc_issuer", &["MATYAN_OIDC_ISSUER"], parse::provider_url)
        .chart("signIn.oidc.issuer");
    /// Id by which this provider knows this server
    OIDC_CLIENT_ID: String = Setting::new("oidc_client_id", &["MATYAN_OIDC_CLIENT_ID"], parse::text)
        .chart("signIn.oidc.clientId");
    /// File with the secret by which this provider knows this server; without it, the client is a public one
    OIDC_CLIENT_SECRET_FILE: ClientSecret = Setting::new("oidc_client_secret_file", &["MATYAN_OIDC_CLIENT_SECRET_FILE"], parse::client_secret_file)
        .chart("signIn.oidc.secretKey");
    /// Name of this provider on the page for signing in
    OIDC_TITLE: String = Setting::new("oidc_title", &["MATYAN_OIDC_TITLE"], parse::text)
        .default("single sign-on").chart("signIn.oidc.title");
    /// Scopes that are asked for besides `openid`, separated by spaces
    OIDC_SCOPES: String = Setting::new("oidc_scopes", &["MATYAN_OIDC_SCOPES"], parse::text)
        .default("email profile").chart("signIn.oidc.scopes");
    /// Claim of the ID token with the groups of a person
    OIDC_GROUPS_CLAIM: String = Setting::new("oidc_groups_claim", &["MATYAN_OIDC_GROUPS_CLAIM"], parse::text)
        .default("groups").chart("signIn.oidc.groupsClaim");
    /// Claim of the ID token with the name of a person, which should be unique and not be chosen by the person
    OIDC_NAME_CLAIM: String = Setting::new("oidc_name_claim", &["MATYAN_OIDC_NAME_CLAIM"], parse::text)
        .computed("`email` if it is verified, otherwise `sub`").chart("signIn.oidc.nameClaim");
    /// Roles of the groups of this provider, separated by commas or line breaks: `ml-team = editor@speech` in a project,
    /// `ops = operator` in all projects
    OIDC_ROLES: RoleTable = Setting::new("oidc_roles", &["MATYAN_OIDC_ROLES"], RoleTable::parse)
        .default("").chart("signIn.oidc.roles");
    /// Address of the instance of GitHub with which people sign in
    GITHUB_URL: String = Setting::new("github_url", &["MATYAN_GITHUB_URL"], parse::provider_url)
        .default("https://github.com").chart("signIn.github.url");
    /// Client id of an OAuth app of GitHub; with it, people sign in with GitHub
    GITHUB_CLIENT_ID: String = Setting::new("github_client_id", &["MATYAN_GITHUB_CLIENT_ID"], parse::text)
        .chart("signIn.github.clientId");
    /// File with the client secret of this app
    GITHUB_CLIENT_SECRET_FILE: ClientSecret = Setting::new("github_client_secret_file", &["MATYAN_GITHUB_CLIENT_SECRET_FILE"], parse::client_secret_file)
        .chart("signIn.github.secretKey");
    /// Roles of organizations and teams of GitHub, separated by commas or line breaks: `my-org = viewer@speech`,
    /// `my-org/ml-team = editor@speech`
    GITHUB_ROLES: RoleTable = Setting::new("github_roles", &["MATYAN_GITHUB_ROLES"], RoleTable::parse_any_case)
        .default("").chart("signIn.github.roles");
    /// Send traces over gRPC to the OpenTelemetry collector at this address, such as
    /// http://127.0.0.1:4317
    OTLP_ENDPOINT: String = Setting::new(
        "otlp_endpoint",
        &["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
        parse::endpoint,
    ).flag("otlp-endpoint", "URL", SERVERS);
    /// Name of this process in traces
    SERVICE_NAME: String = Setting::new("service_name", &["OTEL_SERVICE_NAME"], parse::service_name)
        .default_of(UP, "matyan").computed("the command, after `matyan-`");
    /// Write the addresses to this file as JSON once everything is ready
    READY_FILE: PathBuf = Setting::new("ready_file", &["MATYAN_READY_FILE"], parse::path)
        .flag("ready-file", "FILE", SERVERS);
    /// Time limit in seconds at shutdown, first for connections to end, and then for brokers to
    /// respond
    SHUTDOWN_FLUSH_TIMEOUT: Duration = Setting::new("shutdown_flush_timeout", &["SHUTDOWN_FLUSH_TIMEOUT"], parse::seconds)
        .default("5");
    /// Maximum number of WebSockets per port; other connections and calls have limits of 10000
    /// each, or of this number if it is higher; one address other than localhost, or with access
    /// control one principal, may have three quarters of each
    MAX_CONNECTIONS: usize = Setting::new("max_connections", &["MATYAN_MAX_CONNECTIONS"], parse::connections)
        .default("10000").chart("frontier.maxConnections");
    /// Maximum time in seconds of a call, except of watches, followed logs, ingestion, transfers of
    /// artifacts, backups and jobs; clients may set less with `grpc-timeout`, or
    /// `x-request-timeout` in seconds
    REQUEST_TIMEOUT: Duration = Setting::new("request_timeout", &["MATYAN_REQUEST_TIMEOUT"], parse::timeout)
        // A program may read a stream of results slowly; abandoned calls end at once.
        .default("3600");
    /// Maximum size in bytes of an upload through this process
    MAX_UPLOAD_BYTES: u64 = Setting::new("max_upload_bytes", &["MATYAN_MAX_UPLOAD_BYTES"], parse::upload_bytes)
        .default("107374182400");
    /// Space in bytes that uploads through this process leave free on the disk, but at most a tenth
    /// of it
    MIN_FREE_BYTES: u64 = Setting::new("min_free_bytes", &["MATYAN_MIN_FREE_BYTES"], parse::upload_bytes)
        .default("5368709120");
    /// Maximum bytes of the uploads of a project; further ones are refused; 0: no limit
    MAX_PROJECT_UPLOAD_BYTES: u64 = project_limit::limit("max_project_upload_bytes", &["MATYAN_MAX_PROJECT_UPLOAD_BYTES"]);
    /// The same for projects with their own limits, by name, separated by commas:
    /// `speech = 536870912000, demo = 0`; the default project is `default`
    PROJECT_UPLOAD_BYTES: ProjectLimits = project_limit::limits_by_name("project_upload_bytes", &["MATYAN_PROJECT_UPLOAD_BYTES"]);
    /// Maximum number of runs of a project, including those in the bin; with as many, new runs are refused; 0: no limit
    MAX_PROJECT_RUNS: u64 = project_limit::limit("max_project_runs", &["MATYAN_MAX_PROJECT_RUNS"]);
    /// The same for projects with their own limits, by name, separated by commas: `speech = 50000, demo = 0`
    PROJECT_RUNS: ProjectLimits = project_limit::limits_by_name("project_runs", &["MATYAN_PROJECT_RUNS"]);
    /// Maximum number of series of all runs of a project; with as many, further data is refused; 0: no limit
    MAX_PROJECT_SERIES: u64 = project_limit::limit("max_project_series", &["MATYAN_MAX_PROJECT_SERIES"]);
    /// The same for projects with their own limits, by name, separated by commas:
    /// `speech = 5000000, demo = 0`
    PROJECT_SERIES: ProjectLimits = project_limit::limits_by_name("project_series", &["MATYAN_PROJECT_SERIES"]);
    /// Maximum bytes of the points, objects and logs of all runs of a project and of its named documents; once a
    /// project has this many, further data is refused; 0: no limit
    MAX_PROJECT_BYTES: u64 = project_limit::limit("max_project_bytes", &["MATYAN_MAX_PROJECT_BYTES"]);
    /// The same for projects with their own limits, by name, separated by commas:
    /// `speech = 536870912000, demo = 0`
    PROJECT_BYTES: ProjectLimits = project_limit::limits_by_name("project_bytes", &["MATYAN_PROJECT_BYTES"]);
    /// Host names under which browsers and clients reach this server: `matyan.example`,
    /// `*.example`, or `*` for any; separated by commas. IP addresses and `localhost` always work;
    /// if other machines can connect, so do this machine's name, names without a dot, and those
    /// that end in `.local`, `.localdomain`, `.internal`, `.lan`, `.home.arpa` or `.svc`
    ALLOWED_HOSTS: Vec<String> = Setting::new("allowed_hosts", &["MATYAN_ALLOWED_HOSTS"], parse::host_names)
        .default("").flag("allowed-hosts", "NAMES", SERVERS).chart("allowedHosts");
    /// Host names under which administration, backups and `/metrics` are refused, such as the names of a
    /// proxy that everyone can reach; in the same form
    CLOSED_HOSTS: Vec<String> = Setting::new("closed_hosts", &["MATYAN_CLOSED_HOSTS"], parse::host_names)
        .default("").chart("ingress.admin");
    /// Other browser origins whose pages may use the API, and may show the UI in a frame: a JSON
    /// array, or separated by commas
    CORS_ORIGINS: Vec<String> = Setting::new("cors_origins", &["CORS_ORIGINS"], parse::origins)
        .default("").flag("cors-origins", "ORIGINS", &[UP, FRONTIER, BACKEND]).chart("corsOrigins");
    /// Protocols of other trackers that the query port answers, separated by commas, or `none`: `mlflow`,
    /// `optuna` and `wandb`; with `mlflow` or `wandb`, the query port also accepts data
    PROTOCOLS: Vec<Protocol> = Setting::new("protocols", &["MATYAN_PROTOCOLS"], parse::protocols)
        .default("mlflow,optuna,wandb").flag("protocols", "NAMES", &[UP, BACKEND]);
    /// Directory of TensorBoard event files to follow, including new ones: each folder with such files is a run
    LOGDIR: PathBuf = Setting::new("logdir", &["MATYAN_LOGDIR"], parse::path).flag("logdir", "DIR", &[UP]);
    /// Existing project that gets the runs of `--logdir`; by default, the default project
    LOGDIR_PROJECT: String = Setting::new("logdir_project", &["MATYAN_LOGDIR_PROJECT"], parse::project)
        .flag("logdir-project", "NAME", &[UP]);
    /// Address of the backend, which a frontier in a process of its own asks whether a project
    /// exists and, with access control, who its callers are; without it, such a frontier accepts data for the
    /// default project only
    BACKEND_URL: String = Setting::new("backend_url", &["MATYAN_BACKEND_URL"], parse::web_url)
        .flag("backend-url", "URL", &[FRONTIER]).chart("backend.service.port");
    /// Whether HTTP requests are counted
    METRICS_ENABLED: bool = Setting::new("metrics_enabled", &["METRICS_ENABLED"], parse::boolean)
        .default("true");
    /// Maximum age in seconds of the cached param names of a project, which the UI's search
    /// suggests
    PROJECT_PARAMS_CACHE_TTL: Duration = Setting::new("project_params_cache_ttl", &["PROJECT_PARAMS_CACHE_TTL"], parse::seconds)
        .default("30");
    /// Maximum memory in bytes of the tables that sorted and grouped lists of runs are read from, at most 2 GiB: about
    /// 60 bytes for each run of the projects that are viewed, and as many for each value that lists are sorted by
    RUN_TABLE_BYTES: usize = Setting::new("run_table_bytes", &["MATYAN_RUN_TABLE_BYTES"], parse::table_bytes)
        .computed("an eighth of the memory of the machine, or of its control group, from 256 MiB to 2 GiB");
    /// Finish runs that have received no data for this number of hours; 0 disables this
    FINISH_STALE_HOURS: Option<Duration> = Setting::new("finish_stale_hours", &["MATYAN_FINISH_STALE_HOURS"], parse::hours_or_never)
        .default("24");
    /// Maximum bytes of a project's objects that wait in the store while the blob store is unavailable;
    /// further ones are parked
    MAX_PENDING_PAYLOAD_BYTES: u64 = Setting::new("max_pending_payload_bytes", &["MATYAN_MAX_PENDING_PAYLOAD_BYTES"], parse::upload_bytes)
        .default("1073741824");
    /// Size in bytes of a run's parked records above which its quarantine is logged and counted as large
    LARGE_QUARANTINE_BYTES: u64 = Setting::new("large_quarantine_bytes", &["MATYAN_LARGE_QUARANTINE_BYTES"], parse::upload_bytes)
        .default("268435456");
    /// Maximum memory in bytes that a worker keeps for runs between their records; what it drops is read
    /// from the store when a run continues
    WRITER_CACHE_BYTES: usize = Setting::new("writer_cache_bytes", &["MATYAN_WRITER_CACHE_BYTES"], parse::cache_bytes)
        .default("16777216");
    /// Key that signs blob tokens, upload URLs, permits in URLs of files and the questions of frontiers about their
    /// callers, and encrypts what browsers keep while they sign in with a provider, the same for every backend and
    /// frontier
    BLOB_URI_SECRET: Secret = Setting::new("blob_uri_secret", &["BLOB_URI_SECRET"], parse::secret)
        .computed("a key in the data directory").secret().chart("blobUri.secretKey");

    /// Cluster file of FoundationDB; its client rewrites the file when coordinators change
    FDB_CLUSTER_FILE: PathBuf = Setting::new("fdb_cluster_file", &["FDB_CLUSTER_FILE"], parse::path)
        .default("fdb.cluster").chart("foundationdb.clusterFileKey");
    /// Prefix of every key, so that the cluster can be shared: 1 to 32 of `A-Z a-z 0-9 . _ -`
    FDB_KEY_PREFIX: Prefix = Setting::new("fdb_key_prefix", &["FDB_KEY_PREFIX"], Prefix::new)
        .default("matyan");
    /// The only supported version; exists for settings of Matyan 0.3
    FDB_API_VERSION: () = Setting::new("fdb_api_version", &["FDB_API_VERSION"], parse::fdb_api_version)
        .default("730");
    /// Maximum number of attempts of an operation that certainly had no effect yet; a commit
    /// with an unknown outcome is followed up without a limit
    FDB_RETRY_MAX_ATTEMPTS: u32 = Setting::new("fdb_retry_max_attempts", &["FDB_RETRY_MAX_ATTEMPTS"], parse::attempts)
        .default("5");
    /// Delay in seconds before the second attempt; doubles each time, plus up to a quarter of
    /// this at random
    FDB_RETRY_INITIAL_DELAY: Duration = Setting::new("fdb_retry_initial_delay", &["FDB_RETRY_INITIAL_DELAY_SEC"], parse::delay)
        .default("0.05");
    /// Maximum delay in seconds between attempts
    FDB_RETRY_MAX_DELAY: Duration = Setting::new("fdb_retry_max_delay", &["FDB_RETRY_MAX_DELAY_SEC"], parse::delay)
        .default("2");

    /// Addresses of brokers: `host:port,host:port`
    KAFKA_BOOTSTRAP_SERVERS: String = Setting::new("kafka_bootstrap_servers", &["KAFKA_BOOTSTRAP_SERVERS"], parse::brokers)
        .default("localhost:9092").chart("kafka.bootstrapServers");
    /// Format in which records are written: `protobuf`, or `json` while workers of Matyan 0.3
    /// are running
    KAFKA_MESSAGE_FORMAT: RecordFormat = Setting::new("kafka_message_format", &["KAFKA_MESSAGE_FORMAT"], parse::message_format)
        .default("protobuf").chart("kafka.messageFormat");
    /// Topic of data from clients
    KAFKA_INGESTION_TOPIC: String = Setting::new("kafka_data_ingestion_topic", &["KAFKA_DATA_INGESTION_TOPIC"], parse::topic)
        .default("data-ingestion").chart("kafka.topics.ingestion");
    /// Topic of control events
    KAFKA_CONTROL_TOPIC: String = Setting::new("kafka_control_events_topic", &["KAFKA_CONTROL_EVENTS_TOPIC"], parse::topic)
        .default("control-events").chart("kafka.topics.control");
    /// Topic of copies of items that could not be applied
    KAFKA_DEAD_LETTERS_TOPIC: String = Setting::new("kafka_dead_letters_topic", &["KAFKA_DEAD_LETTERS_TOPIC"], parse::topic)
        .default("dead-letters").chart("kafka.topics.deadLetters");
    /// Number of partitions of the ingestion topic to use, from the first; cannot be changed
    /// later, and limits the number of useful workers
    KAFKA_PARTITIONS: u32 = Setting::new("partitions", &["KAFKA_DATA_INGESTION_PARTITIONS"], parse::partitions)
        .computed("all").default_of(Program::CreateTopics, "6")
        .flag("partitions", "COUNT", &[Program::CreateTopics]).chart("kafka.partitions");
    /// Number of brokers that store a copy; use at least 3 in production
    REPLICATION: u16 = Setting::new("replication", &["KAFKA_REPLICATION"], parse::replicas)
        .default("1").flag("replication", "COUNT", &[Program::CreateTopics]).chart("kafka.replication");
    /// Number of replicas that must have a record before it is acknowledged
    MIN_INSYNC_REPLICAS: u16 = Setting::new("min_insync_replicas", &["KAFKA_MIN_INSYNC_REPLICAS"], parse::replicas)
        .computed("2 for a replication of 3 or more, otherwise 1")
        .flag("min-insync-replicas", "COUNT", &[Program::CreateTopics]).chart("kafka.minInsyncReplicas");
    /// Consumer groups are named after this, followed by a dash and the topic
    KAFKA_CONSUMER_GROUP: String = Setting::new("kafka_consumer_group", &["KAFKA_CONSUMER_GROUP"], parse::topic)
        // Matyan 0.3 has its own consumers, which cannot share a group with these.
        .default("matyan").chart("kafka.consumerGroup");
    /// Milliseconds for which a record waits for others before they are sent together
    KAFKA_LINGER_MS: Duration = Setting::new("kafka_linger_ms", &["KAFKA_LINGER_MS"], parse::linger)
        .default("2");
    /// Compression of records: `lz4` or `none`
    KAFKA_COMPRESSION: Compression = Setting::new("kafka_compression", &["KAFKA_COMPRESSION"], parse::compression)
        .default("none");
    /// Bytes with which a broker answers a read at once; with fewer, it waits for `KAFKA_FETCH_WAIT_MS`
    KAFKA_FETCH_MIN_BYTES: u32 = Setting::new("kafka_fetch_min_bytes", &["KAFKA_FETCH_MIN_BYTES"], parse::fetch_bytes)
        .default("1");
    /// Milliseconds after which a broker answers a read although it has too few bytes
    KAFKA_FETCH_WAIT_MS: Duration = Setting::new("kafka_fetch_wait_ms", &["KAFKA_FETCH_WAIT_MS"], parse::fetch_wait)
        .default("200");
    /// PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
    KAFKA_SECURITY_PROTOCOL: String = Setting::new("kafka_security_protocol", &["KAFKA_SECURITY_PROTOCOL"], parse::security_protocol)
        .default("PLAINTEXT").chart("kafka.security.protocol");
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
    KAFKA_SASL_MECHANISM: String = Setting::new("kafka_sasl_mechanism", &["KAFKA_SASL_MECHANISM"], parse::sasl_mechanism)
        .chart("kafka.security.mechanism");
    /// User name for SASL
    KAFKA_SASL_USERNAME: String = Setting::new("kafka_sasl_username", &["KAFKA_SASL_USERNAME"], parse::text)
        .chart("kafka.security.usernameKey");
    /// Password for SASL
    KAFKA_SASL_PASSWORD: String = Setting::new("kafka_sasl_password", &["KAFKA_SASL_PASSWORD"], parse::text)
        .secret().chart("kafka.security.passwordKey");
    /// Root certificates of brokers, instead of the system's
    KAFKA_CA_FILE: PathBuf = Setting::new("kafka_ca_file", &["KAFKA_CA_FILE"], parse::readable_file)
        .chart("kafka.security.caKey");
    /// Client certificate, if brokers require one
    KAFKA_CERTIFICATE_FILE: PathBuf = Setting::new("kafka_certificate_file", &["KAFKA_CERTIFICATE_FILE"], parse::readable_file)
        .chart("kafka.security.certificateKey");
    /// Key of the client certificate
    KAFKA_KEY_FILE: PathBuf = Setting::new("kafka_key_file", &["KAFKA_KEY_FILE"], parse::readable_file)
        .chart("kafka.security.privateKeyKey");

    /// Cloud for blobs, unless a URI selects one: `s3`, `gcs` or `azure`
    BLOB_BACKEND_TYPE: String = Setting::new("blob_backend_type", &["BLOB_BACKEND_TYPE"], parse::text)
        .default("s3").chart("blobs.type");
    /// Lifetime of upload URLs in seconds, for blob stores in clouds and for a directory
    S3_PRESIGN_EXPIRY: Duration = Setting::new("s3_presign_expiry", &["S3_PRESIGN_EXPIRY"], parse::lifetime)
        .default("3600").chart("blobs.presignExpiry");
    /// Address of S3 for the services
    S3_ENDPOINT: String = Setting::new("s3_endpoint", &["S3_ENDPOINT"], parse::web_url)
        .default("http://localhost:9000").chart("blobs.s3.endpoint");
    /// Address in upload URLs, if training machines use another one
    S3_PUBLIC_ENDPOINT: String = Setting::new("s3_public_endpoint", &["S3_PUBLIC_ENDPOINT"], parse::web_url)
        .chart("blobs.s3.publicEndpoint");
    /// `keys`, or `aws`: the default credential chain of AWS
    S3_CREDENTIALS: bool = Setting::new("s3_credentials", &["S3_CREDENTIALS"], parse::uses_aws_chain)
        .default("keys").chart("blobs.s3.credentials");
    /// Access key, with `keys`
    S3_ACCESS_KEY: String = Setting::new("s3_access_key", &["S3_ACCESS_KEY"], parse::text)
        .default("rustfsadmin").secret().chart("blobs.s3.accessKeyKey");
    /// Secret key, with `keys`
    S3_SECRET_KEY: String = Setting::new("s3_secret_key", &["S3_SECRET_KEY"], parse::text)
        .default("rustfsadmin").secret().chart("blobs.s3.secretKeyKey");
    /// Name of the bucket
    S3_BUCKET: String = Setting::new("s3_bucket", &["S3_BUCKET"], parse::text)
        .default(BUCKET).chart("blobs.bucket");
    /// Region of the bucket
    S3_REGION: String = Setting::new("s3_region", &["S3_REGION"], parse::text)
        .default("us-east-1").chart("blobs.s3.region");
    /// `path` (`https://host/bucket/key`), or `virtual` (`https://bucket.host/key`), as Amazon
    /// requires
    S3_ADDRESSING_STYLE: bool = Setting::new("s3_addressing_style", &["S3_ADDRESSING_STYLE"], parse::is_virtual_host)
        .default("path").chart("blobs.s3.addressingStyle");
    /// Name of the bucket
    GCS_BUCKET: String = Setting::new("gcs_bucket", &["GCS_BUCKET"], parse::text)
        .default(BUCKET).chart("blobs.bucket");
    /// Address in upload URLs, if training machines use another one
    GCS_PUBLIC_ENDPOINT: String = Setting::new("gcs_public_endpoint", &["GCS_PUBLIC_ENDPOINT"], parse::web_url)
        .chart("blobs.gcs.publicEndpoint");
    /// Emulator of Google's storage, which requires no credentials and checks no signatures
    STORAGE_EMULATOR_HOST: String = Setting::new("storage_emulator_host", &["STORAGE_EMULATOR_HOST"], parse::emulator);
    /// JSON key of a service account, instead of Google's default credentials
    GOOGLE_APPLICATION_CREDENTIALS: String = Setting::new("google_application_credentials", &["GOOGLE_APPLICATION_CREDENTIALS"], parse::text)
        .chart("blobs.gcs.credentialsKey");
    /// Project in which a missing bucket is created
    GOOGLE_CLOUD_PROJECT: String = Setting::new("google_cloud_project", &["GOOGLE_CLOUD_PROJECT"], parse::text)
        .default("").chart("blobs.gcs.project");
    /// Connection string of the account; overrides AZURE_ACCOUNT_URL
    AZURE_CONN_STR: String = Setting::new("azure_conn_str", &["AZURE_CONN_STR"], parse::text)
        .default("").secret().chart("blobs.azure.connectionStringKey");
    /// URL of the account, used with the default credential chain of Azure
    AZURE_ACCOUNT_URL: String = Setting::new("azure_account_url", &["AZURE_ACCOUNT_URL"], parse::web_url)
        .chart("blobs.azure.accountUrl");
    /// Name of the container
    AZURE_CONTAINER: String = Setting::new("azure_container", &["AZURE_CONTAINER"], parse::text)
        .default(BUCKET).chart("blobs.bucket");
    /// Address in upload URLs, if training machines use another one
    AZURE_PUBLIC_ENDPOINT: String = Setting::new("azure_public_endpoint", &["AZURE_PUBLIC_ENDPOINT"], parse::web_url)
        .chart("blobs.azure.publicEndpoint");
    /// Client id of an application or a managed identity
    AZURE_CLIENT_ID: String = Setting::new("azure_client_id", &["AZURE_CLIENT_ID"], parse::text);
    /// Secret of the application
    AZURE_CLIENT_SECRET: String = Setting::new("azure_client_secret", &["AZURE_CLIENT_SECRET"], parse::text)
        .secret();
    /// Tenant of the application
    AZURE_TENANT_ID: String = Setting::new("azure_tenant_id", &["AZURE_TENANT_ID"], parse::text);
    /// File with the token of a workload identity
    AZURE_FEDERATED_TOKEN_FILE: String = Setting::new("azure_federated_token_file", &["AZURE_FEDERATED_TOKEN_FILE"], parse::text);
    /// Authority that issues tokens, in national clouds
    AZURE_AUTHORITY_HOST: String = Setting::new("azure_authority_host", &["AZURE_AUTHORITY_HOST"], parse::text);
}

/// Variables of Matyan 0.3 that are no longer used; `docs/operating/replacing-matyan-0.3.md`
/// says why.
pub(super) const UNUSED: &[&str] = &[
    "INGEST_BATCH_SIZE",
    "INGEST_BATCH_TIMEOUT_MS",
    "INGEST_MAX_MESSAGES_PER_TXN",
    "INGEST_MAX_TXN_BYTES",
    "PROJECT_PARAMS_CACHE_MAXSIZE",
    "RUN_SEARCH_QUEUE_MAXSIZE",
    "LAZY_METRIC_QUEUE_MAXSIZE",
    "CUSTOM_SEARCH_QUEUE_MAXSIZE",
    "METRIC_CANDIDATE_RUN_CONCURRENCY",
    "METRIC_TRACE_CHUNK_CONCURRENCY",
    "FDB_THREAD_POOL_SIZE",
    "QUERY_TIMING_ENABLED",
    "TOMBSTONE_CLEANUP_OLDER_THAN_HOURS",
    "CLEANUP_JOB_LOCK_TTL_SECONDS",
    "SERVER_URL",
    "MATYAN_UI_HOST",
    "MATYAN_UI_PORT",
];
