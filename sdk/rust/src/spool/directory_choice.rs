//! Choice of the directory that a new spool is created in.

use std::path::Path;

use crate::{
    config::Config,
    notice::{NoticeLevel, Notices},
    spool::directory::{Owner, SpoolDirectory},
    sys::files,
};

/// The reason why there is no spool: problems of all directories that were tried.
#[derive(Debug, thiserror::Error)]
#[error(
    "nothing can be recorded, because no directory for data is usable: {}. Solve this, or set MATYAN_SPOOL_DIR \
     to a directory with free space that this user can write to",
    .0.join("; ")
)]
pub(crate) struct NoDirectory(Vec<String>);

/// Creates a directory for a spool: the first one that is usable, and on a network only if it is the
/// last choice.
pub(super) fn create(
    config: &Config,
    owner: &Owner,
    notices: &Notices,
) -> Result<SpoolDirectory, NoDirectory> {
    let mut failures = Vec::new();
    let usual = config.spool_dirs.len();
    for (at, root) in config.spool_dirs.iter().chain(&config.fallback_dirs).enumerate() {
        match SpoolDirectory::create(root, owner) {
            Ok(directory) if at + 1 < usual && files::is_on_network(root) => drop(directory.remove()),
            Ok(directory) => {
                if at >= usual {
                    report_fallback(root, &failures, notices);
                }
                return Ok(directory);
            }
            Err(error) => {
                failures.push(format!("{}: {error}", root.display()));
                // The next directory would be no better, only harder to find.
                if files::is_lack_of_descriptors(&error) {
                    break;
                }
            }
        }
    }
    Err(NoDirectory(failures))
}

fn report_fallback(root: &Path, failures: &[String], notices: &Notices) {
    let failures = failures.join("; ");
    let root = root.display();
    let message = format!(
        "data is kept in {root} until it is sent, because no other directory is usable: {failures}. If something \
         is left, send it by `MATYAN_SPOOL_DIR={root} matyan-client sync`"
    );
    notices.push(NoticeLevel::Warning, message);
}
