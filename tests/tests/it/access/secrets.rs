//! Secrets at rest: a server is used with tokens, sessions, links and a provider in every way, and in every wrong
//! way. Afterwards none of their secrets, and no half of a secret, is in its store, its log, its blobs, an archive,
//! its log lines, its spans, its metrics, or in an error.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, request::Builder};
use matyan_proto::access::v1::Role;
use matyan_tests::{
    collector::Collector,
    eventually,
    exact_http::{Answer, ExactClient, contains},
    github::{GitHub, GitHubSecrets},
    json::{Ack, create_run, finish_run, log_record},
};
use serde_json::json;

use super::{
    closed_server::ClosedServer,
    command,
    github::{BegunSignIn, begin_sign_in, random_secrets, up},
    run, stdout_of, token_file,
};

const PROJECT: &str = "speech";

/// Marks the last request, whose span is exported after all others.
const LAST_RUN: &str = "the-last-run";

/// The starts of tokens, sessions, links, and both secrets of a sign-in with a provider.
const BEGINNINGS: [&str; 5] = ["mtk_", "mts_", "mtl_", "mto_", "mtb_"];

/// A secret with its owner, and the texts that must not be found.
struct Secret {
    owner: &'static str,
    text: String,
    parts: Vec<String>,
}

impl Secret {
    /// A secret with this start and a checksum.
    fn new(owner: &'static str, text: &str) -> Self {
        let secret = text.split('_').nth(1).expect("it has a beginning");
        let (first, second) = secret.split_at(secret.len() / 2);
        let parts = [text, secret, first, second].map(str::to_owned).to_vec();
        Self { owner, text: text.to_owned(), parts }
    }

    /// A secret of any form.
    fn opaque(owner: &'static str, text: &str) -> Self {
        let (first, second) = text.split_at(text.len() / 2);
        let parts = [text, first, second].map(str::to_owned).to_vec();
        Self { owner, text: text.to_owned(), parts }
    }

    fn is_token(&self) -> bool {
        self.text.starts_with("mtk_")
    }

    /// Whether the server recognizes the secret by its start, also in a wrong place.
    fn has_beginning(&self) -> bool {
        BEGINNINGS.iter().any(|beginning| self.text.starts_with(beginning))
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.parts.iter().any(|part| contains(bytes, part))
    }
}

/// The owners of the secrets that are in these bytes.
fn found(secrets: &[Secret], bytes: &[u8]) -> Vec<&'static str> {
    secrets.iter().filter(|secret| secret.is_in(bytes)).map(|secret| secret.owner).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is readable") {
            let path = entry.expect("the folder is readable").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn request(builder: Builder, body: &str) -> Request<Bytes> {
    builder.body(Bytes::copy_from_slice(body.as_bytes())).expect("the request is well-formed")
}

/// Requests with a secret or a mistyped secret as their credential. Their answers do not repeat it.
fn with_credential(base: &str, token: &str, waiting: &BegunSignIn) -> Vec<Request<Bytes>> {
    let path = format!("{base}/p/{PROJECT}/api/v1/rest/projects/");
    let port = base.rsplit(':').next().expect("the address has a port");
    let basic = |pair: String| format!("Basic {}", STANDARD.encode(pair));
    let mut requests = Vec::new();
    for authorization in [
        format!("Bearer {token}"),
        format!("Bearer {token}x"),
        format!("Bearer {}", token.replacen('_', "", 1)),
        format!("Bearer {token} {token}"),
        format!("Token {token}"),
        basic(format!("_:{token}")),
        basic(format!("_:{token}x")),
        basic(format!("{token}:")),
    ] {
        requests.push(request(Request::get(&path).header("authorization", &authorization), ""));
        let call = Request::post(format!("{base}/p/{PROJECT}/matyan.runs.v1.RunService/Get"))
            .header("content-type", "application/grpc-web+proto")
            .header("authorization", &authorization);
        requests.push(request(call, "\0\0\0\0\0"));
    }
    // The token twice, and as the password of a page.
    let twice = Request::get(&path)
        .header("authorization", format!("Bearer {token}"))
        .header("authorization", format!("Bearer {token}"));
    requests.push(request(twice, ""));
    let of_page = Request::get(&path).header("authorization", basic(format!("_:{token}")));
    requests.push(request(of_page.header("sec-fetch-site", "same-origin"), ""));
    let BegunSignIn { name, state, .. } = waiting;
    let callback = format!("{base}/sign-in/callback?state={state}&code=x");
    for value in [token.to_owned(), format!("{token}x")] {
        let session = format!("matyan-{port}={value}");
        requests.push(request(Request::get(&path).header("cookie", session), ""));
        let sign_in = format!("{name}={value}");
        requests.push(request(Request::get(&callback).header("cookie", sign_in), ""));
    }
    requests
}

/// Requests of `caller` with a secret in a wrong place. Their answers may repeat the request.
fn in_wrong_places(base: &str, token: &str, caller: &str) -> Vec<Request<Bytes>> {
    let get = |path: String| {
        let authorization = format!("Bearer {caller}");
        Request::get(format!("{base}{path}")).header("authorization", authorization)
    };
    let paths = [
        format!("/p/{PROJECT}/api/v1/rest/projects/?token={token}&access_token={token}"),
        format!("/p/{PROJECT}/api/v1/rest/runs/{token}/info/"),
        format!("/p/{PROJECT}/api/v1/rest/runs/search/run/?q=run.token%20==%20%22{token}%22"),
        format!("/p/{PROJECT}/api/v1/rest/runs/search/run/?q=run.{token}%20=="),
        format!("/p/{token}/api/v1/rest/projects/"),
        format!("/p/{PROJECT}/{token}"),
        format!("/{token}"),
        format!("/p/{PROJECT}/files/me/p/r/{token}"),
        format!("/p/{PROJECT}/api/2.0/mlflow-artifacts/artifacts/0/r/artifacts/{token}"),
        format!("/sign-in/with/{token}"),
        format!("/sign-in/callback?state={token}&code={token}&iss={token}"),
        format!("/sign-in?next=/p/{PROJECT}/?token={token}"),
    ];
    let mut requests: Vec<_> = paths.into_iter().map(|path| request(get(path), "")).collect();
    let path = || "/api/v1/rest/projects/".to_owned();
    for name in ["matyan-project", "matyan-caller", "matyan-credential", "user-agent", "referer", "x-api-key"]
    {
        requests.push(request(get(path()).header(name, token), ""));
    }
    let form =
        Request::post(format!("{base}/sign-in")).header("content-type", "application/x-www-form-urlencoded");
    requests.push(request(form, &format!("token={token}&next=%2Fp%2F{PROJECT}%2F")));
    let body = json!({"name": "x", "token": token}).to_string();
    let create = Request::post(format!("{base}/p/{PROJECT}/api/v1/rest/tags/{token}/"))
        .header("authorization", format!("Bearer {caller}"))
        .header("content-type", "application/json");
    requests.push(request(create, &body));
    requests
}

/// Commands with a token where a name or an id belongs.
fn run_wrong_commands(closed: &ClosedServer, token: &str) {
    for words in [
        &["access", "grant", token, "viewer", "--project", PROJECT][..],
        &["access", "token", "revoke", token, "--project", PROJECT],
        &["access", "revoke-link", token, "--project", PROJECT],
        &["access", "token", "create", token, "--project", PROJECT],
        &["access", "revoke", token, "--project", PROJECT],
        &["runs", "show", token, "--project", PROJECT],
    ] {
        run(&mut command(&closed.server, Some(&closed.operator), words))
            .expect_err("no command accepts this name");
    }
}

/// Logs a run whose script prints its token, and waits until the run is applied. Returns the description of the run.
async fn log_careless_run(closed: &ClosedServer, token: &str) -> String {
    let mut writer = closed.connect(token, PROJECT, "careless").await.expect("it is admitted");
    let line = format!("+ export MATYAN_TOKEN={token}");
    let frames = [
        create_run(),
        json!({"type": "log_hparams", "value": {"env": {"MATYAN_TOKEN": token, "HOME": "/root"}}}),
        json!({"type": "log_terminal_line", "line": line, "step": 0}),
        log_record(&format!("uses {token}"), 1.5),
        finish_run(),
    ];
    for frame in frames {
        assert_eq!(writer.send(&frame).await, Ok(Ack::Ok));
    }
    let client = ExactClient::http1();
    eventually("the run is applied", async || {
        let path = format!("{}/p/{PROJECT}/api/v1/rest/runs/careless/info/", closed.server.query);
        let get = Request::get(path).header("authorization", format!("Bearer {token}"));
        let answer = client.send(request(get, "")).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if text.contains("/root") && text.contains("\"active\":false") { Ok(text) } else { Err(text) }
    })
    .await
}

/// Sends all requests with all secrets. Returns the answers that must not repeat a secret.
async fn use_everywhere(closed: &ClosedServer, secrets: &[Secret], waiting: &BegunSignIn) -> Vec<Answer> {
    let client = ExactClient::http1();
    let mut answers = Vec::new();
    for secret in secrets.iter().filter(|secret| secret.has_beginning()) {
        let text = &secret.text;
        for base in [&closed.server.query, &closed.server.ingest] {
            for request in with_credential(base, text, waiting) {
                answers.push(client.send(request).await);
            }
            for request in in_wrong_places(base, text, &closed.operator) {
                client.send(request).await;
            }
        }
        if secret.is_token() {
            run_wrong_commands(closed, text);
        }
        if let Ok(mut writer) = closed.connect(text, PROJECT, "by-socket").await {
            writer.send(&create_run()).await.ok();
        }
    }
    answers
}

/// Signs in with GitHub. Returns all secrets of the sign-in, the session included.
async fn sign_in_with_github(closed: &ClosedServer, secrets: &GitHubSecrets) -> Vec<Secret> {
    let begun = begin_sign_in(closed).await;
    let GitHubSecrets { client_secret, code, token } = secrets;
    let session = begun.finish(closed, code).await;
    vec![
        Secret::opaque("the client secret", client_secret),
        Secret::opaque("the code", code),
        Secret::opaque("the token of GitHub", token),
        Secret::opaque("the state", &begun.state),
        Secret::opaque("the browser", &begun.browser),
        Secret::new("the session by GitHub", &session),
    ]
}

/// The secret of the session in the cookie of a browser.
fn session(owner: &'static str, cookie: &str) -> Secret {
    let (_, secret) = cookie.split_once('=').expect("a cookie has a value");
    Secret::new(owner, secret)
}

fn check_answers(answers: &[Answer], secrets: &[Secret]) {
    for answer in answers {
        for secret in secrets {
            assert!(
                !answer.contains(&secret.text),
                "an answer repeats the secret of {}: {answer:?}",
                secret.owner
            );
        }
    }
}

/// Checks that files contain no secret, and returns whether one contains `text`.
fn check_files(files: Vec<PathBuf>, secrets: &[Secret], text: &str) -> bool {
    let mut has_text = false;
    for file in files {
        let bytes = read(&file);
        assert_eq!(found(secrets, &bytes), [""; 0], "in {}", file.display());
        has_text |= contains(&bytes, text);
    }
    has_text
}

#[tokio::test]
async fn rule_104_no_secret_is_left_anywhere() {
    let collector = Collector::listen().await;
    let of_github = random_secrets();
    let github = GitHub::listen(of_github.clone()).await;
    let flags = ["--otlp-endpoint", &collector.endpoint, "--log-level", "debug"];
    let mut closed = up(&flags, &github, &of_github, PROJECT).await;
    let ana = closed.invite("ana", Role::Writer, PROJECT).await;
    let bo = closed.invite("bo", Role::Owner, PROJECT).await;
    let mut generate = command(&closed.server, None, &["access", "token", "generate"]);
    let invented = run(&mut generate).expect("the command needs no server");
    let link = closed.create_link("ana", PROJECT).await;
    let by_token = closed.sign_in(&ana.secret).await;
    let by_link = closed.sign_in(&link).await;
    let mut secrets = vec![
        Secret::new("operator", &closed.operator),
        Secret::new("ana", &ana.secret),
        Secret::new("bo", &bo.secret),
        Secret::new("nobody", invented.trim()),
        Secret::new("the link", &link),
        session("the session by token", &by_token),
        session("the session by link", &by_link),
    ];
    secrets.extend(sign_in_with_github(&closed, &of_github).await);
    // A sign-in that nobody finishes.
    let waiting = begin_sign_in(&closed).await;
    secrets.push(Secret::opaque("the browser that waits", &waiting.browser));
    secrets.push(Secret::opaque("the state that waits", &waiting.state));
    stdout_of(&closed.server, &bo.secret, &["runs", "ls", "--project", PROJECT]);
    closed.revoke(&bo).await;

    let mask = format!("mtk_masked_{}_", ana.info.id);
    let info = log_careless_run(&closed, &ana.secret).await;
    assert!(info.contains(&mask), "{info}");
    check_answers(&use_everywhere(&closed, &secrets, &waiting).await, &secrets);
    // A link that nobody opens.
    secrets.push(Secret::new("the link that waits", &closed.create_link("ana", PROJECT).await));

    let client = ExactClient::http1();
    let as_operator = |path: &str| {
        let get = Request::get(format!("{}{path}", closed.server.query));
        request(get.header("authorization", format!("Bearer {}", closed.operator)), "")
    };
    let metrics = client.send(as_operator("/metrics/")).await.body;
    // One token each in the params, the line and the record.
    assert!(
        contains(&metrics, "matyan_ingest_masked_tokens_total 3"),
        "{}",
        String::from_utf8_lossy(&metrics)
    );
    let archives = tempfile::tempdir().expect("the temporary directory is writable");
    let into = archives.path().to_str().expect("the path is text");
    stdout_of(&closed.server, &closed.operator, &["backup", into, "--project", PROJECT]);
    let audit = ["access", "audit", "--everywhere", "--limit", "0", "--json"];
    let audit = eventually("the sign-in with GitHub is in the audit log", async || {
        let listed = stdout_of(&closed.server, &closed.operator, &audit);
        if listed.contains("github:") { Ok(listed) } else { Err(listed) }
    })
    .await;
    client.send(as_operator(&format!("/p/{PROJECT}/api/v1/rest/runs/{LAST_RUN}/info/"))).await;
    drop(client);
    assert!(closed.server.terminate().await.success(), "{}", closed.server.log());
    let spans = eventually("all spans are exported", async || {
        let spans = format!("{:?}", collector.spans());
        if spans.contains(LAST_RUN) { Ok(spans) } else { Err("the last span is missing") }
    })
    .await;

    let log = closed.server.log();
    for (place, bytes) in [
        ("metrics", &metrics[..]),
        ("audit log", audit.as_bytes()),
        ("log lines", log.as_bytes()),
        ("spans", spans.as_bytes()),
    ] {
        assert_eq!(found(&secrets, bytes), [""; 0], "in the {place}");
    }
    let data_dir = closed.server.data_dir();
    let mut stored = files(&data_dir);
    stored.retain(|file| *file != token_file(&data_dir));
    let has_data = check_files(stored, &secrets, &mask);
    let has_archive = check_files(files(archives.path()), &secrets, &mask);
    // Check that the search finds a secret that is there.
    assert_eq!((has_data, has_archive), (true, true));
    assert_eq!(found(&secrets, &read(&token_file(&data_dir))), ["operator"]);
}
