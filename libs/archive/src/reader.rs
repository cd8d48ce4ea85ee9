//! Reader for archives. An archive is checked completely before anything is sent: by its
//! checksums or, without them, by reading every line. Archives made by other programs have no
//! checksums and fewer files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
};

use matyan_proto::backup::v1 as pb;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{
    ENTITIES, Error, JsonObject, MANIFEST, PROJECT, RUNS, Result, TOMBSTONES, UNFINISHED, VERSION,
    checksums::{self, Checksums},
    damaged, entities, file_error,
    file_in::open_in,
    lines::{self, LineReader},
    run_files, run_folder, unpack,
};
pub use super::{
    run_files::RunDescription, run_reader::RunReader, run_step::RunStep, studies_file::StudyLines,
};

pub struct ArchiveReader {
    root: PathBuf,
    /// Removes the unpacked files on drop.
    _unpacked: Option<TempDir>,
    manifest: JsonObject,
    /// Folders of the runs, sorted.
    pub runs: Vec<String>,
    /// Checksums of all files, from the archive's list or computed.
    sums: Checksums,
    is_summed: bool,
}

/// Progress of a check, reported after each file.
pub struct CheckProgress {
    pub files: u64,
    pub total: u64,
}

const NEEDED: [&str; 4] = ["run.json", "attrs.json", "traces.json", "contexts.json"];

impl ArchiveReader {
    /// Opens a folder or a `.tar.gz` and checks that the required files exist.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(Error::NotAnArchive(format!("archive {} not found", path.display())));
        }
        let (unpacked, root) = if path.is_dir() {
            (None, path.to_owned())
        } else {
            unpack(path).map(|(folder, root)| (Some(folder), root))?
        };
        if root.join(UNFINISHED).exists() {
            let reason = "is an unfinished backup: run the same `matyan backup` again to finish it";
            return Err(Error::NotAnArchive(format!("{} {reason}", path.display())));
        }
        if !root.join(MANIFEST).is_file() {
            return Err(Error::NotAnArchive(format!(
                "{} is not an archive: it has no {MANIFEST}",
                path.display()
            )));
        }
        let manifest = lines::object(&root, MANIFEST)?;
        match manifest.integer("format_version")? {
            Some(VERSION) => {}
            Some(other) => {
                return Err(manifest
                    .error(format!("unsupported format {other}: this version reads only format {VERSION}")));
            }
            None => return Err(manifest.error("`format_version` is missing")),
        }
        let runs = runs(&root, &manifest)?;
        let sums = checksums::read(&root)?;
        let is_summed = sums.is_some();
        Ok(Self { root, _unpacked: unpacked, manifest, runs, sums: sums.unwrap_or_default(), is_summed })
    }

    /// Checks every file by its checksum and, if the archive has none or `every_line` is
    /// set, by reading its whole content.
    pub fn check(&mut self, every_line: bool, mut progress: impl FnMut(CheckProgress)) -> Result<()> {
        let mut files = BTreeSet::new();
        checksums::collect_files(&self.root, Path::new(""), &mut files)?;
        let total = files.len() as u64;
        let mut found = Checksums::new();
        for (file, number) in files.iter().zip(1..) {
            let sum = checksums::sum(&self.root, file)?;
            if self.is_summed {
                match self.sums.get(file) {
                    Some(expected) if *expected == sum => {}
                    Some(_) => return Err(damaged(file, "has changed since the backup was made")),
                    None => {
                        return Err(damaged(
                            file,
                            "is not part of the backup: it is not in the list of checksums",
                        ));
                    }
                }
            }
            found.insert(file.clone(), sum);
            progress(CheckProgress { files: number, total });
        }
        if let Some(missing) = self.sums.keys().find(|file| !found.contains_key(*file)) {
            return Err(damaged(missing, "is missing"));
        }
        // `content_id` needs them even if the archive has no list of checksums.
        self.sums = found;
        if every_line || !self.is_summed {
            self.check_lines()?;
        }
        Ok(())
    }

    fn check_lines(&self) -> Result<()> {
        self.entities(0)?;
        self.settings()?;
        self.tombstones()?;
        self.cut()?;
        let mut studies = self.studies()?;
        while studies.next_part()?.is_some() {}
        for folder in &self.runs {
            let mut run = self.open_run(folder, true, 0)?;
            while run.next_step()?.is_some() {}
        }
        Ok(())
    }

    /// Opens the file of a blob.
    pub fn open_blob(&self, file: &Path) -> Result<File> {
        let name = file.strip_prefix(&self.root).unwrap_or(file);
        open_in(&self.root, name).map_err(file_error(file))
    }

    /// Returns an identifier of a run's content: it is the same only for the same content,
    /// as this reader sees it.
    pub fn content_id(&self, folder: &str, with_blobs: bool) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(if with_blobs { "matyan run 1" } else { "matyan run 1 without blobs" });
        let prefix = format!("{RUNS}/{folder}/");
        for (file, sum) in self.sums.range(prefix.clone()..).take_while(|(file, _)| file.starts_with(&prefix))
        {
            digest.update(format!("\n{sum} {file}"));
        }
        digest.finalize().into()
    }

    /// Whether a run was in the bin of its server.
    pub fn is_binned(&self, folder: &str) -> Result<bool> {
        run_files::is_binned(&self.root, folder)
    }

    pub fn describe_run(&self, folder: &str) -> Result<RunDescription> {
        RunDescription::read(&self.root, folder)
    }

    pub fn open_run(&self, folder: &str, with_blobs: bool, position: u64) -> Result<RunReader> {
        RunReader::open(&self.root, folder, with_blobs, position)
    }

    /// Returns all entities except entities of unknown kinds. A missing creation time is
    /// replaced by `now_us`.
    pub fn entities(&self, now_us: i64) -> Result<Vec<pb::Entity>> {
        self.entities_that(now_us, |_| true)
    }

    /// Returns the entities of one kind, by its name in archives, such as `tag`.
    pub fn entities_of(&self, kind: &str) -> Result<Vec<pb::Entity>> {
        self.entities_that(0, |found| found == kind)
    }

    fn entities_that(&self, now_us: i64, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<pb::Entity>> {
        let mut found = Vec::new();
        if let Some(mut lines) = LineReader::open(&self.root, ENTITIES, 0)? {
            while let Some(line) = lines.next()? {
                if is_wanted(&line.required_text("entity_type")?) {
                    found.extend(entities::entity(&line, now_us)?);
                }
            }
        }
        Ok(found)
    }

    pub fn settings(&self) -> Result<Option<pb::Settings>> {
        if self.root.join(PROJECT).exists() {
            entities::settings(&lines::object(&self.root, PROJECT)?).map(Some)
        } else {
            Ok(None)
        }
    }

    pub fn tombstones(&self) -> Result<Vec<pb::Tombstone>> {
        let mut found = Vec::new();
        if let Some(mut lines) = LineReader::open(&self.root, TOMBSTONES, 0)? {
            while let Some(line) = lines.next()? {
                found.push(entities::tombstone(&line)?);
            }
        }
        Ok(found)
    }

    /// Returns the parts of all studies, to be read one by one.
    pub fn studies(&self) -> Result<StudyLines> {
        StudyLines::open(&self.root)
    }

    /// Returns the number of blobs that were missing at backup time.
    pub fn blobs_lost(&self) -> Result<u64> {
        Ok(self.manifest.unsigned("blobs_lost")?.unwrap_or_default())
    }

    /// Returns the log positions of the snapshot; archives made by other programs have
    /// none.
    pub fn cut(&self) -> Result<Option<pb::Cut>> {
        let Some(cut) = self.manifest.inner("log")? else { return Ok(None) };
        let filters = self.manifest.inner("filters")?;
        let filtered = filters.is_some_and(|filters| filters.entries().next().is_some());
        Ok(Some(pb::Cut { filtered, ..entities::cut(&cut)? }))
    }

    /// Returns the folders of all runs, parents before children.
    pub fn parents_first(&self) -> Result<Vec<String>> {
        let mut parents = BTreeMap::new();
        for run in &self.runs {
            let record = lines::object(&self.root, &format!("{RUNS}/{run}/run.json"))?;
            if let Some(parent) = record.inner("parent")? {
                let parent = parent.required_text("hash")?;
                // The parent is named by its id, which need not be the name of its folder.
                let is_folder = self.runs.binary_search(&parent).is_ok();
                parents.insert(run.clone(), if is_folder { parent } else { run_folder(&parent) });
            }
        }
        Ok(parents_before_children(&self.runs, &parents))
    }
}

/// Orders the runs; a cycle is broken where it was entered.
fn parents_before_children(runs: &[String], parents: &BTreeMap<String, String>) -> Vec<String> {
    let mut left: BTreeSet<_> = runs.iter().collect();
    let mut order = Vec::new();
    for run in runs {
        let mut line = Vec::new();
        let mut next = Some(run);
        // Removing a run as it is visited also ends a cycle.
        while let Some(run) = next.filter(|run| left.remove(*run)) {
            line.push(run.clone());
            next = parents.get(run);
        }
        order.extend(line.into_iter().rev());
    }
    order
}

/// Returns the folders of all runs, after checking them against the manifest.
fn runs(root: &Path, manifest: &JsonObject) -> Result<Vec<String>> {
    let folder = root.join(RUNS);
    if !folder.is_dir() {
        return Err(damaged(RUNS, "is missing"));
    }
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(&folder).map_err(file_error(&folder))? {
        let entry = entry.map_err(file_error(&folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type().map_err(file_error(&folder))?.is_dir() {
            return Err(damaged(format!("{RUNS}/{name}"), "is not a run folder"));
        }
        found.insert(name);
    }
    let named: BTreeSet<_> =
        manifest.texts("run_hashes")?.iter().map(|run| named_folder(&found, run)).collect();
    if let Some(missing) = named.difference(&found).next() {
        return Err(damaged(format!("{RUNS}/{missing}"), "is in the manifest but missing"));
    }
    if let Some(extra) = found.difference(&named).next() {
        return Err(damaged(format!("{RUNS}/{extra}"), "is not in the manifest"));
    }
    for run in &found {
        for file in NEEDED {
            if !folder.join(run).join(file).is_file() {
                return Err(damaged(format!("{RUNS}/{run}/{file}"), "is missing"));
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// Returns the folder that an entry of the manifest names: our own archives list folders,
/// others list run ids.
fn named_folder(found: &BTreeSet<String>, run: &str) -> String {
    if found.contains(run) { run.to_owned() } else { run_folder(run) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_their_children() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let runs = texts(&["a", "b", "c", "d", "e", "x", "y", "z"]);
        let links = [("a", "c"), ("c", "z"), ("b", "z"), ("d", "gone"), ("x", "y"), ("y", "x"), ("e", "e")];
        let parents = links.map(|(child, parent)| (child.to_owned(), parent.to_owned())).into();
        let order = parents_before_children(&runs, &parents);
        assert_eq!(order, texts(&["z", "c", "a", "b", "d", "e", "y", "x"]));
    }

    #[test]
    fn positions_of_a_filtered_archive_are_marked_as_filtered() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(RUNS)).unwrap();
        for (filters, filtered) in [("{}", false), (r#"{"experiment": "e"}"#, true), ("null", false)] {
            let manifest = format!(
                r#"{{"format_version": 1, "run_hashes": [], "filters": {filters},
                "log": {{"number": 3, "identity": "", "partitions": 1, "applied": []}}}}"#
            );
            fs::write(root.path().join(MANIFEST), manifest).unwrap();
            let cut = ArchiveReader::open(root.path()).unwrap().cut().unwrap().unwrap();
            assert_eq!((cut.log, cut.filtered), (3, filtered), "{filters}");
        }
    }
}
