//! Headers that restrict what a browser does with a response. Runs contain what anyone logged,
//! so that no response may become a page which acts with the rights of its reader.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};

const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");
const REFERRER: HeaderValue = HeaderValue::from_static("same-origin");
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");
const SAME_ORIGIN: HeaderValue = HeaderValue::from_static("SAMEORIGIN");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const RESOURCE_OWN: HeaderValue = HeaderValue::from_static("same-origin");
const RESOURCE_ANY: HeaderValue = HeaderValue::from_static("cross-origin");

/// Header that cuts the connection between a page and the page of another site that has opened it.
pub(crate) const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
pub(crate) const OPENER_OWN: HeaderValue = HeaderValue::from_static("same-origin");

/// Policy of everything but pages: a browser that opens it runs and loads nothing.
const DATA_POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox");

/// The policy of a logged page in its sandbox: the page runs its own scripts, and loads and sends nothing. A page that
/// another web server sends has to contain this policy.
pub const LOGGED_PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
    img-src data:; font-src data:; media-src data:; base-uri 'none'; form-action 'none'";

/// Policy of the page that lists the routes.
pub(crate) const DOCS_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// Source of the interpreter with which reports run, and of the packages that it installs.
const REPORT_SCRIPTS: &str = "'unsafe-eval' https://cdn.jsdelivr.net";
const REPORT_SOURCES: &str = "https://cdn.jsdelivr.net https://pypi.org https://files.pythonhosted.org";

/// Adds the headers of all responses. Policies that a handler has set are kept. `is_shared` is
/// true if pages of another origin may read the response.
pub(crate) fn add(headers: &mut HeaderMap, is_shared: bool) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFFING);
    headers.insert(header::REFERRER_POLICY, REFERRER);
    headers.insert(RESOURCE_POLICY, if is_shared { RESOURCE_ANY } else { RESOURCE_OWN });
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(DATA_POLICY);
    // Browsers prefer `frame-ancestors`; this header is for browsers that do not know it.
    headers.insert(header::X_FRAME_OPTIONS, SAME_ORIGIN);
}

/// Marks a response as private, because a shared cache could store the answer to a request with a cookie.
pub(crate) fn add_privacy(headers: &mut HeaderMap) {
    headers.entry(header::CACHE_CONTROL).or_insert(PRIVATE);
}

/// The rights of a UI's pages, besides using this server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PagePermissions<'a> {
    /// Another host with the API.
    pub(crate) api_host: &'a str,
    /// Whether reports may run the code that is stored in them.
    pub(crate) allows_report_code: bool,
    /// Origins whose pages may show the page in a frame.
    pub(crate) framed_by: &'a [String],
}

/// The policy of a UI page: scripts are files of this server, and those inside of the page.
pub(crate) fn page_policy(page: &str, permissions: PagePermissions<'_>) -> HeaderValue {
    let PagePermissions { api_host, allows_report_code, framed_by } = permissions;
    let hashes: Vec<String> = inline_scripts(page).map(hash).collect();
    let (scripts, sources) = if allows_report_code { (REPORT_SCRIPTS, REPORT_SOURCES) } else { ("", "") };
    let directives = [
        words(&["default-src 'self'"]),
        words(&["script-src 'self'", &hashes.join(" "), scripts]),
        // Charts set styles of their elements.
        words(&["style-src 'self' 'unsafe-inline'"]),
        words(&["img-src 'self' data: blob:", api_host]),
        words(&["media-src 'self' data: blob:", api_host]),
        words(&["font-src 'self' data:"]),
        words(&["connect-src 'self' data: blob:", api_host, sources]),
        words(&["worker-src 'self' blob:"]),
        words(&["object-src 'none'"]),
        words(&["base-uri 'self'"]),
        words(&["form-action 'self'"]),
        words(&["frame-ancestors 'self'", &framed_by.join(" ")]),
    ];
    HeaderValue::from_str(&directives.join("; ")).expect("settings in pages are ASCII")
}

/// The policy of logged pages, and of the page that draws logged figures: such a page has its own origin,
/// runs only what is in the page itself, and loads and sends nothing. Pages that show the UI
/// show it too.
pub(crate) fn sandbox_policy(framed_by: &[String]) -> HeaderValue {
    let ancestors = words(&["frame-ancestors 'self'", &framed_by.join(" ")]);
    let directives = ["sandbox allow-scripts", LOGGED_PAGE_POLICY, &ancestors];
    HeaderValue::from_str(&directives.join("; ")).expect("origins are ASCII")
}

fn words(words: &[&str]) -> String {
    words.iter().filter(|it| !it.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

/// The contents of the script elements without a file. Case is ignored only in the first letter,
/// because bundles are written by programs.
fn inline_scripts(page: &str) -> impl Iterator<Item = &str> {
    page.split("<script").skip(1).filter_map(|element| {
        let (attributes, rest) = element.split_once('>')?;
        let is_file = attributes.split_ascii_whitespace().any(|it| it.starts_with("src="));
        let (content, _) = rest.split_once("</script>")?;
        (!is_file).then_some(content)
    })
}

fn hash(script: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(script)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(page: &str, permissions: PagePermissions<'_>) -> String {
        page_policy(page, permissions).to_str().unwrap().to_owned()
    }

    #[test]
    fn only_scripts_of_the_page_and_its_files_run() {
        let page = "<script>alert(1)</script><script type=\"module\" src=\"/a.js\"></script><script async>x</script>";
        let policy = policy(page, PagePermissions::default());
        let scripts = policy.split("; ").find(|it| it.starts_with("script-src")).unwrap();
        // The hash that Chromium asks for.
        let alert = "'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='";
        assert_eq!(scripts.split(' ').collect::<Vec<_>>()[..3], ["script-src", "'self'", alert]);
        assert_eq!(scripts.split(' ').count(), 4);
        assert!(!policy.contains("eval") && !policy.contains("http"), "{policy}");
        assert!(policy.ends_with("frame-ancestors 'self'"), "{policy}");
    }

    #[test]
    fn permissions_are_added() {
        let origins = ["https://notebooks.example".to_owned()];
        let permissions = PagePermissions {
            api_host: "https://api.example",
            allows_report_code: true,
            framed_by: &origins,
        };
        let policy = policy("", permissions);
        assert!(policy.contains("script-src 'self' 'unsafe-eval' https://cdn.jsdelivr.net;"), "{policy}");
        assert!(
            policy.contains("connect-src 'self' data: blob: https://api.example https://cdn"),
            "{policy}"
        );
        assert!(policy.ends_with("frame-ancestors 'self' https://notebooks.example"), "{policy}");
    }
}
