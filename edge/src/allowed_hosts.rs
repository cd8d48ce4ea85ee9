//! The host names under which this server answers. A page can only be same-origin with the
//! server under a name in the page's own URL. If any name were accepted, attackers could make a
//! name of their own resolve to this server, and a page of theirs could then read and write
//! everything that its visitor can reach (DNS rebinding).
//!
//! IP addresses are always accepted, because nothing resolves them.

use std::net::IpAddr;

use http::uri::Authority;
use http::{HeaderMap, Request, StatusCode, Version, header};
use matyan_wire::loopback::is_loopback_host;

use crate::error::ApiError;
use crate::settings::Settings;

const FORWARDED_HOST: &str = "x-forwarded-host";

/// Endings of names that exist only in local networks: no one can register them.
const LOCAL_ENDINGS: [&str; 6] = [".local", ".localdomain", ".internal", ".lan", ".home.arpa", ".svc"];

/// Maximum number of names of a request that are looked at.
const MAX_NAMES: usize = 8;

/// Maximum length of the name in the error.
const SHOWN_CHARACTERS: usize = 100;

/// Refuses HTTP/1.1 requests without exactly one header `Host`, as RFC 9112 (section 3.2) requires: a proxy in front of
/// the server could use another of the hosts.
pub(crate) fn check_host_header<B>(request: &Request<B>) -> Result<(), ApiError> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if request.version() != Version::HTTP_11 || hosts == 1 {
        return Ok(());
    }
    let message =
        format!("expected one header `Host`, found {hosts}: send the name and the port of this server in it");
    Err(ApiError::new(StatusCode::BAD_REQUEST, message))
}

/// Refuses requests that were sent to a name which is not this server's.
pub(crate) fn check_host<B>(settings: &Settings, request: &Request<B>) -> Result<(), ApiError> {
    let names = named_hosts(request.headers());
    let authority = request.uri().authority().map(|it| Some(it.as_str()));
    // Without any name, the request is not from a browser.
    for name in names.chain(authority) {
        let is_allowed = name.is_some_and(|it| it.is_empty() || is_allowed(settings, it));
        if !is_allowed {
            let name: String = name.unwrap_or("(not ASCII)").chars().take(SHOWN_CHARACTERS).collect();
            let message = format!(
                "this server does not answer to the host name `{name}`: if it is right, add it to the server's \
                 MATYAN_ALLOWED_HOSTS"
            );
            return Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, message));
        }
    }
    Ok(())
}

/// The names in headers; `None` for a name that is not ASCII.
fn named_hosts(headers: &HeaderMap) -> impl Iterator<Item = Option<&str>> {
    let hosts = headers.get_all(header::HOST).iter().map(|it| it.to_str().ok());
    let forwarded = headers.get_all(FORWARDED_HOST).iter();
    // The first name is from the browser, others are from proxies.
    let forwarded = forwarded.map(|it| it.to_str().ok()?.split(',').next().map(str::trim));
    hosts.chain(forwarded)
}

/// The names that a request came under, without ports.
pub(crate) fn host_names<B>(request: &Request<B>) -> Vec<String> {
    let authority = request.uri().authority().map(|it| Some(it.as_str()));
    let names = named_hosts(request.headers()).chain(authority).flatten();
    names.filter_map(host_name).take(MAX_NAMES).collect()
}

/// The host and the port in the address that a browser shows: what a proxy says, or what the request says.
pub(crate) fn browser_authority<B>(request: &Request<B>) -> Option<Authority> {
    let text = |name: &str| request.headers().get(name)?.to_str().ok();
    let forwarded = text(FORWARDED_HOST).and_then(|it| it.split(',').next()).map(str::trim);
    let authority = request.uri().authority().map(Authority::as_str);
    let named = [forwarded, authority, text(header::HOST.as_str())].into_iter().flatten();
    named.filter(|it| !it.is_empty()).find_map(|it| it.parse().ok())
}

/// Whether any of the names that a request came under matches a pattern.
pub(crate) fn is_named<B>(request: &Request<B>, patterns: &[String]) -> bool {
    let authority = request.uri().authority().map(|it| Some(it.as_str()));
    let mut names = named_hosts(request.headers()).chain(authority).flatten();
    names.any(|name| {
        let name = host_name(name);
        name.is_some_and(|name| patterns.iter().any(|pattern| matches_pattern(pattern, &name)))
    })
}

/// The host of an authority, without brackets and the optional dot of a fully qualified name. `None` if user
/// information precedes the host: browsers send none, and it can look like a host to readers of links and logs.
fn host_name(authority: &str) -> Option<String> {
    let authority = authority.parse::<Authority>().ok().filter(|it| !it.as_str().contains('@'))?;
    let host = authority.host();
    let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    Some(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
}

fn is_allowed(settings: &Settings, authority: &str) -> bool {
    let Some(name) = host_name(authority) else { return false };
    if name.parse::<IpAddr>().is_ok() {
        return true;
    }
    is_loopback_name(&name)
        || settings.allowed_hosts.iter().any(|it| matches_pattern(it, &name))
        || (settings.is_on_network && is_local_name(&name))
}

/// No one can register these names for another machine.
fn is_loopback_name(name: &str) -> bool {
    is_loopback_host(name) || name.ends_with(".localhost")
}

/// Whether a name has no dot, such as the name of a container, or cannot be registered. Only
/// someone in the network can make such a name resolve to another address, and they can reach
/// the server anyway.
fn is_local_name(name: &str) -> bool {
    !name.contains('.') || LOCAL_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

fn matches_pattern(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(ending) => ending.is_empty() || name.ends_with(&ending.to_ascii_lowercase()),
        None => pattern.eq_ignore_ascii_case(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(is_on_network: bool) -> Settings {
        let allowed_hosts = ["Matyan.example", "*.lab.example"].map(str::to_owned).to_vec();
        Settings { allowed_hosts, is_on_network, ..Settings::default() }
    }

    fn check(settings: &Settings, uri: &str, headers: &[(&str, &str)], expected: bool) {
        let request = headers.iter().fold(Request::get(uri), |it, (name, value)| it.header(*name, *value));
        let checked = check_host(settings, &request.body(()).unwrap());
        assert_eq!(checked.is_ok(), expected, "{uri} {headers:?}: {checked:?}");
    }

    #[test]
    fn a_server_answers_to_its_own_names_only() {
        let local = settings(false);
        for host in [
            "localhost",
            "localhost:1",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1:1",
            "10.1.2.3",
            "[::1]:5",
            "",
        ] {
            check(&local, "/", &[("host", host)], true);
        }
        for host in ["matyan.example:80", "MATYAN.example.", "a.lab.example", "a.b.lab.example"] {
            check(&local, "/", &[("host", host)], true);
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "lab.example",
            "xlab.example",
            "127.0.0.1.evil.example",
        ] {
            check(&local, "/", &[("host", host)], false);
            check(&settings(true), "/", &[("host", host)], false);
        }
        for host in ["a b", "user@localhost@", "evil.example@localhost", "\u{e4}"] {
            check(&local, "/", &[("host", host)], false);
        }
        check(&local, "/", &[], true);
        let any = Settings { allowed_hosts: vec!["*".into()], ..settings(false) };
        check(&any, "/", &[("host", "evil.example")], true);
    }

    #[test]
    fn every_name_of_a_request_is_checked() {
        let local = settings(false);
        let own = ("host", "localhost");
        check(&local, "http://evil.example/", &[own], false);
        check(&local, "http://evil.example@localhost/", &[own], false);
        check(&local, "http://localhost:1/", &[own], true);
        check(&local, "/", &[own, ("host", "evil.example")], false);
        check(&local, "/", &[own, ("x-forwarded-host", "evil.example, localhost")], false);
        check(&local, "/", &[own, ("x-forwarded-host", "matyan.example, evil.example")], true);
    }

    #[test]
    fn a_server_in_a_network_also_answers_to_names_of_the_network() {
        for host in [
            "matyan:53800",
            "matyan.local",
            "matyan.ns.svc",
            "matyan.ns.svc.cluster.local",
            "host.docker.internal",
        ] {
            check(&settings(true), "/", &[("host", host)], true);
            check(&settings(false), "/", &[("host", host)], false);
        }
    }
}
