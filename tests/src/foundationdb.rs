//! A real FoundationDB of one process, on loopback and a free port. It is the child of a shell that waits for its own input to end,
//! so that it goes however this process ends. `MATYAN_FDBSERVER` and `MATYAN_FDBCLI` name its programs; `make fdb` looks for them,
//! and for a `matyan` that is built with the feature.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::eventually_blocking;

/// Starts the rest of its arguments, and kills that process when its own input ends.
const KEEPER: &str = r#""$@" >"$0" 2>&1 </dev/null & echo $!; read -r _; kill -9 $! 2>/dev/null; wait"#;

/// Why no cluster can be started here; `REQUIRE=fdb` makes that a failure.
pub fn lacking() -> Option<String> {
    let reason = ["MATYAN_FDBSERVER", "MATYAN_FDBCLI"].into_iter().find_map(|name| program(name).err())?;
    assert!(!is_required(), "REQUIRE=fdb, and there is no FoundationDB: {reason}");
    Some(reason)
}

#[expect(clippy::disallowed_methods, reason = "what a test needs is told by its environment alone")]
pub fn is_required() -> bool {
    std::env::var("REQUIRE").is_ok_and(|required| required.split(',').any(|name| name == "fdb"))
}

#[expect(clippy::disallowed_methods, reason = "what a test needs is told by its environment alone")]
fn program(variable: &str) -> Result<PathBuf, String> {
    let named = std::env::var(variable).map(PathBuf::from);
    let program = named.map_err(|_| format!("{variable} is not set; see `make fdb`"))?;
    if program.is_file() { Ok(program) } else { Err(format!("{} is missing", program.display())) }
}

pub struct Cluster {
    folder: TempDir,
    address: String,
    /// None once it was killed.
    keeper: Option<Child>,
}

impl Cluster {
    /// Blocks until it takes transactions.
    pub fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = free.local_addr().expect("it listens").to_string();
        drop(free);
        let folder = TempDir::new().expect("a directory is made");
        let mut cluster = Self { folder, address, keeper: None };
        std::fs::write(cluster.file(), format!("matyan:tests@{}", cluster.address))
            .expect("the cluster file is written");
        cluster.restart();
        eventually_blocking("the database is made", || {
            let made = cluster.ask("configure new single ssd");
            match cluster.ask("status minimal") {
                Ok(said) if said.contains("is available") => Ok(()),
                said => Err((made, said)),
            }
        });
        cluster
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("fdb.cluster")
    }

    /// Starts what was killed, with what it had on disk.
    pub fn restart(&mut self) {
        assert!(self.keeper.is_none(), "it was killed before");
        let folder = self.folder.path();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER])
            .arg(folder.join("log"))
            .arg(program("MATYAN_FDBSERVER").expect("it was looked for"))
            .args(["--public-address", &self.address, "--listen-address", "public"])
            .arg("--cluster-file")
            .arg(self.file())
            .arg("--datadir")
            .arg(folder.join("data"))
            .arg("--logdir")
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the keeper of the server starts");
        let mut told = String::new();
        let out = keeper.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut told).expect("the keeper tells that it runs");
        self.keeper = Some(keeper);
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            keeper.wait().expect("the keeper ends");
        }
    }

    fn ask(&self, command: &str) -> Result<String, String> {
        let mut cli = Command::new(program("MATYAN_FDBCLI").expect("it was looked for"));
        let asked = cli.arg("-C").arg(self.file()).args(["--timeout", "20", "--exec", command]);
        let told = asked.output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&told.stdout).into_owned();
        if told.status.success() { Ok(said) } else { Err(said) }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}
