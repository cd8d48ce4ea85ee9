//! Paths of artifacts in MLflow's URIs, such as `{experiment}/{run}/artifacts/{path}`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::error::{MlflowError, Result};
use crate::names::check_run_id;

/// The owner of the files that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArtifactOwner {
    Run(String),
    /// A logged model, by its id.
    Model(String),
}

/// An artifact, or a folder of artifacts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArtifactPath {
    pub(crate) owner: ArtifactOwner,
    /// The path below the folder of the owner; empty for the folder itself.
    pub(crate) path: String,
}

/// The folder of the owner.
const ARTIFACTS: &str = "artifacts";
/// The folder of logged models in an experiment.
const MODELS: &str = "models";

impl ArtifactPath {
    /// Parses a path below the root of all artifacts.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Self::parse_with(text, |run_id| Ok(run_id.to_owned()))
    }

    /// Parses the path of an artifact URI, in which only the run id is percent-encoded.
    pub(crate) fn parse_encoded(text: &str) -> Result<Self> {
        Self::parse_with(text, |run_id| {
            let decoded = percent_decode_str(run_id).decode_utf8();
            decoded.map(Cow::into_owned).map_err(|_| {
                MlflowError::invalid(format!("Invalid path '{}': it is not UTF-8", text.escape_debug()))
            })
        })
    }

    fn parse_with(text: &str, run_id_of: impl FnOnce(&str) -> Result<String>) -> Result<Self> {
        let segments: Vec<&str> = text.trim_matches('/').split('/').collect();
        let (owner, rest) = match segments.as_slice() {
            [_, MODELS, model, ARTIFACTS, rest @ ..] => (ArtifactOwner::Model((*model).to_owned()), rest),
            [_, run, ARTIFACTS, rest @ ..] => {
                let run_id = run_id_of(run)?;
                check_run_id(&run_id)?;
                (ArtifactOwner::Run(run_id), rest)
            }
            _ => {
                return Err(MlflowError::invalid(format!(
                    "Invalid path '{}': it must be '<experiment>/<run>/artifacts/<path>', as the artifact URI of a run \
                     says",
                    text.escape_debug()
                )));
            }
        };
        let path = rest.join("/");
        check(&path)?;
        Ok(Self { owner, path })
    }
}

/// Checks that a path cannot lead anywhere else.
pub(crate) fn check(path: &str) -> Result<()> {
    let has_dots = path.split('/').any(|segment| matches!(segment, "." | ".."));
    if has_dots || path.contains(['\\', '?', '#']) || path.chars().any(char::is_control) {
        return Err(MlflowError::invalid(format!("Invalid path: {}", path.escape_debug())));
    }
    Ok(())
}

/// The prefix of all paths in a folder.
pub(crate) fn folder_prefix(folder: &str) -> String {
    if folder.is_empty() { String::new() } else { format!("{folder}/") }
}

/// A text that sorts after the paths of an entry of a folder, and before the next entry. `path` is the last known path of
/// the entry.
pub(crate) fn end_of_entry(path: &str, prefix: &str) -> String {
    match path.strip_prefix(prefix).and_then(|rest| rest.split_once('/')) {
        Some((name, _)) => format!("{prefix}{name}/{}", char::MAX).max(path.to_owned()),
        None => path.to_owned(),
    }
}

/// A file or folder directly in a folder: its name, whether it is a folder, and the size of a file.
pub(crate) type FolderEntry = (String, bool, Option<u64>);

/// Adds the files and folders directly in a folder, from paths of an owner that come after all earlier paths.
pub(crate) fn add_entries<'p>(
    entries: &mut Vec<FolderEntry>,
    paths: impl Iterator<Item = (&'p str, Option<u64>)>,
    folder: &str,
) {
    let prefix = folder_prefix(folder);
    for (path, size) in paths {
        let Some(rest) = path.strip_prefix(&prefix) else { continue };
        let (name, is_folder) = match rest.split_once('/') {
            Some((name, _)) => (name, true),
            None => (rest, false),
        };
        // Paths arrive sorted, so the paths of one folder follow each other.
        let is_known =
            entries.last().is_some_and(|(last, was_folder, _)| last == name && *was_folder == is_folder);
        if !name.is_empty() && !is_known {
            entries.push((name.to_owned(), is_folder, if is_folder { None } else { size }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_their_owner() {
        let check = |text: &str, owner: ArtifactOwner, path: &str| {
            let expected = ArtifactPath { owner, path: path.to_owned() };
            assert_eq!(ArtifactPath::parse(text).unwrap(), expected, "{text}");
        };
        check("0/r/artifacts/a/b.txt", ArtifactOwner::Run("r".into()), "a/b.txt");
        check("0/r/artifacts", ArtifactOwner::Run("r".into()), "");
        check("0/r/artifacts/", ArtifactOwner::Run("r".into()), "");
        check("0/models/m-1/artifacts/MLmodel", ArtifactOwner::Model("m-1".into()), "MLmodel");
        check("0/models/artifacts/x", ArtifactOwner::Run("models".into()), "x");
        check("0/k3x:project/artifacts/a", ArtifactOwner::Run("k3x:project".into()), "a");
        check("0/a?b/artifacts/a", ArtifactOwner::Run("a?b".into()), "a");
        let encoded = ArtifactPath::parse_encoded("0/a%3Fb/artifacts/50%").unwrap();
        assert_eq!(encoded, ArtifactPath { owner: ArtifactOwner::Run("a?b".into()), path: "50%".into() });
        ArtifactPath::parse_encoded("0/a%2Fb/artifacts/c").unwrap_err();
        for wrong in [
            "",
            "0/r",
            "a",
            "0/r/artifacts/../x",
            "0/../artifacts/x",
            "0/r/artifacts/a\\b",
            "0/r/artifacts/\n",
            "0/r/files/x",
        ] {
            ArtifactPath::parse(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn the_rest_of_a_folder_is_skipped() {
        assert_eq!(end_of_entry("a", ""), "a");
        assert_eq!(end_of_entry("b/d/e", ""), "b/\u{10ffff}");
        assert_eq!(end_of_entry("b/d/e", "b/"), "b/d/\u{10ffff}");
        assert_eq!(end_of_entry("b/c", "b/"), "b/c");
        let last = "b/\u{10ffff}x";
        assert_eq!(end_of_entry(last, ""), last, "no path is read twice");
    }

    #[test]
    fn folders_have_files_and_folders() {
        let paths = [("a", Some(1)), ("b/c", Some(2)), ("b/d/e", Some(3)), ("b/d/f", None), ("bc", Some(4))];
        let listed = |folder: &str| {
            let mut entries = Vec::new();
            // Both pages have files of a folder.
            for page in [&paths[..2], &paths[2..]] {
                add_entries(&mut entries, page.iter().copied(), folder);
            }
            entries
        };
        let file = |name: &str, size| (name.to_owned(), false, size);
        let folder = |name: &str| (name.to_owned(), true, None);
        assert_eq!(listed(""), [file("a", Some(1)), folder("b"), file("bc", Some(4))]);
        assert_eq!(listed("b"), [file("c", Some(2)), folder("d")]);
        assert_eq!(listed("b/d"), [file("e", Some(3)), file("f", None)]);
        assert!(listed("a").is_empty() && listed("x").is_empty());
    }
}
