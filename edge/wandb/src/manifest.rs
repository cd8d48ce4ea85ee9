//! Manifests. The manifest of a version is the list of its files, which its client uploads.
//!
//! Most versions have only files that were uploaded with them. A draft of another version, and an incremental version,
//! also have files of other versions. Such a file stays in the folder of its owner, the version that it was uploaded with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use matyan_channels::{in_order, is_missing, store_file};
use matyan_proto::artifacts::v1::get_response::Message;
use matyan_proto::artifacts::v1::{GetRequest, GetResponse};
use matyan_wire::content_types;
use serde_json::{Map, Value, json};
use tonic::Streaming;

use crate::batch::{RunBatch, publish_and_wait};
use crate::call::{CALLS_AT_A_TIME, CallContext};
use crate::documents::{self, ARTIFACTS, Members, text};
use crate::error::{Result, WandbError};
use crate::files::{ARTIFACT_FOLDER, MANIFEST, size, version_path};
use crate::manifest_cache::{ManifestKey, SharedManifest};
use crate::manifest_content::{Manifest, check_digest, check_length, memory_of, merged, text_digest};
use crate::names::{RunName, file_path};

/// The member of a version's document with the other owners of its files, by their ids. A version with references has it even
/// if there are none. A version without it is listed by its folder, also if it has references: earlier versions of this
/// server stored nothing about them.
const OWNERS: &str = "owners";

/// The member of a version's document with the id of the version that its client started from.
const BASE: &str = "base";

/// The member of a version's document that marks an incremental version, which adds files to the files of its base.
const IS_INCREMENTAL: &str = "incremental";

/// The member of a version's document with the digest of the manifest with which it was committed. Earlier versions of
/// this server have committed versions without it.
const MANIFEST_DIGEST: &str = "manifest_sha256";

/// W&B's type of a manifest that lists only the added files.
const INCREMENTAL: &str = "INCREMENTAL";

/// A version with files in its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) id: String,
    pub(crate) project: String,
    /// The id of its run in W&B.
    pub(crate) run: String,
    pub(crate) run_id: String,
    /// `None` if the version is not committed, or was committed without it.
    pub(crate) manifest_digest: Option<String>,
}

impl Owner {
    /// Reads an owner from the members of a version's document, or of an entry of `OWNERS`.
    fn new(id: &str, members: &Members) -> Self {
        Self {
            id: id.to_owned(),
            project: text(members, "project").to_owned(),
            run: text(members, "run").to_owned(),
            run_id: text(members, "run_id").to_owned(),
            manifest_digest: stored_digest(members).map(str::to_owned),
        }
    }

    pub(crate) fn of_version(version: &Members) -> Self {
        Self::new(text(version, "id"), version)
    }

    fn entry(&self) -> Value {
        let mut entry = json!({"project": self.project, "run": self.run, "run_id": self.run_id});
        if let Some(digest) = &self.manifest_digest {
            entry[MANIFEST_DIGEST] = digest.as_str().into();
        }
        entry
    }

    /// The path of a file in the run of the owner.
    pub(crate) fn path(&self, file: &str) -> Result<String> {
        version_path(&self.id, file)
    }
}

/// The digest of the manifest with which a version was committed.
pub(crate) fn stored_digest(version: &Members) -> Option<&str> {
    version.get(MANIFEST_DIGEST).and_then(Value::as_str)
}

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionFile {
    pub(crate) name: String,
    pub(crate) size: Option<u64>,
    pub(crate) owner: Arc<Owner>,
    /// Whether it stands for something that is not uploaded.
    pub(crate) is_reference: bool,
}

impl VersionFile {
    /// The path of the file in the run of its owner; empty for a reference, which may have a name that no file can have.
    pub(crate) fn path(&self) -> Result<String> {
        if self.is_reference { Ok(String::new()) } else { self.owner.path(&self.name) }
    }
}

/// The other owners of the files of a version. Null if there are none.
pub(crate) fn other_owners(version: &Members) -> &Value {
    version.get(OWNERS).unwrap_or(&Value::Null)
}

/// One of the other owners of files of a version.
pub(crate) fn other_owner(version: &Members, id: &str) -> Option<Owner> {
    Some(Owner::new(id, other_owners(version).get(id)?.as_object()?))
}

/// The size of the manifest of a version; `None` if it is not there.
async fn manifest_size(context: &CallContext, version: &Owner) -> Result<Option<u64>> {
    size(context, &version.run_id, &version.path(MANIFEST)?).await
}

/// Whether the other owners of the files of a version still have their files, which are deleted with their runs.
pub(crate) async fn has_files_of_others(context: &CallContext, version: &Members) -> Result<bool> {
    let mut owners = Vec::new();
    for (id, members) in other_owners(version).as_object().into_iter().flatten() {
        owners.push(Owner::new(id, members.as_object().ok_or_else(|| WandbError::broken(OWNERS))?));
    }
    let mut sizes = in_order(CALLS_AT_A_TIME, owners.iter().map(|owner| manifest_size(context, owner)));
    while let Some(size) = sizes.try_next().await? {
        if size.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The part of a list of files that a client asks for.
pub(crate) struct FileSelection<'n> {
    /// All if empty.
    pub(crate) names: BTreeSet<&'n str>,
    pub(crate) start: usize,
    pub(crate) length: usize,
    /// Whether the client wants to know the number of all files with these names.
    pub(crate) has_total: bool,
}

impl FileSelection<'_> {
    /// Adds the selected files of a part of the list.
    pub(crate) fn add<T>(
        &self,
        selected: &mut SelectedFiles<T>,
        files: impl Iterator<Item = T>,
        name: impl Fn(&T) -> &str,
    ) {
        for file in files.filter(|file| self.names.is_empty() || self.names.contains(name(file))) {
            if selected.total >= self.start && selected.files.len() < self.length {
                selected.files.push(file);
            }
            selected.total += 1;
        }
    }

    /// Whether the client needs nothing of the rest of the list.
    pub(crate) fn is_complete<T>(&self, selected: &SelectedFiles<T>) -> bool {
        let has_all_names = !self.names.is_empty() && selected.total >= self.names.len();
        // One more file shows that there is a next page.
        let has_page = selected.total > self.start.saturating_add(self.length);
        has_all_names || (has_page && !self.has_total)
    }
}

/// The files that were selected from a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SelectedFiles<T> {
    pub(crate) files: Vec<T>,
    /// The number of all files with the names of the selection, as far as the list was read.
    pub(crate) total: usize,
}

impl<T> SelectedFiles<T> {
    pub(crate) fn new() -> Self {
        Self { files: Vec::new(), total: 0 }
    }

    pub(crate) fn map<U>(self, file: impl FnMut(T) -> U) -> SelectedFiles<U> {
        SelectedFiles { files: self.files.into_iter().map(file).collect(), total: self.total }
    }
}

/// The selected files of a version with their owners, which are the version itself and the others.
pub(crate) async fn files(
    context: &CallContext,
    version: Owner,
    others: &Map<String, Value>,
    selection: &FileSelection<'_>,
) -> Result<SelectedFiles<VersionFile>> {
    // A manifest may be kept longer than its run.
    let manifest = match manifest_size(context, &version).await? {
        Some(_) => read(context, &version).await?.unwrap_or_default(),
        None => Arc::default(),
    };
    let version = Arc::new(version);
    let others = others.iter().filter_map(|(id, members)| Some((id, members.as_object()?)));
    let others: BTreeMap<&str, Arc<Owner>> =
        others.map(|(id, members)| (id.as_str(), Arc::new(Owner::new(id, members)))).collect();
    let mut selected = SelectedFiles::new();
    selection.add(&mut selected, manifest.entries(), |(name, _)| name.as_str());
    Ok(selected.map(|(name, entry)| {
        let owner = others.get(entry.owner(&version.id)).unwrap_or(&version);
        VersionFile {
            name: name.clone(),
            size: entry.listed_size(),
            owner: Arc::clone(owner),
            is_reference: entry.is_reference(),
        }
    }))
}

/// Sets the base of a version, and whether its manifest lists only the files that are added to the base.
pub(crate) fn set_base(version: &mut Members, manifest_type: Option<&str>, base: Option<&str>) {
    if let Some(base) = base {
        version.insert(BASE.to_owned(), base.into());
        version.insert(IS_INCREMENTAL.to_owned(), (manifest_type == Some(INCREMENTAL)).into());
    }
}

fn is_incremental(version: &Members) -> bool {
    version.get(IS_INCREMENTAL).and_then(Value::as_bool).unwrap_or_default()
}

/// A version whose files are uploaded, with everything that its commit stores about them.
pub(crate) struct CompleteVersion {
    /// The number of references and of files of other versions, and their size as the client has sent it.
    pub(crate) totals_elsewhere: (u64, u64),
    manifest_digest: String,
    /// The owners of files besides this version.
    other_owners: Map<String, Value>,
    has_references: bool,
}

impl CompleteVersion {
    /// Adds what this module stores to the document of the version.
    pub(crate) fn describe(&self, version: &mut Members) {
        version.insert(MANIFEST_DIGEST.to_owned(), self.manifest_digest.as_str().into());
        if self.has_references || !self.other_owners.is_empty() {
            version.insert(OWNERS.to_owned(), self.other_owners.clone().into());
        }
    }
}

/// The parts of a manifest that a commit stores.
struct ManifestSummary {
    digest: String,
    totals_elsewhere: (u64, u64),
    /// The owners of files besides the version itself.
    owners: BTreeSet<String>,
    has_references: bool,
}

impl ManifestSummary {
    /// Reads the manifest of a version, and checks the names of its files.
    fn new(text: &[u8], version: &str) -> Result<Self> {
        let manifest = Manifest::parse(text)?;
        for (name, _) in manifest.files() {
            file_path(name)?;
        }
        Ok(Self {
            digest: text_digest(text),
            totals_elsewhere: manifest.totals_elsewhere(version),
            owners: manifest.owners_besides(version).into_iter().map(str::to_owned).collect(),
            has_references: manifest.has_references(),
        })
    }
}

/// Completes a version whose files are uploaded: the manifest of an incremental version gets the entries of its base.
pub(crate) async fn complete(context: &CallContext, version: &Members) -> Result<CompleteVersion> {
    let own = Owner::of_version(version);
    let mut manifest_text = Bytes::from(read_text(context, &own).await?.ok_or_else(no_manifest)?);
    let base = base_of(context, version).await?;
    if let Some(base) = base.as_ref().filter(|_| is_incremental(version))
        && let Some(base_text) = committed_text(context, &Owner::of_version(base)).await?
    {
        let base_id = text(base, "id").to_owned();
        let bytes = base_text.len() + manifest_text.len();
        let merge = move || {
            let merged_text = merged(&base_id, &base_text, &manifest_text)?;
            // A longer manifest could not be read again.
            check_length(merged_text.len())?;
            let memory = memory_of(&merged_text);
            Ok::<_, WandbError>((Bytes::from(merged_text), memory))
        };
        let (merged_text, memory) = context.large_work.run(bytes, merge).await?;
        context.budget.charge_manifest(memory)?;
        manifest_text = merged_text;
        let path = own.path(MANIFEST)?;
        let content = manifest_text.clone();
        store_file(&context.channels, &own.run_id, &path, content_types::of_name(&path), content).await?;
        let mut batch = RunBatch::default();
        batch.announce(&own.run_id, &path);
        publish_and_wait(&context.channels, &own.run_id, batch).await?.check_visible()?;
    }
    let bytes = manifest_text.len();
    let summarize = move || ManifestSummary::new(&manifest_text, &own.id);
    let ManifestSummary { digest, totals_elsewhere, owners, has_references } =
        context.large_work.run(bytes, summarize).await?;
    let other_owners = found_owners(context, &owners, base.as_ref()).await?;
    Ok(CompleteVersion { totals_elsewhere, manifest_digest: digest, other_owners, has_references })
}

fn no_manifest() -> WandbError {
    WandbError::invalid("the manifest of the artifact was not uploaded: log it again")
}

/// The base of a version; `None` if it has no base, or if the base was deleted.
async fn base_of(context: &CallContext, version: &Members) -> Result<Option<Members>> {
    match text(version, BASE) {
        "" => Ok(None),
        id => documents::read(&context.channels, ARTIFACTS, id).await,
    }
}

/// Adds the wanted owners that a version knows.
fn inherit_owners(inherited: &mut Map<String, Value>, version: &Members, wanted: &BTreeSet<String>) {
    let known = other_owners(version).as_object().into_iter().flatten();
    let known = known.filter(|(id, _)| wanted.contains(id.as_str()));
    inherited.extend(known.map(|(id, owner)| (id.clone(), owner.clone())));
}

/// The entries of all wanted owners of files. A deleted owner is still known to the versions that have its files; the base
/// of this version may be one of them.
async fn found_owners(
    context: &CallContext,
    wanted: &BTreeSet<String>,
    base: Option<&Members>,
) -> Result<Map<String, Value>> {
    let mut found = Map::new();
    let mut inherited = Map::new();
    if let Some(base) = base {
        inherit_owners(&mut inherited, base, wanted);
    }
    let reads = wanted.iter().map(|id| documents::read(&context.channels, ARTIFACTS, id));
    let mut owners = stream::iter(wanted).zip(in_order(CALLS_AT_A_TIME, reads));
    while let Some((id, owner)) = owners.next().await {
        let Some(owner) = owner? else { continue };
        found.insert(id.clone(), Owner::of_version(&owner).entry());
        inherit_owners(&mut inherited, &owner, wanted);
    }
    for id in wanted {
        if found.contains_key(id) {
            continue;
        }
        let owner = inherited.remove(id).ok_or_else(|| {
            WandbError::invalid(
                "the artifact has files of a version that was deleted: add these files to the artifact again",
            )
        })?;
        found.insert(id.clone(), owner);
    }
    Ok(found)
}

/// The version whose manifest has this path in a run; `None` for any other file.
fn version_of_manifest(path: &str) -> Option<&str> {
    let version = path.strip_prefix(ARTIFACT_FOLDER)?.strip_suffix(MANIFEST)?.strip_suffix('/')?;
    (!version.contains('/')).then_some(version)
}

/// The text of the file at this path of a run, if it is the manifest of a committed version; `None` for any other file.
pub(crate) async fn manifest_at(context: &CallContext, run: &RunName, path: &str) -> Result<Option<Bytes>> {
    let Some(id) = version_of_manifest(path) else { return Ok(None) };
    let Some(members) = documents::read(&context.channels, ARTIFACTS, id).await? else { return Ok(None) };
    let version = Owner::of_version(&members);
    let is_of_run = version.run_id == run.run_id() || version.run_id == run.id;
    if !is_of_run || version.manifest_digest.is_none() {
        return Ok(None);
    }
    committed_text(context, &version).await
}

/// The text of the manifest of a version, if it was not replaced after the commit; `None` if it is not there.
async fn committed_text(context: &CallContext, version: &Owner) -> Result<Option<Bytes>> {
    let Some(text) = read_text(context, version).await?.map(Bytes::from) else { return Ok(None) };
    if let Some(digest) = version.manifest_digest.clone() {
        let checked = text.clone();
        context.large_work.run(text.len(), move || check_digest(&checked, &digest)).await?;
    }
    Ok(Some(text))
}

/// The manifest of a version; `None` if it is not there.
pub(crate) async fn read(context: &CallContext, version: &Owner) -> Result<Option<Arc<SharedManifest>>> {
    if let Some(digest) = &version.manifest_digest {
        let key = ManifestKey::Digest(digest.clone());
        let read = || read_committed(context, version);
        return context.manifests.get_or_read(&key, &context.budget, read).await;
    }
    // Another text may replace this one. The bytes then have another version.
    let Some(described) = OpenText::describe(context, version).await? else { return Ok(None) };
    if let Some(known) = described.key.as_ref().and_then(|key| context.manifests.get(key)) {
        return Ok(Some(known));
    }
    let Some(open) = OpenText::open(context, version).await? else { return Ok(None) };
    match open.key.clone() {
        Some(key) => context.manifests.get_or_read(&key, &context.budget, || open.parsed(context)).await,
        None => Ok(open.parsed(context).await?.map(|manifest| Arc::new(manifest.into()))),
    }
}

async fn read_committed(context: &CallContext, version: &Owner) -> Result<Option<Manifest>> {
    match committed_text(context, version).await? {
        Some(text) => parsed(context, text).await.map(Some),
        None => Ok(None),
    }
}

async fn parsed(context: &CallContext, text: Bytes) -> Result<Manifest> {
    context.large_work.run(text.len(), move || Manifest::parse(&text)).await
}

/// The manifest of a version as its client has uploaded it; `None` if it is not there.
async fn read_text(context: &CallContext, version: &Owner) -> Result<Option<Vec<u8>>> {
    match OpenText::open(context, version).await? {
        Some(open) => open.read(context).await,
        None => Ok(None),
    }
}

/// The manifest of a version whose text is not read yet.
struct OpenText {
    chunks: Streaming<GetResponse>,
    /// The place and the version of the bytes; `None` if the blob store reports no version.
    key: Option<ManifestKey>,
}

impl OpenText {
    /// Opens the manifest of a version; `None` if it is not there.
    async fn open(context: &CallContext, version: &Owner) -> Result<Option<Self>> {
        Self::open_part(context, version, None).await
    }

    /// Like `open`, but without the text, so that the blob store does not open the blob.
    async fn describe(context: &CallContext, version: &Owner) -> Result<Option<Self>> {
        Self::open_part(context, version, Some(0)).await
    }

    async fn open_part(context: &CallContext, version: &Owner, length: Option<u64>) -> Result<Option<Self>> {
        let path = version.path(MANIFEST)?;
        let request = GetRequest { run_id: version.run_id.clone(), path, offset: 0, length };
        let mut messages = match context.channels.artifacts().get(request).await {
            Ok(response) => response.into_inner(),
            Err(status) if is_missing(&status) => return Ok(None),
            Err(status) => return Err(status.into()),
        };
        let first = match messages.message().await {
            Ok(first) => first.ok_or_else(|| WandbError::broken("artifact"))?,
            Err(status) if is_missing(&status) => return Ok(None),
            Err(status) => return Err(status.into()),
        };
        let Some(Message::Artifact(artifact)) = first.message else {
            return Err(WandbError::broken("artifact"));
        };
        let is_known = !first.version.is_empty() && !artifact.uri.is_empty();
        let key = is_known.then_some(ManifestKey::StoredBytes { uri: artifact.uri, version: first.version });
        Ok(Some(Self { chunks: messages, key }))
    }

    /// Reads the text; `None` if it is not there.
    async fn read(mut self, context: &CallContext) -> Result<Option<Vec<u8>>> {
        let mut content = Vec::new();
        loop {
            let chunk = match self.chunks.message().await {
                Ok(Some(message)) => match message.message {
                    Some(Message::Chunk(chunk)) => chunk,
                    Some(Message::Artifact(_)) | None => continue,
                },
                Ok(None) => return Ok(Some(content)),
                Err(status) if is_missing(&status) => return Ok(None),
                Err(status) => return Err(status.into()),
            };
            check_length(content.len() + chunk.len())?;
            // Before it is parsed.
            context.budget.charge_manifest(memory_of(&chunk))?;
            content.extend_from_slice(&chunk);
        }
    }

    async fn parsed(self, context: &CallContext) -> Result<Option<Manifest>> {
        match self.read(context).await? {
            Some(text) => parsed(context, Bytes::from(text)).await.map(Some),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_inherits_the_owners_that_it_wants() {
        let base = json!({"owners": {"v0": {"run": "first"}, "v1": {"run": "second"}}});
        let mut inherited = Map::new();
        let wanted = ["v0", "v7"].map(str::to_owned);
        inherit_owners(&mut inherited, base.as_object().unwrap(), &BTreeSet::from(wanted));
        assert_eq!(Value::from(inherited), json!({"v0": {"run": "first"}}));
    }

    #[test]
    fn a_commit_stores_a_summary_of_the_manifest() {
        let text = r#"{"contents": {
            "a": {"size": 2, "birthArtifactID": "v0"}, "b": {"size": 3, "birthArtifactID": "v0"},
            "c": {"size": 5, "birthArtifactID": "v1"}, "d": {"size": 7},
            "e": {"size": 11, "birthArtifactID": "v9", "ref": "s3://bucket/x"}
        }}"#;
        let summary = ManifestSummary::new(text.as_bytes(), "v1").unwrap();
        assert_eq!(summary.totals_elsewhere, (3, 16));
        assert!(summary.has_references);
        assert_eq!(summary.owners, BTreeSet::from(["v0".to_owned()]));
        assert_eq!(summary.digest, text_digest(text.as_bytes()));
        assert!(ManifestSummary::new(br#"{"contents": {"../a": {}}}"#, "v1").is_err());
    }

    #[test]
    fn only_an_incremental_version_adds_files_to_its_base() {
        let base_of = |manifest_type: Option<&str>, base: Option<&str>| {
            let mut version = Members::new();
            set_base(&mut version, manifest_type, base);
            (text(&version, BASE).to_owned(), is_incremental(&version))
        };
        assert_eq!(base_of(Some("INCREMENTAL"), Some("v0")), ("v0".to_owned(), true));
        assert_eq!(base_of(Some("FULL"), Some("v0")), ("v0".to_owned(), false));
        assert_eq!(base_of(Some("INCREMENTAL"), None), (String::new(), false));
    }

    #[test]
    fn rule_112_files_of_owners_stay_in_their_folders() {
        let members = json!({"project": "p", "run": "r", "run_id": "r:p"});
        let owner = Owner::new("v0", members.as_object().unwrap());
        assert_eq!(owner.path("a/b").unwrap(), "wandb-artifacts/v0/a/b");
        owner.path("../v1/a").unwrap_err();
        assert_eq!(Owner::new("v0", owner.entry().as_object().unwrap()), owner);
        let committed = Owner { manifest_digest: Some("0a".to_owned()), ..owner };
        assert_eq!(Owner::new("v0", committed.entry().as_object().unwrap()), committed);
    }

    #[test]
    fn a_list_is_read_as_far_as_the_client_needs_it() {
        let pieces = [["a", "b"], ["c", "d"], ["e", "f"]];
        let read = |names: &[&str], start, length, has_total| {
            let names = names.iter().copied().collect();
            let selection = FileSelection { names, start, length, has_total };
            let mut selected = SelectedFiles::new();
            for piece in pieces {
                if selection.is_complete(&selected) {
                    break;
                }
                selection.add(&mut selected, piece.into_iter(), |name| *name);
            }
            (selected.files.concat(), selected.total)
        };
        assert_eq!(read(&[], 0, 1, false), ("a".to_owned(), 2));
        assert_eq!(read(&[], 0, 2, false), ("ab".to_owned(), 4), "a next page is known by its first file");
        assert_eq!(read(&[], 3, 2, false), ("de".to_owned(), 6));
        assert_eq!(read(&[], 0, 1, true), ("a".to_owned(), 6));
        assert_eq!(read(&["a", "d"], 0, usize::MAX, true), ("ad".to_owned(), 2));
        assert_eq!(read(&["a", "x"], 0, usize::MAX, false), ("a".to_owned(), 1));
    }

    #[test]
    fn a_manifest_is_known_by_its_path() {
        assert_eq!(version_of_manifest("wandb-artifacts/v0/wandb_manifest.json"), Some("v0"));
        for other in
            ["wandb-artifacts/v0/a", "wandb-artifacts/v0/a/wandb_manifest.json", "wandb_manifest.json"]
        {
            assert_eq!(version_of_manifest(other), None, "{other}");
        }
    }
}
