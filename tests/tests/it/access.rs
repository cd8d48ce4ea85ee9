//! Access control from nothing to a colleague with a token, by the real program and its commands.

mod attacks;
mod canaries;
mod closed_server;
mod confusion;
mod foreign;
mod github;
mod login;
mod login_code;
mod matrix;
mod mistakes;
mod revocation;
mod secrets;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use matyan_tests::{Server, eventually, secrets_at_rest, server::binary};
use reqwest::StatusCode;
use serde_json::Value;

/// `matyan` with the given arguments for the given server, run as the owner of a token.
fn command(server: &Server, token: Option<&str>, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(words).env_clear().env("MATYAN_BACKEND_URL", &server.query).stdin(Stdio::null());
    command.envs(token.map(|token| ("MATYAN_TOKEN", token)));
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the output is UTF-8")
}

fn run(command: &mut Command) -> Result<String, String> {
    let Output { status, stdout, stderr } = command.output().expect("the binary starts");
    if status.success() { Ok(text(&stdout)) } else { Err(text(&stderr)) }
}

fn stdout_of(server: &Server, token: &str, words: &[&str]) -> String {
    run(&mut command(server, Some(token), words)).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

fn error_of(server: &Server, token: Option<&str>, words: &[&str]) -> String {
    run(&mut command(server, token, words)).expect_err("the command is refused")
}

fn token_file(data_dir: &Path) -> PathBuf {
    data_dir.join("operator-token")
}

fn operator_token(data_dir: &Path) -> String {
    fs::read_to_string(token_file(data_dir)).expect("the file exists").trim().to_owned()
}

async fn status(server: &Server, path: &str, token: Option<&str>) -> StatusCode {
    let mut request = reqwest::Client::new().get(format!("{}{path}", server.query));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.expect("the server answers").status()
}

const RUNS: &str = "/api/v1/rest/runs/search/run/?q=&report_progress=false";

#[tokio::test]
async fn rule_61_a_closed_server_starts_with_an_operator_and_nobody_else() {
    let server = Server::up_with(&["--access", "on"]).await;
    let token = operator_token(&server.data_dir());
    let mode = fs::metadata(token_file(&server.data_dir())).expect("the file exists").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    assert_eq!(status(&server, RUNS, None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&server, RUNS, Some(&token)).await, StatusCode::OK);
    assert_eq!(status(&server, "/health/ready/", None).await, StatusCode::OK, "probes need no token");
    let log = server.log();
    assert!(!log.contains(&token), "the log contains the token");
    assert!(log.contains("operator-token"), "{log}");

    // Every server with access control is searched like this when its test ends.
    let planted = server.data_dir().join("log/planted");
    fs::write(&planted, format!("token={token}\n")).expect("the directory is writable");
    let places = secrets_at_rest::in_data_dir(&server.data_dir());
    assert!(places.len() == 1 && places[0].contains("log/planted"), "{places:?}");
    fs::remove_file(&planted).expect("the file is there");
    let metrics = secrets_at_rest::read_metrics(&server.query, &server.data_dir()).expect("it answers");
    let name = b"matyan_http_requests_total";
    assert!(metrics.windows(name.len()).any(|part| part == name), "{}", String::from_utf8_lossy(&metrics));
}

#[tokio::test]
async fn rule_62_a_colleague_gets_a_role_in_one_project_and_loses_it() {
    let server = Server::up_with(&["--access", "on"]).await;
    let operator = operator_token(&server.data_dir());
    for project in ["speech", "vision"] {
        stdout_of(&server, &operator, &["projects", "create", project]);
    }
    let words = ["access", "invite", "ana", "--role", "editor", "--with-token", "--project", "speech"];
    let invitation = stdout_of(&server, &operator, &words);
    let mut lines = invitation.lines();
    let expected = format!("export MATYAN_BACKEND_URL={}/p/speech", server.query);
    assert_eq!(lines.next(), Some(expected.as_str()));
    let ana = lines.next().and_then(|line| line.strip_prefix("export MATYAN_TOKEN=")).expect("a token");
    let link = format!("{}/p/speech/sign-in#mtl_", server.query);
    assert!(lines.last().is_some_and(|line| line.starts_with(&link)), "{invitation}");

    stdout_of(&server, ana, &["runs", "ls", "--project", "speech"]);
    let whoami = stdout_of(&server, ana, &["whoami", "--json"]);
    let whoami: Value = serde_json::from_str(&whoami).expect("one object");
    let elsewhere = command(&server, Some(ana), &["access", "whoami", "--project", "vision"]).output();
    let elsewhere = elsewhere.expect("the binary starts");
    assert!(text(&elsewhere.stdout).starts_with("ana\n"), "{elsewhere:?}");
    assert!(text(&elsewhere.stderr).contains("ana has no role in vision"), "{elsewhere:?}");
    assert_eq!((&whoami["principal"], &whoami["roles"][0]["role"]), (&"ana".into(), &"editor".into()));
    let listed = stdout_of(&server, ana, &["projects", "list", "--json"]);
    assert!(listed.contains("speech") && !listed.contains("vision"), "{listed}");

    // Errors say what is missing, and who can help.
    let error = error_of(&server, Some(ana), &["runs", "ls", "--project", "vision"]);
    assert!(error.contains("no project `vision`, or you have no role in it"), "{error}");
    assert_eq!(error.matches("matyan projects").count(), 1, "{error}");
    let error = error_of(&server, Some(ana), &["access", "ls", "--project", "speech"]);
    assert!(
        error.contains("the role owner in the project `speech`, and `ana` has the role editor")
            && error.contains("ask an owner or an operator"),
        "{error}"
    );
    let error = error_of(&server, None, &["runs", "ls", "--project", "speech"]);
    assert!(error.contains("MATYAN_TOKEN"), "{error}");
    let error = error_of(&server, Some("mtk_mistyped"), &["runs", "ls"]);
    assert!(error.contains("does not contain a token") && !error.contains("mtk_mistyped"), "{error}");
    let error =
        error_of(&server, Some(&operator), &["access", "grant", "ana", "operator", "--project", "speech"]);
    assert!(error.contains("grant it with `--everywhere`"), "{error}");

    let tokens = stdout_of(&server, &operator, &["access", "token", "ls", "--project", "speech", "--json"]);
    let listed: Value = serde_json::from_str(&tokens).expect("one token");
    assert_eq!(listed["principal"], "ana");
    assert!(!tokens.contains(ana), "a list shows a secret");
    let links = stdout_of(&server, &operator, &["access", "links", "--project", "speech", "--json"]);
    let link: Value = serde_json::from_str(&links).expect("one link");
    assert_eq!((&link["principal"], &link["created_by"]), (&"ana".into(), &"operator".into()));
    assert!(!links.contains("mtl_"), "a list shows a secret");
    let link = link["id"].as_str().expect("text");
    let error = error_of(&server, Some(&operator), &["access", "revoke-link", link, "--project", "vision"]);
    assert!(error.contains("there is no link"), "{error}");
    let revoked = stdout_of(&server, &operator, &["access", "revoke-link", link, "--project", "speech"]);
    assert!(revoked.contains("signs nobody in any more"), "{revoked}");
    let listed_again = stdout_of(&server, &operator, &["access", "links", "--everywhere", "--json"]);
    assert!(!listed_again.contains(link), "{listed_again}");
    let id = listed["id"].as_str().expect("text");
    let error = error_of(&server, Some(&operator), &["access", "token", "revoke", id, "--project", "vision"]);
    assert!(error.contains("there is no token"), "{error}");
    stdout_of(&server, &operator, &["access", "token", "revoke", id, "--project", "speech"]);
    eventually("the revoked token is refused", async || {
        match status(&server, "/p/speech/api/v1/rest/projects/", Some(ana)).await {
            StatusCode::UNAUTHORIZED => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    assert!(!server.log().contains(ana), "the log contains a token");
}

#[tokio::test]
async fn an_invitation_warns_of_a_missing_project_and_a_local_address() {
    let server = Server::up_with(&["--access", "on"]).await;
    let operator = operator_token(&server.data_dir());
    // A browser would show nothing to the principal.
    let words = ["access", "invite", "ci", "--role", "ingest"];
    let invitation = stdout_of(&server, &operator, &words);
    assert_eq!(invitation.lines().count(), 2, "{invitation}");
    let output = command(&server, Some(&operator), &["access", "invite", "cy", "--role", "viewer"]).output();
    let said = text(&output.expect("the binary starts").stderr);
    assert!(said.contains("the project (default)") && said.contains("--project NAME"), "{said}");
    assert!(said.contains("of use on this machine only: --server URL"), "{said}");
}

#[tokio::test]
async fn a_revoked_role_takes_its_tokens_and_a_new_role_names_the_earlier_one() {
    let server = Server::up_with(&["--access", "on"]).await;
    let operator = operator_token(&server.data_dir());
    for project in ["speech", "vision"] {
        stdout_of(&server, &operator, &["projects", "create", project]);
        let words = ["access", "invite", "ana", "--role", "editor", "--with-token", "--project", project];
        stdout_of(&server, &operator, &words);
    }
    let output =
        command(&server, Some(&operator), &["access", "grant", "ana", "viewer", "--project", "speech"])
            .output()
            .expect("the binary starts");
    assert!(text(&output.stderr).contains("ana was editor in speech; viewer replaces it"), "{output:?}");
    let tokens = |project| {
        stdout_of(&server, &operator, &["access", "token", "ls", "--json", "--project", project])
            .lines()
            .count()
    };
    assert_eq!((tokens("speech"), tokens("vision")), (1, 1));
    let words = ["access", "revoke", "ana", "--project", "speech"];
    let revoked = stdout_of(&server, &operator, &words);
    assert_eq!(revoked.trim(), "ana  loses the role viewer in speech, with 1 token, within 30 s");
    assert_eq!((tokens("speech"), tokens("vision")), (0, 1));
    let words = ["access", "revoke", "ana", "--keep-tokens", "--project", "vision"];
    stdout_of(&server, &operator, &words);
    assert_eq!(tokens("vision"), 1);
}

#[tokio::test]
async fn an_owner_gives_others_roles_and_tokens_in_their_own_project_only() {
    let server = Server::up_with(&["--access", "on"]).await;
    let operator = operator_token(&server.data_dir());
    for project in ["speech", "vision"] {
        stdout_of(&server, &operator, &["projects", "create", project]);
    }
    stdout_of(&server, &operator, &["access", "grant", "bo", "owner", "--project", "speech"]);
    let bo = stdout_of(&server, &operator, &["access", "token", "create", "bo", "--project", "speech"]);
    let bo = bo.trim();
    // Nobody acts under the name of an operator.
    stdout_of(&server, bo, &["access", "grant", "operator", "ingest", "--project", "speech"]);
    let words = ["access", "token", "create", "operator", "--project", "speech", "--limit", "operator"];
    let error = error_of(&server, Some(bo), &words);
    assert!(error.contains("has a role in all projects"), "{error}");
    // A token that an owner creates is one for the project of the owner.
    stdout_of(&server, bo, &["access", "grant", "cy", "owner", "--project", "speech"]);
    let limited = stdout_of(&server, bo, &["access", "token", "create", "cy", "--project", "speech"]);
    let limited = limited.trim();
    let words = ["access", "token", "create", "cy", "--project", "speech", "--limit", "viewer"];
    let small = stdout_of(&server, &operator, &words);
    let whoami = stdout_of(&server, small.trim(), &["access", "whoami", "--json"]);
    let whoami: Value = serde_json::from_str(&whoami).expect("one object");
    assert_eq!(whoami["token"], serde_json::json!({"limit": "viewer", "project": "speech"}), "{whoami}");
    assert_eq!(whoami["roles"][0]["role"], "owner", "{whoami}");
    stdout_of(&server, &operator, &["access", "grant", "cy", "viewer", "--project", "vision"]);
    let whoami = stdout_of(&server, limited, &["access", "whoami", "--project", "speech"]);
    assert!(whoami.contains("speech") && !whoami.contains("vision"), "{whoami}");
    stdout_of(&server, limited, &["runs", "ls", "--project", "speech"]);
    for words in [
        &["runs", "ls", "--project", "vision"][..],
        &["projects", "create", "more"],
        &["access", "ls", "--everywhere"],
        &["access", "token", "create", "operator", "--everywhere"],
        &["access", "grant", "bo", "operator", "--everywhere"],
    ] {
        for token in [bo, limited] {
            error_of(&server, Some(token), words);
        }
    }
    let error = error_of(&server, Some(bo), &["access", "grant", "bo", "owner", "--project", "vision"]);
    assert!(error.contains("no project `vision`"), "{error}");
}

#[tokio::test]
async fn a_lost_operator_token_is_replaced_without_a_server() {
    let mut server = Server::up_with(&["--access", "on"]).await;
    let data_dir = server.data_dir();
    let lost = operator_token(&data_dir);
    let recover = || {
        let mut command = Command::new(binary());
        command.args(["access", "recover", "--data-dir"]).arg(&data_dir).env_clear();
        // Settings of the server, as in the shell in which its operator has started it.
        run(command.env("MATYAN_GITHUB_CLIENT_ID", "Iv1").env("MATYAN_OIDC_ISSUER", "https://id.example"))
    };
    let error = recover().expect_err("the server is running");
    assert!(error.contains("in use by process") && error.contains("stop the server first"), "{error}");
    assert!(!error.contains("--store"), "{error}");
    assert!(server.terminate().await.success());
    let token = recover().expect("the server is stopped");
    let token = token.trim();
    assert_eq!(operator_token(&data_dir), token);
    server.start().await;
    assert_eq!(status(&server, RUNS, Some(&lost)).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&server, RUNS, Some(token)).await, StatusCode::OK);
}

#[tokio::test]
async fn rule_61_a_closed_store_is_not_opened_by_leaving_out_a_flag() {
    let mut server = Server::up_with(&["--access", "on"]).await;
    assert!(server.terminate().await.success());
    let start = |words: &[&str]| {
        let mut command = Command::new(binary());
        command.args(["up", "--port", "0", "--frontier-port", "0", "--data-dir"]).arg(server.data_dir());
        run(command.args(words).env_clear().stdin(Stdio::null()))
    };
    let error = start(&[]).expect_err("the store is closed");
    assert!(error.contains("--access on") && error.contains("--access off"), "{error}");
    let error = start(&["--access", "on", "--host", "0.0.0.0"]).expect_err("tokens would not be encrypted");
    assert!(error.contains("--tls-cert") && error.contains("--access-behind-proxy"), "{error}");
}

#[tokio::test]
async fn rule_62_an_open_server_grants_nothing() {
    let server = Server::up().await;
    for words in [&["access", "grant", "ana", "operator", "--everywhere"][..], &["access", "whoami"]] {
        let error = error_of(&server, None, words);
        assert!(error.contains("access control is off: start the server with --access on"), "{error}");
    }
    let generated =
        run(&mut command(&server, None, &["access", "token", "generate"])).expect("needs no server");
    assert!(generated.starts_with("mtk_"), "{generated}");
}

/// The entries of the audit log that a principal sees, oldest first: call, subject, outcome and principal.
fn audit(server: &Server, token: &str, words: &[&str]) -> Vec<[String; 4]> {
    let listed =
        stdout_of(server, token, &[&["access", "audit", "--json", "--limit", "0"][..], words].concat());
    let entries = listed.lines().map(|line| {
        let entry: Value = serde_json::from_str(line).expect("one object");
        ["rpc", "resource", "outcome", "principal"].map(|name| entry[name].as_str().expect("text").to_owned())
    });
    let mut entries: Vec<_> = entries.collect();
    entries.reverse();
    entries
}

#[tokio::test]
async fn rule_80_the_audit_log_says_who_signed_in_and_who_changed_rights() {
    let server = Server::up_with(&["--access", "on"]).await;
    let operator = operator_token(&server.data_dir());
    for project in ["speech", "vision"] {
        stdout_of(&server, &operator, &["projects", "create", project]);
    }
    stdout_of(&server, &operator, &["access", "grant", "bo", "owner", "--project", "speech"]);
    let bo = stdout_of(&server, &operator, &["access", "token", "create", "bo", "--project", "speech"]);
    let bo = bo.trim().to_owned();
    stdout_of(&server, &bo, &["access", "grant", "cy", "viewer", "--project", "speech"]);
    stdout_of(&server, &operator, &["access", "grant", "cy", "viewer", "--project", "vision"]);

    // One browser signs in, and another one tries a token that no one has.
    let unknown = stdout_of(&server, &operator, &["access", "token", "generate"]).trim().to_owned();
    let browser =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    for (token, expected) in [(&bo, StatusCode::SEE_OTHER), (&unknown, StatusCode::UNAUTHORIZED)] {
        let form = browser
            .post(format!("{}/sign-in", server.query))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("token={token}"));
        assert_eq!(form.send().await.expect("the server answers").status(), expected);
    }
    assert_eq!(status(&server, RUNS, Some(&unknown)).await, StatusCode::UNAUTHORIZED);

    // An owner sees only their own project.
    let seen = audit(&server, &bo, &["--project", "speech"]);
    let expected = [
        ["access.v1.AccessService/Grant", "bo owner", "OK", "operator"],
        ["access.v1.AccessService/CreateToken", seen[1][1].as_str(), "OK", "operator"],
        ["access.v1.AccessService/Grant", "cy viewer", "OK", "bo"],
    ];
    assert_eq!(seen, expected.map(|row| row.map(str::to_owned)));
    assert!(seen[1][1].starts_with("bo token "), "{seen:?}");
    for words in [&["--project", "vision"][..], &["--everywhere"]] {
        error_of(&server, Some(&bo), &[&["access", "audit"][..], words].concat());
    }

    // Denied calls are written a moment later: this call, and the earlier call for the whole audit log.
    error_of(&server, Some(&bo), &["access", "ls", "--everywhere"]);
    let denied = ["access.v1.AuditService/ListAllEntries", "access.v1.AccessService/ListAllGrants"];
    let denied = denied.map(|rpc| [rpc, "", "PERMISSION_DENIED", "bo"].map(str::to_owned));
    eventually("the denied calls are in the audit log", async || {
        let found = audit(&server, &operator, &["--everywhere", "--failed", "--principal", "bo"]);
        if found == denied { Ok(()) } else { Err(found) }
    })
    .await;

    // Sign-ins are written a moment later.
    eventually("sign-ins are in the audit log", async || {
        let signed_in = audit(&server, &operator, &["--everywhere", "--rpc", "sign-in"]);
        let found: Vec<_> = signed_in
            .iter()
            .map(|[rpc, _, outcome, who]| (rpc.as_str(), outcome.as_str(), who.as_str()))
            .collect();
        let expected = [
            ("sign-in", "OK", "bo"),
            ("sign-in-page", "UNAUTHENTICATED", ""),
            ("sign-in", "UNAUTHENTICATED", ""),
        ];
        if found == expected { Ok(()) } else { Err(signed_in) }
    })
    .await;
    let failed = audit(&server, &operator, &["--everywhere", "--failed", "--principal", ""]);
    assert_eq!(failed.len(), 4, "{failed:?}");
    let everything = stdout_of(&server, &operator, &["access", "audit", "--everywhere", "--limit", "0"]);
    let everything = everything + &server.log();
    for token in [&operator, &bo, &unknown] {
        assert!(!everything.contains(token.as_str()), "a token is in the audit log");
    }
}

/// Sends the form for signing in, with a token or the secret of a link. Returns the status and the cookie.
async fn sign_in(server: &Server, secret: &str) -> (StatusCode, Option<String>) {
    let browser =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let form = browser
        .post(format!("{}/sign-in", server.query))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("token={secret}"));
    let response = form.send().await.expect("the server answers");
    let cookie = response.headers().get("set-cookie").map(|set| set.to_str().expect("ASCII").to_owned());
    (response.status(), cookie.and_then(|set| set.split(';').next().map(str::to_owned)))
}

/// The status of a page or a form for a browser with a cookie.
async fn browse(server: &Server, path: &str, cookie: &str, is_form: bool) -> StatusCode {
    let browser =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let url = format!("{}{path}", server.query);
    let request = if is_form { browser.post(url) } else { browser.get(url) };
    let request = request.header("cookie", cookie).header("sec-fetch-site", "same-origin");
    request.send().await.expect("the server answers").status()
}

/// The secret of the link in what a command has printed.
fn link_secret(printed: &str) -> String {
    let (_, secret) = printed.trim().rsplit_once("/sign-in#").expect("a link");
    secret.to_owned()
}

#[tokio::test]
async fn rule_83_an_invitation_is_a_link_that_signs_one_browser_in() {
    let server = Server::up_with(&["--access", "on"]).await;
    let operator = operator_token(&server.data_dir());
    stdout_of(&server, &operator, &["projects", "create", "speech"]);
    let invite = ["access", "invite", "ana", "--role", "viewer", "--project", "speech"];
    let printed = stdout_of(&server, &operator, &invite);
    assert!(printed.starts_with(&format!("{}/p/speech/sign-in#mtl_", server.query)), "{printed}");
    assert_eq!(printed.lines().count(), 1, "{printed}");
    let secret = link_secret(&printed);
    assert_eq!(status(&server, RUNS, Some(&secret)).await, StatusCode::UNAUTHORIZED, "a link is not a token");
    let (signed_in, cookie) = sign_in(&server, &secret).await;
    let cookie = cookie.expect("a cookie");
    assert_eq!(signed_in, StatusCode::SEE_OTHER);
    let runs = format!("/p/speech{RUNS}");
    assert_eq!(browse(&server, &runs, &cookie, false).await, StatusCode::OK);
    assert_eq!(browse(&server, RUNS, &cookie, false).await, StatusCode::NOT_FOUND, "for its project only");
    assert_eq!(sign_in(&server, &secret).await, (StatusCode::UNAUTHORIZED, None), "the link was used");

    // Another host name would be another server.
    let json = [&invite[..], &["--json", "--minutes", "1"]].concat();
    let printed: Value = serde_json::from_str(&stdout_of(&server, &operator, &json)).expect("one object");
    assert!(printed["secret"].is_null() && printed["sign_in_expires"].is_number(), "{printed}");
    let other = stdout_of(
        &server,
        &operator,
        &[&invite[..], &["--server", &server.query.replace("127.0.0.1", "localhost")]].concat(),
    );
    assert_eq!(sign_in(&server, &link_secret(&other)).await.0, StatusCode::SEE_OTHER, "the same machine");

    // Signing out ends the session, and not only the cookie.
    assert_eq!(browse(&server, "/sign-out", &cookie, true).await, StatusCode::SEE_OTHER);
    eventually("the session has ended", async || match browse(&server, &runs, &cookie, false).await {
        StatusCode::UNAUTHORIZED => Ok(()),
        other => Err(other),
    })
    .await;
    eventually("signing in and out is in the audit log", async || {
        let entries = audit(&server, &operator, &["--everywhere", "--principal", "ana"]);
        let rpcs: Vec<_> = entries.iter().map(|[rpc, _, outcome, _]| format!("{rpc} {outcome}")).collect();
        if rpcs == ["sign-in OK", "sign-in OK", "sign-out OK"] { Ok(()) } else { Err(rpcs) }
    })
    .await;
    let everything = stdout_of(&server, &operator, &["access", "audit", "--everywhere", "--limit", "0"]);
    let everything = everything + &server.log();
    for secret in [secret.as_str(), cookie.split_once('=').expect("a value").1] {
        assert!(!everything.contains(secret), "a secret is in a log");
    }
}

#[tokio::test]
async fn rule_84_a_disabled_principal_is_out_within_30_seconds() {
    let server = Server::up_with(&["--access", "on"]).await;
    let operator = operator_token(&server.data_dir());
    stdout_of(&server, &operator, &["projects", "create", "speech"]);
    let invite = ["access", "invite", "ana", "--role", "viewer", "--project", "speech"];
    let secret = link_secret(&stdout_of(&server, &operator, &invite));
    let token = stdout_of(&server, &operator, &["access", "token", "create", "ana", "--project", "speech"]);
    let token = token.trim();
    let (_, cookie) = sign_in(&server, &secret).await;
    let cookie = cookie.expect("a cookie");
    let unused = link_secret(&stdout_of(&server, &operator, &invite));
    let runs = format!("/p/speech{RUNS}");
    assert_eq!(browse(&server, &runs, &cookie, false).await, StatusCode::OK);
    assert_eq!(status(&server, &runs, Some(token)).await, StatusCode::OK);

    let error = error_of(&server, Some(token), &["access", "disable", "ana", "--yes"]);
    assert!(error.contains("the role operator") && error.contains("ask an operator"), "{error}");
    stdout_of(&server, &operator, &["access", "disable", "ana", "--yes"]);
    eventually("session and token have ended", async || {
        let found = [browse(&server, &runs, &cookie, false).await, status(&server, &runs, Some(token)).await];
        if found == [StatusCode::UNAUTHORIZED; 2] { Ok(()) } else { Err(found) }
    })
    .await;
    assert_eq!(sign_in(&server, &unused).await.0, StatusCode::UNAUTHORIZED);
    let error = error_of(&server, Some(&operator), &invite);
    assert!(error.contains("`ana` is disabled") && error.contains("matyan access enable ana"), "{error}");
    let listed = stdout_of(&server, &operator, &["access", "ls", "--project", "speech"]);
    assert!(listed.contains("ana (disabled)"), "{listed}");
    let error = error_of(&server, Some(&operator), &["access", "disable", "operator", "--yes"]);
    assert!(error.contains("the only operator"), "{error}");

    stdout_of(&server, &operator, &["access", "enable", "ana"]);
    assert_eq!(status(&server, &runs, Some(token)).await, StatusCode::UNAUTHORIZED, "it has ended");
    let secret = link_secret(&stdout_of(&server, &operator, &invite));
    assert_eq!(sign_in(&server, &secret).await.0, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn rule_83_the_first_start_prints_a_link_for_the_operator_once() {
    let mut server = Server::up_with(&["--access", "on"]).await;
    let banner = server.log();
    let begin = banner.find("/sign-in#mtl_").expect("the first start prints a link");
    let secret = banner[begin..].split_whitespace().next().expect("a link").trim_start_matches("/sign-in#");
    let (signed_in, cookie) = sign_in(&server, secret).await;
    assert_eq!(signed_in, StatusCode::SEE_OTHER);
    assert_eq!(browse(&server, RUNS, &cookie.expect("a cookie"), false).await, StatusCode::OK);
    assert_eq!(sign_in(&server, secret).await.0, StatusCode::UNAUTHORIZED);
    assert!(server.terminate().await.success());
    server.start().await;
    assert_eq!(server.log().matches("/sign-in#mtl_").count(), 1, "later starts print none");
}
