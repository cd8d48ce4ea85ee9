//! `matyan status`: whether a server is up and ready.

use clap::Args;
use matyan_proto::{
    project::v1::{GetRequest, project_service_client::ProjectServiceClient},
    system::v1::{Check, ReadinessRequest, VersionRequest, system_service_client::SystemServiceClient},
};
use matyan_wire::server_version;
use serde_json::{Value, json};
use tonic::Code;

use super::{
    Error, client,
    connection::project_of_url,
    flags::ConnectionFlags,
    output::{Output, cell},
};

const STATUS_EXAMPLES: &str = "\
Examples:
  matyan status
  matyan status --server http://tracker.lan:53800 --json

The exit code is 1 if the server is not ready, or has no project with the name that its URL ends with.";

#[derive(Debug, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub(crate) struct StatusFlags {
    #[command(flatten)]
    client: ConnectionFlags,
}

pub(super) async fn run(flags: StatusFlags) -> Result<(), Error> {
    let out = &mut Output::new(flags.client.json);
    let mut system = client!(SystemServiceClient, flags.client.connect().await?);
    let server = &flags.client.server;
    let version = system.version(VersionRequest {}).await?.into_inner();
    let readiness = system.readiness(ReadinessRequest::default()).await?.into_inner();
    if out.json {
        out.object(&json!({
            "server": server,
            "version": version.version,
            "component": version.component,
            "client_version": server_version::OWN,
            "advice": server_version::advice(&version.version),
            "ready": readiness.ready,
            "checks": readiness.checks.iter().map(check_object).collect::<Vec<_>>(),
        }))?;
    } else {
        out.line(format!("server   {server}"))?;
        out.line(format!("version  {} ({})", version.version, version.component))?;
        if let Some(advice) = server_version::advice(&version.version) {
            out.line(format!("         {advice}"))?;
        }
        out.line(format!("ready    {}", if readiness.ready { "yes" } else { "no" }))?;
        for check in &readiness.checks {
            let state = if check.ok { "ok".to_owned() } else { cell(&check.message) };
            out.line(format!("  {:<14}{state}", check.name))?;
        }
    }
    if !readiness.ready {
        return Err(Error::Message("the server is not ready: see the checks above, and its log".to_owned()));
    }
    let Some(project) = project_of_url(server)? else { return Ok(()) };
    let mut projects = client!(ProjectServiceClient, flags.client.connect_to(project).await?);
    match projects.get(GetRequest::default()).await {
        // Frontiers and workers have no list of the projects.
        Err(status) if status.code() != Code::Unimplemented => Err(status.into()),
        _ => Ok(()),
    }
}

fn check_object(check: &Check) -> Value {
    json!({"name": check.name, "ok": check.ok, "message": check.message, "required": check.required})
}
