//! What has a row of its own beside runs: experiments, tags, notes, dashboards, apps and reports.
//!
//! Runs and indexes hold ids, never names, so that renaming touches one row and deleting one more: links of a dead id count
//! for nothing and are swept. Names of experiments and tags are unique inside a project.

mod note;
mod store;
mod types;

pub use note::{notes_clear, notes_count, notes_of, notes_page};
pub(crate) use store::count;
pub use store::{
    EntityError, entity_create, entity_delete, entity_find, entity_get, entity_list, entity_load,
    entity_named, entity_page, entity_put, runs_count, runs_counts,
};
pub use types::{App, Dashboard, Entity, Experiment, Note, NoteOwner, Report, Tag};

#[cfg(test)]
mod tests;
