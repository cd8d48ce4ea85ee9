//! `matyan login` and `matyan logout`: a token is kept in a file of the user, and later commands send the token to the
//! server for which it is kept, and to no other server.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use matyan_proto::access::v1::Role;
use matyan_tests::Server;
use serde_json::Value;
use tempfile::TempDir;

use super::{closed_server::ClosedServer, command, run, text};

const PROJECT: &str = "speech";
const RUNS: [&str; 4] = ["runs", "ls", "--project", PROJECT];

/// The folder for settings of a user.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("the temporary directory is writable"))
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("matyan/tokens.json")
    }

    /// A command of the user.
    fn command(&self, server: &Server, words: &[&str]) -> Command {
        let mut command = command(server, None, words);
        command.env("XDG_CONFIG_HOME", self.0.path());
        command
    }

    fn run(&self, server: &Server, words: &[&str]) -> Result<String, String> {
        run(&mut self.command(server, words))
    }

    /// Signs in with the text that is piped to the command.
    fn log_in(&self, server: &Server, piped: &str) -> Result<Value, String> {
        let mut command = self.command(server, &["login", "--json"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(piped.as_bytes()).expect("the command reads");
        drop(stdin);
        let Output { status, stdout, stderr } = child.wait_with_output().expect("the command ends");
        if status.success() {
            Ok(serde_json::from_slice(&stdout).expect("one object"))
        } else {
            Err(text(&stderr))
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("the file exists").permissions().mode() & 0o777
}

#[tokio::test]
async fn rule_120_a_kept_token_is_for_its_server_and_its_user() {
    let closed = ClosedServer::up(&[], &[PROJECT]).await;
    let other = ClosedServer::up(&[], &[PROJECT]).await;
    let ana = closed.invite("ana", Role::Viewer, PROJECT).await;
    let home = Home::new();
    let error = home.run(&closed.server, &RUNS).expect_err("nobody has signed in");
    assert!(error.contains("matyan login"), "{error}");

    // The line as an invitation shows it.
    let pasted = format!("export MATYAN_TOKEN={}\n", ana.secret);
    let signed_in = home.log_in(&closed.server, &pasted).expect("the token is valid");
    assert_eq!((&signed_in["principal"], &signed_in["project"]), (&"ana".into(), &PROJECT.into()));
    assert_eq!(signed_in["token_id"], ana.info.id.as_str());
    assert!(!signed_in.to_string().contains(&ana.secret), "the token is not printed");
    assert_eq!((mode(&home.file()), mode(home.file().parent().expect("a folder"))), (0o600, 0o700));

    home.run(&closed.server, &RUNS).expect("the kept token is used");
    let whoami = home.run(&closed.server, &["access", "whoami"]).expect("the kept token is used");
    assert!(whoami.starts_with("ana"), "{whoami}");
    // Another server on the same host gets no token.
    let error = home.run(&other.server, &RUNS).expect_err("no token is kept for the other server");
    assert!(error.contains("matyan login"), "{error}");
    // A token in the environment takes precedence.
    let mut command = home.command(&closed.server, &["access", "whoami"]);
    let whoami = run(command.env("MATYAN_TOKEN", &closed.operator)).expect("the token is valid");
    assert!(whoami.starts_with("operator"), "{whoami}");

    // Other users could read the file now.
    fs::set_permissions(home.file(), fs::Permissions::from_mode(0o644)).expect("the file is ours");
    let error = home.run(&closed.server, &RUNS).expect_err("the file is refused");
    assert!(error.contains("other users of this machine can read"), "{error}");
    fs::set_permissions(home.file(), fs::Permissions::from_mode(0o600)).expect("the file is ours");

    let forgotten = home.run(&closed.server, &["logout"]).expect("a token is kept");
    assert!(forgotten.starts_with(&ana.info.id), "{forgotten}");
    assert!(!home.file().exists(), "nothing is left");
    home.run(&closed.server, &RUNS).expect_err("the token is forgotten");
    home.run(&closed.server, &["logout"]).expect("there is nothing to do");
}

#[tokio::test]
async fn a_token_that_the_server_refuses_is_not_kept() {
    let closed = ClosedServer::up(&[], &[PROJECT]).await;
    let ana = closed.invite("ana", Role::Viewer, PROJECT).await;
    let link = closed.create_link("ana", PROJECT).await;
    closed.revoke(&ana).await;
    let open = Server::up().await;
    let home = Home::new();
    for (server, piped, expected) in [
        (&closed.server, ana.secret.as_str(), "unknown, expired or revoked"),
        (&closed.server, "", "contains no token"),
        (&closed.server, &ana.secret[..40], "contains no token"),
        (&closed.server, link.as_str(), "a link that signs a browser in"),
        (&open, closed.operator.as_str(), "access control is off"),
    ] {
        let error = home.log_in(server, piped).expect_err("the text is not a valid token");
        assert!(error.contains(expected), "{error}");
        assert!(piped.is_empty() || !error.contains(piped), "{error}");
        assert!(!home.file().exists(), "{expected}");
    }
}

#[tokio::test]
async fn tokens_for_several_projects_are_kept() {
    let closed = ClosedServer::up(&[], &[PROJECT, "vision"]).await;
    let home = Home::new();
    for project in [PROJECT, "vision"] {
        let token = closed.invite("ana", Role::Viewer, project).await;
        home.log_in(&closed.server, &token.secret).expect("the token is valid");
    }
    for project in [PROJECT, "vision"] {
        home.run(&closed.server, &["runs", "ls", "--project", project]).expect("each token is used");
    }
    let file = closed.server.data_dir().join("operator-token");
    let file = file.to_str().expect("the path is text");
    home.run(&closed.server, &["login", "--token-file", file]).expect("the token is valid");
    home.run(&closed.server, &["projects", "create", "more"]).expect("the token is the operator's");
    let forgotten = home.run(&closed.server, &["logout", "--all"]).expect("three tokens are kept");
    assert_eq!(forgotten.lines().count(), 3, "{forgotten}");
}
