//! Settings from the environment. A wrong value is reported and replaced by its default: a typo
//! must not end a training script.

use std::{
    error::Error as _,
    path::{Path, PathBuf},
};

use matyan_kept_tokens::file_path;

use crate::{
    access_token::{AccessToken, share_with_gateway, use_kept_tokens},
    server_url::is_loopback,
};

/// Backend URL if none is set.
const BACKEND_URL: &str = "http://localhost:53800";
/// Gateway URL if none is set.
const GATEWAY_URL: &str = "http://localhost:53801";
/// Most bytes of a spool.
const SPOOL_BYTES: u64 = 8 << 30;
/// Least limit on the bytes of a spool: while one small segment is sent, another is filled.
pub(crate) const LEAST_SPOOL_BYTES: u64 = 512 << 10;

/// Start of every token of a server.
const TOKEN_START: &str = "mtk_";

/// File system in memory, which outlives processes, but not the machine.
const MEMORY: &str = "/dev/shm";

/// Way of records to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolMode {
    /// Segments are mapped, so that an appended record survives the process at once.
    Mapped,
    /// The I/O thread writes new records every 5 ms, for file systems where mapping is unsafe.
    Written,
}

/// Treatment of points when the spool is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpoolFull {
    /// They are dropped, counted and reported.
    #[default]
    Drop,
    /// The caller waits.
    Block,
}

/// Settings of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `MATYAN_BACKEND_URL`: base of the REST API.
    pub backend_url: String,
    /// `MATYAN_FRONTIER_URL`, or else `MATYAN_BACKEND_URL` if it is another machine: base of
    /// ingestion. With the feature `grpc`, `grpc+http://` and
    /// `grpc+https://` send batches by gRPC, for networks without WebSockets.
    pub gateway_url: String,
    /// `MATYAN_TOKEN`: token for a server with access control. It is sent to the two servers above only. Without it, the
    /// tokens that `matyan login` keeps are sent to their servers.
    pub token: Option<AccessToken>,
    /// Directories for spools, the best first. `MATYAN_SPOOL_DIR` replaces the list.
    pub spool_dirs: Vec<PathBuf>,
    /// Directories for spools while none of `spool_dirs` is usable. Spools that other processes left there
    /// are found only by processes that use these directories too.
    pub fallback_dirs: Vec<PathBuf>,
    /// `MATYAN_SPOOL_MODE`: chosen by the file system if absent.
    pub spool_mode: Option<SpoolMode>,
    /// `MATYAN_SPOOL_FULL`.
    pub spool_full: SpoolFull,
    /// `MATYAN_SPOOL_BYTES`: most bytes of one spool, which is also limited to four fifths of the
    /// free space.
    pub spool_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self::from_environment(|_| None).0
    }
}

/// The file with the tokens that `matyan login` keeps; `None` if the environment of this process names no folder of the user.
#[expect(clippy::disallowed_methods, reason = "the environment names the folder")]
pub fn kept_tokens_path() -> Option<PathBuf> {
    file_path(|name| std::env::var(name).ok())
}

impl Config {
    /// Reads the environment of this process, and uses its token, or else the tokens that `matyan login` keeps. Also
    /// returns its problems.
    pub fn from_process() -> (Self, Vec<String>) {
        #[expect(
            clippy::disallowed_methods,
            reason = "the environment is the only way to configure a script"
        )]
        let get = |name: &str| std::env::var(name).ok();
        let (config, mut warnings) = Self::from_environment(get);
        if config.token.is_none()
            && let Err(error) = use_kept_tokens(get)
        {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            warnings.push(format!("{error}{cause}; no token of `matyan login` is used"));
        }
        config.use_token();
        (config, warnings)
    }

    /// Reads settings by name. Also returns their problems.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> (Self, Vec<String>) {
        let mut warnings = Vec::new();
        let set = |name: &str| get(name).filter(|value| !value.is_empty());
        let mut choice = |name: &str, known: &[&str]| {
            let value = set(name)?;
            let found = known.iter().position(|known| known.eq_ignore_ascii_case(&value));
            if found.is_none() {
                let known = known.join(", ");
                warnings.push(format!("{name}: expected one of {known}, found `{value}`; it is ignored"));
            }
            found
        };
        let spool_mode = choice("MATYAN_SPOOL_MODE", &["mapped", "written"]);
        let spool_full = choice("MATYAN_SPOOL_FULL", &["drop", "block"]);
        let spool_bytes = set("MATYAN_SPOOL_BYTES").and_then(|value| match value.parse() {
            Ok(bytes @ LEAST_SPOOL_BYTES..) => Some(bytes),
            Ok(bytes) => {
                warnings.push(format!(
                    "MATYAN_SPOOL_BYTES: expected at least {LEAST_SPOOL_BYTES}, which is used now, found `{bytes}`"
                ));
                Some(LEAST_SPOOL_BYTES)
            }
            Err(_) => {
                warnings.push(format!("MATYAN_SPOOL_BYTES: expected a number of bytes, found `{value}`; it is ignored"));
                None
            }
        });
        let token = set("MATYAN_TOKEN").and_then(|text| {
            let token = AccessToken::new(&text).filter(|_| text.trim().starts_with(TOKEN_START));
            if token.is_none() {
                // The value is not repeated: it may be a token with a mistake.
                warnings.push(format!(
                    "MATYAN_TOKEN is not a token, which begins with {TOKEN_START} and has no spaces: it is ignored, and a \
                     server with access control will refuse the data; set it to a token that was copied completely"
                ));
            }
            token
        });
        let url = |name: &str| set(name).map(|value| value.trim_end_matches('/').to_owned());
        let backend_url = url("MATYAN_BACKEND_URL");
        let gateway_url =
            url("MATYAN_FRONTIER_URL").or_else(|| backend_url.clone().filter(|url| !is_loopback(url)));
        let (spool_dirs, fallback_dirs) = spool_dirs(set);
        let config = Self {
            backend_url: backend_url.unwrap_or_else(|| BACKEND_URL.to_owned()),
            gateway_url: gateway_url.unwrap_or_else(|| GATEWAY_URL.to_owned()),
            token,
            spool_dirs,
            fallback_dirs,
            spool_mode: spool_mode.map(|at| [SpoolMode::Mapped, SpoolMode::Written][at]),
            spool_full: spool_full.map_or(SpoolFull::Drop, |at| [SpoolFull::Drop, SpoolFull::Block][at]),
            spool_bytes: spool_bytes.unwrap_or(SPOOL_BYTES),
        };
        (config, warnings)
    }

    /// Sends the token of these settings to their servers from now on. Without one, the gateway gets the token of the server,
    /// if there is one.
    pub(crate) fn use_token(&self) {
        match &self.token {
            Some(token) => {
                token.use_by_default_for(&self.backend_url);
                token.use_by_default_for(&self.gateway_url);
            }
            None => share_with_gateway(&self.backend_url, &self.gateway_url),
        }
    }
}

/// Directories for spools, and the directories to use while none of these is usable.
fn spool_dirs(set: impl Fn(&str) -> Option<String>) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let state = set("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = state
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".local/state")))
        .or_else(|| set("LOCALAPPDATA").map(PathBuf::from))
        .map(|state| state.join("matyan/spool"));
    let usual = state.into_iter().chain([private_in(&std::env::temp_dir())]);
    let memory = private_in(Path::new(MEMORY));
    match set("MATYAN_SPOOL_DIR") {
        Some(named) => (vec![named.into()], usual.chain([memory]).collect()),
        None => (usual.collect(), vec![memory]),
    }
}

/// A directory of this user next to directories of others.
fn private_in(shared: &Path) -> PathBuf {
    #[cfg(unix)]
    let name = format!("matyan-spool-{}", rustix::process::getuid().as_raw());
    #[cfg(not(unix))]
    let name = "matyan-spool";
    shared.join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: &[(&str, &str)]) -> (Config, Vec<String>) {
        let get = |name: &str| settings.iter().find(|(known, _)| *known == name);
        Config::from_environment(|name| get(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn settings_replace_defaults() {
        let (config, warnings) = read(&[
            ("MATYAN_FRONTIER_URL", "https://gateway.example/"),
            ("MATYAN_SPOOL_DIR", "/scratch/spool"),
            ("MATYAN_SPOOL_MODE", "written"),
            ("MATYAN_SPOOL_FULL", "block"),
            ("MATYAN_SPOOL_BYTES", "1000000"),
        ]);
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(config.gateway_url, "https://gateway.example");
        assert_eq!(config.backend_url, "http://localhost:53800");
        assert_eq!(config.spool_dirs, [PathBuf::from("/scratch/spool")]);
        assert!(config.fallback_dirs.len() > 1);
        assert_eq!(config.spool_mode, Some(SpoolMode::Written));
        assert_eq!(config.spool_full, SpoolFull::Block);
        assert_eq!(config.spool_bytes, 1_000_000);
    }

    #[test]
    fn data_is_sent_to_a_backend_on_another_machine_unless_a_gateway_is_set() {
        let gateway = |backend| read(&[("MATYAN_BACKEND_URL", backend)]).0.gateway_url;
        assert_eq!(gateway("https://tracker.example/"), "https://tracker.example");
        for here in ["http://localhost:53800", "http://127.0.0.2:1/base", "http://[::1]:53800", ""] {
            assert_eq!(gateway(here), GATEWAY_URL, "{here}");
        }
    }

    #[test]
    fn a_wrong_value_is_a_warning_and_the_default() {
        let (config, warnings) = read(&[("MATYAN_SPOOL_MODE", "fast"), ("MATYAN_SPOOL_BYTES", "8 GiB")]);
        assert_eq!(config.spool_mode, None);
        assert_eq!(config.spool_bytes, SPOOL_BYTES);
        assert_eq!(
            warnings,
            [
                "MATYAN_SPOOL_MODE: expected one of mapped, written, found `fast`; it is ignored",
                "MATYAN_SPOOL_BYTES: expected a number of bytes, found `8 GiB`; it is ignored",
            ]
        );
    }

    #[test]
    fn a_token_is_not_printed() {
        let (config, warnings) = read(&[("MATYAN_TOKEN", "mtk_secret")]);
        assert!(config.token.is_some() && warnings.is_empty());
        assert!(!format!("{config:?}").contains("secret"));
        for wrong in ["mtk secret", "secret"] {
            let (config, warnings) = read(&[("MATYAN_TOKEN", wrong)]);
            assert_eq!(config.token, None);
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].starts_with("MATYAN_TOKEN is not a token"), "{warnings:?}");
            assert!(!warnings[0].contains("secret"), "{warnings:?}");
        }
    }

    #[test]
    fn a_limit_that_is_too_small_is_raised() {
        let (config, warnings) = read(&[("MATYAN_SPOOL_BYTES", "1000")]);
        assert_eq!(config.spool_bytes, LEAST_SPOOL_BYTES);
        let expected = "MATYAN_SPOOL_BYTES: expected at least 524288, which is used now, found `1000`";
        assert_eq!(warnings, [expected]);
    }

    #[test]
    fn an_empty_value_is_none() {
        let settings = ["BACKEND_URL", "FRONTIER_URL", "SPOOL_DIR", "SPOOL_MODE", "SPOOL_BYTES"];
        let names = settings.map(|name| format!("MATYAN_{name}"));
        let empty: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
        assert_eq!(read(&empty), read(&[]));
    }

    #[test]
    fn spools_are_in_the_state_directory_and_never_in_the_working_directory() {
        let dirs = |settings| read(settings).0.spool_dirs;
        assert_eq!(dirs(&[("XDG_STATE_HOME", "/s")])[0], PathBuf::from("/s/matyan/spool"));
        assert_eq!(dirs(&[("XDG_STATE_HOME", "relative")]).len(), 1);
        assert_eq!(dirs(&[("HOME", "/home/u")])[0], PathBuf::from("/home/u/.local/state/matyan/spool"));
        assert!(dirs(&[])[0].is_absolute());
    }
}
