//! A server's process and its directory. It is the child of a shell that waits for its own input to end, and then kills it and
//! takes the directory away: so both go however this process ends.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// No server takes a tenth of it to start: it only ends one that hangs.
const HANG_GUARD: Duration = Duration::from_secs(180);

/// After an answer that does not help.
const PAUSE: Duration = Duration::from_millis(50);

/// What a test that fails tells of the server's log.
const TOLD_LINES: usize = 200;

/// Starts the rest of its arguments, tells their process, and kills that one when its own input ends, whatever signals come
/// before. What the server had on disk goes with it, unless the last word was to keep it.
const KEEPER: &str = r#"trap '' INT HUP TERM
"$@" >>"$0/log" 2>&1 </dev/null & echo $!
read -r word; kill -9 $! 2>/dev/null; wait; [ "$word" = keep ] || rm -rf "$0""#;

pub(crate) struct Process {
    directory: PathBuf,
    /// None before it is started, and once it was killed.
    running: Option<Running>,
}

struct Running {
    keeper: Child,
    pid: u32,
}

impl Process {
    /// Of what is still to be started, in a directory of its own.
    pub(crate) fn new() -> Self {
        Self { directory: TempDir::new().expect("a directory is made").keep(), running: None }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// In its directory; what was killed goes on from what it had on disk.
    pub(crate) fn start(&mut self, command: &Command) {
        assert!(self.running.is_none(), "it was killed before");
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER])
            .arg(&self.directory)
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the keeper of the server starts");
        let mut pid = String::new();
        let stdout = keeper.stdout.take().expect("its output is piped");
        BufReader::new(stdout).read_line(&mut pid).expect("it tells the process");
        let pid = pid.trim().parse().expect("a process is a number");
        self.running = Some(Running { keeper, pid });
    }

    /// Blocks until the server answers. False if it has ended instead.
    pub(crate) fn await_answer(&self, ask: impl Fn() -> Result<(), String>) -> bool {
        let start = Instant::now();
        while let Err(state) = ask() {
            if self.has_ended() {
                return false;
            }
            assert!(start.elapsed() < HANG_GUARD, "the server does not answer: {state}");
            std::thread::park_timeout(PAUSE);
        }
        true
    }

    /// By itself. Where there is no /proc nobody knows, and only the guard ends a wait.
    fn has_ended(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let runs = status.is_ok_and(|status| !status.contains("State:\tZ"));
        !runs && Path::new("/proc/self").exists()
    }

    /// It keeps its connections, and does nothing.
    pub(crate) fn stall(&self) {
        self.signal("STOP");
    }

    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "the server gets its signal");
    }

    fn pid(&self) -> u32 {
        self.running.as_ref().expect("it runs").pid
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.running.take().expect("it runs").end("keep");
    }
}

impl Running {
    /// Ends the keeper, and the server with it.
    fn end(mut self, word: &str) {
        let mut input = self.keeper.stdin.take().expect("its input is piped");
        writeln!(input, "{word}").expect("the keeper listens");
        self.keeper.wait().expect("the keeper ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read(self.directory.join("log")).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let skipped = log.lines().count().saturating_sub(TOLD_LINES);
            eprintln!("the end of what the server has said:");
            log.lines().skip(skipped).for_each(|line| eprintln!("{line}"));
        }
        match self.running.take() {
            Some(running) => running.end(""),
            None => fs::remove_dir_all(&self.directory).expect("what the server left can be removed"),
        }
    }
}

/// That nobody has now.
pub(crate) fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    free.local_addr().expect("it is bound").port()
}
