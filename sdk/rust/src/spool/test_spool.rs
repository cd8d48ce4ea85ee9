//! A spool for the tests of other modules.

use tempfile::TempDir;

use crate::{
    clock,
    config::Config,
    notice::Notices,
    numbering::{Numbering, RunOrigin},
    spool::{directory::Owner, store::Spool},
};

/// Creates the spool of a new run for a server at `url`.
pub(crate) fn spool_in(root: &TempDir, url: &str, notices: &Notices) -> Spool {
    let config = Config { spool_dirs: vec![root.path().to_owned()], ..Config::default() };
    let owner = Owner::of_this_process("run", url, url, clock::now_us());
    let numbering = Numbering::of_run(url, "run", RunOrigin::New);
    Spool::create(&config, owner, numbering, notices.clone(), None).unwrap()
}
