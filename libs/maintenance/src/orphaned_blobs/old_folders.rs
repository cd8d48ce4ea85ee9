//! The runs of a project that have old blobs, found by listing the project instead of each run: most runs
//! of a large project have no blobs, and each listing of a bucket costs money.
//!
//! The runs are kept as bits, so that a few runs without old blobs are taken for others, and none with old blobs
//! is missed. The number of listings is bounded; runs after the last listing may have old blobs, and so may
//! runs whose folder does not show their id.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use matyan_blob::{
    BlobKey, Blobs, Listing, RunFolder, is_valid_folder_name, other_projects_end, project_folder,
};
use matyan_model::ids::NamedProject;

use crate::{Error, JobLock, pace::Pace};

/// Listings of a project: of a million blobs, or of the first page of a thousand large runs.
const MOST_LISTINGS: usize = 1_000;

/// Number of bits, which take 2 MiB: with a million runs, one of 16 others is taken for one of them.
const BITS: u64 = 1 << 24;

/// Number of bits in a word.
const WORD: u64 = u64::BITS as u64;

pub(super) struct OldFolders {
    bits: Vec<u64>,
    /// Keys up to this one are listed.
    listed_to: Option<BlobKey>,
    is_complete: bool,
}

impl OldFolders {
    fn new() -> Self {
        Self { bits: vec![0; (BITS / WORD) as usize], listed_to: None, is_complete: false }
    }

    /// Lists a project. Renews the lock, if there is one, for each listing. An error of the bucket ends the
    /// listing early: the search of a folder counts such errors.
    pub(super) async fn find(
        blobs: &dyn Blobs,
        project: &NamedProject,
        before_us: i64,
        pace: &mut Pace,
        mut lock: Option<&mut JobLock<'_>>,
    ) -> Result<Self, Error> {
        let mut found = Self::new();
        for _ in 0..MOST_LISTINGS {
            if let Some(lock) = &mut lock {
                lock.renew().await?;
            }
            if let Err(error) = found.list(blobs, &project.name, before_us).await {
                tracing::debug!(project = project.name.as_str(), %error, "failed to list a project; listing its runs");
                break;
            }
            if found.is_complete {
                break;
            }
            pace.rest().await;
        }
        Ok(found)
    }

    async fn list(
        &mut self,
        blobs: &dyn Blobs,
        project: &str,
        before_us: i64,
    ) -> Result<(), matyan_blob::Error> {
        let folder = if project.is_empty() { String::new() } else { project_folder(project)? };
        let Listing { blobs: listed, next } = blobs.list(&folder, self.listed_to.as_ref()).await?;
        for (key, blob) in listed {
            if blob.modified_us < before_us
                && key.is_in_project(project)
                && let Some(run_id) = key.run_id()
            {
                self.add(run_id);
            }
        }
        match next {
            Some(next) => self.listed_to = Some(self.end_of_known(project, next)?),
            None => self.is_complete = true,
        }
        Ok(())
    }

    /// The key from which the next listing tells something new: after the folder of a run that has old
    /// blobs, or after the folders of other projects.
    fn end_of_known(&self, project: &str, last: BlobKey) -> Result<BlobKey, matyan_blob::Error> {
        if !last.is_in_project(project) {
            return other_projects_end();
        }
        match last.run_id() {
            Some(run_id) if self.contains(run_id) => RunFolder::new(project, run_id)?.end(),
            _ => Ok(last),
        }
    }

    /// Whether a run may have old blobs.
    pub(super) fn may_have(&self, folder: &RunFolder, run_id: &str) -> bool {
        let is_listed = || {
            let end = folder.end().ok();
            self.is_complete || end.is_some_and(|end| self.listed_to.as_ref().is_some_and(|to| end <= *to))
        };
        !is_valid_folder_name(run_id) || self.contains(run_id) || !is_listed()
    }

    fn add(&mut self, run_id: &str) {
        let (word, mask) = place(run_id);
        self.bits[word] |= mask;
    }

    fn contains(&self, run_id: &str) -> bool {
        let (word, mask) = place(run_id);
        self.bits[word] & mask != 0
    }
}

/// The word of a run, and its bit in it.
fn place(run_id: &str) -> (usize, u64) {
    let mut hasher = DefaultHasher::new();
    run_id.hash(&mut hasher);
    let bit = hasher.finish() % BITS;
    ((bit / WORD) as usize, 1 << (bit % WORD))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_have(folders: &OldFolders, run_id: &str) -> bool {
        folders.may_have(&RunFolder::new("", run_id).unwrap(), run_id)
    }

    #[test]
    fn rule_41_a_run_that_was_not_listed_may_have_old_blobs() {
        let mut folders = OldFolders::new();
        assert!(may_have(&folders, "a"), "nothing is listed");
        folders.add("b");
        folders.listed_to = Some(BlobKey::new("d/x").unwrap());
        assert!(!may_have(&folders, "a") && may_have(&folders, "b") && !may_have(&folders, "c"));
        assert!(may_have(&folders, "d"), "not all of its blobs are listed");
        assert!(may_have(&folders, "e"));
        folders.is_complete = true;
        assert!(may_have(&folders, "b") && !may_have(&folders, "d") && !may_have(&folders, "e"));
        assert!(may_have(&folders, "a/b"), "its folder does not show its id");
    }

    #[test]
    fn rule_41_what_is_known_is_not_listed_again() {
        let mut folders = OldFolders::new();
        folders.add("old");
        let next = |project, key| folders.end_of_known(project, BlobKey::new(key).unwrap()).unwrap();
        assert_eq!(next("", "old/x").as_str(), "old0");
        assert_eq!(next("", "young/x").as_str(), "young/x");
        assert_eq!(next("", ".projects/team/old/x").as_str(), ".projects0");
        assert_eq!(next("team", ".projects/team/old/x").as_str(), ".projects/team/old0");
        assert_eq!(next("team", ".projects/team/.projects/x/y").as_str(), ".projects/team/.projects/x/y");
    }
}
