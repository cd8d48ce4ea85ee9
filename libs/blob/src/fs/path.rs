//! Mapping of keys to files. It is one-to-one and preserves key order, and no name has two
//! meanings.
//!
//! Each segment becomes one or more names whose suffix gives their kind: `{segment}.f` is the file
//! of the last segment, `{segment}.d` the folder of any other. So `a` is `a.f`, `a/b` is `a.d/b.f`,
//! and both may exist; nothing is ever named `..`. A file name is limited to 255 bytes and a
//! segment is not, so while 200 bytes or more of a segment remain, the first 200 become a folder
//! `{200 bytes}.c` ("continued"); the remainder, possibly empty, follows inside it.
//!
//! Order: the keys below an entry of a folder start with its name, followed by `/` for `.d`.
//! Sorting the entries by that prefix sorts their keys, because a name of 200 bytes is always `.c`.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::BlobKey;

/// Long enough for ordinary names and, with the suffix, well below the 255 bytes that file
/// systems allow.
const PIECE: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EntryKind {
    File,
    Folder,
}

pub(super) fn blob_path(key: &BlobKey) -> PathBuf {
    let mut path = PathBuf::new();
    let (folders, last) = key.as_str().rsplit_once('/').map_or((None, key.as_str()), |(f, l)| (Some(f), l));
    for segment in folders.into_iter().flat_map(|folders| folders.split('/')) {
        push(&mut path, segment.as_bytes(), b".d");
    }
    push(&mut path, last.as_bytes(), b".f");
    path
}

/// Returns the folder that holds every key starting with `prefix`, and the common prefix of
/// all keys in it.
pub(super) fn prefix_folder(prefix: &str) -> (PathBuf, &str) {
    let base = &prefix[..prefix.rfind('/').map_or(0, |slash| slash + 1)];
    let mut path = PathBuf::new();
    for segment in base.split_terminator('/') {
        push(&mut path, segment.as_bytes(), b".d");
    }
    (path, base)
}

/// Returns the part of the key that an entry's name holds, or `None` for a name that this store
/// never creates.
pub(super) fn parse_entry(name: &OsStr) -> Option<(EntryKind, Vec<u8>)> {
    let name = name.as_bytes();
    let (piece, ending) = name.split_at_checked(name.len().checked_sub(2)?)?;
    match ending {
        b".f" if piece.len() < PIECE => Some((EntryKind::File, piece.to_vec())),
        b".d" if piece.len() < PIECE => Some((EntryKind::Folder, [piece, b"/"].concat())),
        b".c" if piece.len() == PIECE => Some((EntryKind::Folder, piece.to_vec())),
        _ => None,
    }
}

fn push(path: &mut PathBuf, mut segment: &[u8], ending: &[u8]) {
    while let Some((piece, rest)) = segment.split_at_checked(PIECE) {
        path.push(name(piece, b".c"));
        segment = rest;
    }
    path.push(name(segment, ending));
}

fn name(piece: &[u8], ending: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(&[piece, ending].concat())).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(key: &str, path: &str) {
        assert_eq!(blob_path(&BlobKey::new(key).unwrap()), Path::new(path));
    }

    #[test]
    fn a_key_maps_to_one_path() {
        let long = "x".repeat(201);
        let exact = "x".repeat(200);
        check("a", "a.f");
        check("a/b", "a.d/b.f");
        check("a.f", "a.f.f");
        check("a.d/b", "a.d.d/b.f");
        check(".../..x", "....d/..x.f");
        check(&long, &format!("{exact}.c/x.f"));
        check(&exact, &format!("{exact}.c/.f"));
        check(&format!("{exact}/b"), &format!("{exact}.c/.d/b.f"));
    }

    #[test]
    fn a_prefix_maps_to_one_folder() {
        assert_eq!(prefix_folder(""), (PathBuf::new(), ""));
        assert_eq!(prefix_folder("ru"), (PathBuf::new(), ""));
        assert_eq!(prefix_folder("run/a"), (PathBuf::from("run.d"), "run/"));
        assert_eq!(prefix_folder("run/a/"), (PathBuf::from("run.d/a.d"), "run/a/"));
    }

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof!["[-.0-9a-c ]{1,3}", "[ax]{199,201}", "é{99,101}"]
    }

    fn key() -> impl Strategy<Value = BlobKey> {
        proptest::collection::vec(segment(), 1..4)
            .prop_filter_map("no key", |segments| BlobKey::new(segments.join("/")).ok())
    }

    /// Contribution of each name in a path, as a listing reads and sorts them.
    fn read_back(path: &Path) -> Vec<Vec<u8>> {
        path.iter().map(|name| parse_entry(name).unwrap().1).collect()
    }

    proptest! {
        #[test]
        fn paths_read_back_and_sort_like_keys(a in key(), b in key()) {
            let path_a = blob_path(&a);
            let path_b = blob_path(&b);
            prop_assert_eq!(read_back(&path_a).concat(), a.as_str().as_bytes());
            prop_assert!(path_a.iter().all(|name| name.len() <= 255));
            prop_assert_eq!(read_back(&path_a).cmp(&read_back(&path_b)), a.cmp(&b));
            prop_assert_eq!(path_a == path_b, a == b);
        }
    }
}
