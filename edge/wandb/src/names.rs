//! The places of the parts of a W&B run in a run of this server. The importer of W&B uses the same places.
//!
//! W&B's project is the experiment. A run id is unique in its W&B project only, so it is followed by the project.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use matyan_proto::limits::ARTIFACT_PATH_BYTES;
use matyan_value::datetime::UtcTime;
use sha2::{Digest, Sha256};

use crate::error::{Result, WandbError};

/// Params: the config.
pub(crate) const CONFIG: &str = "hparams";

/// Params: the summary.
pub(crate) const SUMMARY: &str = "summary";

/// Params: the reports of W&B's clients about a run, and values that only they read.
pub(crate) const WANDB: &str = "wandb";

/// Names below `WANDB`.
pub(crate) const ID: &str = "id";
pub(crate) const ENTITY: &str = "entity";
pub(crate) const PROJECT: &str = "project";
pub(crate) const GROUP: &str = "group";
pub(crate) const JOB_TYPE: &str = "job_type";
pub(crate) const COMMIT: &str = "commit";
pub(crate) const HOST: &str = "host";
pub(crate) const PROGRAM: &str = "program";
pub(crate) const REPO: &str = "repo";
pub(crate) const USER: &str = "user";
pub(crate) const STATE: &str = "state";
/// The config that clients keep for themselves, such as definitions of metrics.
pub(crate) const INTERNAL_CONFIG: &str = "config";
/// Members of the summary whose names start with an underscore.
pub(crate) const INTERNAL_SUMMARY: &str = "summary";
/// Ids of artifacts.
pub(crate) const USED_ARTIFACTS: &str = "used_artifacts";
pub(crate) const MADE_ARTIFACTS: &str = "made_artifacts";

/// The member of a config that clients keep for themselves.
pub(crate) const INTERNAL_MEMBER: &str = "_wandb";

/// Series of the load of the machine, with the names that our SDK uses.
pub(crate) const SYSTEM_PREFIX: &str = "__system__";

/// Start of the names of system metrics in W&B.
pub(crate) const WANDB_SYSTEM_PREFIX: &str = "system.";

/// Between the id and the project in the id of a run here. W&B's ids and projects do not contain it.
const SEPARATOR: char = ':';

/// A run by its names in W&B.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunName {
    pub(crate) project: String,
    pub(crate) id: String,
}

impl RunName {
    /// Checks the names.
    pub(crate) fn new(project: &str, id: &str) -> Result<Self> {
        for (field, name) in [("project", project), ("run", id)] {
            if name.is_empty() || name.contains(|it: char| it == SEPARATOR || it == '/' || it.is_control()) {
                return Err(WandbError::invalid(format!(
                    "the name of the {field} is empty, or contains `{SEPARATOR}`, `/` or a control character"
                )));
            }
        }
        Ok(Self { project: project.to_owned(), id: id.to_owned() })
    }

    /// The id of the run here.
    pub(crate) fn run_id(&self) -> String {
        format!("{}{SEPARATOR}{}", self.id, self.project)
    }

    /// The name in W&B of a run of this server; `None` if no client of W&B has made the run.
    pub(crate) fn of_run_id(run_id: &str) -> Option<Self> {
        let (id, project) = run_id.rsplit_once(SEPARATOR)?;
        Self::new(project, id).ok()
    }

    /// The id by which clients name the run in changes.
    pub(crate) fn storage_id(&self, entity: &str) -> String {
        STANDARD.encode(format!("Run:v1:{}:{}:{entity}", self.id, self.project))
    }

    /// Reads an id of this form, and the entity in it.
    pub(crate) fn of_storage_id(storage_id: &str) -> Result<(Self, String)> {
        let problem = || {
            WandbError::invalid(
                "`id` is not the id of a run: send the `id` that an answer about the run contains",
            )
        };
        let bytes = STANDARD.decode(storage_id).map_err(|_| problem())?;
        let text = String::from_utf8(bytes).map_err(|_| problem())?;
        let mut parts = text.strip_prefix("Run:v1:").ok_or_else(problem)?.splitn(3, ':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(id), Some(project), Some(entity)) => Ok((Self::new(project, id)?, entity.to_owned())),
            _ => Err(problem()),
        }
    }
}

/// The id of a project, which clients expect to be a number.
pub(crate) fn project_number(project: &str) -> u32 {
    let [a, b, c, d, ..] = digest(&[project]);
    u32::from_be_bytes([a, b, c, d])
}

/// A digest of texts that marks the end of each text.
pub(crate) fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().into()
}

/// The path of a file in a run. Clients on Windows may send backslashes.
pub(crate) fn file_path(name: &str) -> Result<String> {
    let path = name.replace('\\', "/");
    let path = path.trim_start_matches("./");
    if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) || path.chars().any(char::is_control)
    {
        let message = format!(
            "`{}` is not the name of a file of a run: it has an empty, `.` or `..` part, or a control character",
            name.escape_debug()
        );
        return Err(WandbError::invalid(message));
    }
    if path.len() > ARTIFACT_PATH_BYTES {
        let message = format!(
            "the name of the file `{}` has {} bytes, and the limit is {ARTIFACT_PATH_BYTES}: shorten it",
            path.escape_debug(),
            path.len()
        );
        return Err(WandbError::invalid(message));
    }
    Ok(path.to_owned())
}

/// A time as clients expect it.
pub(crate) fn time_text(us: i64) -> String {
    UtcTime::from_us(us).unwrap_or(UtcTime::EPOCH).micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_two_projects_have_two_ids() {
        let name = |project, id| RunName::new(project, id).unwrap();
        let ids = [name("a.b", "c").run_id(), name("a", "b.c").run_id(), name("a", "c").run_id()];
        assert_eq!(ids, ["c:a.b", "b.c:a", "c:a"]);
        for id in ids {
            assert_eq!(RunName::of_run_id(&id).unwrap().run_id(), id);
        }
        assert_eq!(RunName::of_run_id("0123456789abcdef"), None);
        for (project, id) in [("", "a"), ("a", ""), ("a:b", "c"), ("a", "b/c"), ("a", "b\n")] {
            assert!(RunName::new(project, id).is_err(), "{project} {id}");
        }
    }

    #[test]
    fn storage_ids_are_read_back() {
        let name = RunName::new("p", "r").unwrap();
        let read = RunName::of_storage_id(&name.storage_id("me")).unwrap();
        assert_eq!(read, (name, "me".to_owned()));
        for wrong in ["", "x", "!", &STANDARD.encode("Run:v1:a"), &STANDARD.encode("Run:v1:a/b:c:d")] {
            assert!(RunName::of_storage_id(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rule_112_file_names_stay_inside_of_the_run() {
        assert_eq!(file_path("media\\images/a b.png").unwrap(), "media/images/a b.png");
        assert_eq!(file_path("./a").unwrap(), "a");
        assert!(file_path(&"a".repeat(ARTIFACT_PATH_BYTES)).is_ok());
        for wrong in ["", "/a", "../a", "a/../b", "a//b", "a\n", &"a".repeat(ARTIFACT_PATH_BYTES + 1)] {
            assert!(file_path(wrong).is_err(), "{wrong:?}");
        }
    }
}
