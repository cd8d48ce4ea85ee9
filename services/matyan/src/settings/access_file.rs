//! The file with roles and tokens that are configured, rather than granted: `MATYAN_ACCESS_FILE`. It contains digests and no
//! token, so it may be kept with other configuration.
//!
//! ```toml
//! [roles]
//! ana = ["editor@speech", "viewer"]
//! ci = ["ingest@speech"]
//!
//! [[tokens]]
//! principal = "ci"
//! digest = "…"            # as `matyan access token digest` prints it
//! label = "build server"
//! project = "speech"      # only this project; "" for the default one
//! limit = "ingest"        # largest role
//! expires = 2027-06-30
//! ```

use std::{collections::BTreeSet, fs};

use matyan_access::{Role, TokenDigest, is_principal_name};
use matyan_model::access::ANONYMOUS;
use matyan_proto::limits::NAME_BYTES;
use matyan_sign_in::granted_role;
use time::{Date, Month};
use toml::{Table, Value, value::Datetime};

/// Maximum numbers of entries: far more than people write into a file.
const MAX_ENTRIES: usize = 1_000;
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Keys of a token.
const TOKEN_KEYS: [&str; 6] = ["principal", "digest", "label", "project", "limit", "expires"];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccessFile {
    pub(crate) roles: Vec<DeclaredRole>,
    pub(crate) tokens: Vec<DeclaredToken>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeclaredRole {
    pub(crate) principal: String,
    /// `None` for all projects.
    pub(crate) project: Option<String>,
    pub(crate) role: Role,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeclaredToken {
    pub(crate) digest: TokenDigest,
    pub(crate) principal: String,
    pub(crate) label: String,
    /// `None` for all projects of the principal.
    pub(crate) project: Option<String>,
    /// `None` for all roles of the principal.
    pub(crate) limit: Option<Role>,
    /// The beginning of the day on which it expires; `None` if it never expires.
    pub(crate) expires_us: Option<i64>,
}

impl AccessFile {
    /// Reads the file at a path. The error says what is wrong and what would be right.
    pub(super) fn open(path: &str) -> Result<Self, String> {
        let unreadable = |error: std::io::Error| format!("cannot be read ({error}); name a readable file");
        if fs::metadata(path).map_err(unreadable)?.len() > MAX_FILE_BYTES {
            return Err("is larger than 1 MiB; name the file with roles and digests of tokens".to_owned());
        }
        Self::parse(&fs::read_to_string(path).map_err(unreadable)?)
    }

    fn parse(text: &str) -> Result<Self, String> {
        // The text of a parser's error could repeat a token that someone has written here.
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(0, |span| text[..span.start].lines().count());
            format!("is not valid TOML in line {line}; fix it")
        })?;
        let mut file = Self::default();
        for (key, value) in &table {
            match (key.as_str(), value) {
                ("roles", Value::Table(roles)) => file.roles = read_roles(roles)?,
                ("tokens", Value::Array(tokens)) => {
                    file.tokens = tokens.iter().map(read_token).collect::<Result<_, _>>()?;
                }
                ("roles", _) => return Err("has no table after `roles`; write `[roles]`".to_owned()),
                ("tokens", _) => return Err("has no list after `tokens`; write `[[tokens]]`".to_owned()),
                (key, _) => return Err(format!("has the unknown key `{key}`; use `roles` and `tokens`")),
            }
        }
        if file.roles.len() + file.tokens.len() > MAX_ENTRIES {
            return Err(format!(
                "has more than {MAX_ENTRIES} roles and tokens; use `matyan access` for the rest"
            ));
        }
        file.check_tokens()?;
        Ok(file)
    }

    /// The principals with a name such as `gitlab:ana`, if `gitlab` is not the id of one of these providers.
    pub(crate) fn principals_of_other_providers(&self, ids: &[&str]) -> BTreeSet<&str> {
        let names = self.roles.iter().map(|declared| declared.principal.as_str());
        names.filter(|name| name.split_once(':').is_some_and(|(start, _)| !ids.contains(&start))).collect()
    }

    /// A token without a role, or two tokens with one digest, are mistakes that nobody would see.
    fn check_tokens(&self) -> Result<(), String> {
        for (number, token) in self.tokens.iter().enumerate() {
            let principal = &token.principal;
            if !self.roles.iter().any(|role| role.principal == *principal) {
                return Err(format!("has a token of `{principal}` without a role; add one to `[roles]`"));
            }
            if self.tokens[..number].iter().any(|other| other.digest == token.digest) {
                return Err(format!("has the digest {} twice; remove one of the tokens", token.digest.id()));
            }
        }
        Ok(())
    }
}

fn read_roles(roles: &Table) -> Result<Vec<DeclaredRole>, String> {
    let mut declared: Vec<DeclaredRole> = Vec::new();
    for (principal, granted) in roles {
        check_name(principal)?;
        let Value::Array(granted) = granted else {
            return Err(format!(
                "has no list of roles for `{principal}`; write `{principal} = [\"editor@speech\"]`"
            ));
        };
        for text in granted {
            let text =
                text.as_str().ok_or_else(|| format!("has a role of `{principal}` that is not text"))?;
            let (project, role) =
                granted_role(text).map_err(|problem| format!("{problem} (of `{principal}`)"))?;
            if principal == ANONYMOUS && role != Role::Viewer {
                return Err(format!("gives `{ANONYMOUS}` the role {}; it can only be `viewer`", role.name()));
            }
            if declared.iter().any(|other| other.principal == *principal && other.project == project) {
                return Err(format!(
                    "gives `{principal}` two roles in the same projects; keep the larger one"
                ));
            }
            declared.push(DeclaredRole { principal: principal.clone(), project, role });
        }
    }
    Ok(declared)
}

fn read_token(value: &Value) -> Result<DeclaredToken, String> {
    let Value::Table(token) = value else {
        return Err("has a token that is not a table; write `[[tokens]]` before each".to_owned());
    };
    if let Some(unknown) = token.keys().find(|key| !TOKEN_KEYS.contains(&key.as_str())) {
        return Err(format!("has a token with the unknown key `{unknown}`; use {}", TOKEN_KEYS.join(", ")));
    }
    let principal = required(token, "principal")?.to_owned();
    check_name(&principal)?;
    if principal == ANONYMOUS {
        return Err(format!("has a token of `{ANONYMOUS}`, which has none"));
    }
    let label = text(token, "label")?.unwrap_or_default().to_owned();
    if label.len() > NAME_BYTES {
        return Err(format!("has a label of more than {NAME_BYTES} bytes; shorten it"));
    }
    let limit = text(token, "limit")?.map(|name| {
        Role::from_name(name)
            .ok_or_else(|| format!("limits a token of `{principal}` to the unknown role `{name}`"))
    });
    Ok(DeclaredToken {
        digest: read_digest(required(token, "digest")?, &principal)?,
        label,
        project: text(token, "project")?.map(str::to_owned),
        limit: limit.transpose()?,
        expires_us: token.get("expires").map(|value| read_day(value, &principal)).transpose()?,
        principal,
    })
}

fn required<'t>(token: &'t Table, key: &str) -> Result<&'t str, String> {
    text(token, key)?.ok_or_else(|| format!("has a token without `{key}`"))
}

fn text<'t>(token: &'t Table, key: &str) -> Result<Option<&'t str>, String> {
    let Some(value) = token.get(key) else { return Ok(None) };
    value.as_str().map(Some).ok_or_else(|| format!("has a token whose `{key}` is not text"))
}

/// The text is not repeated: it may be a token.
fn read_digest(text: &str, principal: &str) -> Result<TokenDigest, String> {
    let digest = hex::decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    digest.map(TokenDigest).ok_or_else(|| {
        format!(
            "has a token of `{principal}` whose `digest` is not one of 64 hexadecimal digits; write what `matyan access token \
             digest` prints, and never the token itself"
        )
    })
}

fn read_day(value: &Value, principal: &str) -> Result<i64, String> {
    let wrong = || {
        format!(
            "has a token of `{principal}` whose `expires` is not a day; write a day such as 2027-06-30, without quotes"
        )
    };
    let Value::Datetime(Datetime { date: Some(date), time: None, offset: None }) = value else {
        return Err(wrong());
    };
    let month = Month::try_from(date.month).map_err(|_| wrong())?;
    let day = Date::from_calendar_date(date.year.into(), month, date.day).map_err(|_| wrong())?;
    Ok(day.midnight().assume_utc().unix_timestamp() * 1_000_000)
}

fn check_name(principal: &str) -> Result<(), String> {
    if is_principal_name(principal) {
        return Ok(());
    }
    Err(format!(
        "names `{principal}`, which no principal can be called: names have up to 128 lowercase letters, digits, `-`, `_`, `.`, `@`, \
         `+` and `:`, and begin with a letter or a digit"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn a_file_has_roles_and_tokens() {
        let text = format!(
            "[roles]\nana = [\"editor@speech\", \"viewer\"]\n\"github:bob\" = [\"owner@\"]\n\
             [[tokens]]\nprincipal = \"ana\"\ndigest = \"{DIGEST}\"\nlimit = \"viewer\"\nexpires = 1970-01-02\n"
        );
        let file = AccessFile::parse(&text).unwrap();
        let roles: Vec<_> = file
            .roles
            .iter()
            .map(|role| (role.principal.as_str(), role.project.as_deref(), role.role))
            .collect();
        let expected = [
            ("ana", Some("speech"), Role::Editor),
            ("ana", None, Role::Viewer),
            ("github:bob", Some(""), Role::Owner),
        ];
        assert_eq!(roles, expected);
        let [token] = &file.tokens[..] else { panic!("one token") };
        assert_eq!((hex::encode(token.digest.0), token.limit), (DIGEST.to_owned(), Some(Role::Viewer)));
        assert_eq!((token.project.as_deref(), token.expires_us), (None, Some(86_400 * 1_000_000)));
        assert_eq!(AccessFile::parse("").unwrap(), AccessFile::default());
        assert_eq!(Vec::from_iter(file.principals_of_other_providers(&["oidc"])), ["github:bob"]);
        assert!(file.principals_of_other_providers(&["github"]).is_empty());
    }

    #[test]
    fn an_invalid_file_is_refused_with_the_reason() {
        let token = |lines: &str| format!("[roles]\nci = [\"ingest\"]\n[[tokens]]\n{lines}");
        let secret = "mtk_secret";
        for (text, expected) in [
            ("[roles".to_owned(), "not valid TOML"),
            ("users = 1".to_owned(), "unknown key `users`"),
            ("[roles]\nAna = [\"viewer\"]".to_owned(), "`Ana`"),
            ("[roles]\nana = \"viewer\"".to_owned(), "no list of roles"),
            ("[roles]\nana = [\"emperor\"]".to_owned(), "unknown role `emperor`"),
            ("[roles]\nana = [\"operator@speech\"]".to_owned(), "in all projects"),
            ("[roles]\nana = [\"viewer@a\", \"owner@a\"]".to_owned(), "two roles"),
            ("[roles]\nanonymous = [\"owner@a\"]".to_owned(), "only be `viewer`"),
            (token("principal = \"ci\""), "without `digest`"),
            (token(&format!("principal = \"ci\"\ndigest = \"{secret}\"")), "never the token itself"),
            (token(&format!("principal = \"bo\"\ndigest = \"{DIGEST}\"")), "without a role"),
            (
                token(&format!("principal = \"ci\"\ndigest = \"{DIGEST}\"\nsecret = \"\"")),
                "unknown key `secret`",
            ),
            (token(&format!("principal = \"ci\"\ndigest = \"{DIGEST}\"\nexpires = \"soon\"")), "2027-06-30"),
            (token(&format!("principal = \"ci\"\ndigest = \"{DIGEST}\"\nlimit = \"boss\"")), "`boss`"),
            (format!("[roles]\nci = []\n= {secret}"), "not valid TOML"),
        ] {
            let problem = AccessFile::parse(&text).unwrap_err();
            assert!(problem.contains(expected) && !problem.contains("secret\""), "{text}: {problem}");
            assert!(!problem.contains(secret), "{problem}");
        }
    }
}
