//! The text of a manifest: the files that it lists, and their owners.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};

use crate::error::{Result, WandbError};
use crate::json_object::JsonObject;

/// The member of a manifest with its entries.
const CONTENTS: &str = "contents";

/// The member of an entry with the id of the owner.
const OWNER: &str = "birthArtifactID";

/// The largest manifest. W&B allows 100,000 files.
const MANIFEST_BYTES: usize = 32 << 20;

/// Memory for each byte of a manifest: the text, and its copies while it is merged and parsed.
const COPIES: usize = 4;

/// Memory of an entry besides its texts, while it is parsed and listed. An entry is an object, so its text
/// has a brace.
const ENTRY_BYTES: usize = 256;

/// Memory of a member besides its texts. Its text has a colon.
const MEMBER_BYTES: usize = 64;

/// A manifest as far as this server reads it.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    /// Sorted by name.
    contents: Vec<(String, Entry)>,
    /// Indexes in `contents` of the uploaded files, sorted by digest, owner and name: a client that downloads a version asks
    /// for each of its files by digest.
    by_digest: Vec<u32>,
    /// The approximate memory of the entries.
    memory: usize,
}

/// The text of a manifest.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ManifestText {
    contents: BTreeMap<String, JsonObject<Entry>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Entry {
    /// Base64.
    digest: String,
    pub(crate) size: Option<u64>,
    /// The address of something that is not uploaded.
    #[serde(rename = "ref")]
    reference: Option<String>,
    /// The id of the owner, which may be missing in a file of the version itself.
    #[serde(rename = "birthArtifactID")]
    owner: Option<String>,
}

impl Entry {
    fn named_owner(&self) -> Option<&str> {
        self.owner.as_deref().filter(|owner| !owner.is_empty())
    }

    /// Whether the entry stands for something that is not uploaded.
    pub(crate) fn is_reference(&self) -> bool {
        self.reference.is_some()
    }

    /// The size that a list of files shows; `None` if only the store knows it.
    pub(crate) fn listed_size(&self) -> Option<u64> {
        if self.is_reference() { Some(self.size.unwrap_or_default()) } else { self.size }
    }

    /// The id of the owner, which is this version if the entry names none.
    pub(crate) fn owner<'a>(&'a self, version: &'a str) -> &'a str {
        self.named_owner().unwrap_or(version)
    }
}

/// The digest of a file, and the owner that its entry names.
type DigestKey<'m> = (&'m str, Option<&'m str>);

fn digest_key(contents: &[(String, Entry)], index: u32) -> DigestKey<'_> {
    let (_, entry) = &contents[index as usize];
    (entry.digest.as_str(), entry.named_owner())
}

/// The approximate memory of an entry.
fn entry_memory(name: &str, entry: &Entry) -> usize {
    let optional = [&entry.reference, &entry.owner].into_iter().flatten();
    ENTRY_BYTES + name.len() + entry.digest.len() + optional.map(String::len).sum::<usize>()
}

impl Manifest {
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        let ManifestText { contents } = parsed(text)?;
        let contents: Vec<(String, Entry)> =
            contents.into_iter().map(|(name, JsonObject(entry))| (name, entry)).collect();
        let memory = contents.iter().map(|(name, entry)| entry_memory(name, entry)).sum();
        let mut by_digest: Vec<u32> = (0..)
            .zip(&contents)
            .filter(|(_, (_, entry))| !entry.is_reference())
            .map(|(index, _)| index)
            .collect();
        by_digest.sort_unstable_by_key(|index| (digest_key(&contents, *index), *index));
        Ok(Self { contents, by_digest, memory })
    }

    /// The uploaded files and the references by their names.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.contents.iter().map(|entry| (&entry.0, &entry.1))
    }

    /// The uploaded files by their names.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries().filter(|(_, entry)| !entry.is_reference())
    }

    pub(crate) fn has_references(&self) -> bool {
        self.by_digest.len() < self.contents.len()
    }

    /// The approximate memory of the parsed manifest.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// The number of references and of files of other versions than this one, and their size as the client has sent it.
    pub(crate) fn totals_elsewhere(&self, version: &str) -> (u64, u64) {
        let is_elsewhere = |entry: &Entry| entry.is_reference() || entry.owner(version) != version;
        let elsewhere = self.entries().filter(|(_, entry)| is_elsewhere(entry));
        elsewhere.fold((0, 0), |(count, bytes): (u64, u64), (_, entry)| {
            (count + 1, bytes.saturating_add(entry.size.unwrap_or_default()))
        })
    }

    /// The owners of files besides this version.
    pub(crate) fn owners_besides<'a>(&'a self, version: &'a str) -> BTreeSet<&'a str> {
        self.files().map(|(_, entry)| entry.owner(version)).filter(|owner| *owner != version).collect()
    }

    /// The name of a file that this version owns, by its digest in hexadecimal digits. If several files have the same
    /// content, it is the first of their names.
    pub(crate) fn name_by_digest(&self, version: &str, digest: &str) -> Option<&str> {
        let digest = STANDARD.encode(hex::decode(digest).ok()?);
        // An entry of the version itself may name no owner.
        let of_version = [None, Some(version)].into_iter();
        let first = of_version.filter_map(|owner| self.first_index((digest.as_str(), owner))).min()?;
        Some(self.contents[first as usize].0.as_str())
    }

    /// The index of the first file with this digest and this owner.
    fn first_index(&self, wanted: DigestKey<'_>) -> Option<u32> {
        let at = self.by_digest.partition_point(|index| digest_key(&self.contents, *index) < wanted);
        let first = *self.by_digest.get(at)?;
        (digest_key(&self.contents, first) == wanted).then_some(first)
    }
}

/// The digest by which a committed version knows its manifest.
pub(crate) fn text_digest(text: &[u8]) -> String {
    hex::encode(Sha256::digest(text))
}

/// Refuses a manifest that has replaced the one with which its version was committed: the URL for its upload stays valid for
/// some time.
pub(crate) fn check_digest(text: &[u8], digest: &str) -> Result<()> {
    if text_digest(text) == digest {
        return Ok(());
    }
    Err(WandbError::invalid(
        "the manifest of the artifact was replaced after the commit, so the files of the version are not known: log the \
         artifact again",
    ))
}

/// The memory that a part of a manifest takes up at most. Short entries need much more than their texts.
pub(crate) fn memory_of(text: &[u8]) -> usize {
    text.iter()
        .map(|byte| match byte {
            b'{' => ENTRY_BYTES,
            b':' => MEMBER_BYTES,
            _ => COPIES,
        })
        .sum()
}

pub(crate) fn check_length(bytes: usize) -> Result<()> {
    if bytes <= MANIFEST_BYTES {
        return Ok(());
    }
    Err(WandbError::invalid(format!(
        "the manifest of the artifact has more than {MANIFEST_BYTES} bytes: log fewer files, or an archive of them"
    )))
}

fn parsed<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    let JsonObject(value) = serde_json::from_slice(text).map_err(|error| {
        WandbError::invalid(format!("the manifest of the artifact cannot be read: {error}; log it again"))
    })?;
    Ok(value)
}

type RawMembers = BTreeMap<String, Box<RawValue>>;

/// The entries of a manifest as they are written.
fn raw_contents(manifest: &RawMembers) -> Result<RawMembers> {
    match manifest.get(CONTENTS) {
        Some(contents) => parsed(contents.get().as_bytes()),
        None => Ok(RawMembers::new()),
    }
}

fn written<T: Serialize>(value: &T) -> Result<Box<RawValue>> {
    to_raw_value(value).map_err(|error| {
        tracing::error!(%error, "failed to write a manifest");
        WandbError::broken("manifest")
    })
}

/// The entry with the id of its owner, which is this version if the entry has none.
fn with_owner(entry: Box<RawValue>, version: &str) -> Result<Box<RawValue>> {
    let read: Entry = parsed(entry.get().as_bytes())?;
    if read.reference.is_some() || read.named_owner().is_some() {
        return Ok(entry);
    }
    let mut members: RawMembers = parsed(entry.get().as_bytes())?;
    members.insert(OWNER.to_owned(), written(&version)?);
    written(&members)
}

/// The manifest with the entries of both. An entry of `added` replaces the entry with its name in the manifest of the
/// version `base_id`, whose own files stay its own. Everything that this server does not read stays as it is.
pub(crate) fn merged(base_id: &str, base: &[u8], added: &[u8]) -> Result<Vec<u8>> {
    let mut manifest: RawMembers = parsed(added)?;
    let added = raw_contents(&manifest)?;
    let mut all = RawMembers::new();
    for (name, entry) in raw_contents(&parsed(base)?)? {
        if !added.contains_key(&name) {
            all.insert(name, with_owner(entry, base_id)?);
        }
    }
    all.extend(added);
    manifest.insert(CONTENTS.to_owned(), written(&all)?);
    Ok(Box::<str>::from(written(&manifest)?).into_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE_TEXT: &str = r#"{"version": 1, "contents": {
        "a": {"digest": "AQI=", "size": 2, "birthArtifactID": "v0", "extra": {"k": 1.50}},
        "b": {"digest": "AwQ=", "size": 3, "birthArtifactID": "v0"},
        "own": {"digest": "Bwg=", "size": 9, "extra": {"k": 1.50}},
        "elsewhere in base": {"digest": "x", "ref": "s3://bucket/y"}
    }}"#;
    const ADDED_TEXT: &str = r#"{"version": 1, "storagePolicy": "p", "contents": {
        "b": {"digest": "BQY=", "size": 5, "birthArtifactID": "v1"},
        "c": {"digest": "AQI=", "size": 7},
        "elsewhere": {"digest": "x", "size": 100, "ref": "s3://bucket/x", "birthArtifactID": "v9"}
    }}"#;

    #[test]
    fn a_manifest_has_files_of_several_versions() {
        let text = merged("v0", BASE_TEXT.as_bytes(), ADDED_TEXT.as_bytes()).unwrap();
        let manifest = Manifest::parse(&text).unwrap();
        let owners: Vec<_> =
            manifest.files().map(|(name, entry)| (name.as_str(), entry.owner("v1"))).collect();
        assert_eq!(owners, [("a", "v0"), ("b", "v1"), ("c", "v1"), ("own", "v0")]);
        let names: Vec<_> = manifest.entries().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "elsewhere", "elsewhere in base", "own"]);
        assert!(manifest.has_references());
        assert_eq!(manifest.totals_elsewhere("v1"), (4, 111));
        assert_eq!(manifest.owners_besides("v1"), BTreeSet::from(["v0"]));
        let text = String::from_utf8(text).unwrap();
        for kept in [
            r#""storagePolicy":"p""#,
            r#""birthArtifactID": "v0", "extra": {"k": 1.50}"#,
            r#""own":{"birthArtifactID":"v0","digest":"Bwg=","extra":{"k": 1.50},"size":9}"#,
            r#""elsewhere in base":{"digest": "x", "ref": "s3://bucket/y"}"#,
            r#""ref": "s3://bucket/x""#,
        ] {
            assert!(text.contains(kept), "{kept} {text}");
        }
        assert_eq!(
            merged("v0", BASE_TEXT.as_bytes(), text.as_bytes()).unwrap(),
            text.as_bytes(),
            "may be repeated"
        );
    }

    #[test]
    fn a_digest_finds_a_file_of_the_version_itself() {
        let text = merged("v0", BASE_TEXT.as_bytes(), ADDED_TEXT.as_bytes()).unwrap();
        let manifest = Manifest::parse(&text).unwrap();
        assert_eq!(manifest.name_by_digest("v1", "0102"), Some("c"));
        assert_eq!(manifest.name_by_digest("v0", "0102"), Some("a"));
        assert_eq!(manifest.name_by_digest("v0", "0708"), Some("own"));
        for other in ["0304", "", "x", "010"] {
            assert_eq!(manifest.name_by_digest("v1", other), None, "{other}");
        }
    }

    #[test]
    fn the_first_of_equal_files_is_found_whether_its_entry_names_the_owner_or_not() {
        let text = r#"{"contents": {
            "c": {"digest": "AQI="},
            "b": {"digest": "AQI=", "birthArtifactID": "v1"},
            "a": {"digest": "AQI=", "birthArtifactID": "v0"},
            "d": {"digest": "AwQ=", "birthArtifactID": ""},
            "e": {"digest": "AwQ=", "birthArtifactID": "v1"},
            "f": {"digest": "BQY=", "ref": "s3://bucket/x"}
        }}"#;
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        for (version, digest, expected) in [
            ("v1", "0102", Some("b")),
            ("v0", "0102", Some("a")),
            ("v2", "0102", Some("c")),
            ("v1", "0304", Some("d")),
            ("v1", "0506", None),
        ] {
            assert_eq!(manifest.name_by_digest(version, digest), expected, "{version} {digest}");
        }
        assert!(Manifest::default().name_by_digest("v1", "0102").is_none());
    }

    #[test]
    fn all_files_of_a_large_version_are_found_by_their_digests() {
        // Equal files of other versions come before the wanted ones: they must not be read one by one.
        let entry = |file: usize| {
            let own = format!(r#""own{file}": {{"digest": "{}"}}"#, STANDARD.encode(file.to_be_bytes()));
            format!(r#"{own}, "a{file}": {{"digest": "AQI=", "birthArtifactID": "v{file}"}}"#)
        };
        let entries: Vec<String> = (0..20_000).map(entry).collect();
        let manifest =
            Manifest::parse(format!(r#"{{"contents": {{{}}}}}"#, entries.join(",")).as_bytes()).unwrap();
        for file in 0..20_000_usize {
            let found = manifest.name_by_digest("v", &hex::encode(file.to_be_bytes()));
            assert_eq!(found, Some(format!("own{file}").as_str()));
            assert_eq!(manifest.name_by_digest("v", "0102"), None);
        }
    }

    #[test]
    fn rule_111_a_manifest_that_was_replaced_is_refused() {
        let digest = text_digest(BASE_TEXT.as_bytes());
        check_digest(BASE_TEXT.as_bytes(), &digest).unwrap();
        let error = check_digest(ADDED_TEXT.as_bytes(), &digest).unwrap_err();
        assert!(error.message.contains("replaced after the commit"), "{error}");
    }

    #[test]
    fn a_text_that_is_no_manifest_is_refused() {
        for wrong in [
            "",
            "7",
            "{",
            "[]",
            r#"{"contents": []}"#,
            r#"{"contents": {"a": []}}"#,
            r#"{"contents": {"a": {"digest": 1}}}"#,
        ] {
            let error = Manifest::parse(wrong.as_bytes()).unwrap_err();
            assert!(error.message.contains("log it again"), "{wrong}: {error}");
        }
        let empty = Manifest::parse(b"{}").unwrap();
        assert_eq!((empty.entries().count(), empty.has_references()), (0, false));
    }

    #[test]
    fn a_manifest_of_short_entries_needs_more_memory_than_its_text() {
        assert_eq!(memory_of(br#""a":{},"#), 5 * COPIES + ENTRY_BYTES + MEMBER_BYTES);
        check_length(MANIFEST_BYTES).unwrap();
        check_length(MANIFEST_BYTES + 1).unwrap_err();
    }
}
