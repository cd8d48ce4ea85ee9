//! The fields of each kind of entity. Times are microseconds since the Unix epoch. They come
//! first, so that every change of an entity changes its first piece.

use minicbor::{Decode, Encode};

use matyan_store::Key;

use crate::{
    ids::{Project, RunNumber},
    keys::{self, EntityKind},
};

/// A kind of entity: which rows hold it, and whether its names are unique.
pub trait Entity: Clone + Default + Encode<()> + for<'b> Decode<'b, ()> + Send + Sync + 'static {
    const KIND: EntityKind;

    fn created_us(&self) -> i64;

    /// The time of the last change, which every change of a stored entity increases.
    fn updated_us(&mut self) -> &mut i64;

    /// The name, if it must be unique within the kind.
    fn unique_name(&self) -> Option<&str> {
        None
    }

    /// The row that lists the entity under its owner, if it has one.
    fn link(&self, _project: Project, _id: &str) -> Option<Key> {
        None
    }

    /// The share of the entity in the bytes of its project. Only kinds that clients write without limit have one.
    fn project_bytes(&self, _id: &str) -> usize {
        0
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Experiment {
    #[n(0)]
    pub created_us: i64,
    #[n(1)]
    pub updated_us: i64,
    #[n(2)]
    pub name: String,
    #[n(3)]
    pub description: String,
    #[n(4)]
    pub archived: bool,
}

impl Entity for Experiment {
    const KIND: EntityKind = EntityKind::Experiment;

    fn created_us(&self) -> i64 {
        self.created_us
    }

    fn updated_us(&mut self) -> &mut i64 {
        &mut self.updated_us
    }

    fn unique_name(&self) -> Option<&str> {
        Some(&self.name)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Tag {
    #[n(0)]
    pub created_us: i64,
    #[n(1)]
    pub updated_us: i64,
    #[n(2)]
    pub name: String,
    #[n(3)]
    pub color: String,
    #[n(4)]
    pub description: String,
    #[n(5)]
    pub archived: bool,
}

impl Entity for Tag {
    const KIND: EntityKind = EntityKind::Tag;

    fn created_us(&self) -> i64 {
        self.created_us
    }

    fn updated_us(&mut self) -> &mut i64 {
        &mut self.updated_us
    }

    fn unique_name(&self) -> Option<&str> {
        Some(&self.name)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Note {
    #[n(0)]
    pub created_us: i64,
    #[n(1)]
    pub updated_us: i64,
    #[n(2)]
    pub content: String,
    #[n(3)]
    pub owner: NoteOwner,
}

/// The owner of a note. A run is identified by its number, so that the notes of a deleted run
/// do not reappear when its id is reused.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub enum NoteOwner {
    #[n(0)]
    Run(#[n(0)] u64),
    #[n(1)]
    Experiment(#[n(0)] String),
}

impl Default for NoteOwner {
    fn default() -> Self {
        Self::Run(0)
    }
}

impl Entity for Note {
    const KIND: EntityKind = EntityKind::Note;

    fn created_us(&self) -> i64 {
        self.created_us
    }

    fn updated_us(&mut self) -> &mut i64 {
        &mut self.updated_us
    }

    fn link(&self, project: Project, id: &str) -> Option<Key> {
        Some(match &self.owner {
            NoteOwner::Run(number) => keys::run_note(project, RunNumber(*number), id),
            NoteOwner::Experiment(experiment) => keys::experiment_note(project, experiment, id),
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Dashboard {
    #[n(0)]
    pub created_us: i64,
    #[n(1)]
    pub updated_us: i64,
    #[n(2)]
    pub name: String,
    #[n(3)]
    pub description: String,
    #[n(4)]
    pub archived: bool,
    #[n(5)]
    pub app_id: Option<String>,
}

impl Entity for Dashboard {
    const KIND: EntityKind = EntityKind::Dashboard;

    fn created_us(&self) -> i64 {
        self.created_us
    }

    fn updated_us(&mut self) -> &mut i64 {
        &mut self.updated_us
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct App {
    #[n(0)]
    pub created_us: i64,
    #[n(1)]
    pub updated_us: i64,
    /// The kind of app that this is the state of.
    #[n(2)]
    pub app_type: String,
    /// An encoded map.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub state: Vec<u8>,
    #[n(4)]
    pub dashboard_id: Option<String>,
}

impl Entity for App {
    const KIND: EntityKind = EntityKind::App;

    fn created_us(&self) -> i64 {
        self.created_us
    }

    fn updated_us(&mut self) -> &mut i64 {
        &mut self.updated_us
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Report {
    #[n(0)]
    pub created_us: i64,
    #[n(1)]
    pub updated_us: i64,
    #[n(2)]
    pub name: String,
    #[n(3)]
    pub code: String,
    #[n(4)]
    pub description: String,
}

impl Entity for Report {
    const KIND: EntityKind = EntityKind::Report;

    fn created_us(&self) -> i64 {
        self.created_us
    }

    fn updated_us(&mut self) -> &mut i64 {
        &mut self.updated_us
    }
}

/// A named document, whose id is its kind, a slash, and its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Document {
    #[n(0)]
    pub created_us: i64,
    #[n(1)]
    pub updated_us: i64,
    #[cbor(n(2), with = "minicbor::bytes")]
    pub content: Vec<u8>,
    /// Whether the bytes of the project include this document. Documents of earlier versions count from their next
    /// change on.
    #[n(3)]
    #[cbor(default)]
    pub is_counted: bool,
}

impl Entity for Document {
    const KIND: EntityKind = EntityKind::Document;

    fn created_us(&self) -> i64 {
        self.created_us
    }

    fn updated_us(&mut self) -> &mut i64 {
        &mut self.updated_us
    }

    fn project_bytes(&self, id: &str) -> usize {
        if self.is_counted { id.len() + self.content.len() } else { 0 }
    }
}
