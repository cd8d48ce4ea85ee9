//! The project of a request: `/p/{project}/…` before any path, or the header `matyan-project`, or
//! the default project. The rest of the edge sees neither the prefix nor, unless a call is
//! forwarded as it is, the header: clients of services stamp the project on each of their calls.

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use matyan_record::headers::PROJECT;
use percent_encoding::percent_decode_str;

use crate::error::ApiError;
use crate::uri_path::with_path;

pub(crate) const HEADER: HeaderName = HeaderName::from_static(PROJECT);

/// Path prefix before the name of a project.
pub(crate) const PREFIX: &str = "/p/";

/// The project of a request; `None` for the default one.
pub(crate) type RequestProject = Option<HeaderValue>;

tokio::task_local! {
    static CURRENT: RequestProject;
}

/// Moves the project from the path of a request into its header, and returns it. Whether it
/// exists is decided by the services.
pub(crate) fn resolve(request: &mut Request<Body>) -> Result<RequestProject, ApiError> {
    let given = of_headers(request.headers());
    let Some(named) = request.uri().path().strip_prefix(PREFIX) else { return Ok(given) };
    let (segment, rest) = named.split_at(named.find('/').unwrap_or(named.len()));
    let name = percent_decode_str(segment).decode_utf8_lossy().into_owned();
    let is_valid = !name.is_empty() && name.bytes().all(|it| it.is_ascii_graphic());
    let project = HeaderValue::try_from(&name).ok().filter(|_| is_valid);
    let project = project.ok_or_else(|| {
        let message = "the path begins with /p/, but what follows is not a valid project name: `matyan projects list` \
                       lists the names of all projects";
        ApiError::new(StatusCode::NOT_FOUND, message)
    })?;
    if given.is_some_and(|it| it != project) {
        let message = format!(
            "the path names the project `{name}`, and the header `{PROJECT}` another one: send only one of them"
        );
        return Err(ApiError::new(StatusCode::BAD_REQUEST, message));
    }
    let rest = if rest.is_empty() { "/" } else { rest };
    *request.uri_mut() = with_path(request.uri(), rest);
    request.headers_mut().insert(HEADER, project.clone());
    Ok(Some(project))
}

/// The project that `resolve` has found in a request.
pub(crate) fn of_headers(headers: &HeaderMap) -> RequestProject {
    headers.get(HEADER).filter(|it| !it.is_empty()).cloned()
}

/// Does the work of a request in its project.
pub(crate) async fn scope<T>(project: RequestProject, work: impl Future<Output = T>) -> T {
    CURRENT.scope(project, work).await
}

/// The project of the current request. Panics outside of one: work that is not about a project
/// must not use the default one by accident.
pub(crate) fn current() -> RequestProject {
    CURRENT.with(RequestProject::clone)
}

/// The name of the current project, like `current`; empty for the default one.
pub(crate) fn current_name() -> String {
    current().map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, header: &str, expected: Result<(&str, &str), StatusCode>) {
        let mut request = Request::get(uri);
        if !header.is_empty() {
            request = request.header(HEADER, header);
        }
        let mut request = request.body(Body::empty()).unwrap();
        let found = resolve(&mut request);
        let text = |it: &HeaderValue| it.to_str().unwrap().to_owned();
        let found = found.map(|it| it.as_ref().map(text).unwrap_or_default()).map_err(|it| it.status());
        let expected_name = expected.map(|(name, _)| name.to_owned());
        assert_eq!(found, expected_name, "{uri} {header:?}");
        if let Ok((name, path)) = expected {
            assert_eq!(request.uri().to_string(), path, "{uri}");
            assert_eq!(of_headers(request.headers()).as_ref().map(text).unwrap_or_default(), name, "{uri}");
        }
    }

    #[test]
    fn the_project_is_a_prefix_of_the_path_or_a_header() {
        check("/api/x?q=/p/a/", "", Ok(("", "/api/x?q=/p/a/")));
        check("/p/team/api/x?q=1", "", Ok(("team", "/api/x?q=1")));
        check("/p/team", "", Ok(("team", "/")));
        check("/p/team/", "", Ok(("team", "/")));
        check("/p/te%61m/p/x", "", Ok(("team", "/p/x")));
        check("/p/team//api/", "", Ok(("team", "//api/")));
        check("/api/x", "team", Ok(("team", "/api/x")));
        check("/p/team/api/x", "team", Ok(("team", "/api/x")));
        check("https://here:1/p/team/x", "", Ok(("team", "https://here:1/x")));
        check("/params/x", "", Ok(("", "/params/x")));
    }

    #[test]
    fn a_request_has_one_project() {
        check("/p/team/api/x", "other", Err(StatusCode::BAD_REQUEST));
        for uri in ["/p/", "/p//api", "/p/a%20b/", "/p/%C3%A4/", "/p/%0A/"] {
            check(uri, "", Err(StatusCode::NOT_FOUND));
        }
    }
}
