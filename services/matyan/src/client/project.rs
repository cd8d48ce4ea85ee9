//! Name and description of the project.

use matyan_proto::project::v1::{GetRequest, UpdateRequest, project_service_client::ProjectServiceClient};
use serde_json::json;

use super::{
    Error, client, connect,
    flags::{ProjectCommand, ProjectFlags},
    output::{Output, cell},
};

pub(super) async fn run(flags: ProjectFlags, out: &mut Output) -> Result<(), Error> {
    let mut project = client!(ProjectServiceClient, connect(&flags.client.server).await?);
    let (name, description) = match flags.command {
        ProjectCommand::Show => {
            let shown = project.get(GetRequest {}).await?.into_inner();
            (shown.name, shown.description)
        }
        ProjectCommand::Set { name, description } => {
            let set = project.update(UpdateRequest { name, description }).await?.into_inner();
            (set.name, set.description)
        }
    };
    if out.json {
        return Ok(out.object(&json!({"name": name, "description": description}))?);
    }
    out.line(format!("name         {}", cell(&name)).trim_end())?;
    Ok(out.line(format!("description  {}", cell(&description)).trim_end())?)
}
