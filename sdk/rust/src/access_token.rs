//! Access tokens of servers with access control.
//!
//! A token is sent to the servers that this process names, by its settings or in code, and nowhere else: not
//! to URLs of uploads, not to where a server redirects, and not to the servers of spools that other
//! processes left, unless this process names them too. A token that `matyan login` keeps is sent to the server
//! for which it is kept.

use std::{fmt, sync::Mutex};

use matyan_kept_tokens::{Error, KeptTokens, file_path};
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
    source: TokenSource,
}

/// The source of a token for a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TokenSource {
    /// The code of a script.
    Code,
    /// The environment, or `matyan login`.
    Settings,
    /// The server, because its gateway gets its token too.
    Server,
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
    /// `None` if the text cannot be sent, because it contains something other than ASCII letters, digits and
    /// punctuation.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_sendable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let mut value = HeaderValue::from_str(&format!("Bearer {text}")).ok().filter(|_| is_sendable)?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    /// The token as the value of the header `Authorization`.
    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// Sends this token to a server from now on, instead of an earlier one. A token for a URL with a project is for
    /// this project. Calls about a project without a token, or about no project, use the token of the whole server,
    /// or else the token that was set last. A URL without a host is ignored.
    pub fn use_for(&self, url: &str) {
        self.place(url, TokenSource::Code);
    }

    /// Like `use_for`, for a token from the settings: it does not replace a token that was set in code.
    pub fn use_by_default_for(&self, url: &str) {
        self.place(url, TokenSource::Settings);
    }

    fn place(&self, url: &str, source: TokenSource) {
        let Some(place) = TokenPlace::of(url) else { return };
        let mut tokens = lock(&TOKENS);
        let known = tokens.iter().position(|placed| placed.place == place);
        if let Some(known) = known {
            if source != TokenSource::Code && tokens[known].source == TokenSource::Code {
                return;
            }
            tokens.remove(known);
        }
        tokens.push(PlacedToken { place, token: self.clone(), source });
    }
}

/// Sends each token that `matyan login` keeps to its server from now on. `get` reads variables of the environment.
pub(crate) fn use_kept_tokens(get: impl Fn(&str) -> Option<String>) -> Result<(), Error> {
    let Some(path) = file_path(get) else { return Ok(()) };
    for (place, token) in KeptTokens::read(&path)?.iter() {
        if let Some(token) = AccessToken::new(token) {
            token.use_by_default_for(&place.to_string());
        }
    }
    Ok(())
}

/// Sends the token of a server also to its gateway, if that is on another port of the same host and has no token of its
/// own. A token that code has given for one URL is not sent to another one.
pub(crate) fn share_with_gateway(backend_url: &str, gateway_url: &str) {
    let (Some(backend), Some(gateway)) = (TokenPlace::of(backend_url), TokenPlace::of(gateway_url)) else {
        return;
    };
    let token = {
        let tokens = lock(&TOKENS);
        let is_own = |placed: &PlacedToken| {
            placed.place.origin == gateway.origin && placed.source != TokenSource::Server
        };
        let has_own = tokens.iter().any(is_own);
        if has_own || backend.host() != gateway.host() {
            return;
        }
        let placed = placed_for(&tokens, &backend).filter(|placed| placed.source == TokenSource::Settings);
        placed.map(|placed| placed.token.clone())
    };
    if let Some(token) = token {
        token.place(gateway_url, TokenSource::Server);
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
    placed_for(&lock(&TOKENS), &place).map(|placed| placed.token.0.clone())
}

/// The token that is sent to a place.
fn placed_for<'t>(tokens: &'t [PlacedToken], place: &TokenPlace) -> Option<&'t PlacedToken> {
    let whole = TokenPlace { project: None, ..place.clone() };
    let exactly = |place: &TokenPlace| tokens.iter().find(|placed| placed.place == *place);
    let latest = || tokens.iter().rfind(|placed| placed.place.origin == place.origin);
    exactly(place).or_else(|| exactly(&whole)).or_else(latest)
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

    /// Scheme and host.
    fn host(&self) -> &str {
        self.origin.rsplit_once(':').map_or(&*self.origin, |(host, _)| host)
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
    fn a_token_without_tls_is_in_cleartext_unless_the_server_is_on_this_machine() {
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
    fn kept_tokens_are_sent_to_their_servers_and_their_gateways() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("matyan/tokens.json");
        let keep = |url: &str, token: &str| {
            let place = matyan_kept_tokens::TokenPlace::of(url).unwrap();
            KeptTokens::change(&path, |tokens| tokens.keep(place, token.to_owned())).unwrap();
        };
        keep("http://kept.example:53800/p/speech", "mtk_speech");
        keep("https://kept.example", "mtk_https");
        let get =
            |name: &str| (name == "XDG_CONFIG_HOME").then(|| folder.path().to_str().unwrap().to_owned());
        use_kept_tokens(get).unwrap();
        let sent = |url| authorization(url).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(sent("http://kept.example:53800/p/speech").as_deref(), Some("Bearer mtk_speech"));
        assert_eq!(sent("wss://kept.example/x").as_deref(), Some("Bearer mtk_https"));
        let gateway = "http://kept.example:53801/p/speech";
        assert_eq!(sent(gateway), None, "no script has named it");
        for other in ["http://other.example:53801", "https://kept.example:53801"] {
            share_with_gateway("http://kept.example:53800/p/speech", other);
            assert_eq!(sent(other), None, "{other}");
        }
        share_with_gateway("http://kept.example:53800/p/speech", gateway);
        assert_eq!(sent(gateway).as_deref(), Some("Bearer mtk_speech"));
        // The user has signed in again.
        keep("http://kept.example:53800/p/speech", "mtk_new");
        use_kept_tokens(get).unwrap();
        share_with_gateway("http://kept.example:53800/p/speech", gateway);
        assert_eq!(sent(gateway).as_deref(), Some("Bearer mtk_new"));
        // A token that code has set is not shared with a gateway.
        AccessToken::new("mtk_code").unwrap().use_for("http://code.example:1");
        share_with_gateway("http://code.example:1", "http://code.example:2");
        assert_eq!(sent("http://code.example:2"), None);
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
