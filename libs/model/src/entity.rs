//! Entities: experiments, tags, notes, dashboards, apps, reports, and documents. Each has its own row,
//! separate from runs.
//!
//! Runs and indexes refer to entities by id, never by name, so that a rename changes one row
//! only. Deleting an entity leaves the links to it in place; links to a deleted id are ignored
//! and swept later. Names of experiments and tags are unique within a project.

mod note;
mod note_rows;
mod store;
mod types;

pub use note::{notes_count, notes_page};
pub use note_rows::{notes_clear, notes_range};
pub(crate) use store::decode_counter;
pub use store::{
    EntityError, entity_create, entity_delete, entity_find, entity_find_or_create, entity_get, entity_list,
    entity_load, entity_page, entity_put, runs_count, runs_counts,
};
pub use types::{App, Dashboard, Document, Entity, Experiment, Note, NoteOwner, Report, Tag};

#[cfg(test)]
mod tests;
