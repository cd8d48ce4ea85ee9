//! Collects violations while settings are read one by one, so that all of them are reported
//! together.

use std::fmt;

use super::{names::SettingName, source::Sources, violations::Violations};

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
        self.violations.add(name, problem);
    }

    /// The violations found so far, for the sources, which are read before any setting.
    pub(super) fn violations(&mut self) -> &mut Violations {
        &mut self.violations
    }

    pub(super) fn finish<T>(self, settings: T) -> Result<T, Violations> {
        if self.violations.is_empty() { Ok(settings) } else { Err(self.violations) }
    }
}
