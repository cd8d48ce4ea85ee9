//! A FoundationDB cluster of one process. `MATYAN_FDBSERVER` and `MATYAN_FDBCLI` name its
//! programs; `make fdb` finds them, and builds everything that uses them with the feature
//! `fdb`.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    need::{self, installed},
    process::{Process, free_port},
};

/// Name in `REQUIRE`.
pub const NAME: &str = "fdb";

const SERVER: &str = "MATYAN_FDBSERVER";
const CLI: &str = "MATYAN_FDBCLI";

/// The reason why no cluster can be started here, if any; a failure with `REQUIRE=fdb`.
pub fn lacking() -> Option<String> {
    let installed = [SERVER, CLI].into_iter().try_for_each(|name| program(name).map(drop));
    need::lacking(NAME, installed)
}

fn program(variable: &str) -> Result<PathBuf, String> {
    installed(variable, "fdb")
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
            let made = cluster.ask(&format!("configure new single {engine}"));
            match cluster.ask("status minimal") {
                Ok(said) if said.contains("is available") => Ok(()),
                said => Err(format!("{made:?}, {said:?}")),
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
    pub fn stall(&self) {
        self.process.stall();
    }

    pub fn go_on(&self) {
        self.process.go_on();
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    fn ask(&self, command: &str) -> Result<String, String> {
        let mut cli = Command::new(program(CLI)?);
        let asked = cli.arg("-C").arg(self.file()).args(["--timeout", "20", "--exec", command]);
        let told = asked.output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&told.stdout).into_owned();
        if told.status.success() { Ok(said) } else { Err(said) }
    }
}
