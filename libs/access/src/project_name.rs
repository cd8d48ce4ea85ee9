//! Names of projects that roles and services accept.

use matyan_proto::limits::NEW_PROJECT_BYTES;

/// The name that means the default project, which has none.
pub const NAME_OF_DEFAULT: &str = "default";

/// The rule for names of projects, for messages; `is_project_name` also limits their length.
pub const PROJECT_NAME_RULE: &str =
    "lowercase letters, digits, `-`, `_` and `.`, and begin with a letter or a digit";

/// Whether a project may be created with this name. It is part of URLs, of metadata, and of paths in file systems that
/// ignore case.
pub fn is_project_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let begins_well = name.bytes().next().is_some_and(is_letter);
    let has_letters = name.bytes().all(|byte| is_letter(byte) || b"-_.".contains(&byte));
    begins_well && has_letters && name.len() <= NEW_PROJECT_BYTES && name != NAME_OF_DEFAULT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_urls_metadata_and_folders() {
        for name in ["a", "0", "speech-models", "team.v2_x", &"a".repeat(NEW_PROJECT_BYTES)] {
            assert!(is_project_name(name), "{name}");
        }
        let too_long = "a".repeat(NEW_PROJECT_BYTES + 1);
        for name in
            ["", "default", "Team", ".", "-a", "_a", "a/b", "a b", "gr\u{f6}\u{df}e", "a\n", &too_long]
        {
            assert!(!is_project_name(name), "{name}");
        }
    }
}
