//! A `matyan up` process on free ports with its own directory, which a test may stop, kill and
//! restart.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{cores, eventually, secrets_at_rest};

pub struct Server {
    directory: Directory,
    /// Inside the directory, unless the test provides one.
    data_dir: PathBuf,
    flags: Vec<String>,
    /// A command that executes the server, which is given to it as arguments. Empty if there is none.
    wrapper: Vec<String>,
    /// The only cores that the process may use. Empty: all of them.
    cores: Vec<usize>,
    process: Option<Child>,
    /// `http://127.0.0.1:port` of the query side.
    pub query: String,
    /// The same of the ingest side.
    pub ingest: String,
}

/// A temporary directory that is kept when its test fails, so that the server's log can be
/// read.
struct Directory(Option<TempDir>);

impl Drop for Directory {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(directory) = self.0.take()
        {
            eprintln!("the server's files are kept in {}", directory.keep().display());
        }
    }
}

/// Path of the binary under test: `MATYAN_BIN`, or the binary that cargo built next to this test.
pub fn binary() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "the harness is a separate program with one setting")]
    let named = std::env::var("MATYAN_BIN");
    let path = named.map_or_else(|_| next_to_this_test(), PathBuf::from);
    assert!(path.exists(), "{} is missing: build it with `cargo build -p matyan`", path.display());
    path
}

fn next_to_this_test() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let directory = test.parent().expect("an executable is in a directory");
    // Test programs are in `deps`, one level below the binary.
    let profile = if directory.ends_with("deps") { directory.parent() } else { Some(directory) };
    profile.expect("cargo's directories are nested").join("matyan")
}

impl Server {
    /// Starts with an empty data directory.
    pub async fn up() -> Self {
        Self::up_with(&[]).await
    }

    pub async fn up_with(flags: &[&str]) -> Self {
        Self::new(flags, None, &[]).await
    }

    /// Starts with variables of the environment.
    pub async fn up_with_variables(flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let variables: Vec<String> =
            variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut wrapper: Vec<&str> = variables.iter().map(String::as_str).collect();
        if !wrapper.is_empty() {
            wrapper.insert(0, "env");
        }
        Self::new(flags, None, &wrapper).await
    }

    /// Starts with the given data directory.
    pub async fn up_on(data_dir: &Path) -> Self {
        Self::new(&[], Some(data_dir), &[]).await
    }

    /// Starts with a low soft limit on open files, which the server may raise.
    pub async fn up_with_few_files(most: &str) -> Self {
        Self::new(&[], None, &["sh", "-c", "ulimit -S -n \"$0\" && exec \"$@\"", most]).await
    }

    /// Starts with a limit on open files that the server cannot raise.
    pub async fn up_with_file_limit(most: &str) -> Self {
        Self::new(&[], None, &["sh", "-c", "ulimit -n \"$0\" && exec \"$@\"", most]).await
    }

    /// Starts with the given data directory, executed by another command. The process of the command must
    /// become the process of the server.
    pub async fn up_inside(wrapper: &[&str], data_dir: &Path) -> Self {
        Self::new(&[], Some(data_dir), wrapper).await
    }

    /// Starts on these cores only, with the given data directory if there is one.
    pub async fn up_on_cores(cores: &[usize], data_dir: Option<&Path>) -> Self {
        let mut server = Self::prepared(&[], data_dir, &[]);
        server.cores = cores.to_vec();
        server.start().await;
        server
    }

    async fn new(flags: &[&str], data_dir: Option<&Path>, wrapper: &[&str]) -> Self {
        let mut server = Self::prepared(flags, data_dir, wrapper);
        server.start().await;
        server
    }

    /// A server that has not been started yet.
    fn prepared(flags: &[&str], data_dir: Option<&Path>, wrapper: &[&str]) -> Self {
        let directory = TempDir::new().expect("the temporary directory is writable");
        let data_dir = data_dir.map_or_else(|| directory.path().join("data"), Path::to_owned);
        let flags = flags.iter().map(ToString::to_string).collect();
        let directory = Directory(Some(directory));
        Self {
            directory,
            data_dir,
            flags,
            wrapper: wrapper.iter().map(ToString::to_string).collect(),
            cores: Vec::new(),
            process: None,
            query: String::new(),
            ingest: String::new(),
        }
    }

    fn path(&self) -> &Path {
        self.directory.0.as_ref().expect("taken only on drop").path()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    fn log_path(&self) -> PathBuf {
        self.path().join("server.log")
    }

    /// Everything the server has written to its standard streams.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }

    /// A value in bytes from the kernel's status of the process: `VmRSS` is the current
    /// memory, `VmHWM` its peak.
    pub fn memory(&self, figure: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("the process runs");
        let line = status.lines().find(|line| line.starts_with(figure)).expect("the status has this value");
        let kibibytes = line.split_whitespace().nth(1).and_then(|size| size.parse::<u64>().ok());
        kibibytes.expect("a number") << 10
    }

    /// The files and sockets that the process has open, as the kernel names them.
    pub fn open_files(&self) -> Vec<PathBuf> {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the process runs");
        // A file may be closed before its name is read.
        open.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok()).collect()
    }

    /// The time that processors have spent on the process, to ten milliseconds.
    pub fn processor_time(&self) -> Duration {
        /// Ticks per second in this file, on every architecture.
        const TICKS: u64 = 100;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the process runs");
        // The second field is the name of the program, which may contain spaces.
        let (_, fields) = stat.rsplit_once(") ").expect("the name is in parentheses");
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks = |field: usize| fields[field].parse::<u64>().expect("a number of ticks");
        Duration::from_millis((ticks(11) + ticks(12)) * 1_000 / TICKS)
    }

    fn log_file(&self) -> File {
        OpenOptions::new().create(true).append(true).open(self.log_path()).expect("the log file is writable")
    }

    pub fn command(&self) -> Command {
        let mut command = match &*self.wrapper {
            [] => Command::new(binary()),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary());
                command
            }
        };
        command
            .args(["up", "--port", "0", "--frontier-port", "0", "--data-dir"])
            .arg(self.data_dir())
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(self.log_file())
            .stderr(self.log_file());
        command
    }

    /// Starts on the same data directory, on new ports, and waits until the server is
    /// ready.
    pub async fn start(&mut self) {
        let ready = self.path().join("ready.json");
        // The file of the previous start has outdated addresses.
        if ready.exists() {
            std::fs::remove_file(&ready).expect("the ready file can be removed");
        }
        let mut command = self.command();
        command.arg("--ready-file").arg(&ready);
        self.process = Some(cores::spawn(&mut command, &self.cores).expect("the binary starts"));
        let addresses = eventually("the server announces its addresses", async || {
            self.check_alive();
            let text = std::fs::read_to_string(&ready).map_err(|error| error.to_string())?;
            serde_json::from_str::<Value>(&text).map_err(|error| error.to_string())
        })
        .await;
        let address = |name: &str| addresses[name].as_str().expect("an address is text").to_owned();
        self.query = address("query");
        self.ingest = address("ingest");
    }

    /// Panics with the server's log if the server has exited.
    pub fn check_alive(&mut self) {
        let process = self.process.as_mut().expect("the server was started");
        if let Some(status) = process.try_wait().expect("a child can be polled") {
            panic!("the server exited with {status}:\n{}", self.log());
        }
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("a child can be killed");
            process.wait().expect("a killed child can be waited for");
        }
    }

    /// Sends SIGTERM, and waits for the exit.
    pub async fn terminate(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("the server runs");
        let pid = process.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill is a command");
        assert!(sent.success(), "failed to send SIGTERM");
        tokio::task::spawn_blocking(move || process.wait().expect("a child can be waited for"))
            .await
            .expect("waiting does not panic")
    }

    /// Sends a GET request to the query side, which must return a success status and JSON.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        let answer =
            reqwest::get(format!("{}{path}", self.query)).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{status}: {text}"));
        }
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let is_searched = secrets_at_rest::is_closed(&self.flags) && !std::thread::panicking();
        let has_metrics = is_searched && self.process.is_some();
        let metrics =
            has_metrics.then(|| secrets_at_rest::read_metrics(&self.query, &self.data_dir)).flatten();
        self.kill();
        if is_searched {
            secrets_at_rest::assert_none(
                &self.log_path(),
                Some(&self.data_dir),
                &metrics.unwrap_or_default(),
            );
        }
    }
}
