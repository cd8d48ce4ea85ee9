//! Listing: walks the folders in key order from a given key, one page at a time. A page reads
//! each folder on its way completely but keeps no more names than fit into the page.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use cap_std::fs::Dir;

use super::{
    path::{self, EntryKind},
    read,
};
use crate::{BlobKey, BlobMeta, ListedBlob, Listing, MAX_PAGE};

pub(super) fn page(root: &Dir, prefix: &str, after: Option<&BlobKey>) -> io::Result<Listing> {
    let mut listing = Listing::default();
    // No key can start with an invalid prefix, so nothing is listed.
    if !prefix.is_empty() && BlobKey::new(prefix.strip_suffix('/').unwrap_or(prefix)).is_err() {
        return Ok(listing);
    }
    let after = after.map_or(b"".as_slice(), |key| key.as_str().as_bytes());
    let filter = ListFilter { prefix: prefix.as_bytes(), after };
    let mut found = walk(root, prefix, &filter)?;
    // The extra entry shows that more follow.
    if found.len() > MAX_PAGE {
        found.truncate(MAX_PAGE);
        listing.next = found.last().map(|(key, _)| key.clone());
    }
    for (key, path) in found {
        match read::describe(root, &path) {
            Ok(Some(BlobMeta { size, modified_us, .. })) => {
                listing.blobs.push((key, ListedBlob { size, modified_us }));
            }
            // Deleted since the walk.
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!(%key, %error, "skipped a damaged or foreign file in a listing");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(listing)
}

/// A folder with the common prefix of the keys in it, or a blob with its key.
enum FolderEntry {
    Folder(Vec<u8>),
    Blob(BlobKey),
}

/// Returns the first matching blobs, one more than fits into a page.
fn walk(root: &Dir, prefix: &str, filter: &ListFilter<'_>) -> io::Result<Vec<(BlobKey, PathBuf)>> {
    let (folder, base) = path::prefix_folder(prefix);
    let mut found = Vec::new();
    // A stack: the next entry in key order is on top.
    let mut stack = vec![(FolderEntry::Folder(base.as_bytes().to_vec()), folder)];
    while found.len() <= MAX_PAGE
        && let Some((entry, path)) = stack.pop()
    {
        match entry {
            FolderEntry::Blob(key) => found.push((key, path)),
            FolderEntry::Folder(base) => {
                let entries = entries(root, &base, &path, filter, MAX_PAGE + 1 - found.len())?;
                stack.extend(entries.into_values().rev());
            }
        }
    }
    Ok(found)
}

/// Returns the matching entries of a folder in key order: the first `most` blobs and the
/// folders among them.
fn entries(
    root: &Dir,
    base: &[u8],
    folder: &Path,
    filter: &ListFilter<'_>,
    most: usize,
) -> io::Result<BTreeMap<Vec<u8>, (FolderEntry, PathBuf)>> {
    let mut kept = BTreeMap::new();
    let mut blobs = 0;
    let read = if folder.as_os_str().is_empty() { root.entries() } else { root.read_dir(folder) };
    let read = match read {
        Ok(read) => read,
        // The folder was pruned in the meantime or never existed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(kept),
        Err(error) => return Err(error),
    };
    for name in read {
        let name = name?.file_name();
        // Skips names that this store never creates.
        let Some((kind, piece)) = path::parse_entry(&name) else { continue };
        let key = [base, &piece].concat();
        let path = folder.join(name);
        if !filter.matches(&key, kind) {
            continue;
        }
        let Some(entry) = entry(kind, &key) else { continue };
        let is_blob = kind == EntryKind::File;
        // A name that appears twice was replaced during the scan.
        if kept.insert(key, (entry, path)).is_none() && is_blob {
            blobs += 1;
        }
        while blobs > most {
            let (_, (last, _)) = kept.pop_last().expect("the counted blobs are in the map");
            blobs -= usize::from(matches!(last, FolderEntry::Blob(_)));
        }
    }
    Ok(kept)
}

fn entry(kind: EntryKind, key: &[u8]) -> Option<FolderEntry> {
    match kind {
        EntryKind::Folder => Some(FolderEntry::Folder(key.to_vec())),
        EntryKind::File => BlobKey::new(str::from_utf8(key).ok()?).ok().map(FolderEntry::Blob),
    }
}

struct ListFilter<'a> {
    prefix: &'a [u8],
    after: &'a [u8],
}

impl ListFilter<'_> {
    /// Whether an entry matches. For a folder, `key` is the common prefix of the keys in
    /// it.
    fn matches(&self, key: &[u8], kind: EntryKind) -> bool {
        let prefix_fits = key.starts_with(self.prefix);
        let ahead = key > self.after;
        match kind {
            EntryKind::File => prefix_fits && ahead,
            // A folder also matches if the prefix or `after` leads into it.
            EntryKind::Folder => {
                (prefix_fits || self.prefix.starts_with(key)) && (ahead || self.after.starts_with(key))
            }
        }
    }
}
