//! Announces that everything is ready, to users and to waiting programs: the banner, and the
//! file given with `--ready-file`.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use matyan_edge::SIGN_IN_CALLBACK;
use serde_json::json;
use tempfile::NamedTempFile;

use crate::{endpoint::DEFAULT_SERVER, settings::Settings};

const OPEN_TO_NETWORK: &str = "
  OPEN      Other machines can connect, and there is no sign-in: everyone who can reach
            these ports may read, write and delete everything. Start with --access on, let a
            firewall or a proxy decide who can, or listen here only: MATYAN_HOST=127.0.0.1";

const ROLES_NOT_ENFORCED: &str = "
  OPEN      The store has roles, and --access off does not enforce them: everyone who can
            connect may read, write and delete everything. Start with --access on to enforce them.";

/// The addresses and the data directory of the process.
#[derive(Debug)]
pub(crate) struct Announcement<'a> {
    pub(crate) query: Option<SocketAddr>,
    pub(crate) ingest: Option<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) data_dir: Option<&'a Path>,
    /// True if every port speaks TLS.
    pub(crate) has_tls: bool,
    /// True if the browser UI is served; without it, a browser is sent to the list of
    /// routes.
    pub(crate) has_ui: bool,
    /// True if other machines can connect, and no one is asked who it is.
    pub(crate) is_open: bool,
    /// True if the store has roles, and no one is asked who it is.
    pub(crate) ignores_roles: bool,
    /// True if callers are asked who they are.
    pub(crate) has_access: bool,
    /// `None` without providers.
    pub(crate) sign_in: Option<SignInText<'a>>,
    /// The file with the token of the first operator, if there is one.
    pub(crate) token_file: Option<&'a Path>,
    /// The data directory in which an operator without a token makes a new one.
    pub(crate) recovery_dir: Option<&'a Path>,
    /// The secret of the link that signs the first operator in, at the first start.
    pub(crate) link: Option<&'a str>,
}

/// Information for people who set up providers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignInText<'a> {
    /// The names of the providers with which people sign in.
    pub(crate) providers: &'a [&'a str],
    /// The address to which these providers send browsers back.
    pub(crate) callback: &'a str,
}

impl Announcement<'_> {
    fn url(&self, address: SocketAddr) -> String {
        url(if self.has_tls { "https" } else { "http" }, address)
    }

    /// The banner on standard output, for users; the log is on standard error.
    pub(crate) fn banner(&self) -> String {
        let mut lines = vec![format!("matyan {} is ready\n", env!("CARGO_PKG_VERSION"))];
        if let Some(query) = self.query.map(|address| self.url(address)) {
            let page = if self.has_ui { "" } else { "docs" };
            lines.push(format!("  browser   {query}/{page}"));
            lines.push(format!("  script    run = matyan_client.Run(repo=\"{query}\")"));
            if query != DEFAULT_SERVER {
                lines.push(format!("  commands  export MATYAN_BACKEND_URL={query}"));
            }
        }
        if let Some(ingest) = self.ingest.map(|address| self.url(address)) {
            lines.push(format!("  ingest    {ingest}"));
        }
        if let Some(metrics) = self.metrics.map(|address| self.url(address)) {
            lines.push(format!("  metrics   {metrics}/metrics"));
        }
        lines.extend(self.data_dir.map(|data_dir| format!("  data      {}", data_dir.display())));
        if let Some(query) = self.query.filter(|_| self.has_access).map(|address| self.url(address)) {
            lines.push(match self.link {
                None => format!("  access    on: sign in at {query}/sign-in"),
                Some(link) => format!(
                    "  access    on; once, within 15 minutes, this link signs you in as the first operator:\n            \
                     {query}/sign-in#{link}"
                ),
            });
        }
        if let Some(SignInText { providers, callback }) = self.sign_in {
            for provider in providers {
                lines.push(format!("  sign-in   {provider}, with the callback URL {callback}"));
            }
        }
        if let Some(path) = self.token_file {
            lines.push(format!("  operator  export MATYAN_TOKEN=$(cat '{}')", path.display()));
        } else if let Some(data_dir) = self.recovery_dir {
            lines.push(format!(
                "  operator  no token? Stop the server, and run: matyan access recover --data-dir '{}'",
                data_dir.display()
            ));
        }
        if self.ignores_roles {
            lines.push(ROLES_NOT_ENFORCED.to_owned());
        }
        if self.is_open {
            lines.push(OPEN_TO_NETWORK.to_owned());
        }
        lines.push(String::new());
        lines.push("Press Ctrl-C to stop.\n".to_owned());
        lines.join("\n")
    }

    /// Writes the ready file. It appears complete or not at all, so that a program may wait
    /// for it to exist.
    pub(crate) fn write_file(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // In the same directory, so that it can be renamed atomically.
        let mut file = NamedTempFile::new_in(folder)?;
        let [query, ingest, metrics] =
            [self.query, self.ingest, self.metrics].map(|address| address.map(|address| self.url(address)));
        let pid = std::process::id();
        writeln!(file, "{}", json!({"query": query, "ingest": ingest, "metrics": metrics, "pid": pid}))?;
        file.persist(path)?;
        Ok(())
    }
}

/// The address to which providers send browsers back. It has the first host name of the settings, or else the address
/// of the port.
pub(crate) fn callback(settings: &Settings, query: SocketAddr, has_tls: bool) -> String {
    let named = settings.edge.allowed_hosts.iter().find(|name| !name.contains('*'));
    let scheme = if has_tls { "https" } else { "http" };
    let address = match named {
        None => url(scheme, query),
        Some(name) if settings.edge.is_behind_tls_proxy => format!("https://{name}"),
        Some(name) => format!("{scheme}://{name}:{}", query.port()),
    };
    let base_path = settings.backend.ui.as_ref().map_or("", |ui| ui.base_path.as_str());
    format!("{address}{base_path}{SIGN_IN_CALLBACK}")
}

/// A URL that can be opened: an address for all interfaces is replaced by the loopback address.
fn url(scheme: &str, address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Role;

    #[test]
    fn the_banner_names_the_server_and_the_providers() {
        let announcement = Announcement {
            query: Some("127.0.0.1:61000".parse().unwrap()),
            ingest: None,
            metrics: None,
            data_dir: None,
            has_tls: false,
            has_ui: true,
            is_open: false,
            ignores_roles: false,
            has_access: true,
            sign_in: Some(SignInText {
                providers: &["Our Company", "GitHub"],
                callback: "https://matyan.example/sign-in/callback",
            }),
            token_file: None,
            recovery_dir: Some(Path::new("/d")),
            link: None,
        };
        let banner = announcement.banner();
        for expected in [
            "  commands  export MATYAN_BACKEND_URL=http://127.0.0.1:61000\n",
            "  sign-in   Our Company, with the callback URL https://matyan.example/sign-in/callback\n",
            "  sign-in   GitHub, with the callback URL https://matyan.example/sign-in/callback\n",
            "  operator  no token? Stop the server, and run: matyan access recover --data-dir '/d'\n",
        ] {
            assert!(banner.contains(expected), "{banner}");
        }
        let banner =
            Announcement { token_file: Some(Path::new("/d/operator-token")), ..announcement }.banner();
        assert!(!banner.contains("recover"), "{banner}");
    }

    #[test]
    fn a_callback_has_the_name_that_browsers_use() {
        let callback = |variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let settings = Settings::resolve(Role::Up, Default::default(), variables.collect()).unwrap();
            callback(&settings, "127.0.0.1:53800".parse().unwrap(), false)
        };
        assert_eq!(callback(&[]), "http://127.0.0.1:53800/sign-in/callback");
        let name = ("MATYAN_ALLOWED_HOSTS", "*.lab.example, matyan.example");
        assert_eq!(callback(&[name]), "http://matyan.example:53800/sign-in/callback");
        let proxy = ("MATYAN_ACCESS_BEHIND_PROXY", "true");
        let base_path = ("MATYAN_UI_BASE_PATH", "/matyan");
        assert_eq!(callback(&[name, proxy, base_path]), "https://matyan.example/matyan/sign-in/callback");
    }

    fn check(address: &str, expected: &str) {
        assert_eq!(url("http", address.parse().unwrap()), expected);
    }

    #[test]
    fn urls_can_be_opened() {
        check("127.0.0.1:53800", "http://127.0.0.1:53800");
        check("0.0.0.0:1", "http://127.0.0.1:1");
        check("[::]:1", "http://[::1]:1");
        check("10.0.0.1:80", "http://10.0.0.1:80");
    }

    #[test]
    fn the_banner_and_the_ready_file_have_the_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let announcement = Announcement {
            query: Some("127.0.0.1:53800".parse().unwrap()),
            ingest: None,
            metrics: None,
            data_dir: Some(Path::new("/srv/matyan")),
            has_tls: false,
            has_ui: false,
            is_open: false,
            ignores_roles: false,
            has_access: false,
            sign_in: None,
            token_file: None,
            recovery_dir: None,
            link: None,
        };
        let banner = announcement.banner();
        for expected in ["http://127.0.0.1:53800", "Run(repo=\"http://127.0.0.1:53800\")", "/srv/matyan"] {
            assert!(banner.contains(expected), "{banner}");
        }
        assert!(!banner.contains("ingest") && !banner.contains("MATYAN_BACKEND_URL"), "{banner}");
        assert!(banner.contains("http://127.0.0.1:53800/docs\n"), "{banner}");
        assert!(!banner.contains("OPEN") && !banner.contains("sign in"), "{banner}");
        let open = Announcement { is_open: true, ..announcement };
        assert!(open.banner().contains("everyone who can reach"), "{}", open.banner());
        let ignoring = Announcement { is_open: false, ignores_roles: true, ..open };
        assert!(ignoring.banner().contains("The store has roles"), "{}", ignoring.banner());
        let announcement = Announcement { ignores_roles: false, ..ignoring };
        let token_file = Some(Path::new("/d/operator-token"));
        let closed = Announcement { has_access: true, token_file, ..announcement };
        let banner = closed.banner();
        assert!(banner.contains("export MATYAN_TOKEN=$(cat '/d/operator-token')\n"), "{banner}");
        assert!(banner.contains("access    on: sign in at http://127.0.0.1:53800/sign-in\n"), "{banner}");
        let closed = Announcement { link: Some("mtl_x"), ..closed };
        let banner = closed.banner();
        assert!(banner.contains(" http://127.0.0.1:53800/sign-in#mtl_x\n"), "{banner}");
        let closed = Announcement { link: None, ..closed };
        let announcement = Announcement { has_access: false, token_file: None, ..closed };
        let banner = Announcement { has_ui: true, ..announcement }.banner();
        assert!(banner.contains("browser   http://127.0.0.1:53800/\n"), "{banner}");

        let path = folder.path().join("ready.json");
        announcement.write_file(&path).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let expected = json!({"query": "http://127.0.0.1:53800", "ingest": null, "metrics": null, "pid": std::process::id()});
        assert_eq!(file, expected);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
