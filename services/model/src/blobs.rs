//! Names of blobs. Everything of a run lies under its own folder, so that deleting a run is deleting a folder.

use crate::ids::{Project, RunId};

/// What the blobs of other projects than the default one begin with; no run id does.
const PROJECTS: &str = ".projects";
/// Payloads that we moved aside; no client writes there under a path of its own choice unless it means to.
const MOVED: &str = ".matyan";

/// The folder of a run, with the slash at its end.
pub fn run_folder(project: Project, id: &RunId) -> String {
    if project == Project::default() { format!("{id}/") } else { format!("{PROJECTS}/{}/{id}/", project.0) }
}

/// Where a payload lies that is too large for a row: named by its content, so that writing it again changes nothing.
pub fn payload_key(project: Project, id: &RunId, hash: &[u8; 32]) -> String {
    let name = blake3::Hash::from_bytes(*hash).to_hex();
    format!("{}{MOVED}/{name}", run_folder(project, id))
}
