//! Access tokens of servers with access control.
//!
//! A token is sent to the servers that this process names, by its settings or in code, and nowhere else: not
//! to URLs of uploads, not to where a server redirects, and not to the servers of spools that other
//! processes left, unless this process names them too.

use std::{fmt, sync::Mutex};

use object_store_http::{Url, header::HeaderValue};

use crate::{
    locks::lock,
    server_url::{GRPC_PREFIX, is_loopback},
};

/// Tokens of this process and where each is sent, in the order in which they were last set.
static TOKENS: Mutex<Vec<PlacedToken>> = Mutex::new(Vec::new());

struct PlacedToken {
    place: TokenPlace,
    token: AccessToken,
    /// Whether it comes from the settings, and not from code.
    is_default: bool,
}

/// A project of a server, or the server as a whole.
#[derive(Clone, PartialEq, Eq)]
struct TokenPlace {
    /// Scheme, host and port.
    origin: String,
    project: Option<String>,
}

/// A token. It is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(HeaderValue);

impl AccessToken {
    /// `None` if the text cannot be sent, because a part of it is no letter, digit or sign of ASCII.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_sendable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let mut value = HeaderValue::from_str(&format!("Bearer {text}")).ok().filter(|_| is_sendable)?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    /// Sends this token to a server from now on, instead of an earlier one. A token for a URL with a project is for
    /// this project. Calls about a project without a token, or about no project, use the token of the whole server,
    /// or else the token that was set last. A URL without a host is ignored.
    pub fn use_for(&self, url: &str) {
        self.place(url, false);
    }

    /// As `use_for`, for a token of the settings: it does not replace a token that code has given.
    pub fn use_by_default_for(&self, url: &str) {
        self.place(url, true);
    }

    fn place(&self, url: &str, is_default: bool) {
        let Some(place) = TokenPlace::of(url) else { return };
        let mut tokens = lock(&TOKENS);
        let known = tokens.iter().position(|placed| placed.place == place);
        if let Some(known) = known {
            if is_default && !tokens[known].is_default {
                return;
            }
            tokens.remove(known);
        }
        tokens.push(PlacedToken { place, token: self.clone(), is_default });
    }
}

/// Returns whether others on the network could read a token on its way to this server.
pub fn is_sent_in_clear(url: &str) -> bool {
    TokenPlace::of(url).is_some_and(|place| place.origin.starts_with("http:")) && !is_loopback(url)
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AccessToken(…)")
    }
}

/// The value of the header `Authorization` for requests to this URL.
pub(crate) fn authorization(url: &str) -> Option<HeaderValue> {
    let place = TokenPlace::of(url)?;
    let whole = TokenPlace { project: None, ..place.clone() };
    let tokens = lock(&TOKENS);
    let exactly = |place: &TokenPlace| tokens.iter().find(|placed| placed.place == *place);
    let latest = || tokens.iter().rfind(|placed| placed.place.origin == place.origin);
    let placed = exactly(&place).or_else(|| exactly(&whole)).or_else(latest)?;
    Some(placed.token.0.clone())
}

impl TokenPlace {
    /// `None` for a URL without a host.
    fn of(url: &str) -> Option<Self> {
        let url = Url::parse(url.strip_prefix(GRPC_PREFIX).unwrap_or(url)).ok()?;
        let scheme = match url.scheme() {
            "http" | "ws" => "http",
            "https" | "wss" => "https",
            _ => return None,
        };
        let port = url.port_or_known_default()?;
        let origin = format!("{scheme}://{}:{port}", url.host_str()?);
        let mut segments = url.path_segments().into_iter().flatten();
        let project = segments.find(|segment| *segment == "p").and_then(|_| segments.next());
        let project = project.filter(|name| !name.is_empty()).map(str::to_owned);
        Some(Self { origin, project })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_to_its_origin_only() {
        let token = AccessToken::new(" mtk_abc\n").unwrap();
        assert_eq!(format!("{token:?}"), "AccessToken(…)");
        token.use_for("https://tokens.example/p/speech");
        let sent = |url| authorization(url).map(|value| value.to_str().unwrap().to_owned());
        for url in ["https://tokens.example", "https://tokens.example:443/p/vision", "wss://tokens.example/x"]
        {
            assert_eq!(sent(url).as_deref(), Some("Bearer mtk_abc"), "{url}");
        }
        for url in [
            "http://tokens.example",
            "https://tokens.example:444",
            "https://tokens.example.org",
            "https://example",
            "https://a@tokens.example.org",
            "tokens.example",
        ] {
            assert_eq!(sent(url), None, "{url}");
        }
        AccessToken::new("mtk_other").unwrap().use_for("https://tokens.example");
        assert_eq!(sent("https://tokens.example").as_deref(), Some("Bearer mtk_other"));
        assert_eq!(sent("https://tokens.example/p/speech").as_deref(), Some("Bearer mtk_abc"));
        assert_eq!(AccessToken::new("mtk_abc"), AccessToken::new(" mtk_abc\n"));
        for text in ["", " ", "a b", "ä", "a\nb"] {
            assert_eq!(AccessToken::new(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_token_is_sent_in_clear_only_to_this_machine() {
        for (url, is_clear) in [
            ("http://tokens.example:53800/p/speech", true),
            ("ws://10.0.0.7:53801", true),
            ("grpc+http://tokens.example:53801", true),
            ("grpc+http://localhost:53801", false),
            ("https://tokens.example", false),
            ("http://localhost:53800", false),
            ("http://[::1]:53800", false),
        ] {
            assert_eq!(is_sent_in_clear(url), is_clear, "{url}");
        }
    }

    #[test]
    fn projects_of_a_server_have_tokens_of_their_own() {
        let server = "http://projects.example:53800";
        let use_for = |token, path| AccessToken::new(token).unwrap().use_for(&format!("{server}{path}"));
        let sent = |path: &str| {
            let url = format!("ws://projects.example:53800{path}");
            authorization(&url).map(|value| value.to_str().unwrap().trim_start_matches("Bearer ").to_owned())
        };
        use_for("speech-1", "/p/speech");
        use_for("vision", "/base/p/vision/");
        assert_eq!(sent("/p/speech/api/v1/ws/runs/p").as_deref(), Some("speech-1"));
        assert_eq!(sent("/base/p/vision/api/v1/rest/runs/").as_deref(), Some("vision"));
        // No token is for the whole server.
        assert_eq!(sent("/api/v1/rest/projects").as_deref(), Some("vision"));
        use_for("speech-2", "/p/speech");
        assert_eq!(sent("/p/speech").as_deref(), Some("speech-2"));
        assert_eq!(sent("/api/v1/ws/runs/p").as_deref(), Some("speech-2"));
        use_for("whole", "");
        assert_eq!(sent("/api/v1/ws/runs/p").as_deref(), Some("whole"));
        assert_eq!(sent("/p/other").as_deref(), Some("whole"));
        assert_eq!(sent("/p/vision").as_deref(), Some("vision"));
    }

    #[test]
    fn a_token_of_the_settings_does_not_replace_a_token_of_the_code() {
        let url = "https://defaults.example/p/speech";
        let token = |text: &str| AccessToken::new(text).unwrap();
        let sent = || authorization(url).map(|value| value.to_str().unwrap().to_owned());
        token("settings-1").use_by_default_for(url);
        token("settings-2").use_by_default_for(url);
        assert_eq!(sent().as_deref(), Some("Bearer settings-2"));
        token("code").use_for(url);
        token("settings-2").use_by_default_for(url);
        assert_eq!(sent().as_deref(), Some("Bearer code"));
    }
}
