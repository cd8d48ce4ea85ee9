//! The metadata of a call: project, caller, and the log positions that must be applied before
//! it returns.

use std::collections::BTreeSet;

use matyan_access::{CallOrigin, KnownRights, Role, TokenLimits};
use matyan_model::{
    ids::{NamedProject, Project, RunId},
    position::LogPosition,
    project::project_find,
};
use matyan_wire::headers::{
    AFTER, CALLER, KNOWN_PROJECTS, PROJECT, RIGHTS, TOKEN_PROJECT, TOKEN_ROLE, TRANSLATED,
};
use tokio::sync::OnceCell;
use tonic::metadata::MetadataMap;

use super::{
    deps::{Deps, LogEnd},
    error::{Error, Result},
};

/// A call whose metadata has been read, and which has waited for the positions it named.
pub(crate) struct Call {
    pub(crate) project: Project,
    /// The name the caller gave; empty for the default project.
    pub(crate) project_name: String,
    pub(crate) caller: String,
    pub(crate) origin: CallOrigin,
    /// The rights of the caller of a call that sends data; none in other calls. `None` if access control is off.
    rights: Option<KnownRights>,
    /// Whether a translator of another tracker's protocol makes the call, if it writes a document.
    pub(crate) is_translated: bool,
    /// Whether the caller of a call that manages a project manages all projects.
    manages_all_projects: bool,
    /// The end of the log when the call first missed a run. Determined once, however many runs are
    /// missing.
    pub(crate) log_end: OnceCell<LogEnd>,
}

impl Call {
    pub(crate) async fn start(deps: &Deps, metadata: &MetadataMap, origin: CallOrigin) -> Result<Self> {
        let project_name = metadata_text(metadata, PROJECT)?.unwrap_or_default().to_owned();
        let project = project(deps, &project_name).await?;
        let caller = metadata_text(metadata, CALLER)?.unwrap_or_default().to_owned();
        for RequiredPosition { position, run } in required_positions(metadata)? {
            let run = run.as_ref().map(|id| (project, id));
            deps.wait_applied(position, run).await?;
            if let Some((project, id)) = run {
                deps.check_not_parked(project, id).await?;
            }
        }
        let rights = rights(metadata)?;
        Ok(Self {
            project,
            project_name,
            caller,
            origin,
            rights,
            is_translated: metadata.contains_key(TRANSLATED),
            manages_all_projects: known_projects(metadata)?.is_none(),
            log_end: OnceCell::new(),
        })
    }

    /// Fails if the project has been deleted since the call started, for calls that may last for days.
    pub(crate) async fn check_project(&self, deps: &Deps) -> Result<()> {
        project(deps, &self.project_name).await?;
        Ok(())
    }

    /// The call, for another search.
    pub(crate) fn again(&self) -> Self {
        let Self { project, rights, is_translated, manages_all_projects, .. } = *self;
        Self {
            project,
            project_name: self.project_name.clone(),
            caller: self.caller.clone(),
            origin: self.origin.clone(),
            rights,
            is_translated,
            manages_all_projects,
            log_end: OnceCell::new(),
        }
    }

    /// Fails unless the caller manages all projects: data of projects that do not exist may come from any of them.
    pub(crate) fn check_manages_all_projects(&self) -> Result<()> {
        if self.manages_all_projects { Ok(()) } else { Err(Error::ManagesOneProject) }
    }

    /// Fails unless the caller of a call that sends data has all rights of this role. `what` needs them. While rights
    /// cannot be looked up, the caller may have the missing rights, and should try again.
    pub(crate) fn check_role(&self, role: Role, what: &'static str) -> Result<()> {
        match self.rights {
            None => Ok(()),
            Some(known) if known.held.contains_all(role.rights()) => Ok(()),
            Some(KnownRights { are_outdated: true, .. }) => Err(Error::RightsAway),
            Some(_) => Err(Error::MissingRole { what, role: role.name(), caller: self.caller.clone() }),
        }
    }

    pub(crate) fn named_project(&self) -> NamedProject {
        NamedProject { number: self.project, name: self.project_name.clone() }
    }
}

fn metadata_text<'m>(metadata: &'m MetadataMap, key: &'static str) -> Result<Option<&'m str>> {
    metadata
        .get(key)
        .map(|value| {
            value
                .to_str()
                .map_err(|_| Error::InvalidRequest(format!("the metadata `{key}` is not ASCII text")))
        })
        .transpose()
}

async fn project(deps: &Deps, name: &str) -> Result<Project> {
    if name.is_empty() {
        return Ok(Project::default());
    }
    let snapshot = deps.store.snapshot().await?;
    project_find(snapshot.as_ref(), name).await?.ok_or_else(|| Error::not_found("project", name))
}

/// The rights of a caller. An edge that names the caller but no rights is older than this header: such a caller has none.
fn rights(metadata: &MetadataMap) -> Result<Option<KnownRights>> {
    let named = metadata_text(metadata, RIGHTS)?.unwrap_or_default();
    // The edge names the caller if, and only if, access control is on.
    Ok(metadata.contains_key(CALLER).then(|| KnownRights::from_names(named)))
}

/// The projects that the caller of a call may know of; `None` for all.
pub(crate) fn known_projects(metadata: &MetadataMap) -> Result<Option<BTreeSet<String>>> {
    let known = metadata_text(metadata, KNOWN_PROJECTS)?;
    Ok(known.map(|known| known.split('/').skip(1).map(str::to_owned).collect()))
}

/// The limits of the caller's token. A limit that this version does not know must not become none.
pub(crate) fn token_limits(metadata: &MetadataMap) -> Result<TokenLimits> {
    let role = metadata_text(metadata, TOKEN_ROLE)?.map(role_limit).transpose()?;
    let projects = metadata_text(metadata, TOKEN_PROJECT)?.map(project_limit).transpose()?;
    Ok(TokenLimits { projects, role })
}

fn role_limit(name: &str) -> Result<Role> {
    Role::from_name(name).ok_or_else(|| {
        Error::InvalidRequest(format!(
            "the metadata `{TOKEN_ROLE}` names the role `{name}`, which this version does not know"
        ))
    })
}

fn project_limit(path: &str) -> Result<BTreeSet<String>> {
    let project = path.strip_prefix('/').filter(|name| !name.contains('/'));
    let project = project.ok_or_else(|| {
        Error::InvalidRequest(format!("the metadata `{TOKEN_PROJECT}` must be `/` and the name of a project"))
    })?;
    Ok([project.to_owned()].into())
}

/// A position that must be applied before a call starts.
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
        let log = next()?;
        let partition = next()?;
        let offset = next()?;
        let position = LogPosition {
            log: log.parse().map_err(|_| wrong())?,
            partition: partition.parse().map_err(|_| wrong())?,
            offset: offset.parse().map_err(|_| wrong())?,
        };
        Ok(RequiredPosition { position, run: parts.next().map(RunId::new) })
    };
    metadata.get_all(AFTER).iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_without_named_rights_has_none() {
        let read = |headers: &[(&'static str, &str)]| {
            let mut metadata = MetadataMap::new();
            for (name, value) in headers {
                metadata.insert(*name, value.parse().unwrap());
            }
            rights(&metadata).unwrap().map(KnownRights::names)
        };
        assert_eq!(read(&[]), None, "access control is off");
        assert_eq!(read(&[(CALLER, "ana")]).as_deref(), Some(""));
        assert_eq!(read(&[(CALLER, "ana"), (RIGHTS, "READ,INGEST")]).as_deref(), Some("READ,INGEST"));
    }

    #[test]
    fn rule_62_a_limit_that_is_not_known_is_refused() {
        let read = |headers: &[(&'static str, &str)]| {
            let mut metadata = MetadataMap::new();
            for (name, value) in headers {
                metadata.insert(*name, value.parse().unwrap());
            }
            token_limits(&metadata)
        };
        assert_eq!(read(&[]).unwrap(), TokenLimits::default());
        let limits = read(&[(TOKEN_ROLE, "viewer"), (TOKEN_PROJECT, "/speech")]).unwrap();
        let projects = |name: &str| Some([name.to_owned()].into());
        assert_eq!(limits, TokenLimits { projects: projects("speech"), role: Some(Role::Viewer) });
        let of_default = read(&[(TOKEN_PROJECT, "/")]).unwrap();
        assert_eq!(of_default, TokenLimits { projects: projects(""), role: None });
        for wrong in [
            (TOKEN_ROLE, "emperor"),
            (TOKEN_ROLE, ""),
            (TOKEN_PROJECT, "speech"),
            (TOKEN_PROJECT, ""),
            (TOKEN_PROJECT, "/a/b"),
        ] {
            assert!(matches!(read(&[wrong]), Err(Error::InvalidRequest(_))), "{wrong:?}");
        }
    }
}
