//! Name and description of the project.

use clap::{Args, Subcommand};
use matyan_proto::project::v1::{GetRequest, UpdateRequest, project_service_client::ProjectServiceClient};
use serde_json::json;

use super::{
    Error, client,
    flags::ClientFlags,
    output::{Output, cell},
};

const PROJECT_EXAMPLES: &str = "\
Examples:
  matyan project show
  matyan project set --name 'speech models'
  matyan project set --description '' --json       clear the description";

#[derive(Debug, Args)]
#[command(after_help = PROJECT_EXAMPLES)]
pub(crate) struct ProjectFlags {
    #[command(subcommand)]
    command: ProjectCommand,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectCommand {
    /// Show the name and description
    Show,
    /// Change the name, the description, or both
    #[command(group = clap::ArgGroup::new("given").required(true).multiple(true))]
    Set {
        /// Name shown in the UI
        #[arg(long, group = "given")]
        name: Option<String>,
        /// Description; may be empty
        #[arg(long, group = "given")]
        description: Option<String>,
    },
}

pub(super) async fn run(flags: ProjectFlags) -> Result<(), Error> {
    let out = &mut Output::new(flags.client.connection.json);
    let mut project = client!(ProjectServiceClient, flags.client.connect().await?);
    let (name, description) = match flags.command {
        ProjectCommand::Show => {
            let shown = project.get(GetRequest::default()).await?.into_inner();
            (shown.name, shown.description)
        }
        ProjectCommand::Set { name, description } => {
            let set =
                project.update(UpdateRequest { name, description, if_updated_us: None }).await?.into_inner();
            (set.name, set.description)
        }
    };
    if out.json {
        return Ok(out.object(&json!({"name": name, "description": description}))?);
    }
    out.line(format!("name         {}", cell(&name)).trim_end())?;
    Ok(out.line(format!("description  {}", cell(&description)).trim_end())?)
}
