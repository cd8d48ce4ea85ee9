//! The binary as an operator sees it: startup, refusal to start, and shutdown. Whole-system tests
//! cover the time between them.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// Limit that keeps a failing test from hanging; no passing test waits for it.
const GUARD: Duration = Duration::from_secs(60);

fn matyan(arguments: &[&str], folder: &Path) -> Command {
    const LIBRARIES: &str = "LD_LIBRARY_PATH";
    let mut command = Command::new(env!("CARGO_BIN_EXE_matyan"));
    // A clean environment, except for the library path that the binary may need to start.
    command.args(arguments).env_clear().envs(std::env::var_os(LIBRARIES).map(|path| (LIBRARIES, path)));
    command.current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn refusal(command: &mut Command, code: i32) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the binary starts");
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(code), "{stderr}");
    assert!(stdout.is_empty(), "nothing is announced when startup is refused");
    stderr
}

#[expect(clippy::disallowed_methods, reason = "the state of another process can only be polled")]
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < GUARD, "timed out waiting: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A server on free ports, with `data` in its directory as data directory. Killed when dropped
/// if it still runs.
struct Running {
    process: Child,
    folder: TempDir,
    addresses: Value,
}

const UP: &[&str] =
    &["up", "--port", "0", "--frontier-port", "0", "--data-dir", "data", "--ready-file", "ready"];

impl Running {
    fn up(variables: &[(&str, &str)]) -> Self {
        Self::start(UP, variables)
    }

    fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = matyan(arguments, folder.path()).envs(variables.iter().copied()).spawn().unwrap();
        let mut running = Self { process, folder, addresses: Value::Null };
        let path = running.folder.path().join("ready");
        running.addresses = eventually("the server is ready", || {
            assert_eq!(
                running.process.try_wait().unwrap(),
                None,
                "the server exited: {}",
                running.output().1
            );
            serde_json::from_str(&fs::read_to_string(&path).ok()?).ok()
        });
        running
    }

    fn address(&self, side: &str) -> &str {
        self.addresses[side].as_str().unwrap().strip_prefix("http://").unwrap()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn code(&mut self) -> Option<i32> {
        eventually("the server exits", || self.process.try_wait().unwrap()).code()
    }

    /// Standard output and standard error of a process that has exited.
    fn output(&mut self) -> (String, String) {
        let mut output = String::new();
        let mut error = String::new();
        self.process.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        self.process.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        (output, error)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
        }
    }
}

/// Starts an upload that declares more bytes than it sends, so that its request never ends.
fn endless_request(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "POST /api/v1/rest/artifacts/presign HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    write!(stream, "{head}content-length: 100\r\nexpect: 100-continue\r\n\r\n").unwrap();
    // The request for the body shows that the server is processing the call.
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    stream
}

#[test]
fn it_prints_its_addresses_and_exits_on_a_signal() {
    for signal in ["-TERM", "-INT"] {
        let mut running = Running::up(&[]);
        assert_eq!(running.addresses["pid"], running.process.id());
        for side in ["query", "ingest"] {
            TcpStream::connect(running.address(side)).unwrap();
        }
        running.signal(signal);
        assert_eq!(running.code(), Some(0));
        let (banner, _) = running.output();
        for side in ["query", "ingest"] {
            assert!(banner.contains(running.address(side)), "{banner}");
        }
        let data = running.folder.path().join("data").canonicalize().unwrap();
        assert!(banner.contains(data.to_str().unwrap()), "{banner}");
    }
}

#[test]
fn it_restarts_on_its_data_after_a_kill_and_after_a_clean_exit() {
    let mut running = Running::up(&[]);
    running.process.kill().unwrap();
    running.process.wait().unwrap();
    for _ in 0..2 {
        fs::remove_file(running.folder.path().join("ready")).unwrap();
        running.process = matyan(UP, running.folder.path()).spawn().unwrap();
        let ready = running.folder.path().join("ready");
        eventually("the server is ready again", || ready.exists().then_some(()));
        running.signal("-TERM");
        assert_eq!(running.code(), Some(0));
    }
}

#[test]
fn a_second_process_on_the_same_data_directory_is_refused() {
    let running = Running::up(&[]);
    let stderr = refusal(&mut matyan(UP, running.folder.path()), 1);
    assert!(stderr.contains(&format!("in use by process {}", running.process.id())), "{stderr}");
    assert!(stderr.contains("--data-dir"), "{stderr}");
}

#[test]
fn a_port_in_use_is_reported_with_its_flag() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let arguments = ["up", "--port", "0", "--frontier-port", &address.port().to_string()];
    let stderr = refusal(&mut matyan(&arguments, folder.path()), 1);
    assert!(stderr.contains(&address.to_string()) && stderr.contains("--frontier-port"), "{stderr}");
}

#[test]
fn all_invalid_settings_are_reported_before_anything_is_created() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = matyan(&["up", "--port", "x"], folder.path());
    let stderr = refusal(command.envs([("LOG_LEVEL", "loud"), ("S3_SECRET_KEY", "hunter2")]), 2);
    assert!(
        stderr.contains("PORT: ") && stderr.contains("LOG_LEVEL: ") && !stderr.contains("hunter2"),
        "{stderr}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_request_that_does_not_end_is_closed_in_time() {
    let mut running = Running::up(&[("SHUTDOWN_FLUSH_TIMEOUT", "0.1")]);
    let _stream = endless_request(running.address("ingest"));
    running.signal("-TERM");
    assert_eq!(running.code(), Some(0));
    assert!(running.output().1.contains("timed out waiting for connections to end"));
}

#[test]
fn a_second_signal_exits_immediately() {
    let mut running = Running::up(&[("SHUTDOWN_FLUSH_TIMEOUT", "3600")]);
    let _stream = endless_request(running.address("ingest"));
    running.signal("-TERM");
    // The listeners are closed: the shutdown that the first signal started is under way.
    let address = running.address("query").to_owned();
    eventually("the server stops accepting", || TcpStream::connect(&address).is_err().then_some(()));
    running.signal("-INT");
    assert_eq!(running.code(), Some(128 + 2));
}

#[test]
fn an_unused_setting_is_reported_once() {
    let mut running = Running::up(&[("INGEST_BATCH_SIZE", "200"), ("LOG_LEVEL", "warn")]);
    running.signal("-TERM");
    assert_eq!(running.code(), Some(0));
    let (_, log) = running.output();
    assert_eq!(log.matches("INGEST_BATCH_SIZE").count(), 1, "{log}");
    assert_eq!(log.matches("LOG_LEVEL").count(), 0, "{log}");
}

#[test]
fn logs_can_be_json() {
    let mut running = Running::up(&[("LOG_FORMAT", "json")]);
    running.signal("-TERM");
    assert_eq!(running.code(), Some(0));
    let (_, log) = running.output();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        lines.iter().any(|line| line["message"] == "ready" && line["query"] == running.address("query")),
        "{log}"
    );
}
