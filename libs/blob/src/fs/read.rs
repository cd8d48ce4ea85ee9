//! Reads a blob: its metadata from the trailer, its content in pieces. The file stays open until
//! the end, so a reader of a blob that is being replaced gets the old content to its end.

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use cap_std::fs::Dir;
use futures::{StreamExt, stream};

use super::{
    disk_threads::{DiskThreads, DroppedOnDiskThread},
    trailer,
};
use crate::{BlobMeta, Content};

/// Large enough that the thread hop is negligible, small enough for many concurrent readers.
const PIECE: u64 = 256 << 10;

pub(super) fn describe(root: &Dir, path: &Path) -> io::Result<Option<BlobMeta>> {
    Ok(open_file(root, path)?.map(|(_, meta)| meta))
}

/// Opens a blob and reads its first piece, so that a small blob costs only one thread hop.
pub(super) fn open(
    root: &Dir,
    path: &Path,
    range: Option<Range<u64>>,
    threads: Arc<DiskThreads>,
) -> io::Result<Option<(BlobMeta, Content)>> {
    let Some((file, meta)) = open_file(root, path)? else { return Ok(None) };
    let range = range.unwrap_or(0..meta.size);
    let mut rest = RemainingContent { file, at: range.start, end: range.end.min(meta.size) };
    let first = rest.next()?;
    let rest = DroppedOnDiskThread::new(rest, threads.clone());
    let others = stream::unfold(Some(rest), move |rest| {
        let threads = threads.clone();
        async move {
            let mut rest = rest?;
            let read = threads.run("reading", move || {
                let Some(piece) = rest.next()? else {
                    drop(rest.into_inner());
                    return Ok(None);
                };
                Ok(Some((piece, rest)))
            });
            match read.await.transpose()? {
                Ok((piece, rest)) => Some((Ok(piece), Some(rest))),
                Err(error) => Some((Err(error), None)),
            }
        }
    });
    Ok(Some((meta, stream::iter(first.map(Ok)).chain(others).boxed())))
}

fn open_file(root: &Dir, path: &Path) -> io::Result<Option<(File, BlobMeta)>> {
    let file = match root.open(path) {
        Ok(file) => file.into_std(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    let size = metadata.len();
    // The length of the trailer is not known yet, so this reads the longest possible one.
    let mut end = [0; trailer::MAX_BYTES];
    let end = &mut end[..(trailer::MAX_BYTES as u64).min(size) as usize];
    file.read_exact_at(end, size - end.len() as u64)?;
    match trailer::decode(end, size) {
        Some(mut meta) => {
            // Every write creates a file, also if two of them fall into the same microsecond.
            meta.version = format!("{:x}-{:x}", meta.modified_us, metadata.ino());
            Ok(Some((file, meta)))
        }
        None => {
            let reason = format!("`{}` was not written by this store, or is damaged", path.display());
            Err(io::Error::new(io::ErrorKind::InvalidData, reason))
        }
    }
}

struct RemainingContent {
    file: File,
    at: u64,
    end: u64,
}

impl RemainingContent {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let size = self.end.saturating_sub(self.at).min(PIECE);
        if size == 0 {
            return Ok(None);
        }
        let mut piece = BytesMut::zeroed(size as usize);
        self.file.read_exact_at(&mut piece, self.at)?;
        self.at += size;
        Ok(Some(piece.freeze()))
    }
}
