//! A FoundationDB cluster of one process. `MATYAN_FDBSERVER` and `MATYAN_FDBCLI` name its
//! programs; `make fdb` finds them, and builds everything that uses them with the feature
//! `fdb`.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    process::{Process, free_port},
    requirements::{self, installed_path},
};

/// Name in `REQUIRE`.
pub const NAME: &str = "fdb";

const SERVER: &str = "MATYAN_FDBSERVER";
const CLI: &str = "MATYAN_FDBCLI";

/// The reason no cluster can be started here, if any; a failure with `REQUIRE=fdb`.
pub fn unavailable_reason() -> Option<String> {
    let installed = [SERVER, CLI].into_iter().try_for_each(|name| program(name).map(drop));
    requirements::unavailable_reason(NAME, installed)
}

fn program(variable: &str) -> Result<PathBuf, String> {
    installed_path(variable, "fdb")
}

/// Storage engine of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Memory,
    Disk,
}

pub struct Cluster {
    process: Process,
    address: String,
}

impl Cluster {
    /// Starts a cluster. Blocks until it accepts transactions.
    pub fn start(engine: Engine) -> Self {
        let mut cluster = Self { process: Process::new(), address: format!("127.0.0.1:{}", free_port()) };
        fs::write(cluster.file(), format!("matyan:tests@{}", cluster.address))
            .expect("the cluster file is written");
        cluster.restart();
        let engine = match engine {
            Engine::Memory => "memory",
            Engine::Disk => "ssd",
        };
        let answers = cluster.process.await_answer(|| {
            // Configuring an existing database fails, which is expected when this is
            // repeated.
            let made = cluster.probe(&format!("configure new single {engine}"));
            match cluster.probe("status minimal") {
                Ok(stdout) if stdout.contains("is available") => Ok(()),
                stdout => Err(format!("{made:?}, {stdout:?}")),
            }
        });
        assert!(answers, "FoundationDB has exited");
        cluster
    }

    pub fn file(&self) -> PathBuf {
        self.process.directory().join("fdb.cluster")
    }

    /// Restarts the killed server, with the data that it had on disk.
    pub fn restart(&mut self) {
        let directory = self.process.directory();
        let mut command = Command::new(program(SERVER).unwrap_or_else(|reason| panic!("{reason}")));
        command
            .args(["--public-address", &self.address, "--listen-address", "public", "--memory", "4GiB"])
            .arg("--cluster-file")
            .arg(self.file())
            .arg("--datadir")
            .arg(directory.join("data"))
            .arg("--logdir")
            .arg(directory);
        self.process.start(&command);
    }

    /// Suspends the server: it keeps its connections, but does nothing.
    pub fn suspend(&self) {
        self.process.suspend();
    }

    pub fn resume(&self) {
        self.process.resume();
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    fn probe(&self, command: &str) -> Result<String, String> {
        let mut cli = Command::new(program(CLI)?);
        let command = cli.arg("-C").arg(self.file()).args(["--timeout", "20", "--exec", command]);
        let output = command.output().map_err(|error| error.to_string())?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(stdout) } else { Err(stdout) }
    }
}
