//! The command line: every command, and the function that it starts. Flags of servers come from
//! the table of settings, and stay text here: `settings` reads them together with the environment
//! and the config file, so that all violations are reported together and in the same form.

mod bucket;
mod store;
mod topics;
mod uploads;

use std::{collections::BTreeMap, env, error, ffi::OsString, io, process::ExitCode};

use clap::{
    ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind, parser::ValueSource,
};

use crate::{
    client::{self, ClientCommand},
    plain_text::plain_text,
    settings::{
        Environment, Program, RecoverySettings, Role, Settings, TopicsSettings, Violations, print_settings,
        resolve_kafka, setting_flags,
    },
    wire,
};
use bucket::BucketCommand;
use store::StoreCommand;
use topics::TopicsCommand;
use uploads::UploadsCommand;

const EXAMPLES: &str = "\
Examples:
  matyan up                                   everything in one process, data in ./matyan-data
  matyan up --data-dir /srv/matyan --host 0.0.0.0 --access on --tls-cert c.pem --tls-key k.pem
  matyan up --port 0 --frontier-port 0 --ready-file /tmp/ready.json

  matyan up --log kafka://localhost:9092      the same over Apache Kafka, after `matyan topics create`

  matyan runs search 'run.hparams.lr < 0.01'  query a running server: runs, logs, metrics, status

Every server flag is also an environment variable and a key of the file given by --config:
`--log-level debug`, `LOG_LEVEL=debug`, `log_level = \"debug\"`. Flags override the environment, which overrides the file.";

/// An experiment tracker: stores the data that training code logs, and serves it to users and programs.
#[derive(Debug, Parser)]
#[command(name = "matyan", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything in one process, without any other server
    Up,
    /// Run the ingest side: WebSocket and gRPC ingestion, and upload URLs
    Frontier,
    /// Run the query side: REST, gRPC, gRPC-web and the browser UI
    Backend,
    /// Apply ingested records to the store
    IngestWorker,
    /// Run background jobs, such as deleting what deleted runs leave behind
    ControlWorker,
    /// Create the bucket or container for large objects
    #[command(subcommand)]
    Bucket(BucketCommand),
    /// Create the topics for a log on Apache Kafka, or close the topic for data
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Check the files of an embedded store, or copy what can be read in a damaged one
    #[command(subcommand)]
    Store(StoreCommand),
    /// List or remove abandoned uploads in a directory of blobs
    #[command(subcommand)]
    Uploads(UploadsCommand),
    /// List all settings of servers: variables, flags, keys of the config file, defaults
    Settings,
    #[command(flatten)]
    Client(ClientCommand),
}

/// Flags that are about other projects than `--project`, and the error for a command with both.
const FLAGS_WITHOUT_PROJECT: [(&str, &str); 2] = [
    (
        "everywhere",
        "'--everywhere' means all projects, and '--project' means one: leave out one of these flags",
    ),
    (
        "unknown_projects",
        "'--unknown-projects' means projects that do not exist, and '--project' means one that exists: leave out one of these \
         flags",
    ),
];

/// The conventional exit code of a command for incorrect usage.
const BAD_SETTINGS: u8 = 2;
const FAILED: u8 = 1;
/// The exit code of a command that did its work, and found that data is missing.
const INCOMPLETE: u8 = 3;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Settings(#[from] Violations),
    #[error(transparent)]
    Server(#[from] wire::Error),
    #[error(transparent)]
    Bucket(#[from] bucket::Error),
    #[error(transparent)]
    Topics(#[from] topics::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Uploads(#[from] uploads::Error),
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("failed to write the output")]
    Output(#[from] io::Error),
}

/// Flags of settings that were given, by name without leading dashes.
type Flags = BTreeMap<String, String>;

/// Runs the command line of this process. Exits the process after `--help`, `--version` and usage
/// errors.
pub(crate) fn run() -> ExitCode {
    let matches = read_words(env::args_os()).unwrap_or_else(|error| error.exit());
    let (command, flags) = parse(&matches);
    match execute(command, flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn execute(command: Command, flags: Flags) -> Result<(), Error> {
    match command {
        Command::Up => serve(Role::Up, flags),
        Command::Frontier => serve(Role::Frontier, flags),
        Command::Backend => serve(Role::Backend, flags),
        Command::IngestWorker => serve(Role::IngestWorker, flags),
        Command::ControlWorker => serve(Role::ControlWorker, flags),
        Command::Bucket(BucketCommand::Create) => {
            Ok(bucket::create(&Settings::resolve_blobs(flags, Environment::of_process())?)?)
        }
        Command::Topics(TopicsCommand::Create) => {
            Ok(topics::create(&TopicsSettings::resolve(flags, Environment::of_process())?)?)
        }
        Command::Topics(TopicsCommand::Close { undo: is_open }) => {
            Ok(topics::set_open(&resolve_kafka(flags, Environment::of_process())?, is_open)?)
        }
        Command::Store(command) => Ok(store::run(&command)?),
        Command::Uploads(command) => Ok(uploads::run(command)?),
        Command::Settings => Ok(print_settings()?),
        Command::Client(command) if command.is_recovery() => {
            let settings = RecoverySettings::resolve(flags, Environment::of_process())?;
            Ok(wire::recover_access(&settings)?)
        }
        Command::Client(command) => Ok(client::run(command)?),
    }
}

fn serve(role: Role, flags: Flags) -> Result<(), Error> {
    let settings = Settings::resolve(role, flags, Environment::of_process())?;
    Ok(wire::run(&settings)?)
}

/// Prints an error, and returns the exit code for it.
fn report(error: &Error) -> ExitCode {
    let code = match error {
        Error::Settings(violations) => {
            eprintln!("{violations}");
            return ExitCode::from(BAD_SETTINGS);
        }
        // The reader of the output, such as `head`, has exited.
        Error::Client(error) if error.is_closed_pipe() => return ExitCode::SUCCESS,
        Error::Store(error) if error.is_closed_pipe() => return ExitCode::SUCCESS,
        Error::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Error::Store(error) if error.is_incomplete() => INCOMPLETE,
        Error::Client(error) => error.exit_code(),
        Error::Server(_)
        | Error::Bucket(_)
        | Error::Topics(_)
        | Error::Store(_)
        | Error::Uploads(_)
        | Error::Output(_) => FAILED,
    };
    // The error may quote text from a server.
    eprintln!("matyan: {}", plain_text(&chain(error)));
    ExitCode::from(code)
}

/// Formats an error and its causes on one line.
fn chain(error: &(dyn error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn command() -> clap::Command {
    Program::ALL
        .into_iter()
        .fold(Cli::command(), |command, program| add_flags(command, program.command(), program))
}

/// Adds the flags of a program to the subcommand at this path.
fn add_flags(command: clap::Command, path: &'static [&'static str], program: Program) -> clap::Command {
    match path {
        [] => command.args(setting_flags(program)),
        [name, rest @ ..] => command.mut_subcommand(name, |inner| add_flags(inner, rest, program)),
    }
}

/// Reads a command line, whose first word is the name of the program.
fn read_words(
    words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<ArgMatches, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(words)?;
    if let Some(contradiction) = contradiction(innermost(&matches)) {
        return Err(command.error(ErrorKind::ArgumentConflict, contradiction));
    }
    Ok(matches)
}

/// The error for flags of a command that contradict each other. `conflicts_with` would also refuse the variable
/// MATYAN_PROJECT, which may be set for other commands.
fn contradiction(matches: &ArgMatches) -> Option<&'static str> {
    let is_given = |flag: &str| matches!(matches.try_get_one::<bool>(flag), Ok(Some(true)));
    let (_, error) = FLAGS_WITHOUT_PROJECT.into_iter().find(|&(flag, _)| is_given(flag))?;
    (matches.value_source("project") == Some(ValueSource::CommandLine)).then_some(error)
}

/// The flags and words of the innermost command.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    match matches.subcommand() {
        Some((_, inner)) => innermost(inner),
        None => matches,
    }
}

fn parse(matches: &ArgMatches) -> (Command, Flags) {
    let cli = Cli::from_arg_matches(matches).unwrap_or_else(|error| error.exit());
    (cli.command, given_flags(matches))
}

/// The flags that were given to the innermost command, by name. Flags that are not text are left
/// out: servers have none.
fn given_flags(matches: &ArgMatches) -> Flags {
    let matches = innermost(matches);
    let mut flags = Flags::new();
    for id in matches.ids() {
        if let Ok(Some(value)) = matches.try_get_one::<String>(id.as_str()) {
            flags.insert(id.as_str().to_owned(), value.clone());
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], expected: &str, expected_flags: &[(&str, &str)]) {
        let matches = command().try_get_matches_from([&["matyan"], words].concat()).unwrap();
        let (command, flags) = parse(&matches);
        let given = flags.iter().map(|(flag, value)| (flag.as_str(), value.as_str()));
        assert_eq!(
            (format!("{command:?}").as_str(), given.collect::<Vec<_>>()),
            (expected, expected_flags.to_vec())
        );
    }

    #[test]
    fn commands_and_flags() {
        command().debug_assert();
        check(&["up"], "Up", &[]);
        check(&["up", "--port", "x", "--data-dir=/d"], "Up", &[("data-dir", "/d"), ("port", "x")]);
        check(&["frontier", "--log", "kafka://a:1"], "Frontier", &[("log", "kafka://a:1")]);
        check(&["backend", "--host", "::"], "Backend", &[("host", "::")]);
        check(&["backend", "--ui-dir", "/ui"], "Backend", &[("ui-dir", "/ui")]);
        check(&["ingest-worker", "--log-format", "json"], "IngestWorker", &[("log-format", "json")]);
        check(&["control-worker"], "ControlWorker", &[]);
    }

    #[test]
    fn commands_that_prepare_a_server_have_their_own_flags() {
        check(&["bucket", "create", "--blobs", "s3://b"], "Bucket(Create)", &[("blobs", "s3://b")]);
        let words = ["topics", "create", "--partitions", "12", "--log=kafka://a:1"];
        check(&words, "Topics(Create)", &[("log", "kafka://a:1"), ("partitions", "12")]);
        let words = ["topics", "close", "--undo", "--log=kafka://a:1"];
        check(&words, "Topics(Close { undo: true })", &[("log", "kafka://a:1")]);
        check(&["settings"], "Settings", &[]);
        let words = ["store", "verify", "/d"];
        check(&words, "Store(Verify(VerifyFlags { dir: \"/d\", json: false }))", &[]);
        assert!(command().try_get_matches_from(["matyan", "store", "salvage", "/d"]).is_err());
        for words in [&["uploads", "ls"][..], &["uploads", "rm", "--dir", "/b", "1", "2"]] {
            let matches = command().try_get_matches_from([&["matyan"], words].concat()).unwrap();
            assert!(matches!(parse(&matches), (Command::Uploads(_), _)), "{matches:?}");
        }
        assert!(command().try_get_matches_from(["matyan", "uploads", "rm"]).is_err());
        assert!(command().try_get_matches_from(["matyan", "bucket"]).is_err());
        assert!(command().try_get_matches_from(["matyan", "bucket", "create", "--port", "1"]).is_err());
    }

    #[test]
    fn client_commands_have_their_own_flags() {
        for words in [
            "runs ls --active --json",
            "runs search run.active --explain --server http://h:1",
            "runs rm a b --yes",
            "logs r -f --tail 3",
            "metrics r loss --plot --width 40",
            "series rename r loss --to l --context {}",
            "series rename r o --objects --to-context {} --json",
            "series rm r loss --from -5 --until 9 --yes",
            "backup /b --runs a,b --experiment e --since 2026-01-01 --no-blobs --compress --json",
            "restore /b --dry-run --skip-entities --skip-blobs --server http://h:1",
            "export objects texts -o t.csv",
            "export metrics --query run.active --names a,b --format csv -o -",
            "export runs --params a.b,c --metric loss --output r.parquet --force --json",
            #[cfg(feature = "tensorboard")]
            "follow runs --once --experiment e --ingest-server http://h:2 --server http://h:1/p/team --json",
            "status",
            "partitions ls --json",
            "partitions skip 3 --server http://h:1",
            "parked ls --run r --limit 0 --json",
            "parked runs --run r --limit 0 --json",
            "parked rm a b",
            "runs ls --project team",
            "parked ls --unknown-projects",
            "projects list --json",
            "projects create team --display-name T --description d",
            "projects rename team T",
            "projects delete team --yes",
            "projects usage",
            "projects usage team --server http://h:1",
            "project show --project team",
            "project show",
            "project set --name n --description d",
        ] {
            check_client_command(words);
        }
        for words in [
            "runs",
            "runs rm",
            "parked rm",
            "project set",
            "projects",
            "projects create",
            "projects rename team",
            "projects delete",
            "projects list --project team",
            "parked ls --unknown-projects --project team",
            "parked runs --unknown-projects --project team",
            "parked --project team rm a --unknown-projects",
            "backup",
            "restore",
            "partitions skip",
            "logs",
            "metrics r --plot",
            "series rename r loss",
            "series rm r",
            "export",
            "export objects metrics",
            "export runs --params a --no-params",
            "export metrics --format xml",
            "metrics r m --plot --json",
            "logs r --tail 0",
        ] {
            check_refused(words);
        }
    }

    /// The help of a command, and of all of its commands, has an example of itself.
    fn check_examples(command: &clap::Command, path: &str) {
        let help = command.clone().render_long_help().to_string();
        let has_own = help.contains(&format!("\n  matyan {path}"));
        assert!(help.contains("Examples:") && has_own, "{path}: {help}");
        for inner in command.get_subcommands() {
            check_examples(inner, &format!("{path} {}", inner.get_name()));
        }
    }

    #[test]
    fn commands_of_access_control_have_examples() {
        let program = command();
        for name in ["access", "login", "logout", "whoami"] {
            check_examples(program.find_subcommand(name).unwrap(), name);
        }
    }

    #[test]
    fn a_recovery_has_the_default_store_of_a_server() {
        let program = command();
        let access = program.find_subcommand("access").unwrap();
        let help = access.find_subcommand("recover").unwrap().clone().render_long_help().to_string();
        // Long lines are wrapped.
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(help.contains("[default: embedded:]") && !help.contains("[default: fdb:]"), "{help}");
    }

    #[test]
    fn commands_of_access_control_have_their_own_flags() {
        for words in [
            "access ls --project team --json",
            "access ls --everywhere",
            "access grant ana editor --project team",
            "access grant ana operator --everywhere --token-file /t",
            "access revoke ana --project team",
            "access invite ana --role viewer --days 7 --project team",
            "access remove ana --yes",
            "access whoami",
            "access token create ci --label l --days 365 --limit ingest",
            "access token ls",
            "access token revoke 0123 --everywhere",
            "access grant anonymous viewer --everywhere --yes",
            "access token generate",
            "access recover --data-dir /d",
            "login",
            "login --server https://h/p/team --token-file /t --json",
            "logout --server https://h",
            "logout --all --json",
            "whoami --server https://h/p/team --json",
            "whoami --token-file /t",
        ] {
            check_client_command(words);
        }
        for words in [
            "access",
            "access grant ana",
            "access grant ana king",
            "access invite ana",
            "access token create ci --days 0",
            "access token create",
            // One of the two flags would be ignored.
            "access ls --everywhere --project team",
            "access --project team grant ana editor --everywhere",
            "access revoke ana --everywhere --project team",
            "access invite ana --role viewer --project team --everywhere",
            "access token create ana --everywhere --project team",
            "access token ls --project= --everywhere",
            "access token revoke 0123 --everywhere --project team",
            "access links --everywhere --project team",
            "access revoke-link 0123 --everywhere --project team",
            "access audit --everywhere --project team",
            // It would be in the history of the shell.
            "login mtk_x",
            "logout ana",
        ] {
            check_refused(words);
        }
    }

    fn check_client_command(words: &str) {
        let matches = read_words(["matyan"].into_iter().chain(words.split(' '))).unwrap();
        assert!(matches!(parse(&matches), (Command::Client(_), _)), "{matches:?}");
    }

    fn check_refused(words: &str) {
        assert!(read_words(["matyan"].into_iter().chain(words.split(' '))).is_err(), "{words}");
    }

    #[test]
    fn a_project_of_the_environment_contradicts_no_flag() {
        for words in [
            &["access", "ls", "--everywhere"][..],
            &["parked", "ls", "--unknown-projects"],
            &["parked", "runs", "--unknown-projects"],
            &["parked", "rm", "a", "--unknown-projects"],
        ] {
            // A variable that every process has.
            let with_variable = command()
                .mut_subcommand(words[0], |inner| inner.mut_arg("project", |project| project.env("PATH")));
            let parse = |further: &[&str]| {
                let words = [&["matyan"], words, further].concat();
                with_variable.clone().try_get_matches_from(words).unwrap()
            };
            let matches = parse(&[]);
            assert!(innermost(&matches).contains_id("project"), "{words:?}");
            assert_eq!(contradiction(innermost(&matches)), None, "{words:?}");
            assert!(contradiction(innermost(&parse(&["--project", "team"]))).is_some(), "{words:?}");
        }
    }

    #[test]
    fn unknown_commands_and_flags_are_rejected() {
        for words in
            [&["ingest-worker", "--port", "1"][..], &["frontier", "--frontier-port", "1"], &["down"], &[]]
        {
            assert!(command().try_get_matches_from([&["matyan"], words].concat()).is_err(), "{words:?}");
        }
    }
}
