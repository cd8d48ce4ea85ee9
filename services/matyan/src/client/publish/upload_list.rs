//! The list of files of an upload, which a bucket has from before the first file until the copy is complete. An upload
//! that was interrupted continues where it stopped: a file that the bucket has, with its hash in the list, is not
//! uploaded again.
//!
//! Stores of blobs have no kind of hash in common, so only the list says which content a file in the bucket has. It has
//! no hash of a file whose content may differ.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

/// Name of the list in a copy.
pub(super) const UPLOAD_LIST: &str = "data/upload.json";

/// A file of the copy that is uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CopyFile {
    pub(super) size: u64,
    pub(super) hash: String,
}

/// The files of a copy by their names.
pub(super) type CopyFiles = BTreeMap<String, CopyFile>;

/// The files that an upload writes or replaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct UploadList {
    /// Whether the upload replaces an earlier copy, which needs `--force`. The index page of an upload that was
    /// interrupted is not an earlier copy.
    pub(super) replaces_copy: bool,
    /// Hashes of the files by their names. `None`: the content is not known.
    hashes: BTreeMap<String, Option<String>>,
}

impl UploadList {
    /// A list without files.
    pub(super) fn new(replaces_copy: bool) -> Self {
        Self { replaces_copy, hashes: BTreeMap::new() }
    }

    /// `None` for a file of another kind.
    pub(super) fn parse(content: &[u8]) -> Option<Self> {
        serde_json::from_slice(content).ok()
    }

    pub(super) fn to_text(&self) -> String {
        json!(self).to_string()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.hashes.contains_key(name)
    }

    fn hash(&self, name: &str) -> Option<&str> {
        self.hashes.get(name)?.as_deref()
    }
}

/// The files that a folder of a bucket has before an upload.
#[derive(Clone, Debug, Default)]
pub(super) struct EarlierFiles {
    /// Their sizes by their names.
    pub(super) sizes: BTreeMap<String, u64>,
    /// The list of an upload that was interrupted; without files if there is none.
    pub(super) list: UploadList,
}

impl EarlierFiles {
    /// Whether the bucket has this file with this content.
    pub(super) fn have(&self, name: &str, file: &CopyFile) -> bool {
        self.sizes.get(name) == Some(&file.size) && self.list.hash(name) == Some(file.hash.as_str())
    }

    /// The list of an upload of `files`. A hash in it is right before the upload, after it, and whenever it stops.
    pub(super) fn list_of_upload(&self, files: &CopyFiles) -> UploadList {
        let hash = |name: &String, file: &CopyFile| {
            let is_certain = !self.sizes.contains_key(name) || self.have(name, file);
            is_certain.then(|| file.hash.clone())
        };
        let replaced = self.gone(files).map(|name| (name.clone(), None));
        let uploaded = files.iter().map(|(name, file)| (name.clone(), hash(name, file)));
        UploadList { replaces_copy: self.list.replaces_copy, hashes: replaced.chain(uploaded).collect() }
    }

    /// Names of files that are not in the copy any more.
    pub(super) fn gone(&self, files: &CopyFiles) -> impl Iterator<Item = &String> {
        let names = self.sizes.keys().filter(|name| name.as_str() != UPLOAD_LIST);
        names.filter(move |name| !files.contains_key(*name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(hash: &str) -> CopyFile {
        CopyFile { size: 4, hash: hash.to_owned() }
    }

    fn files(files: &[(&str, &str)]) -> CopyFiles {
        files.iter().map(|(name, hash)| ((*name).to_owned(), file(hash))).collect()
    }

    /// A bucket with files of four bytes, and the list of an upload.
    fn earlier(names: &[&str], list: &UploadList) -> EarlierFiles {
        let sizes = names.iter().map(|name| ((*name).to_owned(), 4)).collect();
        EarlierFiles { sizes, list: list.clone() }
    }

    #[test]
    fn only_files_with_a_certain_content_have_a_hash() {
        let first = earlier(&[], &UploadList::default()).list_of_upload(&files(&[("a", "1"), ("b", "1")]));
        assert_eq!((first.hash("a"), first.hash("b")), (Some("1"), Some("1")));
        // The upload stopped after `a`.
        let stopped = earlier(&["a", UPLOAD_LIST], &first);
        assert!(stopped.have("a", &file("1")));
        assert!(!stopped.have("a", &file("2")) && !stopped.have("b", &file("1")));
        let other_size = CopyFile { size: 5, ..file("1") };
        assert!(!stopped.have("a", &other_size));
        // `a` may have the old or the new content whenever the second upload stops; `b` only the new one.
        let second = stopped.list_of_upload(&files(&[("a", "2"), ("b", "2")]));
        assert_eq!((second.hash("a"), second.hash("b")), (None, Some("2")));
        let third = earlier(&["a", "b"], &second).list_of_upload(&files(&[("a", "1"), ("b", "2")]));
        assert_eq!((third.hash("a"), third.hash("b")), (None, Some("2")));
    }

    #[test]
    fn files_of_an_earlier_copy_belong_to_the_upload() {
        let copy = earlier(&["old", "same"], &UploadList::default());
        let next = files(&[("same", "1"), ("new", "1")]);
        let list = copy.list_of_upload(&next);
        assert_eq!(copy.gone(&next).collect::<Vec<_>>(), ["old"]);
        assert!(list.contains("old") && list.contains("same") && list.contains("new"));
        assert_eq!((list.hash("old"), list.hash("same"), list.hash("new")), (None, None, Some("1")));
    }

    #[test]
    fn a_list_is_read_back_and_other_files_are_not() {
        let list = earlier(&["a"], &UploadList::default()).list_of_upload(&files(&[("a", "1"), ("b", "2")]));
        assert_eq!(UploadList::parse(list.to_text().as_bytes()), Some(list));
        for other in ["", "[]", "{\"a\": 1}", "{\"hashes\": {\"a\": \"1\"}}", "\"a\"", "{\"a\": \"1\""] {
            assert_eq!(UploadList::parse(other.as_bytes()), None, "{other}");
        }
    }
}
