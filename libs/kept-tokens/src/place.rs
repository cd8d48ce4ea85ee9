//! The server or project that a token is for.

use std::fmt;

use http::Uri;

/// Start of the URL of a gateway that takes batches by gRPC. The gateway is the same server.
pub const GRPC_PREFIX: &str = "grpc+";

/// A server, or a project of a server. As a text it is a URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenPlace {
    /// Scheme, host and port.
    server: String,
    project: Option<String>,
}

impl TokenPlace {
    /// The place that a URL names; `None` if it is not the URL of a server. A path before the project is the path
    /// under which a proxy serves Matyan, and is ignored.
    pub fn of(url: &str) -> Option<Self> {
        let uri: Uri = url.strip_prefix(GRPC_PREFIX).unwrap_or(url).parse().ok()?;
        let (scheme, default_port) = match uri.scheme_str()?.to_ascii_lowercase().as_str() {
            "http" | "ws" => ("http", 80),
            "https" | "wss" => ("https", 443),
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(default_port);
        let mut segments = uri.path().split('/').skip_while(|segment| *segment != "p").skip(1);
        let project = segments.next().filter(|name| !name.is_empty()).map(str::to_owned);
        Some(Self { server: format!("{scheme}://{host}:{port}"), project })
    }

    /// The server as a whole.
    #[must_use]
    pub fn whole_server(&self) -> Self {
        Self { server: self.server.clone(), project: None }
    }

    /// A project of the server. The default project has no name, and is the server as a whole.
    #[must_use]
    pub fn in_project(&self, name: &str) -> Self {
        let project = Some(name.to_owned()).filter(|name| !name.is_empty());
        Self { server: self.server.clone(), project }
    }

    /// The name of the project; `None` for the server as a whole.
    pub fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }
}

impl fmt::Display for TokenPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.project {
            None => formatter.write_str(&self.server),
            Some(project) => write!(formatter, "{}/p/{project}", self.server),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_or_a_project() {
        for (url, expected) in [
            ("http://localhost:53800", "http://localhost:53800"),
            ("HTTPS://Matyan.Example/", "https://matyan.example:443"),
            ("https://matyan.example/base/p/speech/", "https://matyan.example:443/p/speech"),
            ("wss://matyan.example/p/speech/api/v1/ws/runs/p", "https://matyan.example:443/p/speech"),
            ("grpc+http://h:53801", "http://h:53801"),
            ("http://[::1]:1", "http://[::1]:1"),
            ("http://ana@h/", "http://h:80"),
            ("http://h/p/", "http://h:80"),
        ] {
            let place = TokenPlace::of(url).unwrap_or_else(|| panic!("{url}"));
            assert_eq!(place.to_string(), expected);
            assert_eq!(TokenPlace::of(expected), Some(place), "its own text names it");
        }
        for other in ["", "localhost:53800", "localhost", "ftp://h", "/p/speech", "http://"] {
            assert_eq!(TokenPlace::of(other), None, "{other}");
        }
    }

    #[test]
    fn the_default_project_is_the_whole_server() {
        let server = TokenPlace::of("http://h:1").unwrap();
        assert_eq!(server.in_project(""), server);
        let speech = server.in_project("speech");
        assert_eq!((speech.project(), speech.whole_server()), (Some("speech"), server));
    }
}
