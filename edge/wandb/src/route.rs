//! The routes of W&B's clients, by method and path.

use http::Method;
use percent_encoding::percent_decode_str;

/// A route, and the names in its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    Graphql,
    /// Appends to the files that a run streams.
    FileStream {
        project: String,
        run: String,
    },
    /// Reads a file of a run.
    File {
        project: String,
        run: String,
        path: String,
    },
    /// Reads a file of an artifact by the version that it was uploaded with, and by its digest.
    FileByDigest {
        /// The collection of the version that the client reads, which may be another version.
        collection: Option<CollectionName>,
        version: String,
        digest: String,
    },
    /// Reads a file of an artifact by a path that names no version.
    FileOfUnknownVersion,
    /// Names something by bytes that are not UTF-8, so nothing has this name.
    NameNotUtf8,
    /// Figures that the client sends about itself, which are dropped.
    ClientTelemetry,
    /// The page of a run, to which the client points people.
    RunPage {
        project: String,
        run: String,
    },
}

/// The names of a collection of artifacts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectionName {
    pub project: String,
    pub name: String,
}

impl Route {
    /// Finds the route of a request; `None` if its path does not belong to W&B.
    pub fn find(method: &Method, path: &str) -> Option<Self> {
        let route = Self::find_lossy(method, path)?;
        let is_utf8 = percent_decode_str(path).decode_utf8().is_ok();
        Some(if is_utf8 { route } else { Self::NameNotUtf8 })
    }

    /// Finds the route of a path in which bytes that are not UTF-8 are replaced.
    fn find_lossy(method: &Method, path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        match (method, segments.as_slice()) {
            (&Method::POST, ["graphql"]) => Some(Self::Graphql),
            (&Method::POST, ["sdk", "otel", "v1", "metrics" | "logs"]) => Some(Self::ClientTelemetry),
            (&Method::POST, ["files", _, project, run, "file_stream"]) => {
                Some(Self::FileStream { project: decoded(project), run: decoded(run) })
            }
            (&Method::GET, ["files", _, project, run, rest @ ..]) if !rest.is_empty() => Some(Self::File {
                project: decoded(project),
                run: decoded(run),
                path: decoded(&rest.join("/")),
            }),
            // An older client sends no names; a newer one sends the names of the project, the collection and the file.
            (&Method::GET, ["artifactsV2", _, _, version, digest]) => Some(Self::FileByDigest {
                collection: None,
                version: decoded(version),
                digest: decoded(digest),
            }),
            (&Method::GET, ["artifactsV2", _, _, project, name, version, digest, _]) => {
                let collection = CollectionName { project: decoded(project), name: decoded(name) };
                Some(Self::FileByDigest {
                    collection: Some(collection),
                    version: decoded(version),
                    digest: decoded(digest),
                })
            }
            // Without this route, the client would get a page of the web UI, and take it for the file.
            (&Method::GET, ["artifactsV2", ..]) => Some(Self::FileOfUnknownVersion),
            (&Method::GET, [_, project, "runs", run]) => {
                Some(Self::RunPage { project: decoded(project), run: decoded(run) })
            }
            _ => None,
        }
    }

    /// The path without values, for metrics.
    pub fn template(&self) -> &'static str {
        match self {
            Self::Graphql => "/graphql/",
            Self::FileStream { .. } => "/files/{id}/{id}/{id}/file_stream/",
            Self::File { .. } => "/files/{id}/{id}/{id}/{id}/",
            Self::FileByDigest { .. } | Self::FileOfUnknownVersion => "/artifactsV2/{id}/",
            Self::NameNotUtf8 => "/{id}/",
            Self::ClientTelemetry => "/sdk/otel/v1/{id}/",
            Self::RunPage { .. } => "/{id}/{id}/runs/{id}/",
        }
    }

    /// Maximum size of a body.
    pub fn body_bytes(&self) -> usize {
        match self {
            Self::Graphql => GRAPHQL_BYTES,
            // An append without a valid name is refused for its name, however large it is.
            Self::FileStream { .. } | Self::NameNotUtf8 => FILE_STREAM_BYTES,
            Self::ClientTelemetry => TELEMETRY_BYTES,
            Self::File { .. }
            | Self::FileByDigest { .. }
            | Self::FileOfUnknownVersion
            | Self::RunPage { .. } => 0,
        }
    }
}

/// A config may have as many bytes as params.
const GRAPHQL_BYTES: usize = 2 * matyan_proto::limits::PARAMS_BYTES;

/// Clients start another request at 10 MB, unless one line is longer.
const FILE_STREAM_BYTES: usize = matyan_proto::limits::BATCH_BYTES;

const TELEMETRY_BYTES: usize = 4 << 20;

fn decoded(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_found_by_method_and_path() {
        let text = |text: &str| text.to_owned();
        let stream = Route::FileStream { project: text("a b"), run: text("r") };
        assert_eq!(Route::find(&Method::POST, "/files/me/a%20b/r/file_stream"), Some(stream));
        let file = Route::File { project: text("p"), run: text("r"), path: text("media/x y.png") };
        assert_eq!(Route::find(&Method::GET, "/files/me/p/r/media/x%20y.png"), Some(file));
        assert_eq!(Route::find(&Method::POST, "/graphql"), Some(Route::Graphql));
        let page = Route::RunPage { project: text("p"), run: text("r") };
        assert_eq!(Route::find(&Method::GET, "/me/p/runs/r"), Some(page));
        let collection = CollectionName { project: text("p"), name: text("da ta") };
        for (by_digest, collection) in [
            ("/artifactsV2/default/me/p/da%20ta/1f/0a/a.txt", Some(collection)),
            ("/artifactsV2/default/me/1f/0a", None),
        ] {
            let route = Route::FileByDigest { collection, version: text("1f"), digest: text("0a") };
            assert_eq!(Route::find(&Method::GET, by_digest), Some(route), "{by_digest}");
        }
        let without_version = Route::find(&Method::GET, "/artifactsV2/default/me/p/data/0a/a.txt");
        assert_eq!(without_version, Some(Route::FileOfUnknownVersion));
        for (method, path) in [
            (Method::POST, "/files/me/p/%FF/file_stream"),
            (Method::GET, "/files/me/p/r/%FF"),
            (Method::GET, "/artifactsV2/default/me/%FF/0a"),
            (Method::GET, "/me/p/runs/%FF"),
        ] {
            assert_eq!(Route::find(&method, path), Some(Route::NameNotUtf8), "{method} {path}");
        }
        for (method, path) in [
            (Method::GET, "/graphql"),
            (Method::GET, "/files/me/p/r"),
            (Method::GET, "/static/%FF"),
            (Method::GET, "/api/v1/rest/runs"),
            (Method::GET, "/"),
        ] {
            assert_eq!(Route::find(&method, path), None, "{method} {path}");
        }
    }
}
