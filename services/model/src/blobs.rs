//! Names of blobs. Everything of a run lies under its own folder, so that deleting a run is deleting a folder.
//!
//! ```text
//! {run}/{path}                            the default project
//! .projects/{project}/{run}/{path}        another
//! ```
//!
//! A frontier takes no run id that cannot be a folder; one that came past it (`..`, `a//b`) has a folder of this name in the
//! place of its id: `.projects/{BLAKE3 of the id}`. No run is called `.projects`, and no project.

use crate::ids::{Project, RunId};

/// What the blobs of other projects than the default one begin with; no run id does.
const PROJECTS: &str = ".projects";
/// Payloads that we moved aside; no client writes there under a path of its own choice unless it means to.
const MOVED: &str = ".matyan";

/// The folder of a run, with the slash at its end.
pub fn run_folder(project: Project, id: &RunId) -> String {
    let is_default = project == Project::default();
    match (is_default, is_folder(id.as_str())) {
        (true, true) => format!("{id}/"),
        (false, true) => format!("{PROJECTS}/{}/{id}/", project.0),
        (true, false) => format!("{PROJECTS}/{PROJECTS}/{}/", digest(id)),
        (false, false) => format!("{PROJECTS}/{}/{PROJECTS}/{}/", project.0, digest(id)),
    }
}

fn is_folder(id: &str) -> bool {
    !id.contains('/') && !id.chars().any(char::is_control) && !["", ".", "..", PROJECTS].contains(&id)
}

fn digest(id: &RunId) -> blake3::Hash {
    blake3::hash(id.as_str().as_bytes())
}

/// Where a payload lies that is too large for a row: named by its content, so that writing it again changes nothing.
pub fn payload_key(project: Project, id: &RunId, hash: &[u8; 32]) -> String {
    let name = blake3::Hash::from_bytes(*hash).to_hex();
    format!("{}{MOVED}/{name}", run_folder(project, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(project: u32, id: &str, expected: &str) {
        assert_eq!(run_folder(Project(project), &RunId::new(id)), expected);
    }

    #[test]
    fn every_run_has_a_folder_of_its_own() {
        check(0, "run", "run/");
        check(0, "..run", "..run/");
        check(7, "run", ".projects/7/run/");
        let odd = |id: &str| format!("{}/", blake3::hash(id.as_bytes()).to_hex());
        for id in ["", ".", "..", ".projects", "a/b", "../a", "a//b", "a\u{85}b", "\n"] {
            check(0, id, &format!(".projects/.projects/{}", odd(id)));
            check(7, id, &format!(".projects/7/.projects/{}", odd(id)));
        }
    }
}
