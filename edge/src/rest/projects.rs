//! The list of projects, and what operators do with one. A project is chosen by `/p/{name}/`
//! before the path, as for all other operations, so that no name can collide with a route.

use axum::Json;
use matyan_proto::admin::v1::UsageRequest;
use matyan_proto::common::v1::Access;
use matyan_proto::project::v1 as pb;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Creation, WithETag};
use super::call::{Call, NoParameters};
use super::edit_condition::EditCondition;
use super::operation::{BasePath, Operation};
use super::shared::iso;
use crate::error::ApiResult;
use crate::scope::Scope;

pub(crate) fn operations() -> Vec<Operation> {
    let operations = vec![
        Operation::get("/projects/list", "List all projects", list).access(Access::Caller),
        Operation::post("/projects", "Create a project", create).access(Access::Operate),
        Operation::put("/projects", "Change the display name or description of the project", update)
            .access(Access::Manage)
            .fails(&["412"]),
        Operation::delete("/projects", "Delete the project with all of its runs", delete)
            .access(Access::Manage),
        Operation::get("/projects/usage", "Storage used by the project", usage).access(Access::Manage),
    ];
    operations.into_iter().map(|operation| operation.base(BasePath::Rest)).collect()
}

/// A project. The default one has an empty name, and no time of creation.
#[derive(Serialize, JsonSchema)]
struct ListedProject {
    name: String,
    display_name: String,
    description: String,
    /// `active`, or `deleting` until all of its content is deleted.
    state: &'static str,
    created_at: Option<String>,
    deleted_at: Option<String>,
}

impl From<pb::Project> for ListedProject {
    fn from(project: pb::Project) -> Self {
        let state = match project.state() {
            pb::ProjectState::Deleting => "deleting",
            pb::ProjectState::Active | pb::ProjectState::Unspecified => "active",
        };
        ListedProject {
            name: project.name,
            display_name: project.display_name,
            description: project.description,
            state,
            created_at: project.created_us.map(iso),
            deleted_at: project.deleted_us.map(iso),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
struct NewProject {
    name: String,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize, JsonSchema)]
struct ProjectChanges {
    display_name: Option<String>,
    description: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct ProjectTexts {
    display_name: String,
    description: String,
}

/// Counts, and the size as received, before compression.
#[derive(Serialize, JsonSchema)]
struct ProjectUsage {
    runs: u64,
    series: u64,
    points: u64,
    bytes: u64,
}

async fn list(call: Call) -> ApiResult<Json<Vec<ListedProject>>> {
    let answer = call.services.backend().project().list(pb::ListRequest {}).await?.into_inner();
    Ok(Json(answer.projects.into_iter().map(ListedProject::from).collect()))
}

async fn create(call: Call<NoParameters, Json<NewProject>>) -> ApiResult<Creation<ListedProject>> {
    let Json(NewProject { name, display_name, description }) = call.body;
    let request = pb::CreateRequest { name, display_name, description };
    let answer = call.services.backend().project().create(request).await?.into_inner();
    Ok(Creation(answer.project.unwrap_or_default().into()))
}

async fn update(call: Call<EditCondition, Json<ProjectChanges>>) -> ApiResult<WithETag<ProjectTexts>> {
    let if_updated_us = call.parameters.updated_us()?;
    let Json(ProjectChanges { display_name: name, description }) = call.body;
    let request = pb::UpdateRequest { name, description, if_updated_us };
    let answer = call.services.backend().project().update(request).await?.into_inner();
    let texts = ProjectTexts { display_name: answer.name, description: answer.description };
    Ok(WithETag::of_version(answer.updated_us, Json(texts)))
}

async fn delete(call: Call) -> ApiResult<Json<ListedProject>> {
    let name = Scope::current().project_name().to_owned();
    let answer = call.services.backend().project().delete(pb::DeleteRequest { name }).await?.into_inner();
    Ok(Json(answer.project.unwrap_or_default().into()))
}

async fn usage(call: Call) -> ApiResult<Json<ProjectUsage>> {
    let request = UsageRequest { largest_runs: 0 };
    let total = call.services.backend().admin().usage(request).await?.into_inner().total.unwrap_or_default();
    let runs = total.runs;
    let series = total.series;
    let points = total.points;
    let bytes = total.bytes;
    Ok(Json(ProjectUsage { runs, series, points, bytes }))
}
