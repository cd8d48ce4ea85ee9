//! The form of the two settings of each quota: the limit of every project, and limits of single projects in its place, such
//! as `speech = 50000, demo = 0`.

use std::{collections::BTreeMap, num::ParseIntError};

use matyan_access::{NAME_OF_DEFAULT, is_project_name};

use super::setting::Setting;

/// Limits of single projects by name; 0: no limit. The default project has no name.
pub(super) type ProjectLimits = BTreeMap<String, u64>;

/// A setting with the limit of every project that has no limit of its own.
pub(super) const fn limit(key: &'static str, variables: &'static [&'static str]) -> Setting<u64> {
    Setting::new(key, variables, parse_limit).default("0")
}

/// A setting with the limits of single projects.
pub(super) const fn limits_by_name(
    key: &'static str,
    variables: &'static [&'static str],
) -> Setting<ProjectLimits> {
    Setting::new(key, variables, parse_limits).default("")
}

/// Parses a limit, or 0 for no limit.
fn parse_limit(text: &str) -> Result<u64, String> {
    let wrong = "is not a whole number; use one such as 10000, or 0 for no limit";
    text.parse().map_err(|_: ParseIntError| wrong.to_owned())
}

fn parse_limits(text: &str) -> Result<ProjectLimits, String> {
    let mut limits = ProjectLimits::new();
    for row in text.split(',').map(str::trim).filter(|row| !row.is_empty()) {
        let (name, limit) = row.split_once('=').ok_or_else(|| {
            format!("has the row `{row}`; write rows such as `speech = 50000`, separated by commas")
        })?;
        let name = name.trim();
        if name != NAME_OF_DEFAULT && !is_project_name(name) {
            return Err(format!(
                "names `{name}`, which no project can be called; use names that `matyan projects list` shows"
            ));
        }
        let limit =
            parse_limit(limit.trim()).map_err(|problem| format!("has a limit of `{name}` that {problem}"))?;
        let name = if name == NAME_OF_DEFAULT { String::new() } else { name.to_owned() };
        if limits.insert(name, limit).is_some() {
            return Err(format!("has two limits in rows such as `{row}`; write one for each project"));
        }
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_projects_have_limits_by_name() {
        let limits = parse_limits("speech = 536870912000, demo=0 , default = 5,").unwrap();
        let expected = [("", 5), ("demo", 0), ("speech", 536_870_912_000)];
        assert_eq!(limits, expected.map(|(name, limit)| (name.to_owned(), limit)).into());
        assert_eq!(parse_limits(" ").unwrap(), ProjectLimits::new());
    }

    #[test]
    fn a_wrong_limit_is_named_with_its_project() {
        for (wrong, expected) in [
            ("speech", "has the row `speech`; write rows such as"),
            ("Speech = 1", "names `Speech`, which no project can be called"),
            ("speech = many", "has a limit of `speech` that is not a whole number"),
            ("speech = -1", "has a limit of `speech` that is not a whole number"),
            ("speech = 1, speech = 2", "one for each project"),
            ("default = 1, default = 1", "one for each project"),
        ] {
            let problem = parse_limits(wrong).unwrap_err();
            assert!(problem.contains(expected), "{wrong}: {problem}");
        }
    }
}
