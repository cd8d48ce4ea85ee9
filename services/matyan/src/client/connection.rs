//! Connections to a server, on which every call is in one project.

use matyan_record::headers::PROJECT;
use tonic::{
    Request, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use super::{
    Error,
    flags::{ClientFlags, ConnectionFlags},
};
use crate::endpoint::endpoint;

/// A connection to a server. Cheap to clone.
pub(super) type Connection = InterceptedService<Channel, InProject>;

/// Stamps the project on each call.
#[derive(Clone)]
pub(super) struct InProject(Option<AsciiMetadataValue>);

impl Interceptor for InProject {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(project) = &self.0 {
            request.metadata_mut().insert(PROJECT, project.clone());
        }
        Ok(request)
    }
}

impl ClientFlags {
    /// Connects to the server, for calls in the project.
    pub(super) async fn connect(&self) -> Result<Connection, Error> {
        let server = self.connection.server.as_str();
        let (of_url, of_flag) = (project_of_url(server), self.project.as_deref().unwrap_or_default());
        let project = match (of_url, of_flag) {
            (None, name) | (Some(name), "") => name,
            (Some(name), other) if name == other => name,
            (Some(name), other) => {
                let message = format!(
                    "the server's URL {server} names the project `{name}`, but --project (or MATYAN_PROJECT) names \
                     `{other}`: give only one of them"
                );
                return Err(Error::Message(message));
            }
        };
        self.connection.connect_to(project).await
    }
}

impl ConnectionFlags {
    /// Connects to the server, for calls that are not about a project.
    pub(super) async fn connect(&self) -> Result<Connection, Error> {
        self.connect_to("").await
    }

    /// Connects to the server, for calls in a project.
    pub(super) async fn connect_to(&self, project: &str) -> Result<Connection, Error> {
        let invalid = |_| {
            Error::Message(format!(
                "no project can be named `{project}`: `matyan projects list` lists the names of all projects"
            ))
        };
        let metadata = (!project.is_empty()).then(|| project.parse()).transpose().map_err(invalid)?;
        Ok(InterceptedService::new(channel(&self.server).await?, InProject(metadata)))
    }
}

/// The project that the URL of a server ends with.
pub(super) fn project_of_url(server: &str) -> Option<&str> {
    let (_, address) = server.split_once("://")?;
    let (_, name) = address.trim_end_matches('/').rsplit_once("/p/")?;
    Some(name).filter(|name| !name.is_empty() && !name.contains('/'))
}

async fn channel(server: &str) -> Result<Channel, Error> {
    let channel = endpoint(server)?.connect().await;
    channel.map_err(|source| Error::Unreachable { server: server.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_server_may_end_with_a_project() {
        let check = |server, expected| assert_eq!(project_of_url(server), expected, "{server}");
        check("http://127.0.0.1:53800", None);
        check("http://127.0.0.1:53800/", None);
        check("http://127.0.0.1:53800/p/team", Some("team"));
        check("https://host/matyan/p/team/", Some("team"));
        check("https://host/p/", None);
        check("https://host/p/team/more", None);
    }
}
