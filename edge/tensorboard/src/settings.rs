//! The settings of a follower.

use std::path::{self, PathBuf};

/// The directory, and the experiment of its runs.
#[derive(Clone, Debug)]
pub struct FollowSettings {
    pub root: PathBuf,
    /// The experiment of new runs.
    pub experiment: String,
}

impl FollowSettings {
    /// The settings for a directory. Its runs belong to the experiment with its name unless another experiment is
    /// given.
    pub fn new(root: PathBuf, experiment: Option<String>) -> Self {
        let settings = Self { root, experiment: String::new() };
        let experiment = experiment.unwrap_or_else(|| settings.root_name());
        Self { experiment, ..settings }
    }

    /// The name of the directory, which may be created later.
    pub(crate) fn root_name(&self) -> String {
        let name = self
            .root
            .canonicalize()
            .or_else(|_| path::absolute(&self.root))
            .ok()
            .and_then(|root| Some(root.file_name()?.to_string_lossy().into_owned()));
        name.unwrap_or_else(|| "tensorboard".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_belong_to_the_experiment_of_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("speech");
        assert_eq!(FollowSettings::new(root.join("."), None).experiment, "speech", "it is not there yet");
        std::fs::create_dir(&root).unwrap();
        assert_eq!(FollowSettings::new(root.join("."), None).experiment, "speech");
        assert_eq!(FollowSettings::new(root, Some("mine".to_owned())).experiment, "mine");
    }
}
