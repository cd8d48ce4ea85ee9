//! Collects violations while settings are read one by one, so that all of them are reported
//! together.

use std::fmt;

use super::{names::SettingName, source::Sources};

/// Violations, one per line: the name of the setting, the problem, the next step.
#[derive(Debug, Default, thiserror::Error)]
pub(crate) struct Violations(Vec<String>);

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("matyan cannot start with these settings:")?;
        self.0.iter().try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

#[derive(Debug, Default)]
pub(super) struct Reader {
    violations: Violations,
}

impl Reader {
    /// The value of a setting, or `default` if it is absent. An invalid value also yields
    /// `default`: the process will not start anyway.
    pub(super) fn parse<T>(
        &mut self,
        from: &Sources,
        name: SettingName,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let given = self.optional(from, name, &parse);
        given.unwrap_or_else(|| parse(default).expect("defaults are valid"))
    }

    pub(super) fn optional<T>(
        &mut self,
        from: &Sources,
        name: SettingName,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let found = from.find(name)?;
        match parse(&found.value) {
            Ok(value) => Some(value),
            Err(problem) => {
                let shown = if name.secret { "the value".to_owned() } else { format!("`{}`", found.value) };
                self.refuse(name.variables[0], format!("{shown} (from {}) {problem}", found.origin));
                None
            }
        }
    }

    pub(super) fn refuse(&mut self, name: &str, problem: impl fmt::Display) {
        self.violations.0.push(format!("{name}: {problem}"));
    }

    pub(super) fn finish<T>(self, settings: T) -> Result<T, Violations> {
        if self.violations.0.is_empty() { Ok(settings) } else { Err(self.violations) }
    }
}
