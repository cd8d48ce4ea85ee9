//! Names of all settings, in one table. `key` is the key in the config file and, with dashes,
//! the flag, if the setting has one. At the end are variables of Matyan 0.3 that are no longer
//! used.

#[derive(Clone, Copy, Debug)]
pub(super) struct SettingName {
    pub(super) key: &'static str,
    /// Environment variables, highest precedence first. Messages use the first one.
    pub(super) variables: &'static [&'static str],
    /// True if the value must never be printed.
    pub(super) secret: bool,
}

const fn name(key: &'static str, variables: &'static [&'static str]) -> SettingName {
    SettingName { key, variables, secret: false }
}

const fn secret(key: &'static str, variables: &'static [&'static str]) -> SettingName {
    SettingName { key, variables, secret: true }
}

macro_rules! names {
    ($($constant:ident = $make:ident($key:literal, $variables:expr);)*) => {
        $(pub(super) const $constant: SettingName = $make($key, $variables);)*
        /// All settings, which are also the keys allowed in a config file.
        pub(super) const ALL: &[SettingName] = &[$($constant),*];
    };
}

names! {
    ENVIRONMENT = name("environment", &["MATYAN_ENVIRONMENT", "ENVIRONMENT"]);
    HOST = name("host", &["HOST"]);
    PORT = name("port", &["PORT"]);
    FRONTIER_PORT = name("frontier_port", &["FRONTIER_PORT"]);
    TLS_CERT_FILE = name("tls_cert", &["TLS_CERT_FILE"]);
    TLS_KEY_FILE = name("tls_key", &["TLS_KEY_FILE"]);
    METRICS_PORT = name("metrics_port", &["METRICS_PORT"]);
    DATA_DIR = name("data_dir", &["MATYAN_DATA_DIR"]);
    STORE = name("store", &["MATYAN_STORE"]);
    LOG = name("log", &["MATYAN_LOG"]);
    BLOBS = name("blobs", &["MATYAN_BLOBS"]);
    CONFIG = name("config", &["MATYAN_CONFIG"]);
    LOG_LEVEL = name("log_level", &["LOG_LEVEL"]);
    LOG_FORMAT = name("log_format", &["LOG_FORMAT"]);
    OTLP_ENDPOINT = name("otlp_endpoint", &["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]);
    SERVICE_NAME = name("service_name", &["OTEL_SERVICE_NAME"]);
    READY_FILE = name("ready_file", &["MATYAN_READY_FILE"]);
    SHUTDOWN_FLUSH_TIMEOUT = name("shutdown_flush_timeout", &["SHUTDOWN_FLUSH_TIMEOUT"]);
    MAX_CONNECTIONS = name("max_connections", &["MATYAN_MAX_CONNECTIONS"]);
    MAX_UPLOAD_BYTES = name("max_upload_bytes", &["MATYAN_MAX_UPLOAD_BYTES"]);
    CORS_ORIGINS = name("cors_origins", &["CORS_ORIGINS"]);
    METRICS_ENABLED = name("metrics_enabled", &["METRICS_ENABLED"]);
    PROJECT_PARAMS_CACHE_TTL = name("project_params_cache_ttl", &["PROJECT_PARAMS_CACHE_TTL"]);
    FINISH_STALE_HOURS = name("finish_stale_hours", &["MATYAN_FINISH_STALE_HOURS"]);
    UI_DIR = name("ui_dir", &["MATYAN_UI_DIR"]);
    UI_BASE_PATH = name("ui_base_path", &["MATYAN_UI_BASE_PATH"]);
    UI_API_BASE_PATH = name("ui_api_base_path", &["MATYAN_UI_API_BASE_PATH"]);
    UI_API_HOST_BASE = name("ui_api_host_base", &["MATYAN_UI_API_HOST_BASE"]);
    UI_API_AUTH_TOKEN = secret("ui_api_auth_token", &["MATYAN_UI_API_AUTH_TOKEN"]);
    BLOB_URI_SECRET = secret("blob_uri_secret", &["BLOB_URI_SECRET"]);

    FDB_CLUSTER_FILE = name("fdb_cluster_file", &["FDB_CLUSTER_FILE"]);
    FDB_KEY_PREFIX = name("fdb_key_prefix", &["FDB_KEY_PREFIX"]);
    FDB_API_VERSION = name("fdb_api_version", &["FDB_API_VERSION"]);
    FDB_RETRY_MAX_ATTEMPTS = name("fdb_retry_max_attempts", &["FDB_RETRY_MAX_ATTEMPTS"]);
    FDB_RETRY_INITIAL_DELAY = name("fdb_retry_initial_delay", &["FDB_RETRY_INITIAL_DELAY_SEC"]);
    FDB_RETRY_MAX_DELAY = name("fdb_retry_max_delay", &["FDB_RETRY_MAX_DELAY_SEC"]);
    KAFKA_BOOTSTRAP_SERVERS = name("kafka_bootstrap_servers", &["KAFKA_BOOTSTRAP_SERVERS"]);
    KAFKA_MESSAGE_FORMAT = name("kafka_message_format", &["KAFKA_MESSAGE_FORMAT"]);
    KAFKA_INGESTION_TOPIC = name("kafka_data_ingestion_topic", &["KAFKA_DATA_INGESTION_TOPIC"]);
    KAFKA_PARTITIONS = name("partitions", &["KAFKA_DATA_INGESTION_PARTITIONS"]);
    KAFKA_CONTROL_TOPIC = name("kafka_control_events_topic", &["KAFKA_CONTROL_EVENTS_TOPIC"]);
    KAFKA_DEAD_LETTERS_TOPIC = name("kafka_dead_letters_topic", &["KAFKA_DEAD_LETTERS_TOPIC"]);
    KAFKA_CONSUMER_GROUP = name("kafka_consumer_group", &["KAFKA_CONSUMER_GROUP"]);
    KAFKA_SECURITY_PROTOCOL = name("kafka_security_protocol", &["KAFKA_SECURITY_PROTOCOL"]);
    KAFKA_SASL_MECHANISM = name("kafka_sasl_mechanism", &["KAFKA_SASL_MECHANISM"]);
    KAFKA_SASL_USERNAME = name("kafka_sasl_username", &["KAFKA_SASL_USERNAME"]);
    KAFKA_SASL_PASSWORD = secret("kafka_sasl_password", &["KAFKA_SASL_PASSWORD"]);
    KAFKA_CA_FILE = name("kafka_ca_file", &["KAFKA_CA_FILE"]);
    KAFKA_CERTIFICATE_FILE = name("kafka_certificate_file", &["KAFKA_CERTIFICATE_FILE"]);
    KAFKA_KEY_FILE = name("kafka_key_file", &["KAFKA_KEY_FILE"]);
    REPLICATION = name("replication", &["KAFKA_REPLICATION"]);
    MIN_INSYNC_REPLICAS = name("min_insync_replicas", &["KAFKA_MIN_INSYNC_REPLICAS"]);

    BLOB_BACKEND_TYPE = name("blob_backend_type", &["BLOB_BACKEND_TYPE"]);
    S3_ENDPOINT = name("s3_endpoint", &["S3_ENDPOINT"]);
    S3_PUBLIC_ENDPOINT = name("s3_public_endpoint", &["S3_PUBLIC_ENDPOINT"]);
    S3_CREDENTIALS = name("s3_credentials", &["S3_CREDENTIALS"]);
    S3_ACCESS_KEY = secret("s3_access_key", &["S3_ACCESS_KEY"]);
    S3_SECRET_KEY = secret("s3_secret_key", &["S3_SECRET_KEY"]);
    S3_BUCKET = name("s3_bucket", &["S3_BUCKET"]);
    S3_REGION = name("s3_region", &["S3_REGION"]);
    S3_ADDRESSING_STYLE = name("s3_addressing_style", &["S3_ADDRESSING_STYLE"]);
    S3_PRESIGN_EXPIRY = name("s3_presign_expiry", &["S3_PRESIGN_EXPIRY"]);
    GCS_BUCKET = name("gcs_bucket", &["GCS_BUCKET"]);
    GCS_PUBLIC_ENDPOINT = name("gcs_public_endpoint", &["GCS_PUBLIC_ENDPOINT"]);
    STORAGE_EMULATOR_HOST = name("storage_emulator_host", &["STORAGE_EMULATOR_HOST"]);
    GOOGLE_APPLICATION_CREDENTIALS = name("google_application_credentials", &["GOOGLE_APPLICATION_CREDENTIALS"]);
    GOOGLE_CLOUD_PROJECT = name("google_cloud_project", &["GOOGLE_CLOUD_PROJECT"]);
    AZURE_CONN_STR = secret("azure_conn_str", &["AZURE_CONN_STR"]);
    AZURE_ACCOUNT_URL = name("azure_account_url", &["AZURE_ACCOUNT_URL"]);
    AZURE_CONTAINER = name("azure_container", &["AZURE_CONTAINER"]);
    AZURE_PUBLIC_ENDPOINT = name("azure_public_endpoint", &["AZURE_PUBLIC_ENDPOINT"]);
    AZURE_CLIENT_ID = name("azure_client_id", &["AZURE_CLIENT_ID"]);
    AZURE_CLIENT_SECRET = secret("azure_client_secret", &["AZURE_CLIENT_SECRET"]);
    AZURE_TENANT_ID = name("azure_tenant_id", &["AZURE_TENANT_ID"]);
    AZURE_FEDERATED_TOKEN_FILE = name("azure_federated_token_file", &["AZURE_FEDERATED_TOKEN_FILE"]);
    AZURE_AUTHORITY_HOST = name("azure_authority_host", &["AZURE_AUTHORITY_HOST"]);
}

/// Variables of Matyan 0.3 that are no longer used; `docs/operations/replacing-matyan-0.3.md`
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
