//! An archive that is read: checked whole before anything is sent, by its checksums, or else by reading every line of it. An
//! archive of another's making has no checksums, and fewer files.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use matyan_proto::backup::v1 as pb;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

pub(crate) use super::run_reader::{Run, Step};
use super::{
    ENTITIES, Error, MANIFEST, PROJECT, RUNS, Record, Result, TOMBSTONES, UNFINISHED, VERSION, at, damaged,
    entities, folder,
    lines::{self, Lines},
    sums::{self, Sums},
    unpack,
    writer::UNSUMMED,
};

pub(crate) struct Archive {
    root: PathBuf,
    /// What was unpacked goes with this value.
    _unpacked: Option<TempDir>,
    manifest: Record,
    /// Folders of runs, in order.
    pub(crate) runs: Vec<String>,
    /// Of every file, in the archive's list or computed.
    sums: Sums,
    is_summed: bool,
}

/// What a look at one file came to.
pub(crate) struct Checked {
    pub(crate) files: u64,
    pub(crate) of: u64,
}

const NEEDED: [&str; 4] = ["run.json", "attrs.json", "traces.json", "contexts.json"];

impl Archive {
    /// Opens a folder or a `.tar.gz`, and checks what is there, by name.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(Error::NoArchive(format!("there is no archive {}", path.display())));
        }
        let (unpacked, root) = match path.is_dir() {
            true => (None, path.to_owned()),
            false => unpack(path).map(|(folder, root)| (Some(folder), root))?,
        };
        if root.join(UNFINISHED).exists() {
            let reason = "is the beginning of a backup: run the same `matyan backup` again to finish it";
            return Err(Error::NoArchive(format!("{} {reason}", path.display())));
        }
        if !root.join(MANIFEST).is_file() {
            return Err(Error::NoArchive(format!("{} is no archive: it has no {MANIFEST}", path.display())));
        }
        let manifest = lines::object(&root, MANIFEST)?;
        match manifest.integer("format_version")? {
            Some(VERSION) => {}
            Some(other) => {
                return Err(manifest.error(format!("format {other} is not known here, only {VERSION}")));
            }
            None => return Err(manifest.error("`format_version` is not there")),
        }
        let runs = runs(&root, &manifest)?;
        let sums = sums::read(&root)?;
        let is_summed = sums.is_some();
        Ok(Self { root, _unpacked: unpacked, manifest, runs, sums: sums.unwrap_or_default(), is_summed })
    }

    /// Looks at every file: its sum, and, if there are no sums to compare or `every_line` is asked for, everything in it.
    pub(crate) fn check(&mut self, every_line: bool, mut told: impl FnMut(Checked)) -> Result<()> {
        let mut files = BTreeSet::new();
        collect(&self.root, Path::new(""), &mut files)?;
        let of = files.len() as u64;
        let mut found = Sums::new();
        for (file, number) in files.iter().zip(1..) {
            let sum = sums::sum(&self.root.join(file))?;
            if self.is_summed {
                match self.sums.get(file) {
                    Some(expected) if *expected == sum => {}
                    Some(_) => return Err(damaged(file, "is not what it was when the backup was made")),
                    None => {
                        return Err(damaged(
                            file,
                            "is not of the backup: it is not in the list of checksums",
                        ));
                    }
                }
            }
            found.insert(file.clone(), sum);
            told(Checked { files: number, of });
        }
        if let Some(missing) = self.sums.keys().find(|file| !found.contains_key(*file)) {
            return Err(damaged(missing, "is missing"));
        }
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
        for folder in &self.runs {
            let mut run = self.run(folder, true, 0)?;
            while run.next_step()?.is_some() {}
        }
        Ok(())
    }

    /// Names the content of a run: equal for equal content alone, as it is read here.
    pub(crate) fn source(&self, folder: &str, with_blobs: bool) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(if with_blobs { "matyan run 1" } else { "matyan run 1 without blobs" });
        let prefix = format!("{RUNS}/{folder}/");
        for (file, sum) in self.sums.range(prefix.clone()..).take_while(|(file, _)| file.starts_with(&prefix))
        {
            digest.update(format!("\n{sum} {file}"));
        }
        digest.finalize().into()
    }

    pub(crate) fn run(&self, folder: &str, with_blobs: bool, position: u64) -> Result<Run> {
        Run::open(&self.root, folder, with_blobs, position)
    }

    /// All entities; those of kinds that are not known here are left out. What tells no time is of `now_us`.
    pub(crate) fn entities(&self, now_us: i64) -> Result<Vec<pb::Entity>> {
        let mut found = Vec::new();
        if let Some(mut lines) = Lines::open(&self.root, ENTITIES, 0)? {
            while let Some(line) = lines.next()? {
                found.extend(entities::entity(&line, now_us)?);
            }
        }
        Ok(found)
    }

    pub(crate) fn settings(&self) -> Result<Option<pb::Settings>> {
        match self.root.join(PROJECT).exists() {
            true => entities::settings(&lines::object(&self.root, PROJECT)?).map(Some),
            false => Ok(None),
        }
    }

    pub(crate) fn tombstones(&self) -> Result<Vec<pb::Tombstone>> {
        let mut found = Vec::new();
        if let Some(mut lines) = Lines::open(&self.root, TOMBSTONES, 0)? {
            while let Some(line) = lines.next()? {
                found.push(entities::tombstone(&line)?);
            }
        }
        Ok(found)
    }

    /// Where the log stood; an archive of another's making does not say.
    pub(crate) fn cut(&self) -> Result<Option<pb::Cut>> {
        self.manifest.inner("log")?.map(|cut| entities::cut(&cut)).transpose()
    }
}

/// The folders of runs, which must be those that the manifest names.
fn runs(root: &Path, manifest: &Record) -> Result<Vec<String>> {
    let place = root.join(RUNS);
    if !place.is_dir() {
        return Err(damaged(RUNS, "is missing"));
    }
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(&place).map_err(at(&place))? {
        let entry = entry.map_err(at(&place))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type().map_err(at(&place))?.is_dir() {
            return Err(damaged(format!("{RUNS}/{name}"), "is not a folder of a run"));
        }
        found.insert(name);
    }
    let named: BTreeSet<_> =
        manifest.texts("run_hashes")?.iter().map(|run| named_folder(&found, run)).collect();
    if let Some(missing) = named.difference(&found).next() {
        return Err(damaged(format!("{RUNS}/{missing}"), "is in the manifest and missing"));
    }
    if let Some(extra) = found.difference(&named).next() {
        return Err(damaged(format!("{RUNS}/{extra}"), "is not in the manifest"));
    }
    for run in &found {
        for file in NEEDED {
            if !place.join(run).join(file).is_file() {
                return Err(damaged(format!("{RUNS}/{run}/{file}"), "is missing"));
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// The manifest names folders; one that names a run whose id is no good folder means the folder of it.
fn named_folder(found: &BTreeSet<String>, run: &str) -> String {
    if found.contains(run) { run.to_owned() } else { folder(run) }
}

/// Every file, by its path inside. Links and whatever else is no file are refused.
fn collect(root: &Path, inside: &Path, files: &mut BTreeSet<String>) -> Result<()> {
    let place = root.join(inside);
    for entry in fs::read_dir(&place).map_err(at(&place))? {
        let entry = entry.map_err(at(&place))?;
        let kind = entry.file_type().map_err(at(&place))?;
        let path = inside.join(entry.file_name());
        let Some(name) = path.to_str() else { return Err(damaged(&path, "has no name that is text")) };
        if kind.is_dir() {
            collect(root, &path, files)?;
        } else if !kind.is_file() {
            return Err(damaged(&path, "is neither a file nor a folder"));
        } else if !UNSUMMED.contains(&name) {
            files.insert(name.to_owned());
        }
    }
    Ok(())
}
