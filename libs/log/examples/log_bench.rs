//! Benchmark of the embedded log: appends per second by number of writers and record size, with
//! a worker that reads and trims; then the time to open a log after a kill, the time to read it,
//! and its size on disk before and after it is trimmed.
//!
//! Run with `cargo run --release -p matyan-log --example log_bench [directory] [seconds]`. The
//! results depend on the disk, so its sync time is printed first.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use matyan_log::{
    Delivery, LogReader, LogWriter, NewRecord, Topic,
    embedded::{EmbeddedLog, Settings},
};

const WRITERS: [usize; 3] = [1, 8, 64];
const SIZES: [usize; 3] = [100, 1 << 10, 64 << 10];
const SYNCS: usize = 500;

/// A backlog of 256 MB in records of 1 kB.
const BACKLOG_RECORDS: u64 = 256 << 10;
const BACKLOG_BATCH: u64 = 256;
const FILL: &str = "--fill";

/// Time after which an idle log has released unneeded memory and files.
const IDLE: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == FILL).is_some() {
        return fill(Path::new(&arguments.next().ok_or("a directory must follow")?)).await;
    }
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds: f64 = arguments.next().map_or(Ok(2.0), |seconds| seconds.parse())?;
    let mut out = std::io::stdout();
    writeln!(out, "fdatasync after 4 KB: median {:?}", sync_time(&parent)?)?;
    writeln!(
        out,
        "{:>8} {:>8} {:>12} {:>10} {:>10} {:>10}",
        "writers", "bytes", "appends/s", "MB/s", "p50", "p99"
    )?;
    for size in SIZES {
        for writers in WRITERS {
            let directory = tempfile::tempdir_in(&parent)?;
            let mut times = run(directory.path(), writers, size, Duration::from_secs_f64(seconds)).await?;
            times.sort_unstable();
            let rate = times.len() as f64 / seconds;
            let median = times[times.len() / 2];
            let slow = times[times.len() * 99 / 100];
            let megabytes = rate * size as f64 / 1e6;
            writeln!(
                out,
                "{writers:>8} {size:>8} {rate:>12.0} {megabytes:>10.1} {median:>10.1?} {slow:>10.1?}"
            )?;
        }
    }
    backlog(&parent, &mut out).await?;
    writeln!(out, "peak memory of the process: {}", peak_memory()?)?;
    Ok(())
}

/// Returns the duration of every append.
async fn run(
    path: &Path,
    writers: usize,
    size: usize,
    time: Duration,
) -> Result<Vec<Duration>, Box<dyn std::error::Error>> {
    let log = Arc::new(EmbeddedLog::open(path, Settings::default()).await?);
    let reader = tokio::spawn(read_and_trim(log.clone()));
    let is_over = Arc::new(AtomicBool::new(false));
    let value = Bytes::from(noise(size));
    let writers: Vec<_> = (0..writers)
        .map(|writer| tokio::spawn(write(log.clone(), writer, value.clone(), is_over.clone())))
        .collect();
    tokio::time::sleep(time).await;
    is_over.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for writer in writers {
        times.extend(writer.await??);
    }
    reader.abort();
    log.close().await?;
    Ok(times)
}

async fn write(
    log: Arc<EmbeddedLog>,
    writer: usize,
    value: Bytes,
    is_over: Arc<AtomicBool>,
) -> matyan_log::Result<Vec<Duration>> {
    let key = Bytes::from(format!("run-{writer}"));
    let mut times = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let record = NewRecord { key: key.clone(), value: value.clone(), headers: vec![] };
        let start = Instant::now();
        log.append(Topic::Ingestion, vec![record]).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// The load of a worker: reads everything, and trims every 64 MB.
async fn read_and_trim(log: Arc<EmbeddedLog>) -> matyan_log::Result<()> {
    let mut subscription = log.subscribe(Topic::Ingestion).await?;
    let mut bytes = 0;
    loop {
        match subscription.next().await? {
            Delivery::Assigned { partition } => subscription.start(partition, 0.into()).await?,
            Delivery::Revoked { .. } => {}
            Delivery::Records { partition, records } => {
                bytes += records.iter().map(|record| record.value.len()).sum::<usize>();
                if let Some(last) = records.last().filter(|_| bytes > 64 << 20) {
                    bytes = 0;
                    log.trim(Topic::Ingestion, partition, last.offset + 1).await?;
                }
            }
        }
    }
}

/// Opens, reads, and trims a log whose process was killed.
async fn backlog(parent: &Path, out: &mut impl Write) -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir_in(parent)?;
    let path = directory.path();
    let mut writer =
        Command::new(std::env::current_exe()?).arg(FILL).arg(path).stdout(Stdio::piped()).spawn()?;
    writer.stdout.take().ok_or("the output is piped")?.read_exact(&mut [0])?;
    writer.kill()?;
    writer.wait()?;
    writeln!(
        out,
        "backlog of {BACKLOG_RECORDS} records of 1 kB: {:.1} MB on disk",
        megabytes_on_disk(path)?
    )?;
    let start = Instant::now();
    let log = EmbeddedLog::open(path, Settings::default()).await?;
    writeln!(out, "opened after a kill in {:.1?}", start.elapsed())?;

    let mut subscription = log.subscribe(Topic::Ingestion).await?;
    let start = Instant::now();
    let mut read = 0;
    while read < BACKLOG_RECORDS {
        match subscription.next().await? {
            Delivery::Assigned { partition } => subscription.start(partition, 0.into()).await?,
            Delivery::Revoked { .. } => {}
            Delivery::Records { records, .. } => read += records.len() as u64,
        }
    }
    let rate = BACKLOG_RECORDS as f64 / start.elapsed().as_secs_f64();
    writeln!(out, "read at {rate:.0} records/s, {:.0} MB/s", rate * 1024.0 / 1e6)?;
    log.trim(Topic::Ingestion, 0, BACKLOG_RECORDS).await?;
    writeln!(out, "trimmed: {:.1} MB on disk", megabytes_on_disk(path)?)?;
    tokio::time::sleep(IDLE).await;
    writeln!(out, "{IDLE:?} later: {:.1} MB on disk", megabytes_on_disk(path)?)?;
    log.close().await?;
    Ok(())
}

/// Writes the backlog, reports that it is written, and waits to be killed.
async fn fill(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let log = EmbeddedLog::open(path, Settings::default()).await?;
    let record = NewRecord { key: "run".into(), value: noise(1 << 10).into(), headers: vec![] };
    for _ in 0..BACKLOG_RECORDS / BACKLOG_BATCH {
        log.append(Topic::Ingestion, vec![record.clone(); BACKLOG_BATCH as usize]).await?;
    }
    let mut out = std::io::stdout();
    out.write_all(b"x")?;
    out.flush()?;
    std::future::pending().await
}

fn megabytes_on_disk(path: &Path) -> std::io::Result<f64> {
    fn bytes(path: &Path) -> std::io::Result<u64> {
        let metadata = path.metadata()?;
        if !metadata.is_dir() {
            return Ok(metadata.blocks() * 512);
        }
        std::fs::read_dir(path)?.map(|entry| bytes(&entry?.path())).sum()
    }
    Ok(bytes(path)? as f64 / 1e6)
}

fn sync_time(parent: &Path) -> std::io::Result<Duration> {
    let directory = tempfile::tempdir_in(parent)?;
    let mut file = File::create(directory.path().join("sync"))?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[7; 4096])?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

/// Bytes that do not compress.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(size)
    .collect()
}

fn peak_memory() -> std::io::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    Ok(status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown").trim().to_owned())
}
