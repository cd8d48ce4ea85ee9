//! Sources of settings: flags, then the environment (overriding a `.env` file), then the config
//! file. The environment is captured once as a value, so that tests can supply their own.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use super::{
    setting::Definition,
    table::{self, CONFIG},
    violations::Violations,
};

/// Environment variables by upper-case name, because names are not case-sensitive.
#[derive(Default)]
pub(crate) struct Environment {
    variables: BTreeMap<String, String>,
    /// Path of an optional `.env` file.
    dotenv: Option<PathBuf>,
}

/// Without values, which may be secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.keys())
            .field("dotenv", &self.dotenv)
            .finish()
    }
}

impl Environment {
    /// The environment of this process, with the `.env` file in its working directory.
    pub(crate) fn of_process() -> Self {
        // Variables that are not valid Unicode are ignored: no setting needs them.
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self { dotenv: Some(".env".into()), ..variables.collect() }
    }

    /// A variable that is not a setting, such as the home of the user.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

#[cfg(test)]
#[cfg(feature = "full")]
impl Environment {
    pub(super) fn with_dotenv(self, path: PathBuf) -> Self {
        Self { dotenv: Some(path), ..self }
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(variables: T) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.to_uppercase(), value)).collect();
        Self { variables, dotenv: None }
    }
}

/// A value, and a description of where it was found.
#[derive(Clone)]
pub(super) struct FoundValue {
    pub(super) value: String,
    pub(super) origin: String,
}

/// Without the value, which may be a secret.
impl fmt::Debug for FoundValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundValue").field("origin", &self.origin).finish_non_exhaustive()
    }
}

#[derive(Default)]
pub(super) struct Sources {
    flags: BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
    dotenv: BTreeMap<String, String>,
    file: BTreeMap<String, String>,
    file_path: String,
}

/// Without values, which may be secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("flags", &self.flags.keys())
            .field("variables", &self.variables.keys())
            .field("dotenv", &self.dotenv.keys())
            .field("file", &self.file.keys())
            .field("file_path", &self.file_path)
            .finish()
    }
}

impl Sources {
    pub(super) fn open(
        flags: BTreeMap<String, String>,
        environment: Environment,
        violations: &mut Violations,
    ) -> Self {
        let dotenv = environment.dotenv.map_or_else(BTreeMap::new, |path| read_dotenv(&path, violations));
        let mut sources = Self { flags, variables: environment.variables, dotenv, ..Self::default() };
        if let Some(found) = sources.find(&CONFIG.definition) {
            sources.file = read_file(&found.value, violations);
            sources.file_path = found.value;
        }
        sources
    }

    /// The effective value. A blank value counts as absent.
    pub(super) fn find(&self, setting: &Definition) -> Option<FoundValue> {
        self.find_even_blank(setting).filter(|found| !found.value.is_empty())
    }

    /// True if the setting is given but blank.
    pub(super) fn is_blank(&self, setting: &Definition) -> bool {
        self.find_even_blank(setting).is_some_and(|found| found.value.is_empty())
    }

    /// Variables that are set but no longer used.
    pub(super) fn unused(&self) -> Vec<&'static str> {
        table::UNUSED.iter().filter(|name| self.is_variable_set(name)).copied().collect()
    }

    fn is_variable_set(&self, name: &str) -> bool {
        let value = self.variables.get(name).or_else(|| self.dotenv.get(name));
        value.is_some_and(|value| !value.trim().is_empty())
    }

    fn find_even_blank(&self, setting: &Definition) -> Option<FoundValue> {
        let found = |value: &String, origin: String| FoundValue { value: value.trim().to_owned(), origin };
        // In order of precedence: flag, environment, `.env`, config file.
        if let Some((flag, value)) = setting.flag.and_then(|flag| self.flags.get_key_value(flag.name)) {
            return Some(found(value, format!("--{flag}")));
        }
        for (variables, place) in [(&self.variables, "the environment"), (&self.dotenv, "the file .env")] {
            if let Some((variable, value)) =
                setting.variables.iter().find_map(|variable| variables.get_key_value(*variable))
            {
                return Some(found(value, format!("{variable} in {place}")));
            }
        }
        let value = self.file.get(setting.key)?;
        Some(found(value, format!("`{}` in {}", setting.key, self.file_path)))
    }
}

fn read_dotenv(path: &Path, violations: &mut Violations) -> BTreeMap<String, String> {
    let variables = match dotenvy::from_path_iter(path) {
        Ok(variables) => variables.collect::<Result<Vec<_>, _>>(),
        Err(error) => Err(error),
    };
    match variables {
        Ok(variables) => variables.into_iter().map(|(name, value)| (name.to_uppercase(), value)).collect(),
        Err(dotenvy::Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        // The message of the parse error would repeat the line, which may contain a
        // secret.
        Err(dotenvy::Error::LineParse(_, column)) => {
            violations.add(".env", format!("cannot parse a line from character {column}; write NAME=value"));
            BTreeMap::new()
        }
        Err(error) => {
            violations.add(".env", format!("cannot be read ({error}); fix or remove it"));
            BTreeMap::new()
        }
    }
}

fn read_file(path: &str, violations: &mut Violations) -> BTreeMap<String, String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            violations.add(
                CONFIG.definition.variable(),
                format!("`{path}` cannot be read ({error}); name a readable file"),
            );
            return BTreeMap::new();
        }
    };
    match text.parse::<toml::Table>() {
        Ok(table) => {
            table.into_iter().filter_map(|(key, value)| file_entry(path, key, &value, violations)).collect()
        }
        Err(error) => {
            let line = error.span().map_or(0, |span| text[..span.start].lines().count());
            let problem = format!("line {line} of `{path}` is not valid TOML ({}); fix it", error.message());
            violations.add(CONFIG.definition.variable(), problem);
            BTreeMap::new()
        }
    }
}

fn file_entry(
    path: &str,
    key: String,
    value: &toml::Value,
    violations: &mut Violations,
) -> Option<(String, String)> {
    // A config file must not name another config file.
    if key == CONFIG.definition.key || !table::ALL.iter().any(|setting| setting.key == key) {
        violations.add(&key, format!("not a valid key in `{path}`; correct or remove it"));
        return None;
    }
    match value_text(value) {
        Some(value) => Some((key, value)),
        None => {
            violations.add(
                &key,
                format!("not a plain value in `{path}`; use a string, a number or a list of strings"),
            );
            None
        }
    }
}

fn value_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Array(items) => items
            .iter()
            .map(|item| Some(item.as_str()?.to_owned()))
            .collect::<Option<Vec<_>>>()
            .map(|items| items.join(",")),
        toml::Value::Table(_) | toml::Value::Datetime(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_104_sources_are_shown_without_values() {
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let environment: Environment = [text("BLOB_URI_SECRET", "s3cret")].into_iter().collect();
        assert!(format!("{environment:?}").contains("BLOB_URI_SECRET"));
        assert!(!format!("{environment:?}").contains("s3cret"));
        let flags = BTreeMap::from([text("port", "s3cret")]);
        let sources = Sources::open(flags, environment, &mut Violations::default());
        assert!(format!("{sources:?}").contains("port") && !format!("{sources:?}").contains("s3cret"));
        let found = sources.find(&table::BLOB_URI_SECRET.definition).unwrap();
        assert_eq!(found.value, "s3cret");
        assert!(!format!("{found:?}").contains("s3cret"));
    }
}
