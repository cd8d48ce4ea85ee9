//! Capture of the text that is written to the descriptors 1 and 2: by Python, by C code, and by child
//! processes.
//!
//! Each descriptor becomes the writing end of a pipe. A thread copies what arrives to where the
//! descriptor led before, and cuts it into lines for the runs that capture. It never touches Python:
//! code that fills the pipe may hold the interpreter's lock.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    process,
    sync::{
        Arc, Condvar, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use matyan_sdk::Run;
use rustix::{
    fs::fstat,
    io::{fcntl_dupfd_cloexec, ioctl_fionread},
    pipe::{PipeFlags, pipe_with},
    stdio,
};

use crate::{interruption, line_cutter::LineCutter};

/// Longest wait for output that was written before the end of the capture.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// Time between two looks at a pipe.
const DRAIN_INTERVAL: Duration = Duration::from_millis(1);

const BUFFER_BYTES: usize = 64 << 10;

/// Printed when the lines of a run cannot be stored any more.
const FAILED_CAPTURE: &[u8] =
    b"matyan: the lines of the terminal cannot be stored any more; this is a defect of \
    Matyan: please report it\n";

/// The process that captures, or 0. A forked child leaves the descriptors alone: the text that it writes
/// reaches the thread of its parent.
static OWNER: AtomicU32 = AtomicU32::new(0);

static CAPTURE: Mutex<Option<Capture>> = Mutex::new(None);

/// The lines of one run.
pub(crate) struct RunLines {
    run: Weak<Run>,
    cutter: Mutex<LineCutter>,
    created: Instant,
}

struct Capture {
    streams: Vec<CapturedStream>,
    runs: Arc<Mutex<Vec<Arc<RunLines>>>>,
}

/// One of the two descriptors.
struct CapturedStream {
    number: Descriptor,
    /// Where it led before.
    original: OwnedFd,
    reader: Arc<OwnedFd>,
    copying: Arc<Copying>,
    /// Device and inode of the pipe.
    pipe: (u64, u64),
}

/// State of the thread of a stream.
#[derive(Default)]
struct Copying {
    /// Whether it is busy with something that it has read.
    is_busy: Mutex<bool>,
    has_finished: Condvar,
}

#[derive(Clone, Copy)]
enum Descriptor {
    Output,
    Error,
}

impl RunLines {
    pub(crate) fn new(run: &Arc<Run>) -> Arc<Self> {
        Arc::new(Self { run: Arc::downgrade(run), cutter: Mutex::default(), created: Instant::now() })
    }

    fn write(&self, stream: Descriptor, data: &[u8]) {
        let Some(run) = self.run.upgrade() else { return };
        let mut cutter = lock(&self.cutter);
        let lines = cutter.write(stream as usize, data, self.created.elapsed());
        // Under the lock, so that lines are stored in the order of their numbers.
        for (line, number) in lines {
            // A line that is too long for the server is cut by the cutter.
            run.terminal_line(&line, number).ok();
        }
    }

    /// Stores the unfinished lines.
    fn flush(&self) {
        let Some(run) = self.run.upgrade() else { return };
        let mut cutter = lock(&self.cutter);
        for (line, number) in cutter.partial() {
            run.terminal_line(&line, number).ok();
        }
    }
}

/// Starts to pass everything that is written to a run.
pub(crate) fn start(lines: &Arc<RunLines>) -> io::Result<()> {
    if OWNER.load(Ordering::Acquire) != 0 && !is_owner() {
        // The runs of the parent store the lines of a forked child.
        return Ok(());
    }
    let mut capture = lock(&CAPTURE);
    let capture = match &mut *capture {
        Some(capture) => capture,
        none => none.insert(Capture::new()?),
    };
    OWNER.store(process::id(), Ordering::Release);
    lock(&capture.runs).push(Arc::clone(lines));
    Ok(())
}

/// Ends the capture that `start` started, after all text that was written before.
pub(crate) fn stop(lines: &Arc<RunLines>) {
    if !is_owner() {
        return;
    }
    let mut capture = lock(&CAPTURE);
    let Some(open) = &mut *capture else { return };
    open.drain();
    lock(&open.runs).retain(|other| !Arc::ptr_eq(other, lines));
    if lock(&open.runs).is_empty() {
        // The threads continue for children that still have the pipes, without storing lines.
        open.restore();
        open.drain();
        *capture = None;
        OWNER.store(0, Ordering::Release);
    }
    drop(capture);
    lines.flush();
}

/// Stores the text that was written before, with the unfinished lines. In a forked child, the thread of the
/// parent may have held the locks.
pub(crate) fn flush(lines: &RunLines) {
    if !is_owner() {
        return;
    }
    if let Some(capture) = &*lock(&CAPTURE) {
        capture.drain();
    }
    lines.flush();
}

fn is_owner() -> bool {
    OWNER.load(Ordering::Acquire) == process::id()
}

impl Capture {
    fn new() -> io::Result<Self> {
        let runs = Arc::default();
        let mut capture = Self { streams: Vec::new(), runs };
        for number in [Descriptor::Output, Descriptor::Error] {
            match CapturedStream::new(number, &capture.runs) {
                Ok(stream) => capture.streams.push(stream),
                Err(error) => {
                    capture.restore();
                    return Err(error);
                }
            }
        }
        Ok(capture)
    }

    fn drain(&self) {
        let end = Instant::now() + DRAIN_LIMIT;
        for stream in &self.streams {
            stream.drain(end);
        }
    }

    fn restore(&self) {
        for stream in &self.streams {
            stream.restore();
        }
    }
}

impl CapturedStream {
    fn new(number: Descriptor, runs: &Arc<Mutex<Vec<Arc<RunLines>>>>) -> io::Result<Self> {
        // Above the three standard descriptors, in case one of them is closed.
        let original = fcntl_dupfd_cloexec(number.borrowed(), 3)?;
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let status = fstat(&writer)?;
        let stream = Self {
            number,
            reader: Arc::new(reader),
            copying: Arc::default(),
            pipe: (status.st_dev, status.st_ino),
            original,
        };
        stream.spawn(Arc::clone(runs))?;
        number.replace(&writer)?;
        Ok(stream)
    }

    fn spawn(&self, runs: Arc<Mutex<Vec<Arc<RunLines>>>>) -> io::Result<()> {
        let mut original = File::from(self.original.try_clone()?);
        let mut source = File::from(self.reader.try_clone()?);
        let copying = Arc::clone(&self.copying);
        let number = self.number;
        thread::Builder::new()
            .name("matyan-output".to_owned())
            .spawn(move || {
                // The thread that holds the interpreter may be waiting for this one to empty the pipe.
                interruption::mark_background_thread();
                let mut buffer = vec![0; BUFFER_BYTES];
                loop {
                    let count = match source.read(&mut buffer) {
                        Ok(0) => return,
                        Ok(count) => count,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                        Err(_) => return,
                    };
                    *lock(&copying.is_busy) = true;
                    // A closed terminal does not end the capture.
                    original.write_all(&buffer[..count]).ok();
                    let capturing = lock(&runs).clone();
                    for run in &capturing {
                        let write = AssertUnwindSafe(|| run.write(number, &buffer[..count]));
                        if catch_unwind(write).is_err() {
                            // The pipe is still read: a script that writes to a full pipe would wait for ever.
                            lock(&runs).retain(|other| !Arc::ptr_eq(other, run));
                            original.write_all(FAILED_CAPTURE).ok();
                        }
                    }
                    *lock(&copying.is_busy) = false;
                    copying.has_finished.notify_all();
                }
            })
            .map(drop)
    }

    /// Waits until everything is copied that was written before, or until a time.
    fn drain(&self, end: Instant) {
        let mut is_busy = lock(&self.copying.is_busy);
        // The pipe is also empty between a read and the start of its work, so it is looked at twice.
        let mut looks = 0;
        while looks < 2 && Instant::now() < end {
            let waited = self.copying.has_finished.wait_timeout(is_busy, DRAIN_INTERVAL);
            (is_busy, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let is_empty = ioctl_fionread(&*self.reader).is_ok_and(|bytes| bytes == 0);
            looks = if is_empty && !*is_busy { looks + 1 } else { 0 };
        }
    }

    /// Lets the descriptor lead to where it led before, unless something else has replaced it.
    fn restore(&self) {
        let is_own =
            fstat(self.number.borrowed()).is_ok_and(|status| (status.st_dev, status.st_ino) == self.pipe);
        if is_own {
            // Without it, the script would write into the pipe, which is still copied.
            self.number.replace(&self.original).ok();
        }
    }
}

impl Descriptor {
    fn borrowed(self) -> BorrowedFd<'static> {
        match self {
            Self::Output => stdio::stdout(),
            Self::Error => stdio::stderr(),
        }
    }

    fn replace(self, target: &OwnedFd) -> io::Result<()> {
        match self {
            Self::Output => stdio::dup2_stdout(target.as_fd())?,
            Self::Error => stdio::dup2_stderr(target.as_fd())?,
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
