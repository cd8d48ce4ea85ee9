//! The embedded log as a fixture: each log in a temporary directory, or on a small tmpfs for
//! cases that fill the disk. Kills target a child process, by its id.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use matyan_log::{
    LogReader, LogWriter, Position,
    conformance::{self, AcknowledgedRecord, Capability, Fixture, Instance, Shape},
    embedded::{EmbeddedLog, Settings},
};
use tempfile::TempDir;

pub(crate) const WRITE_UNTIL_KILLED: &str = "--write-until-killed";

/// The engine's journal reserves 64 MiB, but only written space counts.
const SMALL_DISK: &str = "size=100m";

#[derive(Clone, Copy)]
pub(crate) struct Embedded;

struct EmbeddedInstance {
    log: Option<Arc<EmbeddedLog>>,
    settings: Settings,
    directory: LogDirectory,
}

/// The directory of a log; unmounted and removed at the end.
struct LogDirectory {
    root: TempDir,
    is_mounted: bool,
}

#[async_trait]
impl Fixture for Embedded {
    fn name(&self) -> String {
        "embedded".into()
    }

    fn missing_reason(&self, capability: Capability) -> Option<String> {
        static MOUNT: OnceLock<Option<String>> = OnceLock::new();
        if capability == Capability::Obstruction {
            MOUNT
                .get_or_init(|| {
                    LogDirectory::on_small_disk()
                        .err()
                        .map(|reason| format!("cannot mount a small disk: {reason}"))
                })
                .clone()
        } else {
            None
        }
    }

    async fn create(&self, shape: Shape) -> Box<dyn Instance> {
        let directory = if shape.is_obstructed {
            LogDirectory::on_small_disk().expect("mounting worked before")
        } else {
            LogDirectory::new()
        };
        let defaults = Settings::default();
        let settings = Settings {
            append_wait: shape.append_wait,
            max_unread_bytes: shape.max_unread_bytes.unwrap_or(defaults.max_unread_bytes),
            ..defaults
        };
        Box::new(EmbeddedInstance::open(directory, settings).await)
    }

    async fn kill(&self, count: usize) -> (Box<dyn Instance>, Vec<AcknowledgedRecord>) {
        let directory = LogDirectory::new();
        let path = directory.root.path().to_owned();
        let acknowledged = tokio::task::spawn_blocking(move || kill_writer(&path, count))
            .await
            .expect("the task does not panic");
        (Box::new(EmbeddedInstance::open(directory, Settings::default()).await), acknowledged)
    }
}

impl EmbeddedInstance {
    async fn open(directory: LogDirectory, settings: Settings) -> Self {
        let log = EmbeddedLog::open(directory.log(), settings.clone()).await.expect("the log opens");
        Self { log: Some(Arc::new(log)), settings, directory }
    }

    fn log(&self) -> Arc<EmbeddedLog> {
        self.log.clone().expect("the log is open except during a reopening")
    }
}

#[async_trait]
impl Instance for EmbeddedInstance {
    fn writer(&self) -> Arc<dyn LogWriter> {
        self.log()
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        self.log()
    }

    async fn reopen(&mut self) {
        self.log().close().await.expect("the log closes");
        let log =
            EmbeddedLog::open(self.directory.log(), self.settings.clone()).await.expect("the log reopens");
        self.log = Some(Arc::new(log));
    }

    async fn obstruct(&mut self) {
        let mut filler = std::fs::File::create(self.directory.filler()).expect("the filler can be created");
        while filler.write_all(&[0; 1 << 16]).is_ok() {}
        while filler.write_all(&[0; 1]).is_ok() {}
    }

    async fn clear(&mut self) {
        std::fs::remove_file(self.directory.filler()).expect("the filler can be removed");
    }
}

impl LogDirectory {
    fn new() -> Self {
        Self { root: TempDir::new().expect("a temporary directory can be created"), is_mounted: false }
    }

    fn on_small_disk() -> Result<Self, String> {
        let mut directory = Self::new();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", SMALL_DISK, "tmpfs"])
            .arg(directory.root.path())
            .output();
        let output = mount.map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        directory.is_mounted = true;
        Ok(directory)
    }

    fn log(&self) -> PathBuf {
        self.root.path().join("log")
    }

    fn filler(&self) -> PathBuf {
        self.root.path().join("filler")
    }
}

impl Drop for LogDirectory {
    fn drop(&mut self) {
        if self.is_mounted {
            let unmounted = Command::new("umount").arg("--lazy").arg(self.root.path()).status();
            assert!(
                unmounted.is_ok_and(|status| status.success()) || std::thread::panicking(),
                "failed to unmount the small disk"
            );
        }
    }
}

/// Starts this program as a writer, and kills it once it has reported enough records.
fn kill_writer(directory: &Path, count: usize) -> Vec<AcknowledgedRecord> {
    let program = std::env::current_exe().expect("the path of this program is known");
    let mut writer = Command::new(program)
        .arg(WRITE_UNTIL_KILLED)
        .arg(directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the writer starts");
    let mut reports = BufReader::new(writer.stdout.take().expect("the output is piped"));
    let mut acknowledged: Vec<_> =
        reports.by_ref().lines().take(count).map(|line| parse(&line.expect("the output is text"))).collect();
    writer.kill().expect("the writer can be killed");
    // Reports received later count as well; the last line may be incomplete.
    let mut rest = String::new();
    reports.read_to_string(&mut rest).expect("the output is text");
    let (whole, _) = rest.rsplit_once('\n').unwrap_or_default();
    acknowledged.extend(whole.lines().map(parse));
    writer.wait().expect("the writer ends");
    acknowledged
}

fn parse(line: &str) -> AcknowledgedRecord {
    let fields: Vec<u64> =
        line.split(' ').map(|field| field.parse().expect("the field is a number")).collect();
    let [writer, number, partition, offset] = fields[..] else { panic!("expected four numbers: {line}") };
    AcknowledgedRecord { writer, number, position: Position { partition: partition as u32, offset } }
}

/// Main function of the process to be killed.
pub(crate) fn write_until_killed(directory: PathBuf) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be created");
    runtime.block_on(async move {
        let log = EmbeddedLog::open(directory.join("log"), Settings::default()).await.expect("the log opens");
        conformance::write_until_killed(Arc::new(log), |acknowledged| {
            let AcknowledgedRecord { writer, number, position: Position { partition, offset } } =
                acknowledged;
            let line = format!("{writer} {number} {partition} {offset}\n");
            std::io::stdout().write_all(line.as_bytes()).expect("the parent reads the report");
        })
        .await;
    });
}
