//! The project of a request: `/p/{project}/…` before any path, or the header `matyan-project`, or
//! the default project. The rest of the edge sees neither the prefix nor more than one value of the header.

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use matyan_proto::limits::PROJECT_BYTES;
use matyan_wire::headers::PROJECT;
use percent_encoding::percent_decode_str;

use crate::error::{ApiError, ApiResult};
use crate::uri_path::with_path;

pub(crate) const HEADER: HeaderName = HeaderName::from_static(PROJECT);

/// Path prefix before the name of a project.
pub(crate) const PREFIX: &str = "/p/";

/// The project of a request; `None` for the default one.
pub(crate) type RequestProject = Option<HeaderValue>;

/// Moves the project from the path of a request into its header, which has one value from then on, or
/// none for the default project. Returns the project. Whether it exists is decided by the services.
pub(crate) fn resolve(request: &mut Request<Body>) -> ApiResult<RequestProject> {
    let of_headers = take_header(request.headers_mut())?;
    let of_path = take_prefix(request)?;
    let project = match (of_headers, of_path) {
        (Some(header), Some(path)) if header != path => {
            let path = name(Some(&path));
            return Err(contradiction(&format!(
                "the path names the project `{path}`, and the header `{PROJECT}` another one"
            )));
        }
        (of_headers, of_path) => of_path.or(of_headers),
    };
    if let Some(project) = &project {
        request.headers_mut().insert(HEADER, project.clone());
    }
    Ok(project)
}

/// Removes the project from the headers of a request.
fn take_header(headers: &mut HeaderMap) -> ApiResult<RequestProject> {
    let mut values = headers.get_all(HEADER).iter();
    let first = values.next().cloned();
    if values.any(|other| Some(other) != first.as_ref()) {
        return Err(contradiction(&format!("the header `{PROJECT}` names several projects")));
    }
    headers.remove(HEADER);
    let named = first.filter(|it| !it.is_empty());
    if named.as_ref().is_some_and(|it| !is_name(it.as_bytes())) {
        return Err(no_name(&format!("the header `{PROJECT}` has a value that is not a valid project name")));
    }
    Ok(named)
}

/// Removes the project from the path of a request.
fn take_prefix(request: &mut Request<Body>) -> ApiResult<RequestProject> {
    let Some(named) = request.uri().path().strip_prefix(PREFIX) else { return Ok(None) };
    let (segment, rest) = named.split_at(named.find('/').unwrap_or(named.len()));
    let name: Vec<u8> = percent_decode_str(segment).collect();
    let project = HeaderValue::from_bytes(&name).ok().filter(|_| is_name(&name));
    let project = project
        .ok_or_else(|| no_name("the path begins with /p/, but what follows is not a valid project name"))?;
    let rest = if rest.is_empty() { "/" } else { rest };
    *request.uri_mut() = with_path(request.uri(), rest);
    Ok(Some(project))
}

/// Returns whether a project may have this name. The rules for new projects are stricter, but a project that an older
/// version created keeps its name. A name has only one spelling in paths and headers, and no proxy resolves it as a
/// path.
fn is_name(name: &[u8]) -> bool {
    let is_path = matches!(name, b"." | b"..");
    !is_path
        && (1..=PROJECT_BYTES).contains(&name.len())
        && name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'/')
}

fn contradiction(problem: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, format!("{problem}: send only one of them"))
}

fn no_name(problem: &str) -> ApiError {
    let message = format!("{problem}: `matyan projects list` lists the names of all projects");
    ApiError::new(StatusCode::NOT_FOUND, message)
}

/// The project that `resolve` has found in a request.
pub(crate) fn of_headers(headers: &HeaderMap) -> RequestProject {
    headers.get(HEADER).cloned()
}

/// The name of a project; empty for the default one.
pub(crate) fn name(project: Option<&HeaderValue>) -> &str {
    project.map_or("", |it| it.to_str().expect("names of projects are ASCII"))
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
        let too_long = format!("/p/{}/", "x".repeat(PROJECT_BYTES + 1));
        for uri in [
            "/p/",
            "/p//api",
            "/p/../x",
            "/p/.",
            "/p/%2e%2e/x",
            "/p/a%20b/",
            "/p/%C3%A4/",
            "/p/%0A/",
            "/p/a%2Fb/",
            "/p/%FF/",
            &too_long,
        ] {
            check(uri, "", Err(StatusCode::NOT_FOUND));
        }
        for header in ["a b", "a/b", "..", "ä", &"x".repeat(PROJECT_BYTES + 1)] {
            check("/api/x", header, Err(StatusCode::NOT_FOUND));
        }
    }

    /// Services read the first value of a header, so another one could name the project that a proxy
    /// has checked.
    #[test]
    fn rule_58_the_header_of_the_project_has_one_value() {
        let check = |uri: &str, values: &[&str], expected: Result<&[&str], StatusCode>| {
            let request = values.iter().fold(Request::get(uri), |it, value| it.header(HEADER, *value));
            let mut request = request.body(Body::empty()).unwrap();
            let found = resolve(&mut request).map_err(|it| it.status());
            let left: Vec<_> = request.headers().get_all(HEADER).iter().cloned().collect();
            assert_eq!(
                found.map(|_| left),
                expected.map(|it| it.iter().map(|it| it.parse().unwrap()).collect()),
                "{uri} {values:?}"
            );
        };
        check("/api/x", &["team", "team"], Ok(&["team"]));
        check("/p/team/x", &["team", "team"], Ok(&["team"]));
        check("/api/x", &[""], Ok(&[]));
        check("/p/team/x", &[""], Ok(&["team"]));
        for values in [["team", "other"], ["", "team"], ["team", ""]] {
            check("/api/x", &values, Err(StatusCode::BAD_REQUEST));
            check("/p/team/x", &values, Err(StatusCode::BAD_REQUEST));
        }
    }
}
