//! Precedence, every kind of violation, and that all are reported together without revealing
//! secrets.

mod configured;
mod kafka;
mod recovery;
mod reference;

use std::{collections::BTreeMap, fs, path::Path};

use super::*;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn map<T: FromIterator<(String, String)>>(pairs: Pairs<'_>) -> T {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn resolve(role: Role, flags: Pairs<'_>, variables: Pairs<'_>) -> Result<Settings, Violations> {
    let flags: BTreeMap<String, String> = map(flags);
    // Most tests are about something else, and most roles listen for other machines by default.
    let variables = [&[("MATYAN_ACCESS", "off")], variables].concat();
    Settings::resolve(role, flags, map(&variables))
}

/// Checks that the violations start with the expected texts, and that there are no others.
fn check_refused(role: Role, flags: Pairs<'_>, variables: Pairs<'_>, expected: &[&str]) {
    let text = resolve(role, flags, variables).expect_err("the settings are invalid").to_string();
    let lines: Vec<_> = text.lines().skip(1).collect();
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.trim_start().starts_with(expected), "{line}\nshould start with: {expected}");
    }
}

const WITHOUT_FDB: &str = "MATYAN_STORE: this build does not include FoundationDB: build with";

/// Like `check_refused`, but a build without FoundationDB also reports that.
fn check_but_for_the_build(role: Role, flags: Pairs<'_>, variables: Pairs<'_>, expected: &[&str]) {
    let build = (!cfg!(feature = "fdb")).then_some(WITHOUT_FDB);
    let expected: Vec<_> = build.into_iter().chain(expected.iter().copied()).collect();
    match expected[..] {
        [] => drop(resolve(role, flags, variables).unwrap()),
        _ => check_refused(role, flags, variables, &expected),
    }
}

#[test]
fn defaults() {
    let up = resolve(Role::Up, &[], &[]).unwrap();
    assert_eq!(
        (up.listen.host.to_string().as_str(), up.listen.port, up.listen.frontier_port),
        ("127.0.0.1", 53800, 53801)
    );
    assert_eq!((up.telemetry.log_level.as_str(), up.telemetry.log_format), ("info", LogFormat::Text));
    assert_eq!(up.storage.upload_lifetime, Duration::from_secs(3600));
    assert!(up.edge.cors_origins.is_empty() && up.edge.allowed_hosts.is_empty() && !up.edge.is_on_network);
    assert!(up.storage.secret.is_none() && up.ready_file.is_none());
    assert!(matches!(up.storage.blobs, BlobStore::Embedded));

    let embedded = [("log", "embedded:"), ("blobs", "file:///srv/blobs")];
    let frontier = resolve(Role::Frontier, &embedded, &[("PORT", "7")]).unwrap();
    assert_eq!((frontier.listen.host.to_string().as_str(), frontier.listen.frontier_port), ("0.0.0.0", 7));
    assert!(
        matches!(frontier.storage.blobs, BlobStore::Directory(path) if path.to_str() == Some("/srv/blobs"))
    );
}

#[test]
fn rule_63_a_server_in_a_network_needs_a_choice_about_access() {
    let refused = |role, variables: Pairs<'_>, expected: &str| {
        let flags = map(&[("log", "embedded:"), ("blobs", "embedded:"), ("store", "embedded:")]);
        let text = Settings::resolve(role, flags, map(variables)).expect_err("it is not secure").to_string();
        assert!(text.contains(expected), "{text}");
    };
    for (role, variables) in [
        (Role::Up, &[("MATYAN_HOST", "0.0.0.0")][..]),
        (Role::Up, &[("HOST", "::")]),
        (Role::Up, &[("MATYAN_HOST", "10.0.0.1")]),
        (Role::Backend, &[]),
        (Role::Frontier, &[]),
    ] {
        for advice in ["--access on", "--access off", "--host 127.0.0.1"] {
            refused(role, variables, advice);
        }
    }
    let on_network = ("MATYAN_HOST", "0.0.0.0");
    let on = ("MATYAN_ACCESS", "on");
    refused(Role::Up, &[on_network, on], "MATYAN_ACCESS: `on` without TLS");
    let local = ("MATYAN_HOST", "127.0.0.1");
    let backend = ("MATYAN_BACKEND_URL", "http://127.0.0.1:53800");
    let secret = ("BLOB_URI_SECRET", "shared");
    refused(Role::Frontier, &[local, on, secret], "MATYAN_BACKEND_URL: not set; with access control");
    refused(Role::Frontier, &[local, on, backend], "BLOB_URI_SECRET: not set; with access control");
    refused(Role::Frontier, &[on, backend, secret], "MATYAN_ACCESS: `on` without TLS");
    refused(Role::Up, &[on, ("MATYAN_UI_API_AUTH_TOKEN", "x")], "MATYAN_UI_API_AUTH_TOKEN: would publish");
    refused(Role::Up, &[("MATYAN_ACCESS", "maybe")], "is not a mode of access control; use on or off");

    let resolved = |role, variables: Pairs<'_>| {
        let flags = map(&[("log", "embedded:"), ("blobs", "embedded:"), ("store", "embedded:")]);
        Settings::resolve(role, flags, map(variables)).unwrap().access.mode
    };
    assert_eq!(resolved(Role::Up, &[]), None);
    assert_eq!(resolved(Role::Up, &[("HOST", "::1")]), None);
    assert_eq!(resolved(Role::IngestWorker, &[]), None, "a worker serves no data");
    assert_eq!(resolved(Role::Up, &[on]), Some(AccessMode::On));
    assert_eq!(resolved(Role::Backend, &[("MATYAN_ACCESS", "off")]), Some(AccessMode::Off));
    let proxy = ("MATYAN_ACCESS_BEHIND_PROXY", "true");
    assert_eq!(resolved(Role::Backend, &[on_network, on, proxy]), Some(AccessMode::On));
    assert_eq!(resolved(Role::Frontier, &[on, backend, secret, proxy]), Some(AccessMode::On));
}

#[test]
fn rule_85_providers_need_access_control_and_all_of_their_settings() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let secret = file("secret", " s3cret\n");
    let empty = file("empty", "\n");
    let settings = |variables: Pairs<'_>| {
        let flags = map(&[("log", "embedded:"), ("blobs", "embedded:"), ("store", "embedded:")]);
        Settings::resolve(Role::Up, flags, map(variables)).map_err(|violations| violations.to_string())
    };
    let on = ("MATYAN_ACCESS", "on");
    let issuer = ("MATYAN_OIDC_ISSUER", "https://id.example");
    let client = ("MATYAN_OIDC_CLIENT_ID", "matyan");
    let github = ("MATYAN_GITHUB_CLIENT_ID", "Iv1");
    let github_secret = ("MATYAN_GITHUB_CLIENT_SECRET_FILE", secret.as_str());
    let titles = |variables: Pairs<'_>| {
        let settings = settings(variables).unwrap().access.providers;
        let providers = settings.open().unwrap();
        // The banner names them without opening them.
        assert_eq!(settings.titles(), providers.titles().map(|(_, title)| title).collect::<Vec<_>>());
        providers.titles().map(|(id, title)| format!("{id} {title}")).collect::<Vec<_>>()
    };
    assert_eq!(titles(&[on]), [""; 0]);
    assert_eq!(titles(&[on, issuer, client]), ["oidc single sign-on"]);
    let title = ("MATYAN_OIDC_TITLE", "Our Company");
    assert_eq!(
        titles(&[on, issuer, client, title, github, github_secret]),
        ["oidc Our Company", "github GitHub"]
    );
    let roles = ("MATYAN_GITHUB_ROLES", "my-org/ml-team = editor, my-org = viewer@demo");
    let providers = settings(&[on, github, github_secret, roles]).unwrap().access.providers;
    let expected = [("MATYAN_GITHUB_ROLES", vec!["my-org/ml-team = editor".to_owned()])];
    assert_eq!(providers.roles_in_all_projects(), expected);
    for (variables, expected) in [
        (&[issuer, client][..], "MATYAN_OIDC_ISSUER: set, but without access control"),
        (&[github, github_secret], "MATYAN_GITHUB_CLIENT_ID: set, but without access control"),
        (&[on, issuer], "MATYAN_OIDC_CLIENT_ID: not set"),
        (&[on, client], "MATYAN_OIDC_ISSUER: not set"),
        (&[on, ("MATYAN_OIDC_ROLES", "a = viewer@b")], "MATYAN_OIDC_ISSUER: not set"),
        (&[on, github], "MATYAN_GITHUB_CLIENT_SECRET_FILE: not set"),
        (&[on, github, ("MATYAN_GITHUB_CLIENT_SECRET_FILE", "/nothing/here")], "cannot be read"),
        (&[on, github, ("MATYAN_GITHUB_CLIENT_SECRET_FILE", empty.as_str())], "is an empty file"),
        (&[on, client, ("MATYAN_OIDC_ISSUER", "http://id.example")], "is not the address of a provider"),
        (&[on, ("MATYAN_GITHUB_ROLES", "org = admin@speech")], "gives the unknown role `admin`"),
        (&[on, ("MATYAN_OIDC_ROLES", "a = viewer@Speech Lab")], "names the project `Speech Lab`"),
    ] {
        let text = settings(variables).expect_err(expected);
        assert!(text.contains(expected) && !text.contains("s3cret"), "{text}");
    }
    let debug = format!("{:?}", settings(&[on, github, github_secret]).unwrap().access);
    assert!(debug.contains("Iv1") && !debug.contains("s3cret"), "{debug}");
}

#[test]
fn a_backend_accepts_data_for_clients_of_other_trackers() {
    let needed: Pairs<'_> =
        &[("MATYAN_STORE", "embedded:"), ("MATYAN_LOG", "embedded:"), ("MATYAN_BLOBS", "embedded:")];
    for (role, protocols, expected) in [
        (Role::Up, "none", true),
        (Role::Backend, "wandb", true),
        (Role::Backend, "optuna,mlflow", true),
        (Role::Backend, "optuna", false),
        (Role::Backend, "none", false),
        (Role::IngestWorker, "wandb", false),
    ] {
        let variables = [needed, &[("MATYAN_PROTOCOLS", protocols)]].concat();
        let settings = resolve(role, &[], &variables).unwrap();
        assert_eq!(settings.accepts_data(), expected, "{role:?} {protocols}");
    }
}

#[test]
fn event_files_are_followed_only_on_request() {
    assert_eq!(resolve(Role::Up, &[], &[]).unwrap().logdir, None);
    let logdir = resolve(Role::Up, &[("logdir", "/runs")], &[]).unwrap().logdir;
    assert_eq!(logdir.as_deref(), Some(Path::new("/runs")));
    let logdir = resolve(Role::Up, &[], &[("MATYAN_LOGDIR", "logs")]).unwrap().logdir;
    assert_eq!(logdir.as_deref(), Some(Path::new("logs")));
}

#[test]
fn event_files_are_followed_into_one_project() {
    let project = |name| {
        let variables = [("MATYAN_LOGDIR", "logs"), ("MATYAN_LOGDIR_PROJECT", name)];
        resolve(Role::Up, &[], &variables).unwrap().logdir_project
    };
    assert_eq!(project("speech"), "speech");
    assert_eq!(project("default"), "");
    assert_eq!(resolve(Role::Up, &[("logdir", "/runs")], &[]).unwrap().logdir_project, "");
    check_refused(
        Role::Up,
        &[("logdir", "/runs"), ("logdir-project", "a/b")],
        &[],
        &["MATYAN_LOGDIR_PROJECT: `a/b` (from --logdir-project) is not the name of a project"],
    );
    check_refused(
        Role::Up,
        &[("logdir-project", "speech")],
        &[],
        &["MATYAN_LOGDIR_PROJECT: set without a directory to follow"],
    );
}

#[test]
fn protocols_are_chosen_by_name() {
    let resolved = |value| resolve(Role::Up, &[], &[("MATYAN_PROTOCOLS", value)]).unwrap().edge.protocols;
    assert_eq!(resolve(Role::Up, &[], &[]).unwrap().edge.protocols, Protocol::ALL);
    assert_eq!(resolved("optuna, mlflow,optuna"), [Protocol::Optuna, Protocol::Mlflow]);
    assert_eq!(resolved("mlflow"), [Protocol::Mlflow]);
    assert!(resolved("none").is_empty());
    let flags = &[("protocols", "none")];
    let variables = &[("MATYAN_PROTOCOLS", "mlflow")];
    assert!(resolve(Role::Up, flags, variables).unwrap().edge.protocols.is_empty());
    check_refused(
        Role::Up,
        &[],
        &[("MATYAN_PROTOCOLS", "mlflow,tensorboard")],
        &[
            "MATYAN_PROTOCOLS: `mlflow,tensorboard` (from MATYAN_PROTOCOLS in the environment) contains `tensorboard`, which is not a protocol",
        ],
    );
}

#[test]
fn a_server_in_a_network_knows_its_names() {
    let resolved = |variables| resolve(Role::Up, &[], variables).unwrap().edge;
    let local = resolved(&[("MATYAN_ALLOWED_HOSTS", "matyan.example, *.lab.example")]);
    assert_eq!(local.allowed_hosts, ["matyan.example", "*.lab.example"]);
    assert!(local.closed_hosts.is_empty());
    assert_eq!(resolved(&[("MATYAN_CLOSED_HOSTS", "matyan.example")]).closed_hosts, ["matyan.example"]);
    assert!(!resolved(&[("HOST", "::1")]).is_on_network);
    let open = resolved(&[("MATYAN_HOST", "0.0.0.0"), ("HOST", "127.0.0.1")]);
    assert!(open.is_on_network);
    assert_eq!(open.allowed_hosts.len(), 1, "this machine's name: {:?}", open.allowed_hosts);
}

#[test]
fn silent_runs_are_finished_unless_set_to_never() {
    let resolved = |variables| {
        resolve(
            Role::ControlWorker,
            &[("log", "embedded:"), ("store", "embedded:"), ("blobs", "embedded:")],
            variables,
        )
        .unwrap()
        .control
        .finish_stale
    };
    assert_eq!(resolved(&[]), Some(Duration::from_secs(24 * 3_600)));
    assert_eq!(resolved(&[("MATYAN_FINISH_STALE_HOURS", "0.5")]), Some(Duration::from_secs(1_800)));
    assert_eq!(resolved(&[("MATYAN_FINISH_STALE_HOURS", "0")]), None);
}

#[test]
fn only_blobs_next_to_the_store_are_its_own() {
    let owns = |flags: &[(&str, &str)]| resolve(Role::Up, flags, &[]).unwrap().control.owns_blobs;
    assert!(owns(&[]));
    assert!(!owns(&[("blobs", "file:///blobs")]));
    #[cfg(feature = "s3")]
    assert!(!owns(&[("blobs", "s3://bucket")]));
    if cfg!(feature = "fdb") {
        assert!(!owns(&[("store", "fdb:///etc/cluster")]));
    }
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("matyan.toml");
    fs::write(
        &path,
        "port = 1\nhost = '::1'\nlog_level = 'debug'\ncors_origins = ['http://a', 'http://b']\n",
    )
    .unwrap();
    let config = ("config", path.to_str().unwrap());

    let settings =
        resolve(Role::Up, &[config, ("port", "3")], &[("Port", "2"), ("LOG_LEVEL", "WARNING")]).unwrap();
    assert_eq!((settings.listen.port, settings.listen.host.to_string().as_str()), (3, "::1"));
    assert_eq!(settings.telemetry.log_level, "warn");
    assert_eq!(settings.edge.cors_origins, ["http://a", "http://b"]);
    assert_eq!(resolve(Role::Up, &[config], &[("PORT", "2")]).unwrap().listen.port, 2);
    assert_eq!(
        resolve(Role::Up, &[config], &[("PORT", " ")]).unwrap().listen.port,
        53800,
        "blank counts as absent"
    );
    assert_eq!(resolve(Role::Up, &[], &[("MATYAN_CONFIG", config.1)]).unwrap().listen.port, 1);
}

#[test]
fn the_environment_overrides_a_dotenv_file() {
    let folder = tempfile::tempdir().unwrap();
    let dotenv = folder.path().join(".env");
    fs::write(&dotenv, "# comment\nport=5\nLOG_LEVEL='debug'\nSOMETHING_ELSE=1\n").unwrap();
    let resolve = |variables: Pairs<'_>| {
        let environment = map::<Environment>(variables).with_dotenv(dotenv.clone());
        Settings::resolve(Role::Up, BTreeMap::new(), environment)
    };
    let settings = resolve(&[("LOG_LEVEL", "error")]).unwrap();
    assert_eq!((settings.listen.port, settings.telemetry.log_level.as_str()), (5, "error"));

    fs::write(&dotenv, "S3_SECRET_KEY='hunter2\n").unwrap();
    let refused = resolve(&[]).unwrap_err().to_string();
    assert!(refused.contains(".env: ") && !refused.contains("hunter2"), "{refused}");
    fs::remove_file(&dotenv).unwrap();
    resolve(&[]).unwrap();
}

#[test]
fn all_violations_are_reported_together() {
    let flags = [("port", "x"), ("host", "here"), ("log-format", "xml"), ("store", "redis://a")];
    let variables = [
        ("FRONTIER_PORT", "65536"),
        ("LOG_LEVEL", "LOUD"),
        ("SHUTDOWN_FLUSH_TIMEOUT", "-1"),
        ("S3_PRESIGN_EXPIRY", "0"),
        ("MATYAN_MAX_CONNECTIONS", "0"),
        ("MATYAN_MAX_UPLOAD_BYTES", "1 GB"),
        ("CORS_ORIGINS", "http://a,b"),
        ("MATYAN_ALLOWED_HOSTS", "a.example,http://b"),
        ("ENVIRONMENT", "staging"),
        ("METRICS_ENABLED", "perhaps"),
        ("PROJECT_PARAMS_CACHE_TTL", "-1"),
        ("MATYAN_RUN_TABLE_BYTES", "4294967296"),
        ("MATYAN_FINISH_STALE_HOURS", "-1"),
        ("MATYAN_MAX_PENDING_PAYLOAD_BYTES", "0"),
        ("MATYAN_LARGE_QUARANTINE_BYTES", "none"),
        ("MATYAN_WRITER_CACHE_BYTES", "16 MB"),
        ("KAFKA_MESSAGE_FORMAT", "avro"),
    ];
    check_refused(
        Role::Up,
        &flags,
        &variables,
        &[
            "MATYAN_ENVIRONMENT: `staging` (from ENVIRONMENT in the environment) is not an environment; use",
            "MATYAN_STORE: invalid store URI `redis://a`: use --store embedded:",
            "S3_PRESIGN_EXPIRY: `0` (from S3_PRESIGN_EXPIRY in the environment) is not a lifetime; use",
            "KAFKA_MESSAGE_FORMAT: `avro` (from KAFKA_MESSAGE_FORMAT in the environment) is not a message format; use",
            "MATYAN_HOST: `here` (from --host) is not an IP address; use",
            "PORT: `x` (from --port) is not a port; use",
            "FRONTIER_PORT: `65536` (from FRONTIER_PORT in the environment) is not a port; use",
            "LOG_LEVEL: `LOUD` (from LOG_LEVEL in the environment) is not a level; use",
            "LOG_FORMAT: `xml` (from --log-format) is not a format; use",
            "MATYAN_MAX_CONNECTIONS: `0` (from MATYAN_MAX_CONNECTIONS in the environment) is not a number of connections; use",
            "MATYAN_ALLOWED_HOSTS: `a.example,http://b` (from MATYAN_ALLOWED_HOSTS in the environment) contains `http://b`, which is not a host name; use",
            "CORS_ORIGINS: `http://a,b` (from CORS_ORIGINS in the environment) contains `b`, which is not an origin; use",
            "METRICS_ENABLED: `perhaps` (from METRICS_ENABLED in the environment) is not a boolean; use",
            "MATYAN_MAX_UPLOAD_BYTES: `1 GB` (from MATYAN_MAX_UPLOAD_BYTES in the environment) is not a size; use",
            "PROJECT_PARAMS_CACHE_TTL: `-1` (from PROJECT_PARAMS_CACHE_TTL in the environment) is not a duration; use",
            "MATYAN_RUN_TABLE_BYTES: `4294967296` (from MATYAN_RUN_TABLE_BYTES in the environment) is not a size from 1 MiB to 2 GiB; use",
            "MATYAN_FINISH_STALE_HOURS: `-1` (from MATYAN_FINISH_STALE_HOURS in the environment) is not a duration; use a number of hours",
            "MATYAN_MAX_PENDING_PAYLOAD_BYTES: `0` (from MATYAN_MAX_PENDING_PAYLOAD_BYTES in the environment) is not a size; use",
            "MATYAN_LARGE_QUARANTINE_BYTES: `none` (from MATYAN_LARGE_QUARANTINE_BYTES in the environment) is not a size; use",
            "MATYAN_WRITER_CACHE_BYTES: `16 MB` (from MATYAN_WRITER_CACHE_BYTES in the environment) is not a size; use",
            "SHUTDOWN_FLUSH_TIMEOUT: `-1` (from SHUTDOWN_FLUSH_TIMEOUT in the environment) is not a duration; use",
        ],
    );
}

#[test]
fn one_port_cannot_serve_both_sides() {
    check_refused(
        Role::Up,
        &[("port", "7"), ("frontier-port", "7")],
        &[],
        &["FRONTIER_PORT: same as PORT; set"],
    );
    resolve(Role::Up, &[("port", "0"), ("frontier-port", "0")], &[]).unwrap();
}

#[test]
fn a_config_file_contains_only_known_keys_and_plain_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("matyan.toml");
    let config = [("config", path.to_str().unwrap())];
    check_refused(Role::Up, &config, &[], &["MATYAN_CONFIG: "]);
    fs::write(&path, "port = 1\nprot = 2\nconfig = 'x'\n[host]\nname = 'x'\n").unwrap();
    check_refused(Role::Up, &config, &[], &["config: ", "host: ", "prot: "]);
    fs::write(&path, "port = 1\nhost = \n").unwrap();
    check_refused(Role::Up, &config, &[], &["MATYAN_CONFIG: line 2 of "]);
}

const SERVICES: [Role; 4] = [Role::Frontier, Role::Backend, Role::IngestWorker, Role::ControlWorker];

#[test]
fn fdb_is_configured_by_cluster_file_and_its_settings_are_checked() {
    let store = [("store", "fdb:///etc/fdb.cluster")];
    let wrong = [
        ("FDB_API_VERSION", "620"),
        ("FDB_KEY_PREFIX", "a/b"),
        ("FDB_RETRY_MAX_ATTEMPTS", "0"),
        ("FDB_RETRY_INITIAL_DELAY_SEC", "-1"),
        ("FDB_RETRY_MAX_DELAY_SEC", "3600"),
    ];
    check_but_for_the_build(Role::Up, &store, &wrong, &wrong.map(|(name, _)| name));
    check_but_for_the_build(Role::Up, &store, &[("FDB_API_VERSION", "730")], &[]);
    check_refused(Role::Up, &[("store", "fdb:/x")], &[], &["MATYAN_STORE: invalid store URI `fdb:/x`: use"]);
    // A frontier does not use the store setting.
    resolve(Role::Frontier, &[("store", "fdb:/x"), ("log", "embedded:"), ("blobs", "embedded:")], &[])
        .unwrap();
}

#[test]
fn services_have_the_default_backends_of_matyan_0_3() {
    check_but_for_the_build(Role::IngestWorker, &[], &[], &[]);
    check_but_for_the_build(Role::Backend, &[], &[("BLOB_URI_SECRET", "x")], &[]);
    check_but_for_the_build(Role::Backend, &[], &[], &["BLOB_URI_SECRET: not set; set"]);

    let embedded = ["store", "log", "blobs"].map(|name| (name, "embedded:"));
    for role in SERVICES {
        resolve(role, &embedded, &[]).unwrap();
    }
    // Variables of Matyan 0.3 apply to its services, but not to `up`.
    resolve(Role::Up, &[], &[("KAFKA_BOOTSTRAP_SERVERS", "a:1"), ("BLOB_BACKEND_TYPE", "gcs")]).unwrap();
    let other = "MATYAN_BLOBS: invalid blob store URI `ftp:`: use";
    check_refused(Role::Frontier, &[("log", "embedded:")], &[("BLOB_BACKEND_TYPE", "ftp")], &[other]);
}

fn kafka(settings: &Settings) -> &matyan_log::kafka_settings::Settings {
    match &settings.storage.log {
        Log::Kafka(kafka) => kafka,
        Log::Embedded => panic!("the log is embedded"),
    }
}

#[test]
fn any_log_can_be_combined_with_any_store() {
    assert!(matches!(resolve(Role::Up, &[], &[]).unwrap().storage.log, Log::Embedded));
    let up = resolve(Role::Up, &[("log", "kafka://a:1,b:2")], &[]).unwrap();
    assert_eq!(kafka(&up).bootstrap_servers, "a:1,b:2");
    assert_eq!(
        (kafka(&up).group.as_str(), kafka(&up).topics.ingestion.as_str()),
        ("matyan", "data-ingestion")
    );
    assert!(up.storage.data_dir.is_some());

    let blobs = ("blobs", "file:///srv/blobs");
    let frontier =
        resolve(Role::Frontier, &[blobs], &[("KAFKA_BOOTSTRAP_SERVERS", "k:9"), ("BLOB_URI_SECRET", "s")]);
    let frontier = frontier.unwrap();
    assert_eq!(kafka(&frontier).bootstrap_servers, "k:9");
    assert_eq!(frontier.storage.data_dir, None, "the frontier stores nothing on this machine");
    check_refused(Role::Frontier, &[blobs], &[], &["BLOB_URI_SECRET: not set; set"]);
}

/// The rows of the table of startup checks. A build without FoundationDB must report that as well.
#[test]
fn production_requires_each_service_to_set_what_it_uses() {
    let production = ("MATYAN_ENVIRONMENT", "production");
    let refused = |role, variables: Pairs<'_>| {
        let resolved = resolve(role, &[], &[&[production], variables].concat());
        let text = resolved.err().map(|violations| violations.to_string()).unwrap_or_default();
        let names = text.lines().skip(1).filter(|line| !line.contains(WITHOUT_FDB));
        names.map(|line| line.trim_start().split(':').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let s3 = ["S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY"];
    for role in SERVICES {
        let secret = if role == Role::Backend { &["BLOB_URI_SECRET"][..] } else { &[] };
        assert_eq!(refused(role, &[]), [&["KAFKA_BOOTSTRAP_SERVERS"], &s3[..], secret].concat(), "{role:?}");
    }
    let development = [
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"),
        ("S3_ENDPOINT", "http://localhost:9000"),
        ("S3_ACCESS_KEY", "rustfsadmin"),
        ("S3_SECRET_KEY", "rustfsadmin"),
        ("BLOB_URI_SECRET", "Juw5-cLlemQI2jAWvceOUB3_CrVfBmI99YIzkpGUXR4="),
        ("FDB_CLUSTER_FILE", ""),
    ];
    let all = ["FDB_CLUSTER_FILE", "KAFKA_BOOTSTRAP_SERVERS", s3[0], s3[1], s3[2], "BLOB_URI_SECRET"];
    assert_eq!(refused(Role::Backend, &development), all);

    let good = [("KAFKA_BOOTSTRAP_SERVERS", "k.example:9092"), ("BLOB_URI_SECRET", "own")];
    let azure = [&good[..], &[("BLOB_BACKEND_TYPE", "azure"), ("AZURE_CONTAINER", "")]].concat();
    assert_eq!(refused(Role::Backend, &azure), ["AZURE_CONTAINER", "AZURE_CONN_STR"]);
    let gcs = [&good[..], &[("BLOB_BACKEND_TYPE", "gcs"), ("GCS_BUCKET", "")]].concat();
    assert_eq!(refused(Role::Frontier, &gcs), ["GCS_BUCKET"]);
    let s3 =
        [&good[..], &[("S3_ENDPOINT", "https://s3.example"), ("S3_ACCESS_KEY", "a"), ("S3_SECRET_KEY", "b")]]
            .concat();
    assert!(refused(Role::IngestWorker, &s3).is_empty());
    let by_role = [&good[..], &[("S3_ENDPOINT", "https://s3.example"), ("S3_CREDENTIALS", "aws")]].concat();
    assert!(refused(Role::ControlWorker, &by_role).is_empty(), "keys are only required where they are used");
    assert_eq!(
        refused(Role::IngestWorker, &[&s3[..], &[("S3_PUBLIC_ENDPOINT", "ftp://x")]].concat()),
        ["S3_PUBLIC_ENDPOINT"]
    );
}

#[test]
fn production_checks_effective_values_from_any_source() {
    let variables = [
        ("MATYAN_ENVIRONMENT", "production"),
        ("KAFKA_BOOTSTRAP_SERVERS", "k.example:9092"),
        ("BLOB_URI_SECRET", "own"),
        ("S3_ENDPOINT", "https://s3.example"),
        ("S3_CREDENTIALS", "aws"),
    ];
    for uri in ["kafka://localhost:9092", "kafka://k.example:9092, localhost:9092"] {
        let expected = ["MATYAN_LOG: blank or the development value; set"];
        check_refused(Role::Frontier, &[("log", uri)], &variables, &expected);
    }
    let alone = ["MATYAN_LOG: `embedded:` only works within one process; use --log kafka://"];
    check_refused(Role::Frontier, &[("log", "embedded:")], &variables, &alone);
    let embedded = [("store", "embedded:"), ("log", "embedded:")];
    let both = ["MATYAN_STORE: `embedded:` only works within one process; use --store fdb:", alone[0]];
    check_refused(Role::Backend, &embedded, &variables, &both);
    resolve(Role::Up, &embedded, &variables).unwrap();
    resolve(Role::Frontier, &[("log", "kafka://k.example:9092")], &variables).unwrap();
}

#[test]
fn unused_settings_of_matyan_0_3_are_reported() {
    let unused = |variables| resolve(Role::Up, &[], variables).unwrap().ignored_variables;
    assert!(unused(&[("LOG_LEVEL", "debug"), ("QUERY_TIMING_ENABLED", " ")]).is_empty());
    let set = [("ingest_batch_size", "200"), ("SERVER_URL", "http://x"), ("MATYAN_UI_PORT", "8000")];
    assert_eq!(unused(&set), ["INGEST_BATCH_SIZE", "SERVER_URL", "MATYAN_UI_PORT"]);
}

/// Debug output of the blob store of a frontier with an embedded log.
fn blobs(flags: Pairs<'_>, variables: Pairs<'_>) -> String {
    let flags = [&[("log", "embedded:")], flags].concat();
    format!("{:?}", resolve(Role::Frontier, &flags, variables).unwrap().storage.blobs)
}

#[test]
fn a_cloud_is_selected_by_uri_or_by_variables_of_matyan_0_3() {
    assert_eq!(blobs(&[], &[]), "Cloud(s3://matyan-artifacts)");
    assert_eq!(blobs(&[], &[("BLOB_BACKEND_TYPE", "s3"), ("S3_BUCKET", "b")]), "Cloud(s3://b)");
    assert_eq!(blobs(&[], &[("BLOB_BACKEND_TYPE", "gcs"), ("GCS_BUCKET", "b")]), "Cloud(gs://b)");
    let azure = [("BLOB_BACKEND_TYPE", "azure"), ("AZURE_ACCOUNT_URL", "https://a.example")];
    assert_eq!(blobs(&[], &azure), "Cloud(azure://matyan-artifacts)");
    assert_eq!(blobs(&[("blobs", "s3://own")], &[("S3_BUCKET", "b")]), "Cloud(s3://own)");
    assert_eq!(
        blobs(&[("blobs", "gs:")], &[("STORAGE_EMULATOR_HOST", "localhost:4443")]),
        "Cloud(gs://matyan-artifacts)"
    );
    let up = resolve(Role::Up, &[("blobs", "s3://own")], &[]).unwrap();
    assert_eq!(format!("{:?}", up.storage.blobs), "Cloud(s3://own)");

    let wrong = [("blobs", "s3://a/b"), ("log", "embedded:")];
    check_refused(Role::Frontier, &wrong, &[], &["MATYAN_BLOBS: invalid blob store URI `s3://a/b`: use"]);
    let style = [("S3_ADDRESSING_STYLE", "host"), ("S3_ENDPOINT", "s3.example"), ("S3_CREDENTIALS", "role")];
    let expected = ["S3_ENDPOINT: `s3.example`", "S3_CREDENTIALS: `role`", "S3_ADDRESSING_STYLE: `host`"];
    check_refused(Role::Up, &[("blobs", "s3:")], &style, &expected);
    let secret = [("blobs", "azure:"), ("log", "embedded:")];
    let text = resolve(Role::Frontier, &secret, &[("AZURE_CONTAINER", "")]).unwrap_err().to_string();
    assert!(text.contains("AZURE_CONTAINER: blank") && text.contains("AZURE_CONN_STR: neither"), "{text}");
}

#[test]
fn secrets_are_never_shown() {
    let secrets = [("S3_SECRET_KEY", "hunter2"), ("S3_ACCESS_KEY", "hunter3")];
    let settings = resolve(Role::Up, &[("blobs", "s3:")], &secrets).unwrap();
    assert!(!format!("{settings:?}").contains("hunter"));

    let settings = resolve(Role::Up, &[], &[("BLOB_URI_SECRET", "hunter2")]).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert_eq!(settings.storage.secret.unwrap().reveal(), b"hunter2");

    let ui = [("MATYAN_UI_DIR", "/ui"), ("MATYAN_UI_API_AUTH_TOKEN", "hunter2")];
    let settings = resolve(Role::Up, &[], &ui).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert_eq!(settings.backend.ui.unwrap().api_auth_token, "hunter2");
}

fn check_origins(text: &str, expected: Option<&[&str]>) {
    assert_eq!(
        parse::origins(text).ok().as_deref(),
        expected.map(|o| o.iter().map(ToString::to_string).collect::<Vec<_>>()).as_deref()
    );
}

#[test]
fn origins_are_a_json_array_or_comma_separated() {
    check_origins(r#"["https://ui.example"]"#, Some(&["https://ui.example"]));
    check_origins("https://a, http://b:80", Some(&["https://a", "http://b:80"]));
    check_origins("[]", Some(&[]));
    check_origins("[1]", None);
    check_origins("a", None);
    check_origins("*", None);
    check_origins("https://", None);
}

#[test]
fn ui_settings_are_passed_to_the_page() {
    assert!(resolve(Role::Up, &[], &[]).unwrap().backend.ui.unwrap().dir.is_none());
    let ui = resolve(Role::Up, &[("ui-dir", "/ui")], &[]).unwrap().backend.ui.unwrap();
    assert_eq!((ui.dir.as_deref(), ui.base_path.as_str()), (Some(Path::new("/ui")), ""));
    assert_eq!((ui.api_base_path.as_str(), ui.api_host_base.as_str()), ("/api/v1", ""));
    let expected: Pairs<'_> = &[
        ("MATYAN_UI_DIR", "/ui"),
        ("MATYAN_UI_BASE_PATH", "/team/matyan/"),
        ("MATYAN_UI_API_HOST_BASE", "https://api.example:8/"),
        ("MATYAN_UI_API_AUTH_TOKEN", "a.b-c="),
    ];
    let ui = resolve(Role::Backend, &[], expected).unwrap_err().to_string();
    assert!(!ui.contains("MATYAN_UI"), "only store, log and blobs are missing: {ui}");
    let ui = resolve(Role::Up, &[], expected).unwrap().backend.ui.unwrap();
    assert_eq!((ui.base_path.as_str(), ui.api_host_base.as_str()), ("/team/matyan", "https://api.example:8"));
    assert_eq!(ui.api_auth_token, "a.b-c=");

    let wrong: Pairs<'_> = &[
        ("MATYAN_UI_DIR", "/ui"),
        ("MATYAN_UI_BASE_PATH", "matyan"),
        ("MATYAN_UI_API_BASE_PATH", "/a//b"),
        ("MATYAN_UI_API_HOST_BASE", "http://\"x"),
        ("MATYAN_UI_API_AUTH_TOKEN", "</script>"),
    ];
    let expected = [
        "MATYAN_UI_BASE_PATH: `matyan`",
        "MATYAN_UI_API_BASE_PATH: `/a//b`",
        "MATYAN_UI_API_HOST_BASE: `http://\"x`",
        "MATYAN_UI_API_AUTH_TOKEN: the value",
    ];
    check_refused(Role::Up, &[], wrong, &expected);
}
