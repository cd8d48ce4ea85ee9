//! Tokens that `matyan login` keeps on a machine for the programs of one user: the path and the content of their
//! file, and the server of each token. The command line writes the file; the command line and the SDK read it.
//!
//! A token is for one server, by scheme, host and port, or for one project of a server, so it is never sent to
//! another server. Only its owner can read the file. A file that others can read is refused, because others may know
//! its tokens.
//!
//! A change replaces the whole file. If two programs change the file at the same time, the later change remains.
//! There is no lock, because people sign in to one server at a time.

mod place;

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

pub use place::{GRPC_PREFIX, TokenPlace};

/// The version of the format.
const FILE_VERSION: u64 = 1;
/// Members of the file.
const VERSION_MEMBER: &str = "version";
const TOKENS_MEMBER: &str = "tokens";

/// The reason why the file cannot be used, and the next step. No message repeats a token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read {}, where `matyan login` keeps tokens", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "other users of this machine can read the tokens in {}: delete the file, have the tokens revoked, and sign in again \
         with `matyan login`",
        path.display()
    )]
    Exposed { path: PathBuf },
    #[error("{} is not a file of tokens: delete it, and sign in again with `matyan login`", path.display())]
    Malformed { path: PathBuf },
    #[error("{} was written by a newer version: use that version, or delete the file and sign in again", path.display())]
    Newer { path: PathBuf },
    #[error("failed to write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The tokens of one user, by the server or project that each is for.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeptTokens(BTreeMap<TokenPlace, String>);

/// The path of the file, from variables of the environment; `None` if the variables name no folder of the user.
///
/// ```
/// use matyan_kept_tokens::file_path;
///
/// let path = file_path(|name| (name == "HOME").then(|| "/home/ana".to_owned()));
/// assert_eq!(path.unwrap().to_str(), Some("/home/ana/.config/matyan/tokens.json"));
/// ```
pub fn file_path(get: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let folder = folder.or_else(|| set("HOME").map(|home| home.join(".config"))).or_else(|| set("APPDATA"));
    folder.map(|folder| folder.join("matyan").join("tokens.json"))
}

impl KeptTokens {
    /// Reads the file. A missing file has no tokens.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Read { path: path.to_owned(), source };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if is_absent(error.kind()) => return Ok(Self::default()),
            Err(error) => return Err(failed(error)),
        };
        if is_exposed(path).map_err(failed)? {
            return Err(Error::Exposed { path: path.to_owned() });
        }
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let malformed = || Error::Malformed { path: path.to_owned() };
        // The text of a parser's error could repeat a token.
        let file: Value = serde_json::from_str(text).map_err(|_| malformed())?;
        match file[VERSION_MEMBER].as_u64() {
            Some(FILE_VERSION) => {}
            Some(newer) if newer > FILE_VERSION => return Err(Error::Newer { path: path.to_owned() }),
            _ => return Err(malformed()),
        }
        let tokens = file[TOKENS_MEMBER].as_object().ok_or_else(malformed)?;
        let entry =
            |(url, token): (&String, &Value)| Some((TokenPlace::of(url)?, token.as_str()?.to_owned()));
        let entries = tokens.iter().map(|member| entry(member).ok_or_else(malformed));
        Ok(Self(entries.collect::<Result<_, _>>()?))
    }

    /// Changes the content of the file. Returns what `change` returns.
    pub fn change<T>(path: &Path, change: impl FnOnce(&mut Self) -> T) -> Result<T, Error> {
        let mut tokens = Self::read(path)?;
        let before = tokens.clone();
        let changed = change(&mut tokens);
        if tokens != before {
            tokens.write(path).map_err(|source| Error::Write { path: path.to_owned(), source })?;
        }
        Ok(changed)
    }

    /// Replaces the file by a file that only its owner can read. A file without tokens is deleted.
    fn write(&self, path: &Path) -> io::Result<()> {
        if self.0.is_empty() {
            return fs::remove_file(path);
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        create_folder(folder)?;
        // A new file is created for its owner only.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        let members = self.0.iter().map(|(place, token)| (place.to_string(), Value::from(token.as_str())));
        let tokens = Value::Object(members.collect::<Map<_, _>>());
        let text = format!("{:#}\n", json!({VERSION_MEMBER: FILE_VERSION, TOKENS_MEMBER: tokens}));
        io::Write::write_all(&mut file, text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    /// The token for calls to a place: the token of the project, or else the token of the server, or else the only
    /// token of the server, for calls that are about no project.
    pub fn find(&self, place: &TokenPlace) -> Option<&str> {
        let server = place.whole_server();
        let only = || {
            let mut of_server = self.0.iter().filter(|(other, _)| other.whole_server() == server);
            of_server.next().filter(|_| of_server.next().is_none()).map(|(_, token)| token)
        };
        let found = self.0.get(place).or_else(|| self.0.get(&server)).or_else(only)?;
        Some(found.as_str())
    }

    /// Keeps a token, in place of an earlier token of the same server or project.
    pub fn keep(&mut self, place: TokenPlace, token: String) {
        self.0.insert(place, token);
    }

    /// Forgets the token of exactly this place. Returns the token.
    pub fn forget(&mut self, place: &TokenPlace) -> Option<String> {
        self.0.remove(place)
    }

    /// All tokens, by the place that each is for.
    pub fn iter(&self) -> impl Iterator<Item = (&TokenPlace, &str)> {
        self.0.iter().map(|(place, token)| (place, token.as_str()))
    }
}

/// Formats the places, and omits the tokens.
impl fmt::Debug for KeptTokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

/// Whether the user has no file. Services have no home, and a command that runs as another user may keep a home that
/// the command cannot read.
fn is_absent(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};

    matches!(kind, NotADirectory | NotFound | PermissionDenied)
}

#[cfg(unix)]
fn is_exposed(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;

    const OTHERS: u32 = 0o077;
    Ok(fs::metadata(path)?.permissions().mode() & OTHERS != 0)
}

/// The folder of a user is private there.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
fn is_exposed(_: &Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(unix)]
fn create_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;

    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn create_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> TokenPlace {
        TokenPlace::of(url).unwrap()
    }

    fn keep(path: &Path, url: &str, token: &str) {
        KeptTokens::change(path, |tokens| tokens.keep(place(url), token.to_owned())).unwrap();
    }

    /// A path below folders that do not exist.
    fn path_in(folder: &Path) -> PathBuf {
        folder.join("config/matyan/tokens.json")
    }

    #[test]
    fn a_token_is_kept_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_in(folder.path());
        assert_eq!(KeptTokens::read(&path).unwrap(), KeptTokens::default());
        keep(&path, "https://matyan.example/p/speech", "mtk_speech");
        keep(&path, "https://matyan.example", "mtk_first");
        keep(&path, "https://MATYAN.example:443/", "mtk_second");
        let tokens = KeptTokens::read(&path).unwrap();
        let find = |url| tokens.find(&place(url));
        assert_eq!(find("https://matyan.example/p/speech"), Some("mtk_speech"));
        assert_eq!(find("https://matyan.example/p/vision"), Some("mtk_second"));
        assert_eq!(find("https://matyan.example"), Some("mtk_second"));
        for other in ["http://matyan.example", "https://matyan.example:444", "https://matyan.example.org"] {
            assert_eq!(find(other), None, "{other}");
        }
        let forgotten = KeptTokens::change(&path, |tokens| {
            let urls = ["https://matyan.example", "https://matyan.example/p/speech"];
            urls.map(|url| tokens.forget(&place(url)))
        });
        assert_eq!(forgotten.unwrap().map(Option::unwrap), ["mtk_second", "mtk_speech"]);
        assert!(!path.exists(), "an empty file is deleted");
    }

    #[test]
    fn the_only_token_of_a_server_is_for_all_of_its_projects() {
        let mut tokens = KeptTokens::default();
        tokens.keep(place("http://h:1/p/speech"), "mtk_speech".to_owned());
        tokens.keep(place("http://h:2/p/speech"), "mtk_other".to_owned());
        assert_eq!(tokens.find(&place("http://h:1")), Some("mtk_speech"));
        assert_eq!(tokens.find(&place("http://h:1/p/vision")), Some("mtk_speech"));
        tokens.keep(place("http://h:1/p/vision"), "mtk_vision".to_owned());
        assert_eq!(tokens.find(&place("http://h:1")), None, "either token could be meant");
        assert_eq!(tokens.find(&place("http://h:1/p/vision")), Some("mtk_vision"));
    }

    #[test]
    fn no_token_is_printed() {
        let mut tokens = KeptTokens::default();
        tokens.keep(place("http://localhost:53800"), "mtk_secret".to_owned());
        let printed = format!("{tokens:?}");
        assert!(printed.contains("localhost:53800") && !printed.contains("secret"), "{printed}");
        let path = Path::new("/t");
        for text in [
            "mtk_secret",
            r#"{"version": "mtk_secret"}"#,
            r#"{"version": 1, "tokens": "mtk_secret"}"#,
            r#"{"version": 1, "tokens": {"http://h": ["mtk_secret"]}}"#,
            r#"{"version": 1, "tokens": {"mtk_secret": ""}}"#,
            r#"{"version": 2, "tokens": {"a": "mtk_secret"}}"#,
        ] {
            let error = KeptTokens::parse(text, path).unwrap_err();
            let printed = format!("{error} {error:?}");
            assert!(!printed.contains("secret") && printed.contains("/t"), "{printed}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_can_read_the_file() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let path = path_in(folder.path());
        keep(&path, "http://localhost:53800", "mtk_a");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(KeptTokens::read(&path), Err(Error::Exposed { .. })));
        let change = KeptTokens::change(&path, |tokens| tokens.forget(&place("http://localhost:53800")));
        assert!(matches!(change, Err(Error::Exposed { .. })));
    }

    #[test]
    fn a_user_without_a_home_has_no_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(KeptTokens::read(&path_in(&file)).unwrap(), KeptTokens::default());
        assert!(matches!(KeptTokens::read(folder.path()), Err(Error::Read { .. })), "it is a folder");
    }

    #[test]
    fn the_file_is_in_a_folder_of_the_user() {
        let path = |variables: &'static [(&str, &str)]| {
            let get = |name: &str| variables.iter().find(|(known, _)| *known == name);
            file_path(|name| get(name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(path(&[]), None);
        assert_eq!(path(&[("HOME", "")]), None);
        let expected = Some(PathBuf::from("/c/matyan/tokens.json"));
        assert_eq!(path(&[("XDG_CONFIG_HOME", "/c"), ("HOME", "/h")]), expected);
        let expected = Some(PathBuf::from("/h/.config/matyan/tokens.json"));
        assert_eq!(path(&[("XDG_CONFIG_HOME", "relative"), ("HOME", "/h")]), expected);
    }
}
