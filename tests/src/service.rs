//! One service in its own process, which a test may stop, kill, pause and restart. Which
//! backends it uses is determined by its flags and variables.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use serde_json::Value;

use crate::{eventually, secrets_at_rest, server::binary};

pub struct Service {
    role: &'static str,
    folder: PathBuf,
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    process: Option<Child>,
    addresses: Value,
}

impl Service {
    /// A service that has not been started yet. Its files are stored in the folder.
    pub fn new(role: &'static str, folder: &Path) -> Self {
        Self {
            role,
            folder: folder.to_owned(),
            flags: Vec::new(),
            variables: Vec::new(),
            process: None,
            addresses: Value::Null,
        }
    }

    pub fn flag(mut self, flag: &str, value: impl AsRef<str>) -> Self {
        self.add_flag(flag, value);
        self
    }

    /// Adds a flag, effective from the next start.
    pub fn add_flag(&mut self, flag: &str, value: impl AsRef<str>) {
        self.flags.extend([format!("--{flag}"), value.as_ref().to_owned()]);
    }

    pub fn variable(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.set_variable(name, value);
        self
    }

    /// Adds an environment variable, effective from the next start.
    pub fn set_variable(&mut self, name: &str, value: impl AsRef<str>) {
        self.variables.push((name.to_owned(), value.as_ref().to_owned()));
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.folder.join(self.role).with_extension(extension)
    }

    /// The data directory, if a flag names one.
    fn data_dir(&self) -> Option<&Path> {
        let flag = self.flags.iter().position(|flag| flag == "--data-dir")?;
        self.flags.get(flag + 1).map(Path::new)
    }

    /// Everything the service has written to its standard streams.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    fn log_file(&self) -> File {
        OpenOptions::new().create(true).append(true).open(self.file("log")).expect("the log file is writable")
    }

    fn spawn(&mut self) {
        let mut command = Command::new(binary());
        command.arg(self.role).args(&self.flags).arg("--ready-file").arg(self.file("ready"));
        command.args(["--host", "127.0.0.1"]);
        if self.role.ends_with("-worker") {
            command.arg("--metrics-port").arg(free_port().to_string());
        } else {
            command.args(["--port", "0"]);
        }
        if self.role == "up" {
            command.args(["--frontier-port", "0"]);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(self.log_file()).stderr(self.log_file());
        self.process = Some(command.spawn().expect("the binary starts"));
    }

    /// Starts on new ports, and waits until the service is ready.
    pub async fn start(&mut self) {
        let ready = self.file("ready");
        // The file of the previous start has outdated addresses.
        if ready.exists() {
            std::fs::remove_file(&ready).expect("the ready file can be removed");
        }
        self.spawn();
        self.addresses = eventually(&format!("{} is ready", self.role), async || {
            self.check_alive();
            let text = std::fs::read_to_string(&ready).map_err(|error| error.to_string())?;
            serde_json::from_str(&text).map_err(|error| error.to_string())
        })
        .await;
    }

    /// Starts a service that is expected to exit, and waits until it has.
    pub async fn run_to_exit(&mut self) -> ExitStatus {
        self.spawn();
        self.wait_for_exit().await
    }

    /// True if the service has exited.
    pub fn has_ended(&mut self) -> bool {
        let process = self.process.as_mut().expect("the service was started");
        process.try_wait().expect("a child can be polled").is_some()
    }

    /// Waits until the service has exited. If it does not, it is killed with the test,
    /// because it is still a child process.
    pub async fn wait_for_exit(&mut self) -> ExitStatus {
        let status = eventually(&format!("{} exits", self.role), async || {
            let process = self.process.as_mut().expect("the service runs");
            process.try_wait().expect("a child can be polled").ok_or("still running")
        })
        .await;
        self.process = None;
        status
    }

    /// Panics with the service's log if the service has exited.
    pub fn check_alive(&mut self) {
        let process = self.process.as_mut().expect("the service was started");
        if let Some(status) = process.try_wait().expect("a child can be polled") {
            panic!("{} exited with {status}:\n{}", self.role, self.log());
        }
    }

    /// The address of a side: `query`, `ingest` or `metrics`.
    pub fn address(&self, side: &str) -> &str {
        self.addresses[side].as_str().unwrap_or_else(|| panic!("{} has no address `{side}`", self.role))
    }

    pub fn addresses(&self) -> &Value {
        &self.addresses
    }

    /// The value of a metric, summed over its labels. A missing metric is an error, not
    /// zero.
    pub async fn metric(&self, side: &str, name: &str) -> Result<f64, String> {
        let answer = reqwest::get(format!("{}/metrics/", self.address(side))).await;
        let text =
            answer.map_err(|error| error.to_string())?.text().await.map_err(|error| error.to_string())?;
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let mut values = text
            .lines()
            .filter(of_name)
            .map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()))
            .peekable();
        if values.peek().is_none() {
            return Err(format!("metric {name} does not exist"));
        }
        values.sum::<Option<f64>>().ok_or_else(|| format!("{name} is not a number"))
    }

    fn signal(&self, name: &str) {
        let pid = self.process.as_ref().expect("the service runs").id().to_string();
        let sent =
            Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill is a command");
        assert!(sent.success(), "failed to send SIG{name}");
    }

    /// Suspends the service: it keeps its connections, but does nothing until it is
    /// resumed.
    pub fn suspend(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Kills the service with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("a child can be killed");
            process.wait().expect("a killed child can be waited for");
        }
    }

    /// Sends SIGTERM, and waits for the exit.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_for_exit().await
    }
}

/// A free port. A worker needs an explicit port, because its port 0 means none.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("the listener is bound").port()
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("log of {}:\n{}", self.role, self.log());
        } else if secrets_at_rest::is_closed(&self.flags) {
            secrets_at_rest::assert_none(&self.file("log"), self.data_dir(), &[]);
        }
    }
}
