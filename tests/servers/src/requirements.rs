//! Requirements of tests: the available requirements, and the requirements that must be available.

use std::path::PathBuf;

/// The reason the named server or other thing is not available, if any. Panics if it is required.
pub fn unavailable_reason<T>(name: &str, installed: Result<T, String>) -> Option<String> {
    let reason = installed.err()?;
    assert!(!is_required(name), "REQUIRE={name}, but it is not available: {reason}");
    Some(reason)
}

pub fn is_required(name: &str) -> bool {
    variable("REQUIRE").is_some_and(|required| required.split(',').any(|other| other == name))
}

/// The path in the variable, which `make` sets when it is run with that target.
pub(crate) fn installed_path(name: &str, target: &str) -> Result<PathBuf, String> {
    let path = variable(name).map(PathBuf::from);
    let path = path.ok_or_else(|| format!("{name} is not set: `make {target}` finds or installs it"))?;
    if path.exists() { Ok(path) } else { Err(format!("{name} is {}, which does not exist", path.display())) }
}

#[expect(clippy::disallowed_methods, reason = "tests are configured only by their environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
