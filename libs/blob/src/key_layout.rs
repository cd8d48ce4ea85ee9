//! Layout of blob keys. Every key of a run is formed here, so that frontier, workers and
//! backend agree on it.
//!
//! ```text
//! {run}/{path}                            in the default project
//! .projects/{project}/{run}/{path}        in any other project
//! ```
//!
//! Clients send, and rows hold, a *reference*: `{run}/{path}`, regardless of the project. A
//! frontier refuses run ids that cannot be folder names; for an id that entered the store another
//! way (`..`, `a//b`), `.projects/{BLAKE3 of the id}` replaces the id. In the default project, a
//! reference that starts with `.projects` is stored one folder deeper, so none leads into another
//! project.

use crate::{BlobKey, Error, Result};

/// Prefix of the keys of all projects but the default one. No run or project has this name.
const PROJECTS: &str = ".projects";

/// Folder of payloads that were moved out of their rows, and of parts of uploads; clients cannot choose a path in it.
const MOVED: &str = ".matyan";

/// Folder of parts of uploads, below `MOVED`.
const PARTS: &str = "parts";

/// Forms a key from a project and a reference. All keys are made here.
fn key_text(project: &str, reference: &str) -> Result<String> {
    if !project.is_empty() {
        if is_valid_folder_name(project) {
            return Ok(format!("{PROJECTS}/{project}/{reference}"));
        }
        return Err(Error::BadKey { key: project.to_owned(), reason: "it is not a valid project name" });
    }
    match reference.split('/').next() {
        // One folder deeper, so that it cannot name a blob of another project.
        Some(PROJECTS) => Ok(format!("{PROJECTS}/{reference}")),
        _ => Ok(reference.to_owned()),
    }
}

/// Whether a run, or a project other than the default one, may have this name.
pub fn is_valid_folder_name(name: &str) -> bool {
    !name.contains('/') && !name.chars().any(char::is_control) && !["", ".", "..", PROJECTS].contains(&name)
}

/// The prefix that the keys of all blobs of a project have, and no others. The default project
/// has none.
pub fn project_folder(project: &str) -> Result<String> {
    if project.is_empty() {
        Err(Error::BadKey { key: String::new(), reason: "the default project has no folder" })
    } else {
        key_text(project, "")
    }
}

/// A key after the keys of all projects but the default one, and before the keys of runs that follow them.
pub fn other_projects_end() -> Result<BlobKey> {
    // `0` is the character after the slash.
    BlobKey::new(format!("{PROJECTS}0"))
}

impl BlobKey {
    /// Returns the key of a reference made by a run of this project (empty: the default
    /// one).
    pub fn in_project(project: &str, reference: &str) -> Result<Self> {
        Self::new(key_text(project, reference)?)
    }

    /// Returns the project that the blob belongs to; empty: the default one.
    pub fn project(&self) -> &str {
        let mut segments = self.as_str().split('/');
        match (segments.next(), segments.next()) {
            (Some(PROJECTS), Some(folder)) if folder != PROJECTS => folder,
            _ => "",
        }
    }

    /// Returns the id of the run that the blob belongs to; `None` if the key does not show it.
    pub fn run_id(&self) -> Option<&str> {
        let (folder, rest) = self.as_str().split_once('/')?;
        let run_id = match folder {
            PROJECTS => {
                let (project, rest) = rest.split_once('/')?;
                let (run_id, _) = rest.split_once('/').filter(|_| project != PROJECTS)?;
                run_id
            }
            run_id => run_id,
        };
        (run_id != PROJECTS).then_some(run_id)
    }

    /// Returns whether the blob belongs to this project (empty: the default one).
    pub fn is_in_project(&self, project: &str) -> bool {
        self.project() == project
    }
}

/// The folder of all blobs of a run; deleting it deletes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    /// Ends with a slash.
    prefix: String,
    /// Length of the part of the prefix that references omit.
    project_bytes: usize,
}

impl RunFolder {
    pub fn new(project: &str, run_id: &str) -> Result<Self> {
        let reference = if is_valid_folder_name(run_id) {
            format!("{run_id}/")
        } else {
            // No other run can have this folder, because no run may be named `.projects`.
            format!("{PROJECTS}/{}/", blake3::hash(run_id.as_bytes()).to_hex())
        };
        let prefix = key_text(project, &reference)?;
        Ok(Self { project_bytes: prefix.len() - reference.len(), prefix })
    }

    /// Returns the prefix that all blob keys of the run have, and no others.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns a key after the keys of all blobs of the run, and before the keys of other folders that
    /// follow it.
    pub fn end(&self) -> Result<BlobKey> {
        // `0` is the character after the slash.
        BlobKey::new(format!("{}0", self.prefix.trim_end_matches('/')))
    }

    /// Returns the run's reference to the blob at `path` in its folder.
    pub fn reference(&self, path: &str) -> String {
        format!("{}{path}", &self.prefix[self.project_bytes..])
    }

    /// Returns the run's reference to a payload that is too large for a row. It is named by its
    /// content, so that a repeated write changes nothing.
    pub fn payload_reference(&self, hash: &blake3::Hash) -> String {
        self.reference(&format!("{MOVED}/{}", hash.to_hex()))
    }

    /// Returns the run's reference to the folder with the parts of an upload whose size is not known.
    pub fn parts_reference(&self, upload_id: &str) -> String {
        self.reference(&format!("{MOVED}/{PARTS}/{upload_id}"))
    }

    /// Returns the run's reference to a blob of its folder.
    pub fn reference_of<'k>(&self, key: &'k BlobKey) -> Option<&'k str> {
        key.as_str().starts_with(&self.prefix).then(|| &key.as_str()[self.project_bytes..])
    }
}

/// Whether a path inside a run is reserved for payloads moved out of their rows, and for parts of uploads.
pub fn is_reserved_path(path: &str) -> bool {
    path.split('/').next() == Some(MOVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a run's folder and the key of `x` in it, formed from its reference.
    fn check(project: &str, run_id: &str, prefix: &str) {
        let folder = RunFolder::new(project, run_id).unwrap();
        assert_eq!(folder.prefix(), prefix, "{project:?} {run_id:?}");
        let key = BlobKey::in_project(project, &folder.reference("x")).unwrap();
        assert_eq!(key.as_str(), format!("{prefix}x"));
        assert_eq!(folder.reference_of(&key), Some(folder.reference("x").as_str()));
        assert_eq!(folder.reference_of(&BlobKey::new("elsewhere/x").unwrap()), None);
        assert_eq!(key.project(), project);
        assert_eq!(key.run_id(), is_valid_folder_name(run_id).then_some(run_id), "{key}");
        let end = folder.end().unwrap();
        let last = BlobKey::new(format!("{prefix}\u{10ffff}")).unwrap();
        assert!(last < end && folder.reference_of(&end).is_none(), "{end}");
    }

    #[test]
    fn every_run_has_its_own_folder() {
        check("", "run", "run/");
        check("", "..run", "..run/");
        check("team", "run", ".projects/team/run/");
        check("7", "run", ".projects/7/run/");
        for id in ["", ".", "..", ".projects", "a/b", "../a", "a//b", "a\u{85}b", "\n"] {
            let digest = blake3::hash(id.as_bytes()).to_hex();
            check("", id, &format!(".projects/.projects/{digest}/"));
            check("team", id, &format!(".projects/team/.projects/{digest}/"));
        }
    }

    #[test]
    fn the_folders_of_projects_have_an_end() {
        let end = other_projects_end().unwrap();
        assert!(
            BlobKey::new(".projects/\u{10ffff}").unwrap() < end
                && end < BlobKey::new(".projects1/x").unwrap()
        );
        assert!(end.is_in_project(""));
    }

    #[test]
    fn references_are_the_same_in_every_project() {
        let hash = blake3::hash(b"payload");
        let in_default = RunFolder::new("", "run").unwrap();
        let in_team = RunFolder::new("team", "run").unwrap();
        assert_eq!(in_default.reference("a/b"), "run/a/b");
        assert_eq!(in_team.reference("a/b"), "run/a/b");
        assert_eq!(in_team.payload_reference(&hash), format!("run/.matyan/{}", hash.to_hex()));
        assert!(
            is_reserved_path(".matyan") && is_reserved_path(".matyan/x") && !is_reserved_path("a/.matyan")
        );
    }

    #[test]
    fn no_reference_leads_into_another_project() {
        for reference in
            [".projects/team/run/x", ".projects/.projects/x", ".projects/team/../team/run/x", ".projects"]
        {
            for project in ["", "other"] {
                let Ok(key) = BlobKey::in_project(project, reference) else { continue };
                assert!(!key.as_str().starts_with(".projects/team/"), "{project:?} {reference:?}: {key}");
                assert!(key.is_in_project(project) && !key.is_in_project("team"), "{project:?}: {key}");
                let other = if project.is_empty() { "other" } else { "" };
                assert!(!key.is_in_project(other), "{project:?}: {key}");
            }
        }
        assert_eq!(project_folder("team").unwrap(), ".projects/team/");
        project_folder("").unwrap_err();
        for project in [".", "..", ".projects", "a/b", "\n"] {
            project_folder(project).unwrap_err();
            BlobKey::in_project(project, "run/x").unwrap_err();
            RunFolder::new(project, "run").unwrap_err();
        }
    }
}
