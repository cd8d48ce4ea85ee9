//! People who sign in with GitHub, and the role that their organization gives them.

use std::{fs, net::TcpListener, process::Command};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use matyan_proto::access::v1::Role;
use matyan_tests::{
    exact_http::{Answer, ExactClient},
    github::{GitHub, GitHubSecrets, ORGANIZATION},
    server::binary,
};
use reqwest::Url;
use uuid::Uuid;

use super::{audit, closed_server::ClosedServer, text};

const PROJECT: &str = "speech";

/// A sign-in that a browser has started.
pub(super) struct BegunSignIn {
    /// The name of the cookie.
    pub(super) name: String,
    /// The value of the cookie.
    pub(super) browser: String,
    pub(super) state: String,
}

impl BegunSignIn {
    /// Completes a sign-in, as GitHub's redirect does. Returns the secret of the session.
    pub(super) async fn finish(&self, closed: &ClosedServer, code: &str) -> String {
        let Self { name, browser, state } = self;
        let url = format!("{}/sign-in/callback?state={state}&code={code}", closed.server.query);
        let callback = Request::get(url).header("cookie", format!("{name}={browser}"));
        let callback = callback.body(Bytes::new()).expect("the request is well-formed");
        let answer = ExactClient::http1().send(callback).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}\n{}", closed.server.log());
        let (_, session) = cookie_of(&answer, "matyan-");
        session
    }
}

/// Texts that are as hard to guess as the secrets of a provider.
pub(super) fn random_secrets() -> GitHubSecrets {
    let text = || Uuid::new_v4().simple().to_string();
    GitHubSecrets { client_secret: text(), code: text(), token: text() }
}

/// A server with access control and one project, which members of an organization at a GitHub instance read.
pub(super) async fn up(
    flags: &[&str],
    github: &GitHub,
    secrets: &GitHubSecrets,
    project: &str,
) -> ClosedServer {
    let file = tempfile::NamedTempFile::new().expect("the temporary directory is writable");
    fs::write(file.path(), &secrets.client_secret).expect("the file is writable");
    let path = file.path().to_str().expect("the path is text");
    let roles = format!("{ORGANIZATION} = viewer@{project}");
    let variables = [
        ("MATYAN_GITHUB_URL", github.url.as_str()),
        ("MATYAN_GITHUB_CLIENT_ID", "client"),
        ("MATYAN_GITHUB_CLIENT_SECRET_FILE", path),
        ("MATYAN_GITHUB_ROLES", roles.as_str()),
    ];
    // The server reads the file when it starts.
    ClosedServer::up_with_variables(flags, &variables, &[project]).await
}

/// Name and value of a cookie that an answer sets, by the start of its name.
fn cookie_of(answer: &Answer, name: &str) -> (String, String) {
    let values = answer.headers.get_all(header::SET_COOKIE).iter();
    let mut pairs = values.filter_map(|value| value.to_str().ok()?.split(';').next()?.split_once('='));
    let found = pairs.find(|(of, value)| of.starts_with(name) && !value.is_empty());
    let (name, value) = found.unwrap_or_else(|| panic!("no cookie in {answer:?}"));
    (name.to_owned(), value.to_owned())
}

pub(super) async fn begin_sign_in(closed: &ClosedServer) -> BegunSignIn {
    let get = Request::get(format!("{}/sign-in/with/github", closed.server.query));
    let get = get.body(Bytes::new()).expect("the request is well-formed");
    let answer = ExactClient::http1().send(get).await;
    let location = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.unwrap_or_else(|| panic!("no redirect: {answer:?}"));
    let location = Url::parse(location).expect("it is the address of GitHub");
    let state = location.query_pairs().find(|(name, _)| name == "state");
    let (_, state) = state.expect("the address has a state");
    let (name, browser) = cookie_of(&answer, "matyan-sign-in");
    BegunSignIn { name, browser, state: state.into_owned() }
}

#[tokio::test]
async fn rule_80_a_role_that_a_group_gives_is_in_the_audit_log() {
    let secrets = random_secrets();
    let github = GitHub::listen(secrets.clone()).await;
    let closed = up(&[], &github, &secrets, PROJECT).await;
    let owner = closed.invite("bo", Role::Owner, PROJECT).await;
    // The second sign-in changes no role.
    for _ in 0..2 {
        begin_sign_in(&closed).await.finish(&closed, &secrets.code).await;
    }
    let seen = audit(&closed.server, &owner.secret, &["--project", PROJECT, "--rpc", "group-"]);
    assert_eq!(seen, [["group-grant", "github:ana viewer", "OK", "github:ana"].map(str::to_owned)]);
}

/// Lines of the guide, pasted all at once. The guide abbreviates the client id.
fn pasted_lines() -> String {
    let guide = fs::read_to_string("../docs/operating/access.md").expect("the guide is there");
    let (_, section) = guide.split_once("\n## From nothing to a team with GitHub\n").expect("a section");
    let (_, block) = section.split_once("```sh\n").expect("lines for a shell");
    let (lines, _) = block.split_once("```").expect("the end of the lines");
    lines.replace('…', "abc")
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("the listener is bound").port().to_string()
}

#[test]
fn the_guide_from_nothing_to_a_team_can_be_pasted() {
    let folder = tempfile::tempdir().expect("the temporary directory is writable");
    let binary = binary().canonicalize().expect("the binary is there");
    let programs = binary.parent().expect("the binary is in a directory").display().to_string();
    let [query, ingest] = [(); 2].map(|()| free_port());
    // The script stops at the first command that fails, and stops the server.
    let script = format!(
        "set -e; trap 'kill $(jobs -p); wait' EXIT\n{}matyan access ls --project speech\n",
        pasted_lines()
    );
    let run = Command::new("timeout")
        .args(["120", "bash", "-c", &script])
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", format!("{programs}:/usr/local/bin:/usr/bin:/bin"))
        .env("SECRET_OF_THE_APP", Uuid::new_v4().simple().to_string())
        .env("MATYAN_BACKEND_URL", format!("http://127.0.0.1:{query}"))
        .envs([("PORT", &query), ("FRONTIER_PORT", &ingest)])
        .output()
        .expect("a shell can be started");
    let printed = text(&run.stdout);
    let errors = text(&run.stderr);
    assert!(run.status.success(), "{printed}\n{errors}");
    let (_, listed) = printed.rsplit_once("PRINCIPAL").expect("a table of roles");
    assert!(listed.contains("github:ana"), "{printed}\n{errors}");
}
