//! The name of a client that people see on the runs of the client.

/// Maximum length of a version. Together with a name it stays below the limit of a run's client.
const VERSION_BYTES: usize = 32;

/// The name with the version that a client gives itself. A text that is not a version is left out.
pub fn client_name(name: &str, version: Option<&str>) -> String {
    match version.filter(|version| is_version(version)) {
        Some(version) => format!("{name} {version}"),
        None => name.to_owned(),
    }
}

fn is_version(text: &str) -> bool {
    (1..=VERSION_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_version_if_it_is_valid() {
        assert_eq!(client_name("MLflow", Some("3.17.2")), "MLflow 3.17.2");
        let long = "1".repeat(VERSION_BYTES + 1);
        for other in [None, Some(""), Some("3 4"), Some("<b>"), Some(long.as_str())] {
            assert_eq!(client_name("MLflow", other), "MLflow");
        }
    }
}
