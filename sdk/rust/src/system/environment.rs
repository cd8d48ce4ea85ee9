//! Environment variables without secrets.

use matyan_value::{Map, Value};

/// A variable with one of these in its name is left out.
const SECRET_NAMES: [&str; 16] = [
    "secret",
    "key",
    "token",
    "pass",
    "credential",
    "pwd",
    "auth",
    "private",
    "dsn",
    "cookie",
    "session",
    "bearer",
    "hook",
    "connection_string",
    "conn_str",
    "signature",
];

/// Like `SECRET_NAMES`, but only as whole words of a name, because they are parts of other words: `PATH`
/// contains `pat`.
const SECRET_WORDS: [&str; 9] = ["pw", "pat", "cred", "creds", "cert", "certs", "jwt", "conn", "otp"];

/// Beginnings of the tokens of well-known services, whatever the name of the variable.
const SECRET_BEGINNINGS: [&str; 34] = [
    "mtk_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "hf_",
    "npm_",
    "pypi-",
    "dckr_pat_",
    "sk-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "nvapi-",
    "gsk_",
    "r8_",
    "xoxa-",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "dop_v1_",
    "hvs.",
    "tskey-",
    "lin_api_",
    "SG.",
    "AGE-SECRET-KEY-",
    "eyJ",
];
/// Least length of such a token.
const LEAST_TOKEN: usize = 16;

/// Parts of values that contain passwords, keys, and headers with tokens, in lower case.
const SECRET_PARTS: [&str; 4] = ["password=", "pwd=", "bearer ", "-----begin"];

/// Parameters of URLs with one of these in their name are replaced.
const SECRET_PARAMETERS: [&str; 5] = ["sig", "token", "key", "password", "secret"];

/// Text in place of a secret.
const MASK: &str = "***";

/// Directories of the shell, whose names merely look like names of secrets.
const WORKING_DIRECTORIES: [&str; 2] = ["PWD", "OLDPWD"];

/// Returns the variables that may be stored. In the others' values, the user name and password of
/// URLs are replaced.
pub(super) fn public_variables(variables: impl IntoIterator<Item = (String, String)>) -> Map {
    let public = variables.into_iter().filter(|(name, value)| !is_secret(name) && !is_secret_value(value));
    public.map(|(name, value)| (name, Value::Text(without_credentials(&value)))).collect()
}

fn is_secret(name: &str) -> bool {
    let lower = name.to_lowercase();
    let mut words = lower.split(|char: char| !char.is_ascii_alphanumeric());
    let is_named = SECRET_NAMES.iter().any(|secret| lower.contains(secret))
        || words.any(|word| SECRET_WORDS.contains(&word));
    is_named && !WORKING_DIRECTORIES.contains(&name)
}

fn is_secret_value(value: &str) -> bool {
    let is_token = value.len() >= LEAST_TOKEN && SECRET_BEGINNINGS.iter().any(|it| value.starts_with(it));
    let lower = value.to_lowercase();
    is_token || SECRET_PARTS.iter().any(|part| lower.contains(part))
}

/// Returns a command line in which the values of options for secrets are replaced: `--token x`,
/// `--token=x`, `logger.token=x`.
pub(super) fn public_arguments(arguments: &[String]) -> Vec<String> {
    let mut follows_secret = false;
    let public = arguments.iter().map(|argument| {
        if std::mem::take(&mut follows_secret) {
            return MASK.to_owned();
        }
        match argument.split_once('=') {
            Some((name, _)) if is_secret(name) && !name.contains("://") => format!("{name}={MASK}"),
            None if argument.starts_with('-') && is_secret(argument) => {
                follows_secret = true;
                argument.clone()
            }
            _ if is_secret_value(argument) => MASK.to_owned(),
            _ => without_credentials(argument),
        }
    });
    public.collect()
}

/// Replaces the credentials of every URL in a text by `***`: user names, passwords, and parameters
/// that are secret.
pub(super) fn without_credentials(text: &str) -> String {
    let text = without_users(text);
    if !text.contains("://") {
        return text;
    }
    let mut result = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(start) = rest.find(['?', '&']) {
        let (before, parameter) = rest.split_at(start + 1);
        result.push_str(before);
        let end = parameter.find(|char: char| "&#".contains(char) || char.is_whitespace());
        let (parameter, after) = parameter.split_at(end.unwrap_or(parameter.len()));
        match parameter.split_once('=') {
            Some((name, _)) if is_secret_parameter(name) => result.push_str(&format!("{name}={MASK}")),
            _ => result.push_str(parameter),
        }
        rest = after;
    }
    result.push_str(rest);
    result
}

fn is_secret_parameter(name: &str) -> bool {
    let lower = name.to_lowercase();
    SECRET_PARAMETERS.iter().any(|secret| lower.contains(secret))
}

fn without_users(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(scheme) = rest.find("://") {
        let (before, after) = rest.split_at(scheme + 3);
        result.push_str(before);
        let authority =
            after.find(|char: char| "/?#".contains(char) || char.is_whitespace()).unwrap_or(after.len());
        rest = match after[..authority].rfind('@') {
            Some(at) => {
                result.push_str(MASK);
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
            ("PGPASS", "x"),
            ("SENTRY_DSN", "x"),
            ("AZURE_STORAGE_CONNECTION_STRING", "x"),
            ("DB_PW", "x"),
            ("GH_PAT", "x"),
            ("AZ_CREDS", "x"),
            ("ANY", "ghp_0123456789abcdef"),
            ("DATABASE", "host=x Password=y"),
            ("BW_SESSION", "x"),
            ("OP_SESSION_x", "x"),
            ("SLACK_HOOK_URL", "x"),
            ("X_BEARER", "x"),
            ("TLS_CERT", "x"),
            ("HEADER", "Authorization: Bearer x"),
            ("PEM", "\n-----BEGIN RSA PRIVATE KEY-----\nx"),
            ("PWD", "/home/me"),
            ("PATH", "/bin"),
            ("CERTAINTY", "0.5"),
        ];
        let public = public_variables(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(public.keys().collect::<Vec<_>>(), ["CERTAINTY", "PATH", "PWD"]);
    }

    #[test]
    fn tokens_are_known_by_their_beginnings() {
        for beginning in [
            "npm_",
            "pypi-",
            "AIza",
            "ya29.",
            "ASIA",
            "sk_live_",
            "dop_v1_",
            "ghu_",
            "dckr_pat_",
            "hvs.",
            "SG.",
        ] {
            let value = format!("{beginning}0123456789abcdef");
            assert!(public_variables([("ANY".to_owned(), value.clone())]).is_empty(), "{value}");
            assert_eq!(public_arguments(&[value]), [MASK]);
        }
        // Too short for a token: the name of a region.
        assert_eq!(public_variables([("REGION".to_owned(), "ASIA".to_owned())]).len(), 1);
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
            ("https://h/a?x=1&Sig=a%2F&y=2#f", "https://h/a?x=1&Sig=***&y=2#f"),
            ("a https://h?access_token=t b?key=c", "a https://h?access_token=*** b?key=***"),
            ("what?key=c", "what?key=c"),
        ] {
            assert_eq!(without_credentials(text), expected);
        }
    }

    #[test]
    fn options_for_secrets_are_masked_in_the_command_line() {
        let arguments = [
            "train.py",
            "--hf-token",
            "hf_1",
            "--api-key=2",
            "--lr",
            "3",
            "logger.api_key=4",
            "--password",
            "-5",
        ];
        let expected = [
            "train.py",
            "--hf-token",
            "***",
            "--api-key=***",
            "--lr",
            "3",
            "logger.api_key=***",
            "--password",
            "***",
        ];
        assert_eq!(public_arguments(&arguments.map(str::to_owned)), expected);
    }
}
