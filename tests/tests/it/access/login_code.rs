//! `matyan login` by a code, which a person types in a browser, against a running server: who may allow a token, which
//! rights the token then has, and that it has none before it is allowed and after it is revoked.

use std::process::Stdio;

use matyan_proto::access::v1::{
    BeginLoginRequest, BeginLoginResponse, GetLoginRequest, LoginState, Role,
    login_service_client::LoginServiceClient,
};
use matyan_tests::{Server, channel, eventually};
use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};
use tonic::Code;

use super::{RUNS, closed_server::ClosedServer, command, run, status};

const PROJECT: &str = "speech";
const PROJECTS: [&str; 2] = [PROJECT, "vision"];

/// The answer of the page to a form: its status and its text.
async fn post_form(server: &Server, cookie: &str, form: &str) -> (StatusCode, String) {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let client = client.build().expect("the client is valid");
    let request = client.post(format!("{}/sign-in/code", server.query));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let request = request.header("origin", &server.query);
    let answer = request.header("cookie", cookie).body(form.to_owned()).send().await;
    let answer = answer.expect("the server answers");
    (answer.status(), answer.text().await.expect("the page is text"))
}

async fn begin(closed: &ClosedServer, asked: BeginLoginRequest) -> BeginLoginResponse {
    let mut logins = LoginServiceClient::new(closed.channel.clone());
    logins.begin_login(asked).await.expect("anyone may begin").into_inner()
}

async fn state(closed: &ClosedServer, token: &str) -> LoginState {
    let mut logins = LoginServiceClient::new(closed.channel.clone());
    let request = GetLoginRequest { token: token.to_owned() };
    logins.get_login(request).await.expect("anyone may ask").into_inner().state()
}

/// `matyan login` as a process of a user with this folder for settings, and the code that it shows.
async fn start_login(server: &Server, home: &TempDir, flags: &[&str]) -> (Child, String) {
    let words = [&["login", "--code", "--json"][..], flags].concat();
    let mut command = Command::from(command(server, None, &words));
    command.env("XDG_CONFIG_HOME", home.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().expect("the binary starts");
    let stderr = child.stderr.take().expect("it is piped");
    let mut lines = BufReader::new(stderr).lines();
    while let Some(line) = lines.next_line().await.expect("the output is text") {
        if let Some((_, code)) = line.split_once("type the code ") {
            // The command continues to write.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return (child, code.trim().to_owned());
        }
    }
    panic!("the command shows no code");
}

fn user_command(server: &Server, home: &TempDir, words: &[&str]) -> Result<String, String> {
    let mut command = command(server, None, words);
    run(command.env("XDG_CONFIG_HOME", home.path()))
}

#[tokio::test]
async fn rule_121_a_program_gets_a_token_when_its_code_is_typed() {
    let closed = ClosedServer::up(&[], &PROJECTS).await;
    closed.invite("ana", Role::Editor, PROJECT).await;
    let link = closed.create_link("ana", PROJECT).await;
    let cookie = closed.sign_in(&link).await;
    let home = tempfile::tempdir().expect("the temporary directory is writable");
    let (child, code) = start_login(&closed.server, &home, &["--limit", "viewer", "--days", "7"]).await;

    let (shown, page) = post_form(&closed.server, &cookie, &format!("code={code}")).await;
    assert_eq!(shown, StatusCode::OK, "{page}");
    // The session is for one project, and so is the token.
    for text in ["matyan login on ", "<dd>127.0.0.1", "<dd>speech", "<dd>viewer", "<dd>7 days"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    let (allowed, page) = post_form(&closed.server, &cookie, &format!("code={code}&answer=allow")).await;
    assert!(allowed == StatusCode::OK && page.contains("is signed in as ana"), "{page}");
    let output = child.wait_with_output().await.expect("the command ends");
    let signed_in: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!((&signed_in["principal"], &signed_in["project"]), (&"ana".into(), &PROJECT.into()));

    user_command(&closed.server, &home, &["runs", "ls", "--project", PROJECT]).expect("the token reads");
    let error = user_command(&closed.server, &home, &["runs", "ls", "--project", "vision"]);
    assert!(error.expect_err("the token is for another project").contains("no project `vision`"));
    // A second answer has no effect, and another code is needed.
    let (again, page) = post_form(&closed.server, &cookie, &format!("code={code}&answer=allow")).await;
    assert!(again == StatusCode::BAD_REQUEST && page.contains("No program waits"), "{page}");

    let id = signed_in["token_id"].as_str().expect("the token has an id").to_owned();
    let audit = ["access", "audit", "--everywhere", "--rpc", "sign-in", "--principal", "ana", "--json"];
    let audit = super::stdout_of(&closed.server, &closed.operator, &audit);
    assert!(audit.contains(&id), "the permission is in the audit log: {audit}");

    // Signing out ends the token at the server.
    let kept = std::fs::read_to_string(home.path().join("matyan/tokens.json")).expect("the file exists");
    let token = kept.split('"').find(|text| text.starts_with("mtk_")).expect("a token is kept").to_owned();
    let left = user_command(&closed.server, &home, &["logout"]).expect("a token is kept");
    assert!(left.starts_with(&id) && left.contains("is revoked and forgotten"), "{left}");
    eventually("the token is refused", async || {
        let found = status(&closed.server, RUNS, Some(&token)).await;
        if found == StatusCode::UNAUTHORIZED { Ok(()) } else { Err(found) }
    })
    .await;
    assert_eq!(state(&closed, &token).await, LoginState::Ended);
}

#[tokio::test]
async fn rule_121_a_pending_token_is_worth_nothing() {
    let closed = ClosedServer::up(&[], &PROJECTS).await;
    let begun = begin(&closed, BeginLoginRequest::default()).await;
    assert_eq!(state(&closed, &begun.token).await, LoginState::Pending);
    assert_eq!(status(&closed.server, RUNS, Some(&begun.token)).await, StatusCode::UNAUTHORIZED);
    let (refused, cookie) = super::sign_in(&closed.server, &begun.token).await;
    assert!(cookie.is_none(), "a pending token signs no browser in: {refused}");

    // Nobody can allow it without a session, or with a session that was started with a token.
    let form = format!("code={}&answer=allow", begun.code);
    let (stranger, _) = post_form(&closed.server, "", &form).await;
    assert_eq!(stranger, StatusCode::SEE_OTHER);
    let ana = closed.invite("ana", Role::Editor, PROJECT).await;
    let cookie = closed.sign_in(&ana.secret).await;
    let (with_token, page) = post_form(&closed.server, &cookie, &form).await;
    assert_eq!(with_token, StatusCode::FORBIDDEN);
    assert!(page.contains("began with a token"), "{page}");
    assert_eq!(state(&closed, &begun.token).await, LoginState::Pending);

    // A person who refuses the program ends its login.
    let link = closed.create_link("ana", PROJECT).await;
    let cookie = closed.sign_in(&link).await;
    let (answered, _) =
        post_form(&closed.server, &cookie, &format!("code={}&answer=refuse", begun.code)).await;
    assert_eq!(answered, StatusCode::OK);
    assert_eq!(state(&closed, &begun.token).await, LoginState::Ended);
}

#[tokio::test]
async fn rule_121_codes_are_not_guessed() {
    let closed = ClosedServer::up(&[], &PROJECTS).await;
    closed.invite("mallory", Role::Viewer, PROJECT).await;
    let link = closed.create_link("mallory", PROJECT).await;
    let cookie = closed.sign_in(&link).await;
    let begun = begin(&closed, BeginLoginRequest::default()).await;
    let wrong = |number: usize| {
        let letters = ["B", "C", "D", "F", "G", "H"];
        format!("code=BBBB-BBB{}", letters[number])
    };
    for number in 0..4 {
        let (refused, page) = post_form(&closed.server, &cookie, &wrong(number)).await;
        assert_eq!(refused, StatusCode::BAD_REQUEST, "{page}");
    }
    let (refused, _) = post_form(&closed.server, &cookie, &wrong(4)).await;
    assert_eq!(refused, StatusCode::FORBIDDEN);
    let (refused, page) = post_form(&closed.server, &cookie, &format!("code={}", begun.code)).await;
    assert!(
        refused == StatusCode::FORBIDDEN && page.contains("wrong codes were typed in this session"),
        "{page}"
    );
    // A text that is not a code is not counted.
    let ana = closed.create_link("mallory", PROJECT).await;
    let cookie = closed.sign_in(&ana).await;
    for text in ["", "A", "BCDF-GHJ1", "BCDF-GHJK-L"] {
        let (refused, page) = post_form(&closed.server, &cookie, &format!("code={text}")).await;
        assert!(refused == StatusCode::BAD_REQUEST && page.contains("two groups of four"), "{page}");
    }
    let (shown, page) = post_form(&closed.server, &cookie, &format!("code={}", begun.code)).await;
    assert_eq!(shown, StatusCode::OK, "{page}");
}

#[tokio::test]
async fn rule_121_a_program_asks_for_no_more_than_its_person_has() {
    let closed = ClosedServer::up(&[], &PROJECTS).await;
    closed.invite("ana", Role::Viewer, PROJECT).await;
    for (project, role) in [(Some("vision"), Role::Unspecified), (None, Role::Operator)] {
        let link = closed.create_link("ana", PROJECT).await;
        let cookie = closed.sign_in(&link).await;
        let project = project.map(str::to_owned);
        let begun =
            begin(&closed, BeginLoginRequest { project, role: role.into(), ..Default::default() }).await;
        let form = format!("code={}&answer=allow", begun.code);
        let (answered, page) = post_form(&closed.server, &cookie, &form).await;
        if role == Role::Unspecified {
            assert!(answered == StatusCode::FORBIDDEN && page.contains("your session is for"), "{page}");
            assert_eq!(state(&closed, &begun.token).await, LoginState::Pending);
        } else {
            // A limit that is larger than the roles gives no rights.
            assert_eq!(answered, StatusCode::OK, "{page}");
            let projects = status(&closed.server, "/metrics/", Some(&begun.token)).await;
            assert_eq!(projects, StatusCode::FORBIDDEN);
        }
    }
}

#[tokio::test]
async fn rule_121_an_open_server_has_no_codes() {
    let open = Server::up().await;
    let mut login = command(&open, None, &["login", "--code"]);
    let home = tempfile::tempdir().expect("the temporary directory is writable");
    let error = run(login.env("XDG_CONFIG_HOME", home.path())).expect_err("nobody needs a token");
    assert!(error.contains("access control is off"), "{error}");
    let mut logins = LoginServiceClient::new(channel(&open.query).await);
    // Not even for a client that claims a name.
    let mut request = tonic::Request::new(BeginLoginRequest::default());
    request.metadata_mut().insert("matyan-caller", "anonymous".parse().expect("it is ASCII"));
    let refused = logins.begin_login(request).await.expect_err("the header is removed");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_token_that_was_found_is_checked_without_being_shown() {
    let closed = ClosedServer::up(&[], &PROJECTS).await;
    let ana = closed.invite("ana", Role::Editor, PROJECT).await;
    let folder = tempfile::tempdir().expect("the temporary directory is writable");
    let file = folder.path().join("found");
    std::fs::write(&file, format!("TOKEN='{}'\n", ana.secret)).expect("the file is ours");
    let file = file.to_str().expect("the path is text");
    let words = ["access", "check", "--json", "--token-file", file];
    let checked = run(&mut command(&closed.server, None, &words)).expect("the token is valid");
    let checked: Value = serde_json::from_str(&checked).expect("one object");
    assert_eq!((&checked["principal"], &checked["token"]["project"]), (&"ana".into(), &PROJECT.into()));
    closed.revoke(&ana).await;
    eventually("the token is refused", async || match run(&mut command(&closed.server, None, &words)) {
        Ok(output) => Err(output),
        Err(error) => {
            assert!(error.contains(&ana.info.id) && !error.contains(&ana.secret), "{error}");
            Ok(())
        }
    })
    .await;
}
