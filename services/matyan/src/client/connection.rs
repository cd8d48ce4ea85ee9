//! Connections to a server, on which every call is in one project, with the token of the caller.

use std::{fs, path::PathBuf};

use matyan_access::AccessToken;
use matyan_kept_tokens::{KeptTokens, TokenPlace, file_path};
use matyan_wire::headers::PROJECT;
use tonic::{
    Request, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use super::{
    Error,
    flags::{ClientFlags, ConnectionFlags},
    secret_prompt::read_secret,
};
use crate::{endpoint::endpoint, settings::Environment};

/// A connection to a server. Cheap to clone.
pub(super) type Connection = InterceptedService<Channel, CallMetadata>;

/// Stamps the project and the token on each call.
#[derive(Clone)]
pub(super) struct CallMetadata {
    project: Option<AsciiMetadataValue>,
    authorization: Option<AsciiMetadataValue>,
}

impl Interceptor for CallMetadata {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(project) = &self.project {
            request.metadata_mut().insert(PROJECT, project.clone());
        }
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

impl ClientFlags {
    /// Connects to the server, for calls in the project.
    pub(super) async fn connect(&self) -> Result<Connection, Error> {
        self.connection.connect_to(self.project_name()?).await
    }

    /// The name of the project; empty for the default one.
    pub(super) fn project_name(&self) -> Result<&str, Error> {
        let server = self.connection.server.as_str();
        let from_url = project_of_url(server)?;
        let from_flag = self.project.as_deref().unwrap_or_default();
        match (from_url, from_flag) {
            (None, name) | (Some(name), "") => Ok(name),
            (Some(name), other) if name == other => Ok(name),
            (Some(name), other) => {
                let message = format!(
                    "the server's URL {server} names the project `{name}`, but --project (or MATYAN_PROJECT) names \
                     `{other}`: give only one of them"
                );
                Err(Error::Message(message))
            }
        }
    }
}

impl ConnectionFlags {
    /// Connects to the server, for calls that are not about a project.
    pub(super) async fn connect(&self) -> Result<Connection, Error> {
        self.connect_to("").await
    }

    /// Connects to the server, for calls in a project.
    pub(super) async fn connect_to(&self, project: &str) -> Result<Connection, Error> {
        // Also for calls that are not about a project: a wrong URL is refused by all commands.
        project_of_url(&self.server)?;
        let name = (!project.is_empty()).then(|| project.parse()).transpose();
        let project = name.map_err(|_| {
            Error::Message(format!(
                "no project can be named `{project}`: `matyan projects list` lists the names of all projects"
            ))
        })?;
        let name = project.as_ref().and_then(|name: &AsciiMetadataValue| name.to_str().ok());
        let authorization = self.authorization(name.unwrap_or_default())?;
        let metadata = CallMetadata { project, authorization };
        Ok(InterceptedService::new(channel(&self.server).await?, metadata))
    }

    /// Connects to the server with a token, for calls that are not about a project.
    pub(super) async fn connect_with(&self, token: &AccessToken) -> Result<Connection, Error> {
        project_of_url(&self.server)?;
        let metadata = CallMetadata { project: None, authorization: Some(header(token)) };
        Ok(InterceptedService::new(channel(&self.server).await?, metadata))
    }

    /// Connects to the server of a place with a token, for calls that are not about a project.
    pub(super) async fn connect_to_place(
        &self,
        place: &TokenPlace,
        token: &AccessToken,
    ) -> Result<Connection, Error> {
        // The URL that the user has given, if it is of this server: a path may be where a proxy exposes it.
        let is_given =
            TokenPlace::of(&self.server).is_some_and(|it| it.whole_server() == place.whole_server());
        let server = if is_given { self.server.clone() } else { place.whole_server().to_string() };
        let metadata = CallMetadata { project: None, authorization: Some(header(token)) };
        Ok(InterceptedService::new(channel(&server).await?, metadata))
    }

    /// Connects to the server without a token.
    pub(super) async fn connect_as_stranger(&self) -> Result<Connection, Error> {
        project_of_url(&self.server)?;
        let metadata = CallMetadata { project: None, authorization: None };
        Ok(InterceptedService::new(channel(&self.server).await?, metadata))
    }

    /// A text with a token: the content of the file after --token-file, or else what is typed or piped.
    pub(super) fn token_text(&self) -> Result<String, Error> {
        match &self.token_file {
            Some(path) => {
                let read =
                    fs::read(path).map_err(|source| Error::TokenFile { path: path.clone(), source })?;
                Ok(String::from_utf8_lossy(&read).into_owned())
            }
            None => Ok(read_secret(&format!("Token for {}: ", self.server))?),
        }
    }

    /// The header with the token for calls in a project, if there is one.
    fn authorization(&self, project: &str) -> Result<Option<AsciiMetadataValue>, Error> {
        let text = match (&self.token_file, &self.token) {
            (Some(path), _) => {
                fs::read(path).map_err(|source| Error::TokenFile { path: path.clone(), source })?
            }
            (None, Some(token)) => token.reveal().to_vec(),
            (None, None) => return self.kept_token(project),
        };
        let token = std::str::from_utf8(&text).ok().map(str::trim);
        if token == Some("") {
            return self.kept_token(project);
        }
        // The text is not repeated: it may be a token with a mistake.
        let token = token.and_then(AccessToken::parse).ok_or_else(|| {
            let message = "MATYAN_TOKEN, or the file after --token-file, does not contain a token: a token begins with \
                           mtk_, and must be copied completely";
            Error::Message(message.to_owned())
        })?;
        Ok(Some(header(&token)))
    }

    /// The header with the token that `matyan login` keeps for the server.
    fn kept_token(&self, project: &str) -> Result<Option<AsciiMetadataValue>, Error> {
        let (Some(path), Some(place)) = (kept_tokens_path(), TokenPlace::of(&self.server)) else {
            return Ok(None);
        };
        let tokens = KeptTokens::read(&path)?;
        let token = tokens.find(&place.in_project(project)).and_then(AccessToken::parse);
        Ok(token.as_ref().map(header))
    }
}

/// The file with the tokens that `matyan login` keeps; `None` if the user has no folder for it.
pub(super) fn kept_tokens_path() -> Option<PathBuf> {
    let environment = Environment::of_process();
    file_path(|name| environment.variable(name))
}

/// The header with a token. It is not printed.
fn header(token: &AccessToken) -> AsciiMetadataValue {
    let text = format!("Bearer {}", token.reveal());
    let mut value: AsciiMetadataValue = text.parse().expect("a token has letters and digits only");
    value.set_sensitive(true);
    value
}

/// The project that the URL of a server ends with. Fails for any other path: calls would ignore the path, and
/// work on the default project.
pub(super) fn project_of_url(server: &str) -> Result<Option<&str>, Error> {
    let Some((scheme, address)) = server.split_once("://") else { return Ok(None) };
    // `endpoint` refuses other schemes.
    if !matches!(&*scheme.to_ascii_lowercase(), "http" | "https") {
        return Ok(None);
    }
    let Some((_, path)) = address.trim_end_matches('/').split_once('/') else { return Ok(None) };
    match path.strip_prefix("p/").or_else(|| path.rsplit_once("/p/").map(|(_, name)| name)) {
        Some(name) if !name.contains('/') => Ok(Some(name)),
        _ => Err(Error::Message(format!(
            "the path `/{path}` in the server's URL names no project: end the URL with /p/NAME, or leave out \
             the path for the default project"
        ))),
    }
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
        let check = |server, expected| assert_eq!(project_of_url(server).unwrap(), expected, "{server}");
        check("http://127.0.0.1:53800", None);
        check("http://127.0.0.1:53800/", None);
        check("http://127.0.0.1:53800/p/team", Some("team"));
        check("https://host/matyan/p/team/", Some("team"));
        check("https://host/p/p", Some("p"));
        check("file:///a", None);
    }

    #[test]
    fn other_paths_are_refused() {
        for path in ["team", "p", "p/", "P/team", "p/team/more", "matyan/p/", "matyan/"] {
            let error = project_of_url(&format!("HTTPS://host/{path}")).unwrap_err().to_string();
            assert!(error.contains("end the URL with /p/NAME"), "{error}");
        }
    }
}
