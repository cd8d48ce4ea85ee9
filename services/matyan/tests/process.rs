//! The binary as an operator meets it: how it starts, how it refuses, how it ends.
//! What it does in between is tested from the whole system's side.
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

/// Keeps a broken run from hanging; no test waits for it to pass.
const GUARD: Duration = Duration::from_secs(60);

fn matyan(arguments: &[&str], folder: &Path) -> Command {
    const LIBRARIES: &str = "LD_LIBRARY_PATH";
    let mut command = Command::new(env!("CARGO_BIN_EXE_matyan"));
    // Nothing of the machine it runs on, but for what it takes to be started.
    command.args(arguments).env_clear().envs(std::env::var_os(LIBRARIES).map(|path| (LIBRARIES, path)));
    command.current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn refused(command: &mut Command, code: i32) -> String {
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(code), "{stderr}");
    assert!(stdout.is_empty(), "what is refused announces nothing");
    stderr
}

#[expect(clippy::disallowed_methods, reason = "a process of its own can only be asked again")]
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < GUARD, "never happened: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// One that runs on free ports, in `data` of its folder; killed at the end if it still runs.
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
        running.addresses = eventually("it is ready", || {
            assert_eq!(running.process.try_wait().unwrap(), None, "it ended: {}", running.said().1);
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
        eventually("it ends", || self.process.try_wait().unwrap()).code()
    }

    /// Standard output and standard error of one that has ended.
    fn said(&mut self) -> (String, String) {
        let (mut output, mut error) = (String::new(), String::new());
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

/// An upload that announces more than it sends, so that its request never ends.
fn endless_request(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let head =
        "POST /api/v1/rest/artifacts/presign HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    write!(stream, "{head}content-length: 100\r\nexpect: 100-continue\r\n\r\n").unwrap();
    // That it is asked for the body shows that the request is under way.
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    stream
}

#[test]
fn it_tells_where_it_listens_and_ends_on_a_signal() {
    for signal in ["-TERM", "-INT"] {
        let mut running = Running::up(&[]);
        assert_eq!(running.addresses["pid"], running.process.id());
        for side in ["query", "ingest"] {
            TcpStream::connect(running.address(side)).unwrap();
        }
        running.signal(signal);
        assert_eq!(running.code(), Some(0));
        let (banner, _) = running.said();
        for side in ["query", "ingest"] {
            assert!(banner.contains(running.address(side)), "{banner}");
        }
        let data = running.folder.path().join("data").canonicalize().unwrap();
        assert!(banner.contains(data.to_str().unwrap()), "{banner}");
    }
}

#[test]
fn it_starts_again_on_what_it_left_also_after_a_kill() {
    let mut running = Running::up(&[]);
    running.process.kill().unwrap();
    running.process.wait().unwrap();
    for _ in 0..2 {
        fs::remove_file(running.folder.path().join("ready")).unwrap();
        running.process = matyan(UP, running.folder.path()).spawn().unwrap();
        let ready = running.folder.path().join("ready");
        eventually("it is ready again", || ready.exists().then_some(()));
        running.signal("-TERM");
        assert_eq!(running.code(), Some(0));
    }
}

#[test]
fn a_second_process_on_a_data_directory_is_refused() {
    let running = Running::up(&[]);
    let stderr = refused(&mut matyan(UP, running.folder.path()), 1);
    assert!(stderr.contains(&format!("in use by process {}", running.process.id())), "{stderr}");
    assert!(stderr.contains("--data-dir"), "{stderr}");
}

#[test]
fn a_taken_port_is_named_with_its_flag() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let arguments = ["up", "--port", "0", "--frontier-port", &address.port().to_string()];
    let stderr = refused(&mut matyan(&arguments, folder.path()), 1);
    assert!(stderr.contains(&address.to_string()) && stderr.contains("--frontier-port"), "{stderr}");
}

#[test]
fn all_wrong_settings_are_told_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = matyan(&["up", "--port", "x"], folder.path());
    let stderr = refused(command.envs([("LOG_LEVEL", "loud"), ("S3_SECRET_KEY", "hunter2")]), 2);
    assert!(
        stderr.contains("PORT: ") && stderr.contains("LOG_LEVEL: ") && !stderr.contains("hunter2"),
        "{stderr}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_request_that_does_not_end_is_cut_off_in_time() {
    let mut running = Running::up(&[("SHUTDOWN_FLUSH_TIMEOUT", "0.1")]);
    let _stream = endless_request(running.address("ingest"));
    running.signal("-TERM");
    assert_eq!(running.code(), Some(0));
    assert!(running.said().1.contains("are cut off"));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut running = Running::up(&[("SHUTDOWN_FLUSH_TIMEOUT", "3600")]);
    let _stream = endless_request(running.address("ingest"));
    running.signal("-TERM");
    // No more connections are taken: the first signal is being served.
    let address = running.address("query").to_owned();
    eventually("it stops accepting", || TcpStream::connect(&address).is_err().then_some(()));
    running.signal("-INT");
    assert_eq!(running.code(), Some(128 + 2));
}

#[test]
fn a_setting_that_nothing_reads_any_more_is_named_once() {
    let mut running = Running::up(&[("INGEST_BATCH_SIZE", "200"), ("LOG_LEVEL", "warn")]);
    running.signal("-TERM");
    assert_eq!(running.code(), Some(0));
    let (_, log) = running.said();
    assert_eq!(log.matches("INGEST_BATCH_SIZE").count(), 1, "{log}");
    assert_eq!(log.matches("LOG_LEVEL").count(), 0, "{log}");
}

#[test]
fn logs_can_be_json() {
    let mut running = Running::up(&[("LOG_FORMAT", "json")]);
    running.signal("-TERM");
    assert_eq!(running.code(), Some(0));
    let (_, log) = running.said();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        lines.iter().any(|line| line["message"] == "ready" && line["query"] == running.address("query")),
        "{log}"
    );
}
