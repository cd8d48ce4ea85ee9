//! A FoundationDB of one process. `MATYAN_FDBSERVER` and `MATYAN_FDBCLI` name its programs; `make fdb` looks for them, and
//! builds what uses them with the feature `fdb`.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    need::{self, installed},
    process::{Process, free_port},
};

/// As `REQUIRE` names it.
pub const NAME: &str = "fdb";

const SERVER: &str = "MATYAN_FDBSERVER";
const CLI: &str = "MATYAN_FDBCLI";

/// Why no cluster can be started here; `REQUIRE=fdb` makes that a failure.
pub fn lacking() -> Option<String> {
    let installed = [SERVER, CLI].into_iter().try_for_each(|name| program(name).map(drop));
    need::lacking(NAME, installed)
}

fn program(variable: &str) -> Result<PathBuf, String> {
    installed(variable, "fdb")
}

/// How it keeps its data.
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
    /// Blocks until it takes transactions.
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
            // One that was made is not made again, and says so.
            let made = cluster.ask(&format!("configure new single {engine}"));
            match cluster.ask("status minimal") {
                Ok(said) if said.contains("is available") => Ok(()),
                said => Err(format!("{made:?}, {said:?}")),
            }
        });
        assert!(answers, "FoundationDB has ended by itself");
        cluster
    }

    pub fn file(&self) -> PathBuf {
        self.process.directory().join("fdb.cluster")
    }

    /// Starts what was killed, with what it had on disk.
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

    /// It keeps its connections, and does nothing.
    pub fn stall(&self) {
        self.process.stall();
    }

    pub fn go_on(&self) {
        self.process.go_on();
    }

    /// SIGKILL.
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
