//! The list of projects.

use clap::{Args, Subcommand};
use matyan_proto::{
    admin::v1::{Quotas, Usage, UsageRequest, UsageResponse, admin_service_client::AdminServiceClient},
    project::v1::{
        CreateRequest, DeleteRequest, ListRequest, Project, ProjectState, UpdateRequest,
        project_service_client::ProjectServiceClient,
    },
};
use serde_json::{Value, json};

use super::{
    Error, client,
    confirmation::confirm,
    flags::ConnectionFlags,
    output::{Output, cell, moment},
};

const PROJECTS_EXAMPLES: &str = "\
Examples:
  matyan projects create speech-models --display-name 'Speech models'
  matyan projects list
  matyan projects usage                                runs, points and bytes of every project, and its quotas
  matyan projects rename speech-models 'Speech'        only the name shown to people; the other one never changes
  matyan projects delete speech-models --yes
  matyan runs ls --project speech-models

Clients send data to a project by its URL, such as http://127.0.0.1:53800/p/speech-models, and the browser shows it there. A
deleted project is gone at once; its runs and files are deleted in the background, and its name cannot be used again.";

#[derive(Debug, Args)]
#[command(after_help = PROJECTS_EXAMPLES)]
pub(crate) struct ProjectsFlags {
    #[command(subcommand)]
    command: ProjectsCommand,
    #[command(flatten)]
    client: ConnectionFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectsCommand {
    /// List all projects
    #[command(visible_alias = "ls")]
    List,
    /// Create a project
    Create {
        /// Lowercase letters, digits, `-`, `_` and `.`; becomes part of URLs, and never changes
        name: String,
        /// Name shown to people; by default the same
        #[arg(long, value_name = "TEXT", default_value = "")]
        display_name: String,
        #[arg(long, value_name = "TEXT", default_value = "", help = "Description")]
        description: String,
    },
    /// Change the name that is shown to people
    Rename {
        /// Name of the project, as in its URL
        name: String,
        /// New name shown to people
        display_name: String,
    },
    /// Delete a project with all of its runs and files
    #[command(visible_alias = "rm")]
    Delete {
        /// Name of the project, as in its URL
        name: String,
        /// Do not ask for confirmation
        #[arg(long, short)]
        yes: bool,
    },
    /// Show how much each project has, next to its quotas
    Usage {
        /// Only this project
        name: Option<String>,
    },
}

pub(super) async fn run(flags: ProjectsFlags) -> Result<(), Error> {
    let out = &mut Output::new(flags.client.json);
    if let ProjectsCommand::Delete { name, yes: false } = &flags.command {
        confirm(&format!("the project {name} with all of its runs"), out)?;
    }
    if let ProjectsCommand::Rename { name, display_name } = &flags.command
        && display_name.trim().is_empty()
    {
        return Err(Error::Message(format!(
            "the new name of the project `{name}` is empty: give some text for people to read"
        )));
    }
    let mut projects = client!(ProjectServiceClient, flags.client.connect().await?);
    match flags.command {
        ProjectsCommand::List => {
            let listed = projects.list(ListRequest {}).await?.into_inner().projects;
            print(&listed, out)
        }
        ProjectsCommand::Create { name, display_name, description } => {
            let request = CreateRequest { name, display_name, description };
            let created = projects.create(request).await?.into_inner().project.unwrap_or_default();
            print(&[created], out)
        }
        ProjectsCommand::Rename { name, display_name } => {
            let mut project = client!(ProjectServiceClient, flags.client.connect_to(&name).await?);
            let request = UpdateRequest { name: Some(display_name), ..UpdateRequest::default() };
            let renamed = project.update(request).await?.into_inner();
            Ok(out.result(
                &json!({"name": name, "display_name": renamed.name}),
                format!("{}  is now called {}", cell(&name), cell(&renamed.name)),
            )?)
        }
        ProjectsCommand::Delete { name, yes: _ } => {
            // In the project, because that is where an owner has the right.
            let mut project = client!(ProjectServiceClient, flags.client.connect_to(&name).await?);
            let deleted = project.delete(DeleteRequest { name }).await?.into_inner().project;
            let deleted = deleted.unwrap_or_default();
            Ok(out.result(
                &object(&deleted),
                format!("{}  deleted; its content is being removed in the background", cell(&deleted.name)),
            )?)
        }
        ProjectsCommand::Usage { name } => {
            let names = match name {
                Some(name) => vec![name],
                None => {
                    let listed = projects.list(ListRequest {}).await?.into_inner().projects;
                    let active = listed.into_iter().filter(|it| it.state() == ProjectState::Active);
                    active.map(|it| it.name).collect()
                }
            };
            usage(&flags.client, names, out).await
        }
    }
}

/// A name for the default project, which has none.
pub(super) fn shown_name(name: &str) -> String {
    if name.is_empty() { "(default)".to_owned() } else { cell(name) }
}

fn state(project: &Project) -> &'static str {
    match project.state() {
        ProjectState::Deleting => "deleting",
        ProjectState::Active | ProjectState::Unspecified => "active",
    }
}

fn object(project: &Project) -> Value {
    json!({
        "name": project.name,
        "display_name": project.display_name,
        "description": project.description,
        "state": state(project),
        "created": project.created_us.map(|us| us as f64 / 1e6),
        "deleted": project.deleted_us.map(|us| us as f64 / 1e6),
    })
}

fn print(projects: &[Project], out: &mut Output) -> Result<(), Error> {
    if out.json {
        return Ok(projects.iter().try_for_each(|project| out.object(&object(project)))?);
    }
    let rows: Vec<_> = projects.iter().map(row).collect();
    Ok(out.table(["NAME", "DISPLAY NAME", "STATE", "CREATED (UTC)"], &rows)?)
}

fn row(project: &Project) -> [String; 4] {
    let created = project.created_us.map(moment).unwrap_or_default();
    [shown_name(&project.name), cell(&project.display_name), state(project).to_owned(), created]
}

async fn usage(client: &ConnectionFlags, names: Vec<String>, out: &mut Output) -> Result<(), Error> {
    let mut rows = Vec::new();
    for name in names {
        let mut admin = client!(AdminServiceClient, client.connect_to(&name).await?);
        let request = UsageRequest { largest_runs: 0 };
        let UsageResponse { total, quotas, .. } = admin.usage(request).await?.into_inner();
        let Usage { runs, series, points, bytes } = total.unwrap_or_default();
        let quotas = quotas.unwrap_or_default();
        if out.json {
            let quotas = json!({"runs": quotas.runs, "series": quotas.series, "bytes": quotas.bytes});
            out.object(&json!({
                "name": name, "runs": runs, "series": series, "points": points, "bytes": bytes, "quotas": quotas,
            }))?;
        } else {
            let Quotas { runs: most_runs, series: most_series, bytes: most_bytes } = quotas;
            rows.push([
                shown_name(&name),
                used_of(runs, most_runs),
                used_of(series, most_series),
                points.to_string(),
                used_of(bytes, most_bytes),
            ]);
        }
    }
    if !out.json {
        out.table(["NAME", "RUNS", "SERIES", "POINTS", "BYTES"], &rows)?;
    }
    Ok(())
}

/// A number with its limit, if there is one.
fn used_of(used: u64, limit: u64) -> String {
    if limit == 0 { used.to_string() } else { format!("{used} of {limit}") }
}
