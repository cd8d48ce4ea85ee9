//! Keys of entities: their content, names and counters, and the notes of experiments.

use matyan_store::{Key, Range};

use super::{Counter, EntityKind, Space, after_prefix, subtree};
use crate::ids::Project;

pub fn entity_piece(project: Project, kind: EntityKind, id: &str, piece: u32) -> Key {
    super::project(project, Space::Entity, (kind as u16, id, piece))
}

/// The tail is (piece: u32).
pub fn entity(project: Project, kind: EntityKind, id: &str) -> Range {
    subtree(super::project(project, Space::Entity, (kind as u16, id)))
}

/// The tail is (id: String, piece: u32).
pub fn entities(project: Project, kind: EntityKind) -> Range {
    subtree(super::project(project, Space::Entity, (kind as u16,)))
}

/// The entities of a kind whose ids start with a text; the tail is the same as in `entities`.
pub fn entities_with_prefix(project: Project, kind: EntityKind, prefix: &str) -> Range {
    let end = match after_prefix(prefix) {
        Some(after) => entity(project, kind, &after).start,
        None => entities(project, kind).end,
    };
    Range::new(entity(project, kind, prefix).start, end)
}

pub fn entity_name(project: Project, kind: EntityKind, name: &str) -> Key {
    super::project(project, Space::EntityName, (kind as u16, name))
}

/// The names of all entities of a kind; the tail is (name: String), the value the id.
pub fn entity_names(project: Project, kind: EntityKind) -> Range {
    subtree(super::project(project, Space::EntityName, (kind as u16,)))
}

pub fn entity_counter(project: Project, kind: EntityKind, id: &str, counter: Counter) -> Key {
    super::project(project, Space::EntityCounter, (kind as u16, id, counter as u16))
}

/// The tail is (id: String, counter: u16).
pub fn entity_counters(project: Project, kind: EntityKind) -> Range {
    subtree(super::project(project, Space::EntityCounter, (kind as u16,)))
}

pub fn dead_entity(project: Project, kind: EntityKind, id: &str) -> Key {
    super::project(project, Space::DeadEntity, (kind as u16, id))
}

/// The tail is (id: String).
pub fn dead_entities(project: Project, kind: EntityKind) -> Range {
    subtree(super::project(project, Space::DeadEntity, (kind as u16,)))
}

pub fn experiment_note(project: Project, experiment: &str, note: &str) -> Key {
    super::project(project, Space::ExperimentNote, (experiment, note))
}

/// The tail is (note id: String).
pub fn experiment_notes(project: Project, experiment: &str) -> Range {
    subtree(super::project(project, Space::ExperimentNote, (experiment,)))
}
