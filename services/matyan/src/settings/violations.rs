//! The violations that keep a process from starting, reported together.

use std::fmt;

/// Violations, one per line: the name of the setting, the problem, the next step.
#[derive(Debug, Default, thiserror::Error)]
pub(crate) struct Violations(Vec<String>);

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("matyan cannot start with these settings:")?;
        self.0.iter().try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

impl Violations {
    pub(super) fn add(&mut self, name: &str, problem: impl fmt::Display) {
        self.0.push(format!("{name}: {problem}"));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
