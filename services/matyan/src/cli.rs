//! The command line. Flags stay text here: `settings` reads them together with the environment
//! and the config file, so that all violations are reported together and in the same form.

use std::collections::BTreeMap;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{client::ClientCommand, settings::Role};

const EXAMPLES: &str = "\
Examples:
  matyan up                                   everything in one process, data in ./matyan-data
  matyan up --data-dir /srv/matyan --host 0.0.0.0
  matyan up --port 0 --frontier-port 0 --ready-file /tmp/ready.json

  matyan up --log kafka://localhost:9092      the same over Apache Kafka, after `matyan topics create`

  matyan runs search 'run.hparams.lr < 0.01'  query a running server: runs, logs, metrics, status

Every server flag is also an environment variable and a key of the file given by --config:
`--log-level debug`, `LOG_LEVEL=debug`, `log_level = \"debug\"`. Flags override the environment, which overrides the file.";

/// An experiment tracker: stores what training code logs, and serves it to users and programs.
#[derive(Debug, Parser)]
#[command(name = "matyan", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in one process, without any other server
    Up(UpFlags),
    /// Run the ingest side: WebSocket and gRPC ingestion, and upload URLs
    Frontier(ServiceFlags),
    /// Run the query side: REST, gRPC, gRPC-web and the browser UI
    Backend(BackendFlags),
    /// Apply ingested records to the store
    IngestWorker(WorkerFlags),
    /// Delete blobs and rows left behind by deleted runs
    ControlWorker(WorkerFlags),
    /// Create the bucket or container for large objects
    Bucket(BucketFlags),
    /// Create the topics for a log on Apache Kafka
    #[command(subcommand)]
    Topics(TopicsCommand),
    #[command(flatten)]
    Client(ClientCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicsCommand {
    /// Create missing topics and check existing ones; safe to repeat
    ///
    /// Topic names, brokers and credentials are the same settings as for every other
    /// command: KAFKA_BOOTSTRAP_SERVERS, KAFKA_DATA_INGESTION_TOPIC,
    /// KAFKA_CONTROL_EVENTS_TOPIC, KAFKA_DEAD_LETTERS_TOPIC, KAFKA_SECURITY_PROTOCOL, …
    Create(CreateTopicsFlags),
}

#[derive(Debug, Args)]
pub(crate) struct CreateTopicsFlags {
    /// Addresses of the brokers: `kafka://host:port,host:port`
    #[arg(long, value_name = "URI")]
    log: Option<String>,
    /// Partitions of the ingestion topic; cannot be changed later, and limits the number of
    /// useful workers [default: 6]
    #[arg(long, value_name = "COUNT")]
    partitions: Option<String>,
    /// Number of brokers that store a copy; use at least 3 in production [default: 1]
    #[arg(long, value_name = "COUNT")]
    replication: Option<String>,
    /// Number of replicas that must have a record before it is acknowledged [default: 2 for
    /// a replication of 3 or more, otherwise 1]
    #[arg(long, value_name = "COUNT")]
    min_insync_replicas: Option<String>,
    /// TOML file with settings
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UpFlags {
    /// Port of the query side; 0 picks a free one [default: 53800]
    #[arg(long, value_name = "PORT")]
    port: Option<String>,
    /// Port of the ingest side; 0 picks a free one [default: 53801]
    #[arg(long, value_name = "PORT")]
    frontier_port: Option<String>,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    #[command(flatten)]
    ui: UiFlags,
    #[command(flatten)]
    common: CommonFlags,
}

#[derive(Debug, Args)]
pub(crate) struct UiFlags {
    /// Serve the browser UI in this directory on the port of the query side
    #[arg(long, value_name = "DIR")]
    ui_dir: Option<String>,
    /// Path under which a proxy exposes this server, such as /matyan
    #[arg(long, value_name = "PATH")]
    ui_base_path: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BackendFlags {
    #[command(flatten)]
    ui: UiFlags,
    #[command(flatten)]
    service: ServiceFlags,
}

#[derive(Debug, Args)]
pub(crate) struct ServiceFlags {
    /// Port to listen on; 0 picks a free one [default: 53800 for the backend, 53801 for the
    /// frontier]
    #[arg(long, value_name = "PORT")]
    port: Option<String>,
    /// Address to listen on [default: 0.0.0.0]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    #[command(flatten)]
    common: CommonFlags,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerFlags {
    /// Port of health checks and Prometheus metrics; 0 disables it [default: 9090]
    #[arg(long, value_name = "PORT")]
    metrics_port: Option<String>,
    /// Address to listen on [default: 0.0.0.0]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    #[command(flatten)]
    common: CommonFlags,
}

#[derive(Debug, Args)]
pub(crate) struct CommonFlags {
    /// Directory of the embedded store, log and blobs [default: matyan-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Store for state: `embedded:` or `fdb:///path/to/fdb.cluster`
    #[arg(long, value_name = "URI")]
    store: Option<String>,
    /// Log between ingestion and store: `embedded:` or `kafka://host:port,host:port`
    #[arg(long, value_name = "URI")]
    log: Option<String>,
    /// Store for large objects: `embedded:`, `file:///directory`, `s3://bucket`,
    /// `gs://bucket`, `azure://container`
    #[arg(long, value_name = "URI")]
    blobs: Option<String>,
    /// TOML file with settings
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// error, warn, info, debug or trace; or filters such as `info,matyan_worker=debug`
    /// [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Serve TLS on every port, with the certificate chain in this PEM file
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// PEM file with the key of the certificate; both files are reloaded when they change
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Send traces over gRPC to the OpenTelemetry collector at this address, such as
    /// http://127.0.0.1:4317
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// Write the addresses to this file as JSON once everything is ready
    #[arg(long, value_name = "FILE")]
    ready_file: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BucketFlags {
    #[command(subcommand)]
    command: BucketCommand,
}

const BUCKET_EXAMPLES: &str = "\
Examples:
  matyan bucket create                             configured by BLOB_BACKEND_TYPE, S3_BUCKET and so on
  matyan bucket create --blobs s3://artifacts      another bucket, with S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY
  matyan bucket create --blobs azure://artifacts   with AZURE_CONN_STR or AZURE_ACCOUNT_URL

A bucket that already exists is left unchanged, and the command succeeds. Blobs are never made public. Consider a lifecycle
rule on the bucket that discards incomplete uploads after some days.";

#[derive(Debug, Subcommand)]
enum BucketCommand {
    /// Create the bucket if it does not exist
    #[command(after_help = BUCKET_EXAMPLES)]
    Create(BucketCreateFlags),
}

#[derive(Debug, Args)]
struct BucketCreateFlags {
    /// Bucket to create: `s3://bucket`, `gs://bucket` or `azure://container` [default: the
    /// one the services use]
    #[arg(long, value_name = "URI")]
    blobs: Option<String>,
    /// TOML file with settings
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
}

/// A parsed command line.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Run a server, or one of its services.
    Serve(ServerArguments),
    /// Create the bucket for blobs; flags as in `ServerArguments`.
    CreateBucket(BTreeMap<String, String>),
    /// Create topics, with these flags.
    CreateTopics(BTreeMap<String, String>),
    /// Query a running server.
    Client(ClientCommand),
}

/// Arguments of a server command.
#[derive(Debug)]
pub(crate) struct ServerArguments {
    pub(crate) role: Role,
    /// By flag name, without leading dashes.
    pub(crate) flags: BTreeMap<String, String>,
}

/// Parses the command line. Exits the process after `--help`, `--version` and usage errors.
pub(crate) fn parse() -> Invocation {
    invocation(&Cli::command().get_matches())
}

fn invocation(matches: &ArgMatches) -> Invocation {
    let cli = Cli::from_arg_matches(matches).unwrap_or_else(|error| error.exit());
    let role = match cli.command {
        Command::Client(command) => return Invocation::Client(command),
        Command::Topics(TopicsCommand::Create(_)) => {
            // Flags are passed on as text, so they are taken from the matches.
            let topics = matches.subcommand().and_then(|(_, topics)| topics.subcommand());
            return Invocation::CreateTopics(topics.map(|(_, create)| flags(create)).unwrap_or_default());
        }
        Command::Bucket(BucketFlags { command: BucketCommand::Create(_) }) => {
            let made = matches.subcommand().and_then(|(_, bucket)| bucket.subcommand());
            return Invocation::CreateBucket(made.map(|(_, matches)| flags(matches)).unwrap_or_default());
        }
        Command::Up(_) => Role::Up,
        Command::Frontier(_) => Role::Frontier,
        Command::Backend(_) => Role::Backend,
        Command::IngestWorker(_) => Role::IngestWorker,
        Command::ControlWorker(_) => Role::ControlWorker,
    };
    let flags = matches.subcommand().map(|(_, matches)| flags(matches)).unwrap_or_default();
    Invocation::Serve(ServerArguments { role, flags })
}

/// Flags that were given, by name. The ids include those of argument groups, which have no
/// value.
fn flags(matches: &ArgMatches) -> BTreeMap<String, String> {
    let value = |id: &str| matches.try_get_one::<String>(id).ok().flatten().cloned();
    matches.ids().filter_map(|id| Some((id.as_str().replace('_', "-"), value(id.as_str())?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], role: Role, expected: &[(&str, &str)]) {
        let matches = Cli::command().try_get_matches_from([&["matyan"], words].concat()).unwrap();
        let Invocation::Serve(serve) = invocation(&matches) else {
            panic!("not parsed as a server: {words:?}")
        };
        let expected = expected.iter().map(|(flag, value)| (flag.to_string(), value.to_string())).collect();
        assert_eq!((serve.role, serve.flags), (role, expected));
    }

    #[test]
    fn commands_and_flags() {
        Cli::command().debug_assert();
        check(&["up"], Role::Up, &[]);
        check(&["up", "--port", "x", "--data-dir=/d"], Role::Up, &[("port", "x"), ("data-dir", "/d")]);
        check(&["frontier", "--log", "kafka://a:1"], Role::Frontier, &[("log", "kafka://a:1")]);
        check(&["backend", "--host", "::"], Role::Backend, &[("host", "::")]);
        check(&["backend", "--ui-dir", "/ui"], Role::Backend, &[("ui-dir", "/ui")]);
        check(&["ingest-worker", "--log-format", "json"], Role::IngestWorker, &[("log-format", "json")]);
        check(&["control-worker"], Role::ControlWorker, &[]);
    }

    #[test]
    fn bucket_create_has_its_own_flags() {
        let words = ["matyan", "bucket", "create", "--blobs", "s3://b"];
        let matches = Cli::command().try_get_matches_from(words).unwrap();
        let Invocation::CreateBucket(flags) = invocation(&matches) else {
            panic!("not parsed as `bucket create`")
        };
        assert_eq!(flags, BTreeMap::from([("blobs".to_owned(), "s3://b".to_owned())]));
        assert!(Cli::command().try_get_matches_from(["matyan", "bucket"]).is_err());
    }

    #[test]
    fn topics_create_has_its_own_flags() {
        let words = ["matyan", "topics", "create", "--partitions", "12", "--log=kafka://a:1"];
        let Invocation::CreateTopics(flags) =
            invocation(&Cli::command().try_get_matches_from(words).unwrap())
        else {
            panic!("not parsed as `topics create`")
        };
        let expected = [("log", "kafka://a:1"), ("partitions", "12")];
        assert_eq!(flags, expected.map(|(flag, value)| (flag.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn client_commands_have_their_own_flags() {
        for words in [
            "runs ls --active --json",
            "runs search run.active --explain --server http://h:1",
            "runs rm a b --yes",
            "logs r -f --tail 3",
            "metrics r loss --plot --width 40",
            "backup /b --runs a,b --experiment e --since 2026-01-01 --no-blobs --compress --json",
            "restore /b --dry-run --skip-entities --skip-blobs --server http://h:1",
            "status",
            "partitions ls --json",
            "partitions skip 3 --server http://h:1",
            "parked ls --run r --limit 0 --json",
            "parked rm a b",
            "project show",
            "project set --name n --description d",
        ] {
            let words = ["matyan"].into_iter().chain(words.split(' '));
            let matches = Cli::command().try_get_matches_from(words).unwrap();
            assert!(matches!(invocation(&matches), Invocation::Client(_)), "{matches:?}");
        }
        for words in [
            "runs",
            "runs rm",
            "parked rm",
            "project set",
            "backup",
            "restore",
            "partitions skip",
            "logs",
            "metrics r --plot",
            "metrics r m --plot --json",
            "logs r --tail 0",
        ] {
            let words = ["matyan"].into_iter().chain(words.split(' '));
            assert!(Cli::command().try_get_matches_from(words).is_err());
        }
    }

    #[test]
    fn unknown_commands_and_flags_are_rejected() {
        for words in
            [&["ingest-worker", "--port", "1"][..], &["frontier", "--frontier-port", "1"], &["down"], &[]]
        {
            assert!(Cli::command().try_get_matches_from([&["matyan"], words].concat()).is_err(), "{words:?}");
        }
    }
}
