//! A FoundationDB server of the tests' own, of one process on a free port of loopback, with its data in a temporary folder.
//!
//! The programs `fdbserver` and `fdbcli` are named by MATYAN_FDBSERVER and MATYAN_FDBCLI. The server is the child of a shell
//! that waits for its own input to end, so that it goes even when this process is killed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use super::fdb_required;
use crate::Prefix;
use crate::fdb::{FdbStore, Network, Retries, Settings};

/// Starts the rest of its arguments, tells their process id, and kills it when its own input ends.
const KEEPER: &str = r#""$@" >"$0" 2>&1 </dev/null & echo $!; read -r _; kill -9 $! 2>/dev/null; wait"#;

/// Why there is no server. None if there is one, or if it is required: then whatever needs it fails.
pub fn absent() -> Option<String> {
    if fdb_required() {
        return None;
    }
    ["MATYAN_FDBSERVER", "MATYAN_FDBCLI"].into_iter().find_map(|variable| program(variable).err())
}

fn program(variable: &str) -> Result<PathBuf, String> {
    let path = environment(variable)
        .ok_or(format!("no {variable}: `make fdb` looks for FoundationDB and names it"))?;
    let path = PathBuf::from(path);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("{variable} names {}, which is not there", path.display()))
    }
}

fn installed(variable: &str) -> PathBuf {
    program(variable).unwrap_or_else(|reason| panic!("no server: {reason}"))
}

#[expect(clippy::disallowed_methods, reason = "only tests call it, and a test is its own composition root")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A cluster of one process. It ends, and its data goes, when this is dropped.
pub struct Server {
    directory: TempDir,
    port: u16,
    keeper: Option<Child>,
    pid: u32,
}

impl Server {
    /// Starts a new cluster, with an engine of FoundationDB: `memory` or `ssd`.
    pub fn start(engine: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let directory = TempDir::new().expect("a directory is made");
        fs::write(directory.path().join("fdb.cluster"), format!("matyan:tests@127.0.0.1:{port}"))
            .expect("the cluster file is written");
        let mut server = Self { directory, port, keeper: None, pid: 0 };
        server.run();
        server.configure(engine);
        server
    }

    /// Starts the process; it goes on from the data that it left.
    pub fn run(&mut self) {
        let folder = self.directory.path();
        let address = format!("127.0.0.1:{}", self.port);
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER])
            .arg(folder.join("log"))
            .arg(installed("MATYAN_FDBSERVER"))
            .args(["--public-address", &address, "--listen-address", "public", "--memory", "4GiB"])
            .arg("--cluster-file")
            .arg(self.cluster_file())
            .arg("--datadir")
            .arg(folder.join("data"))
            .arg("--logdir")
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the keeper of the server starts");
        self.pid = first_line(&mut keeper).parse().expect("the keeper tells the process");
        self.keeper = Some(keeper);
    }

    /// As `kill -9`: nothing is written or said any more.
    pub fn kill(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            keeper.wait().expect("the keeper ends");
        }
    }

    /// The process neither runs nor ends.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.pid.to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {signal} {}", self.pid);
    }

    pub fn cluster_file(&self) -> PathBuf {
        self.directory.path().join("fdb.cluster")
    }

    fn configure(&self, engine: &str) {
        let configured = Command::new(installed("MATYAN_FDBCLI"))
            .arg("-C")
            .arg(self.cluster_file())
            .args(["--timeout", "120", "--exec", &format!("configure new single {engine}")])
            .output()
            .expect("fdbcli starts");
        let said = String::from_utf8_lossy(&configured.stdout);
        assert!(configured.status.success(), "the cluster is not configured: {said}\n{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Settings of a store that shares nothing with any other.
    pub fn settings(&self) -> Settings {
        static STORES: AtomicU64 = AtomicU64::new(0);
        // As long as it may be, so that limits hold for every prefix.
        let prefix = Prefix::new(&format!("test{:028}", STORES.fetch_add(1, Ordering::Relaxed)));
        Settings {
            cluster_file: self.cluster_file(),
            prefix: prefix.expect("it is plain, and has 32 bytes"),
            retries: Retries::default(),
        }
    }

    /// A store that shares nothing with any other.
    pub async fn open(&self, network: &Network) -> FdbStore {
        FdbStore::open(network, self.settings()).await.expect("the store opens")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The server and the network of a test program that has no end of its own at which to stop them.
struct Running {
    server: Server,
    network: Network,
}

static RUNNING: Mutex<Option<Arc<Running>>> = Mutex::new(None);

/// A store that shares nothing with any other, on a server that all tests of the program share.
pub async fn open() -> FdbStore {
    let running = running();
    let store = running.server.open(&running.network).await;
    stop_at_exit();
    store
}

fn running() -> Arc<Running> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let start = || {
        Arc::new(Running {
            server: Server::start("memory"),
            network: Network::start().expect("it starts once"),
        })
    };
    running.get_or_insert_with(start).clone()
}

/// What is registered last is done first: so each store that is opened registers it anew, behind what the client has made in the
/// meantime and would lose before.
fn stop_at_exit() {
    #[expect(unsafe_code, reason = "the C library's own function, given one that does not unwind")]
    let refused = unsafe { atexit(stop) };
    assert_eq!(refused, 0, "nothing could be done at the end");
}

#[expect(unsafe_code, reason = "of the C library that every program has")]
unsafe extern "C" {
    fn atexit(at_exit: extern "C" fn()) -> std::ffi::c_int;
}

/// The client must not run any more when the program is taken down around it. It is stopped by a thread of its own: what the
/// client keeps for the one that ends is gone by now.
extern "C" fn stop() {
    let taken = || drop(RUNNING.lock().unwrap_or_else(PoisonError::into_inner).take());
    // One that fails has said so.
    let _ = std::thread::spawn(taken).join();
}

fn first_line(keeper: &mut Child) -> String {
    let mut line = String::new();
    let out = keeper.stdout.take().expect("it is piped");
    BufReader::new(out).read_line(&mut line).expect("the keeper writes");
    line.trim().to_owned()
}
