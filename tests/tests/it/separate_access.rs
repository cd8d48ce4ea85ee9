//! Access control in two processes: a frontier, which has no store, asks its backend who its callers are.

mod quotas;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use matyan_tests::{
    Service, eventually,
    json::{Ack, JsonWriter, create_run, handshake, metric},
    server::binary,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Error;

/// The secret that the processes of one deployment share.
const SECRET: &str = "shared by both";

/// A backend and a frontier with access control, and the token of the operator.
struct Deployment {
    backend: Service,
    frontier: Service,
    operator: String,
    /// The folders of the backend and of the frontier.
    folders: [TempDir; 2],
}

impl Deployment {
    /// Starts both processes with two projects; the frontier has this secret.
    async fn start(frontier_secret: &str) -> Self {
        let deployment = Self::start_in(empty_folders(), frontier_secret, &[]).await;
        for project in PROJECTS {
            deployment.run(&["projects", "create", project]);
        }
        deployment
    }

    /// Starts both processes in their folders, the backend with these variables of the environment.
    async fn start_in(folders: [TempDir; 2], frontier_secret: &str, variables: &[(&str, &str)]) -> Self {
        let [of_backend, of_frontier] = &folders;
        let mut backend = closed("backend", of_backend.path())
            .flag("store", "embedded:")
            .variable("BLOB_URI_SECRET", SECRET);
        for (name, value) in variables {
            backend.set_variable(name, *value);
        }
        backend.start().await;
        let mut frontier = closed("frontier", of_frontier.path())
            .flag("backend-url", backend.address("query"))
            .variable("BLOB_URI_SECRET", frontier_secret);
        frontier.start().await;
        let operator = operator_token(of_backend.path());
        Self { backend, frontier, operator, folders }
    }

    /// Runs `matyan` as the operator, at the backend.
    fn run(&self, words: &[&str]) -> String {
        run_at(&self.backend, &self.operator, words)
    }

    /// A token of a principal with this role in one project.
    fn invite(&self, principal: &str, role: &str, project: &str) -> String {
        self.run(&["access", "grant", principal, role, "--project", project]);
        self.run(&["access", "token", "create", principal, "--project", project])
    }

    /// A socket to the frontier, or the status with which it is refused.
    async fn connect(&self, project: &str, token: Option<&str>) -> Result<JsonWriter, u16> {
        self.connect_run(project, "run", token).await
    }

    async fn connect_run(&self, project: &str, run_id: &str, token: Option<&str>) -> Result<JsonWriter, u16> {
        let base = format!("{}/p/{project}", self.frontier.address("ingest"));
        let request = handshake(&base, run_id, token).expect("the address is valid");
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => Ok(JsonWriter { socket }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Ends the frontier, and starts one process that applies what the frontier has taken to the store of the backend,
    /// which has ended.
    async fn apply(&mut self) -> Service {
        assert!(self.frontier.terminate().await.success());
        let [of_backend, of_frontier] = &self.folders;
        let log = of_backend.path().join("data/log");
        fs::remove_dir_all(&log).expect("the backend has ended");
        fs::rename(of_frontier.path().join("data/log"), log).expect("both are on one file system");
        let mut process = closed("up", of_backend.path());
        process.start().await;
        process
    }

    /// Steps of the metric `loss` in the project speech, as the operator sees them at this process.
    async fn steps(&self, process: &Service) -> Vec<i64> {
        let url = format!("{}/p/speech/api/v1/rest/runs/run/metric/get-batch/", process.address("query"));
        let request = reqwest::Client::new().post(url).bearer_auth(&self.operator);
        let request = request.header("content-type", "application/json");
        let answer = request.body(r#"[{"name": "loss", "context": {}}]"#).send().await.expect("it answers");
        let text = answer.text().await.expect("the answer is text");
        let metrics: Value = serde_json::from_str(&text).expect("the answer is JSON");
        let steps = metrics[0]["iters"].as_array().map(Vec::as_slice).unwrap_or_default();
        steps.iter().map(|step| step.as_i64().expect("a step is a number")).collect()
    }

    /// The status of a connection, or 200 if data was acknowledged.
    async fn send(&self, project: &str, token: Option<&str>) -> u16 {
        match self.connect(project, token).await {
            Ok(mut writer) => {
                assert_eq!(writer.send(&json!([create_run()])).await, Ok(Ack::Ok));
                200
            }
            Err(status) => status,
        }
    }
}

/// The projects of a deployment, besides the default project.
const PROJECTS: [&str; 2] = ["speech", "vision"];

/// The folders of a backend and of a frontier.
fn empty_folders() -> [TempDir; 2] {
    [(); 2].map(|()| tempfile::tempdir().expect("the temporary directory is writable"))
}

/// The token that the first start has written.
fn operator_token(folder: &Path) -> String {
    let token = fs::read_to_string(folder.join("data/operator-token")).expect("a token");
    token.trim().to_owned()
}

/// Runs `matyan` as the operator, at a process with a store.
fn run_at(process: &Service, operator: &str, words: &[&str]) -> String {
    let output = Command::new(binary())
        .args(words)
        .env_clear()
        .env("MATYAN_BACKEND_URL", process.address("query"))
        .env("MATYAN_TOKEN", operator)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the output is UTF-8").trim().to_owned()
}

/// A process that asks its callers who they are.
fn closed(role: &'static str, folder: &Path) -> Service {
    process(role, folder).flag("access", "on")
}

fn process(role: &'static str, folder: &Path) -> Service {
    let data_dir = folder.join("data");
    Service::new(role, folder)
        .flag("log", "embedded:")
        .flag("blobs", "embedded:")
        .flag("data-dir", data_dir.to_str().expect("the path is text"))
}

#[tokio::test]
async fn rule_78_a_frontier_admits_whom_its_backend_knows() {
    let deployment = Deployment::start(SECRET).await;
    let ana = deployment.invite("ana", "ingest", "speech");
    let bo = deployment.invite("bo", "viewer", "speech");
    assert_eq!(deployment.send("speech", Some(&ana)).await, 200);
    // Other projects do not exist for it, whether they do or not.
    assert_eq!(deployment.send("vision", Some(&ana)).await, 404);
    assert_eq!(deployment.send("nobody", Some(&ana)).await, 404);
    assert_eq!(deployment.send("speech", Some(&bo)).await, 403);
    assert_eq!(deployment.send("speech", None).await, 401);
    let unknown = deployment.run(&["access", "token", "generate"]);
    assert_eq!(deployment.send("speech", Some(&unknown)).await, 401);
    assert_eq!(deployment.send("vision", Some(&deployment.operator)).await, 200);
    // An operator may do everything, but not in a project that does not exist.
    if let Ok(mut writer) = deployment.connect("nobody", Some(&deployment.operator)).await {
        assert_ne!(writer.send(&json!([create_run()])).await, Ok(Ack::Ok));
    }
    let logs = [deployment.backend.log(), deployment.frontier.log()].concat();
    for token in [&ana, &bo, &unknown, &deployment.operator] {
        assert!(!logs.contains(token.as_str()), "a log contains a token");
    }
}

#[tokio::test]
async fn rule_55_a_revoked_token_ends_at_a_frontier_of_its_own() {
    let deployment = Deployment::start(SECRET).await;
    let ana = deployment.invite("ana", "ingest", "speech");
    let mut writer = deployment.connect("speech", Some(&ana)).await.expect("it is admitted");
    assert_eq!(writer.send(&json!([create_run()])).await, Ok(Ack::Ok));
    let id = deployment.run(&["access", "token", "ls", "--project", "speech", "--json"]);
    let id: Value = serde_json::from_str(&id).expect("one token");
    deployment.run(&["access", "token", "revoke", id["id"].as_str().expect("text"), "--project", "speech"]);
    // A socket that is still admitted may end before it has sent anything.
    eventually("the revoked token is refused", async || {
        match deployment.connect("speech", Some(&ana)).await {
            Err(401) => Ok(()),
            other => Err(other.err()),
        }
    })
    .await;
    // The socket that was opened with the token ends as well.
    eventually("the open socket ends", async || {
        match writer.send(&json!([metric("loss", 0.5, None)])).await {
            Ok(Ack::Ok) => Err("data was acknowledged"),
            _ => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
async fn rule_56_without_its_backend_a_frontier_takes_the_data_of_known_callers() {
    let mut deployment = Deployment::start(SECRET).await;
    let ana = deployment.invite("ana", "ingest", "speech");
    let bo = deployment.invite("bo", "ingest", "speech");
    let mut writer = deployment.connect("speech", Some(&ana)).await.expect("it is admitted");
    assert_eq!(writer.send(&json!([create_run()])).await, Ok(Ack::Ok));
    deployment.backend.kill();
    // The frontier does not know `bo`, so it asks the caller to try again rather than to sign in.
    assert_eq!(deployment.send("speech", Some(&bo)).await, 503);
    assert_eq!(deployment.send("speech", None).await, 503);
    let mut acknowledged = 0;
    for _ in 0..3 {
        assert_eq!(writer.send(&json!([metric("loss", 0.5, None)])).await, Ok(Ack::Ok));
        acknowledged += 1;
        assert_eq!(deployment.send("speech", Some(&ana)).await, 200);
    }
    // Wait until the last answer has expired, so that only the outage keeps the caller admitted.
    eventually("the answer of the backend is too old", async || {
        let log = deployment.frontier.log();
        assert_eq!(deployment.send("speech", Some(&ana)).await, 200);
        // An open socket that is never read would miss the pings of the frontier. Answers leave out some points of a
        // metric with this many points, so the counted points have another metric.
        assert_eq!(writer.send(&json!([metric("waiting", 0.5, None)])).await, Ok(Ack::Ok));
        if log.matches("failed to look up a caller").count() > 2 { Ok(()) } else { Err(log.len()) }
    })
    .await;
    assert_eq!(writer.send(&json!([metric("loss", 0.25, None)])).await, Ok(Ack::Ok));
    acknowledged += 1;
    // Nothing acknowledged is lost, and nothing is applied twice.
    drop(writer);
    let process = deployment.apply().await;
    let expected: Vec<_> = (0..acknowledged).collect();
    eventually("every acknowledged point is applied", async || {
        let steps = deployment.steps(&process).await;
        if steps == expected { Ok(()) } else { Err(steps) }
    })
    .await;
}

#[tokio::test]
async fn rule_78_a_frontier_with_another_secret_learns_nothing() {
    let deployment = Deployment::start("of another deployment").await;
    let ana = deployment.invite("ana", "ingest", "speech");
    for token in [Some(ana.as_str()), Some(deployment.operator.as_str()), None] {
        assert_eq!(deployment.send("speech", token).await, 503);
    }
    let log = deployment.frontier.log();
    assert!(log.contains("same BLOB_URI_SECRET"), "{log}");
}

#[tokio::test]
async fn rule_78_a_frontier_for_everyone_refuses_a_backend_that_wants_tokens() {
    let deployment = Deployment::start(SECRET).await;
    // Not even a project that everyone may read makes the backend an open one.
    deployment.run(&["access", "grant", "anonymous", "viewer"]);
    let folder = tempfile::tempdir().expect("the temporary directory is writable");
    let mut open = process("frontier", folder.path())
        .flag("access", "off")
        .flag("backend-url", deployment.backend.address("query"));
    assert!(!open.run_to_exit().await.success());
    let refusals = |open: &Service| open.log().matches("asks its callers for a token").count();
    let of_start = refusals(&open);
    assert_ne!(of_start, 0, "{}", open.log());
    // Its start does not depend on a backend that answers, and it ends when the backend does.
    deployment.backend.suspend();
    open.start().await;
    assert_eq!(refusals(&open), of_start);
    deployment.backend.resume();
    assert!(!open.wait_for_exit().await.success());
    assert_ne!(refusals(&open), of_start, "{}", open.log());
}

#[tokio::test]
async fn a_frontier_for_everyone_serves_an_open_backend() {
    let folders = empty_folders();
    let [of_backend, of_frontier] = &folders;
    let mut backend = process("backend", of_backend.path()).flag("store", "embedded:").flag("access", "off");
    backend.start().await;
    let mut frontier = process("frontier", of_frontier.path())
        .flag("access", "off")
        .flag("backend-url", backend.address("query"));
    frontier.start().await;
    let mut writer =
        JsonWriter::connect(frontier.address("ingest"), "run").await.expect("everyone is admitted");
    assert_eq!(writer.send(&json!([create_run()])).await, Ok(Ack::Ok));
}
