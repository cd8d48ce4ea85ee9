//! What is installed, and what must be.

use std::path::PathBuf;

/// Why the server of that name cannot be started; that it is required makes a failure of it.
pub fn lacking<T>(name: &str, installed: Result<T, String>) -> Option<String> {
    let reason = installed.err()?;
    assert!(!is_required(name), "REQUIRE={name}, and there is none: {reason}");
    Some(reason)
}

pub fn is_required(name: &str) -> bool {
    variable("REQUIRE").is_some_and(|required| required.split(',').any(|other| other == name))
}

/// What the variable names, which `make` sets when it is given that target.
pub(crate) fn installed(name: &str, target: &str) -> Result<PathBuf, String> {
    let path = variable(name).map(PathBuf::from);
    let path = path.ok_or_else(|| format!("{name} is not set: `make {target}` finds or installs it"))?;
    if path.exists() { Ok(path) } else { Err(format!("{name} names {}, which is not there", path.display())) }
}

#[expect(clippy::disallowed_methods, reason = "what a test needs is told by its environment alone")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
