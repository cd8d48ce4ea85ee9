//! The list of projects: creating and deleting them. A worker deletes their content.

use std::collections::BTreeSet;

use matyan_access::{NAME_OF_DEFAULT, PROJECT_NAME_RULE, is_project_name};
use matyan_model::project::{
    Creation, ListedProject, ProjectInfo, ProjectState, project_create, project_delete, project_info_get,
    projects_list_all,
};
use matyan_proto::{limits, project::v1 as pb};
use matyan_store::{Transaction, transact};
use matyan_wire::headers::{CALLER, PROJECT};
use tonic::metadata::MetadataMap;

use crate::server::{
    convert,
    deps::Deps,
    error::{Error, Result},
};

/// Prepares a call that deletes a project. Rights are checked in the project of the call, so with access
/// control it has to be the deleted one. That project need not exist, because the call may be a
/// repetition.
pub(super) fn check_deleted_project(metadata: &mut MetadataMap, name: &str) -> Result<()> {
    let is_same = metadata.get(PROJECT).is_some_and(|project| project.as_encoded_bytes() == name.as_bytes());
    if is_same {
        metadata.remove(PROJECT);
    } else if metadata.contains_key(CALLER) {
        let message = format!(
            "the project `{name}` can be deleted only by a call in it: send the metadata `{PROJECT}`"
        );
        return Err(Error::InvalidRequest(message));
    }
    Ok(())
}

/// Lists the known projects.
pub(super) async fn list(deps: &Deps, known: Option<&BTreeSet<String>>) -> Result<Vec<pb::Project>> {
    let snapshot = deps.store.snapshot().await?;
    let mut projects = Vec::new();
    for listed in projects_list_all(snapshot.as_ref()).await? {
        if known.is_some_and(|known| !known.contains(&listed.project.name)) {
            continue;
        }
        let info = match listed.state {
            ProjectState::Active => project_info_get(snapshot.as_ref(), listed.project.number).await?,
            // Its rows may be gone.
            ProjectState::Deleting => ProjectInfo { name: listed.project.name.clone(), ..Default::default() },
            ProjectState::Deleted | ProjectState::Cleared => continue,
        };
        projects.push(view(listed, info));
    }
    Ok(projects)
}

fn view(listed: ListedProject, info: ProjectInfo) -> pb::Project {
    let state = if listed.is_active() { pb::ProjectState::Active } else { pb::ProjectState::Deleting };
    pb::Project {
        name: listed.project.name,
        display_name: info.name,
        description: info.description,
        state: state.into(),
        created_us: listed.created_us,
        deleted_us: listed.deleted_us,
    }
}

pub(super) async fn create(deps: &Deps, request: pb::CreateRequest) -> Result<pb::Project> {
    let pb::CreateRequest { name, display_name, description } = request;
    check_name(&name)?;
    let now_us = (deps.clock)();
    let mut info = ProjectInfo {
        name: convert::bounded_text("display_name", &display_name, limits::NAME_BYTES)?,
        description: convert::bounded_text("description", &description, limits::DESCRIPTION_BYTES)?,
        updated_us: now_us,
        ..ProjectInfo::default()
    };
    if info.name.is_empty() {
        info.name.clone_from(&name);
    }
    let (created, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let created = project_create(&mut transaction, &name, &info, now_us, limits::PROJECTS).await?;
        Ok::<_, Error>((transaction, created))
    })
    .await?;
    match created {
        Creation::Created(listed) => {
            tracing::info!(project = name, "created project");
            Ok(view(listed, info))
        }
        Creation::NameTaken(listed) if listed.is_active() => {
            Err(Error::AlreadyExists { resource: "project", name })
        }
        // An old client could still send data for it, and its blobs would mix with the new blobs.
        Creation::NameTaken(_) => {
            Err(Error::field("name", format!("is the name of a deleted project, `{name}`: choose another")))
        }
        Creation::TooMany => {
            Err(Error::TooLarge { field: "projects", size: limits::PROJECTS + 1, limit: limits::PROJECTS })
        }
    }
}

pub(super) async fn delete(deps: &Deps, name: &str) -> Result<pb::Project> {
    if name.is_empty() {
        return Err(Error::field(
            "name",
            "is empty: the default project cannot be deleted; delete its runs instead",
        ));
    }
    // Longer names cannot be keys.
    if name.len() > limits::PROJECT_BYTES {
        return Err(Error::not_found("project", name));
    }
    let now_us = (deps.clock)();
    let (deleted, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let deleted = project_delete(&mut transaction, name, now_us).await?;
        Ok::<_, Error>((transaction, deleted))
    })
    .await?;
    let listed = deleted.ok_or_else(|| Error::not_found("project", name))?;
    tracing::info!(project = name, "deleting project");
    let info = ProjectInfo { name: name.to_owned(), ..ProjectInfo::default() };
    Ok(view(listed, info))
}

/// The name is part of URLs, of metadata, and of paths in file systems that ignore case.
fn check_name(name: &str) -> Result<()> {
    let limit = limits::NEW_PROJECT_BYTES;
    match name {
        "" => Err(Error::field("name", "is empty: choose one such as `speech-models`")),
        NAME_OF_DEFAULT => Err(Error::field("name", "is reserved for the default project: choose another")),
        _ if name.len() > limit => Err(Error::TooLarge { field: "name", size: name.len(), limit }),
        _ if is_project_name(name) => Ok(()),
        _ => Err(Error::field(
            "name",
            format!(
                "is not allowed: names of projects have {PROJECT_NAME_RULE}. Choose another, and use `display_name` \
                 for the name shown to people"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_urls_metadata_and_folders() {
        for name in ["a", "0", "speech-models", "team.v2_x", &"a".repeat(limits::NEW_PROJECT_BYTES)] {
            check_name(name).unwrap();
            assert!(matyan_blob::is_valid_folder_name(name));
        }
        for name in
            ["", "default", "Team", ".", "..", ".projects", "-a", "_a", "a/b", "a b", "größe", "a\n", "a%2f"]
        {
            check_name(name).unwrap_err();
        }
        check_name(&"a".repeat(limits::NEW_PROJECT_BYTES + 1)).unwrap_err();
    }
}
