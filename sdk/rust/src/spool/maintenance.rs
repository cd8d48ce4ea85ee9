//! Housekeeping of a spool on the I/O thread: it prepares segments before they are needed, copies
//! segments that are not mapped to their files, and recycles segments that are stored.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time;

use crate::{
    notice::NoticeLevel,
    spool::{
        directory,
        producer::ProducerId,
        record::Position,
        segment::{Segment, SegmentWriter},
        store::Spool,
        writer::HeldSegment,
    },
    sys::files,
};

/// Interval at which memory is copied to files. Where segments are not mapped, a killed process loses at most
/// the records of this time.
const COPY_INTERVAL: Duration = Duration::from_millis(5);
/// Interval at which files are marked as used.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(3600);

/// Keeps house until the spool is removed, or is left to a later process: then everything is on disk, and
/// the lock is free.
pub(crate) async fn run(spool: Arc<Spool>) {
    while spool.is_usable() || spool.is_left() {
        // Read before `unwritten`, because nothing is appended to a spool that is left.
        let is_left = spool.is_left();
        let unwritten = spool.with_writer(|writer| writer.unwritten());
        if copy(&spool, &unwritten) {
            prepare_spare(&spool);
        }
        if spool.with_writer(|writer| writer.is_full()) {
            release(&spool, spool.progress.delivery().stored, &mut Vec::new());
            // The reader holds the memory of the last segment.
            spool.sender_wake.notify_one();
        }
        // Unmapping takes long, so it happens here, and without the lock.
        drop(spool.with_writer(|writer| writer.take_safe_memory()));
        if is_left && unwritten.is_empty() && !spool.has_begun_uploads() {
            return spool.unlock();
        }
        if !unwritten.is_empty() {
            time::sleep(COPY_INTERVAL).await;
        } else if spool.with_writer(|writer| writer.sleep_maintenance()) {
            spool.maintenance_wake.notified().await;
        }
    }
}

/// Shows that the files of a spool are in use, as long as they are: machines may delete old files of
/// temporary directories. A spool that is removed in between is not kept, because it holds a descriptor.
pub(crate) async fn renew(spool: Weak<Spool>) {
    loop {
        time::sleep(RENEWAL_INTERVAL).await;
        let Some(spool) = spool.upgrade().filter(|spool| spool.is_usable()) else { return };
        // Only this thread renames and removes directories, so no lock is needed.
        let path = spool.path();
        if let Err(error) = directory::renew(&path, spool.owner()) {
            let message = format!("failed to mark the files in {} as used: {error}", path.display());
            spool.notices.push(NoticeLevel::Warning, message);
        }
    }
}

/// Copies segments to their files, after the definitions that their records refer to. Returns
/// whether nothing failed.
fn copy(spool: &Spool, segments: &[Arc<Segment>]) -> bool {
    // Records that are appended from now on may refer to definitions that are written next time.
    let ends: Vec<_> = segments.iter().map(|segment| segment.bytes().len()).collect();
    let copied = spool
        .write_definitions()
        .and_then(|()| segments.iter().zip(ends).try_for_each(|(segment, end)| segment.copy_to_file(end)));
    if let Err(error) = &copied {
        let path = spool.path();
        let message = format!("failed to write to {}; will retry: {error}", path.display());
        spool.notices.push(NoticeLevel::Warning, message);
    }
    copied.is_ok()
}

fn prepare_spare(spool: &Spool) {
    let Some((number, path, producer)) = wanted_spare(spool) else { return };
    let mode = spool.with_writer(|writer| writer.limits().mode);
    // Without one, the next caller that needs a segment makes it, or finds out why not.
    if let Ok(Some(spare)) = SegmentWriter::prepare(&path, number, producer, mode) {
        keep(spool, spare);
    }
}

/// Number of the spare segment that should be prepared, and the means to make it.
fn wanted_spare(spool: &Spool) -> Option<(u32, PathBuf, ProducerId)> {
    if !spool.with_writer(|writer| writer.needs_spare()) {
        return None;
    }
    // A call that takes long on a network, so it happens without the lock.
    let free = files::free_space(&spool.path()).unwrap_or(u64::MAX);
    spool.with_writer(|writer| {
        let number = writer.wanted_spare(free)?;
        Some((number, writer.directory().path().to_owned(), writer.directory().producer()))
    })
}

fn keep(spool: &Spool, spare: SegmentWriter) {
    if let Some(useless) = spool.with_writer(|writer| writer.keep_spare(spare)) {
        remove_file(spool, useless.segment().number());
    }
}

/// Recycles or deletes the segments that are not needed any more, given that everything before a
/// position is stored, and the segments that were read and may still be mapped.
pub(crate) fn release(spool: &Spool, stored: Position, read: &mut Vec<Arc<Segment>>) {
    let released = spool.with_writer(|writer| writer.release(stored));
    if released.is_empty() {
        return;
    }
    for HeldSegment { number, memory, .. } in released {
        let at = read.iter().position(|segment| segment.number() == number);
        let segment = at.map(|at| read.swap_remove(at)).or(memory.clone());
        drop(memory);
        if !segment.is_some_and(|segment| recycle(spool, segment)) {
            remove_file(spool, number);
        }
    }
    spool.signal_space();
}

/// Makes a segment the spare if there is none. Returns false if its file has to be deleted.
fn recycle(spool: &Spool, segment: Arc<Segment>) -> bool {
    let Some((number, path, producer)) = wanted_spare(spool) else { return false };
    match Segment::recycle(segment, &path, number, producer) {
        Ok(Some(spare)) => {
            keep(spool, spare);
            true
        }
        Ok(None) | Err(_) => false,
    }
}

fn remove_file(spool: &Spool, number: u32) {
    let removed = std::fs::remove_file(directory::segment_path(&spool.path(), number));
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        spool.notices.push(NoticeLevel::Warning, format!("failed to delete a segment: {error}"));
    }
}
