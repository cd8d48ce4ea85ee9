//! A server's process and its directory. The server is the child of a shell that waits for its
//! own standard input to end, then kills the server and removes the directory, so that neither
//! outlives this process, however it ends.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Ends a test that hangs: no server takes a tenth of this time to start.
const HANG_GUARD: Duration = Duration::from_secs(180);

/// Pause after a failed check.
const PAUSE: Duration = Duration::from_millis(50);

/// Number of lines of the server's log that a failed test prints.
const SHOWN_LINES: usize = 200;

/// Shell script that starts its arguments as a process and prints the process id. It ignores
/// signals, and kills the process when its own input ends. The directory is removed as well,
/// unless the last line of input is `keep`.
const GUARD_SCRIPT: &str = r#"trap '' INT HUP TERM
"$@" >>"$0/log" 2>&1 </dev/null & echo $!
read -r word; kill -9 $! 2>/dev/null; wait; [ "$word" = keep ] || rm -rf "$0""#;

pub(crate) struct Process {
    directory: PathBuf,
    /// None before the first start, and after a kill.
    running: Option<Running>,
}

struct Running {
    guard: Child,
    pid: u32,
}

impl Process {
    /// A process that is not started yet, with its own directory.
    pub(crate) fn new() -> Self {
        Self { directory: TempDir::new().expect("a directory is made").keep(), running: None }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts the command in the directory. After a kill, the server continues with its
    /// data on disk.
    pub(crate) fn start(&mut self, command: &Command) {
        assert!(self.running.is_none(), "the process is already running");
        let mut guard = Command::new("sh")
            .args(["-c", GUARD_SCRIPT])
            .arg(&self.directory)
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the shell that guards the server starts");
        let mut pid = String::new();
        let stdout = guard.stdout.take().expect("the output is piped");
        BufReader::new(stdout).read_line(&mut pid).expect("the shell prints the process id");
        let pid = pid.trim().parse().expect("a process id is a number");
        self.running = Some(Running { guard, pid });
    }

    /// Blocks until the server responds. Returns false if it has exited instead.
    pub(crate) fn await_answer(&self, ask: impl Fn() -> Result<(), String>) -> bool {
        let start = Instant::now();
        while let Err(state) = ask() {
            if self.has_ended() {
                return false;
            }
            assert!(start.elapsed() < HANG_GUARD, "the server does not respond: {state}");
            std::thread::park_timeout(PAUSE);
        }
        true
    }

    /// True if the server has exited. Without /proc this is unknown, and only the guard
    /// ends a wait.
    fn has_ended(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let runs = status.is_ok_and(|status| !status.contains("State:\tZ"));
        !runs && Path::new("/proc/self").exists()
    }

    /// Suspends the server: it keeps its connections, but does nothing.
    pub(crate) fn suspend(&self) {
        self.signal("STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "failed to send a signal to the server");
    }

    fn pid(&self) -> u32 {
        self.running.as_ref().expect("the process is running").pid
    }

    /// Kills the server with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.running.take().expect("the process is running").end("keep");
    }
}

impl Running {
    /// Ends the shell, and the server with it.
    fn end(mut self, word: &str) {
        let mut input = self.guard.stdin.take().expect("the input is piped");
        writeln!(input, "{word}").expect("the shell reads its input");
        self.guard.wait().expect("the shell exits");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read(self.directory.join("log")).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let skipped = log.lines().count().saturating_sub(SHOWN_LINES);
            eprintln!("end of the server's log:");
            for line in log.lines().skip(skipped) {
                eprintln!("{line}");
            }
        }
        // A running server is ended by its guard, which also removes the directory.
        match self.running.take() {
            Some(running) => running.end(""),
            None => fs::remove_dir_all(&self.directory).expect("the directory of the server can be removed"),
        }
    }
}

/// A port that is currently unused.
pub(crate) fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    free.local_addr().expect("the listener is bound").port()
}
