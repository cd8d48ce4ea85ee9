//! The metadata of a call: project, caller, and the log positions that must be applied before
//! it returns.

use matyan_model::{
    ids::{NamedProject, Project, RunId},
    position::LogPosition,
    project::project_find,
};
use matyan_record::headers::{AFTER, CALLER, PROJECT};
use tokio::sync::OnceCell;
use tonic::metadata::MetadataMap;

use crate::{
    Deps,
    deps::LogEnd,
    error::{Error, Result},
};

/// A call whose metadata has been read, and which has waited for the positions it named.
pub(crate) struct Call {
    pub(crate) project: Project,
    /// The name the caller gave; empty for the default project.
    pub(crate) project_name: String,
    pub(crate) caller: String,
    /// The end of the log when the call first missed a run. Determined once, however many runs are
    /// missing.
    pub(crate) log_end: OnceCell<LogEnd>,
}

impl Call {
    pub(crate) async fn begin(deps: &Deps, metadata: &MetadataMap) -> Result<Self> {
        let project_name = metadata_text(metadata, PROJECT)?.unwrap_or_default().to_owned();
        let project = project(deps, &project_name).await?;
        let caller = metadata_text(metadata, CALLER)?.unwrap_or_default().to_owned();
        for RequiredPosition { position, run } in required_positions(metadata)? {
            deps.wait_applied(position, run.as_ref().map(|id| (project, id))).await?;
        }
        Ok(Self { project, project_name, caller, log_end: OnceCell::new() })
    }

    /// Fails if the project has been deleted since the call began, for calls that may last for days.
    pub(crate) async fn check_project(&self, deps: &Deps) -> Result<()> {
        project(deps, &self.project_name).await?;
        Ok(())
    }

    /// The call, for another search.
    pub(crate) fn again(&self) -> Self {
        let (project_name, caller) = (self.project_name.clone(), self.caller.clone());
        Self { project: self.project, project_name, caller, log_end: OnceCell::new() }
    }

    pub(crate) fn named_project(&self) -> NamedProject {
        NamedProject { number: self.project, name: self.project_name.clone() }
    }
}

fn metadata_text<'m>(metadata: &'m MetadataMap, key: &'static str) -> Result<Option<&'m str>> {
    let read = |value: &'m tonic::metadata::AsciiMetadataValue| {
        value.to_str().map_err(|_| Error::InvalidRequest(format!("the metadata `{key}` is not ASCII text")))
    };
    metadata.get(key).map(read).transpose()
}

async fn project(deps: &Deps, name: &str) -> Result<Project> {
    if name.is_empty() {
        return Ok(Project::default());
    }
    let snapshot = deps.store.snapshot().await?;
    project_find(snapshot.as_ref(), name).await?.ok_or_else(|| Error::not_found("project", name))
}

/// A position that must be applied before a call begins.
struct RequiredPosition {
    position: LogPosition,
    /// The only run whose records must be applied.
    run: Option<RunId>,
}

fn required_positions(metadata: &MetadataMap) -> Result<Vec<RequiredPosition>> {
    let wrong = || {
        let wanted = "the metadata `matyan-after` must be `log/partition/offset`, three decimal numbers, \
                      or `log/partition/offset/run`";
        Error::InvalidRequest(wanted.into())
    };
    let parse = |value: &tonic::metadata::AsciiMetadataValue| {
        let text = value.to_str().map_err(|_| wrong())?;
        let mut parts = text.splitn(4, '/');
        let mut next = || parts.next().ok_or_else(wrong);
        let (log, partition, offset) = (next()?, next()?, next()?);
        let position = LogPosition {
            log: log.parse().map_err(|_| wrong())?,
            partition: partition.parse().map_err(|_| wrong())?,
            offset: offset.parse().map_err(|_| wrong())?,
        };
        Ok(RequiredPosition { position, run: parts.next().map(RunId::new) })
    };
    metadata.get_all(AFTER).iter().map(parse).collect()
}
