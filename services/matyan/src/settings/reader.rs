//! Reads settings one by one, and collects violations, so that all violations are reported
//! together.

use std::{collections::BTreeMap, fmt};

use super::{
    clients::Client,
    role::Program,
    setting::Setting,
    source::{Environment, Sources},
    table,
    violations::Violations,
};

#[derive(Debug)]
pub(super) struct Reader {
    program: Program,
    sources: Sources,
    violations: Violations,
    /// True if development values are refused.
    is_production: bool,
    /// Returns whether this build includes a client.
    includes: fn(&Client) -> bool,
}

impl Reader {
    pub(super) fn open(program: Program, flags: BTreeMap<String, String>, environment: Environment) -> Self {
        let mut violations = Violations::default();
        let sources = Sources::open(flags, environment, &mut violations);
        let mut reader =
            Self { program, sources, violations, is_production: false, includes: Client::is_included };
        reader.is_production = reader.read(&table::ENVIRONMENT);
        reader
    }

    /// A reader as of a build with other clients.
    #[cfg(test)]
    pub(super) fn with_clients(self, includes: fn(&Client) -> bool) -> Self {
        Self { includes, ..self }
    }

    pub(super) fn is_production(&self) -> bool {
        self.is_production
    }

    /// The value of a setting, or its default. An invalid value also yields the default: the
    /// process will not start anyway.
    pub(super) fn read<T>(&mut self, setting: &Setting<T>) -> T {
        let default = setting.definition.default_of(self.program);
        let default = default.expect("a setting that is read without an alternative has a default");
        self.read_or(setting, default)
    }

    /// Like `read`, for programs without a default in the table: it depends on other settings.
    pub(super) fn read_or<T>(&mut self, setting: &Setting<T>, computed: &str) -> T {
        let default = setting.definition.default_of(self.program).unwrap_or(computed);
        self.optional(setting).unwrap_or_else(|| (setting.parse)(default).expect("defaults are valid"))
    }

    /// The value of a setting, ignoring its default.
    pub(super) fn optional<T>(&mut self, setting: &Setting<T>) -> Option<T> {
        let found = self.sources.find(&setting.definition)?;
        match (setting.parse)(&found.value) {
            Ok(value) => Some(value),
            Err(problem) => {
                let shown = if setting.definition.is_secret {
                    "the value".to_owned()
                } else {
                    format!("`{}`", found.value)
                };
                self.refuse(setting, format!("{shown} (from {}) {problem}", found.origin));
                None
            }
        }
    }

    pub(super) fn is_set<T>(&self, setting: &Setting<T>) -> bool {
        self.sources.find(&setting.definition).is_some()
    }

    /// True if the setting is set to a blank value, rather than absent.
    pub(super) fn is_blank<T>(&self, setting: &Setting<T>) -> bool {
        self.sources.is_blank(&setting.definition)
    }

    /// Variables of Matyan 0.3 that are set but no longer have any effect.
    pub(super) fn unused(&self) -> Vec<&'static str> {
        self.sources.unused()
    }

    pub(super) fn refuse<T>(&mut self, setting: &Setting<T>, problem: impl fmt::Display) {
        self.violations.add(setting.definition.variable(), problem);
    }

    /// Refuses a setting that needs a client which this build lacks.
    pub(super) fn require_in_build<T>(&mut self, setting: &Setting<T>, client: &Client) {
        if !(self.includes)(client) {
            self.refuse(setting, client.problem());
        }
    }

    pub(super) fn finish<T>(self, settings: T) -> Result<T, Violations> {
        if self.violations.is_empty() { Ok(settings) } else { Err(self.violations) }
    }
}
