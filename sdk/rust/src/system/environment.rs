//! Environment variables without secrets.

use matyan_value::{Map, Value};

/// A variable with one of these in its name is left out.
const SECRET_NAMES: [&str; 8] = ["secret", "key", "token", "password", "credential", "passwd", "pwd", "auth"];

/// Directories of the shell, whose names merely look like one of a secret.
const WORKING_DIRECTORIES: [&str; 2] = ["PWD", "OLDPWD"];

/// Returns the variables that may be stored. In the others' values, the user name and password of
/// URLs are replaced.
pub(super) fn public_variables(variables: impl IntoIterator<Item = (String, String)>) -> Map {
    let public = variables.into_iter().filter(|(name, _)| !is_secret(name));
    public.map(|(name, value)| (name, Value::Text(without_credentials(&value)))).collect()
}

fn is_secret(name: &str) -> bool {
    let lower = name.to_lowercase();
    !WORKING_DIRECTORIES.contains(&name) && SECRET_NAMES.iter().any(|secret| lower.contains(secret))
}

/// Replaces the credentials of every URL in a text by `***`.
pub(super) fn without_credentials(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(scheme) = rest.find("://") {
        let (before, after) = rest.split_at(scheme + 3);
        result.push_str(before);
        let ends_authority = |char: char| "/?#".contains(char) || char.is_whitespace();
        let authority = after.find(ends_authority).unwrap_or(after.len());
        rest = match after[..authority].rfind('@') {
            Some(at) => {
                result.push_str("***");
                &after[at..]
            }
            None => after,
        };
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_with_secret_names_are_left_out() {
        let variables = [
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("HF_TOKEN", "x"),
            ("db_Password", "x"),
            ("GOOGLE_APPLICATION_CREDENTIALS", "x"),
            ("HTTP_AUTH", "x"),
            ("PWD", "/home/me"),
            ("PATH", "/bin"),
        ];
        let public = public_variables(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(public.keys().collect::<Vec<_>>(), ["PATH", "PWD"]);
    }

    #[test]
    fn credentials_in_urls_are_replaced() {
        for (text, expected) in [
            ("http://me:pass@proxy:8080/x", "http://***@proxy:8080/x"),
            ("a https://host/path@2 b", "a https://host/path@2 b"),
            ("s3://k:p@a b,http://u:p%40@c", "s3://***@a b,http://***@c"),
            ("mail me@host", "mail me@host"),
            ("x://", "x://"),
            ("git@host:me/repo.git", "git@host:me/repo.git"),
        ] {
            assert_eq!(without_credentials(text), expected);
        }
    }
}
