//! The part of the operations on entities that differs from kind to kind.

use matyan_model::{
    entity::{Entity, entity_page},
    keys,
};
use matyan_proto::log::v1::control_event::Kind;
use matyan_store::{Range, Snapshot, Transaction};
use prost::Message;

use crate::server::{call::Call, deps::Deps, error::Result};

/// Entities by id, and the range of the next page.
pub(crate) type EntityPage<E> = (Vec<(String, E)>, Option<Range>);

/// The entities of one kind that a call is about, and how it shows them. The value holds the
/// data of other rows that the views of one response share.
pub(crate) trait EntitySet: Send + Sync + Sized + 'static {
    type Entity: Entity;
    type View: Message;

    fn view(
        &mut self,
        deps: &Deps,
        call: &Call,
        id: String,
        entity: Self::Entity,
    ) -> impl Future<Output = Result<Self::View>> + Send;

    /// Whether the call may access an entity. All others do not exist for it.
    fn contains(&self, _entity: &Self::Entity) -> bool {
        true
    }

    /// Whether lists contain an entity.
    fn is_listed(&self, entity: &Self::Entity) -> bool {
        self.contains(entity)
    }

    /// The rows that list the entities.
    fn range(&self, call: &Call) -> Range {
        keys::entities(call.project, Self::Entity::KIND)
    }

    /// A page of entities from the start of the range.
    fn page(
        &self,
        snapshot: &dyn Snapshot,
        call: &Call,
        range: &Range,
    ) -> impl Future<Output = Result<EntityPage<Self::Entity>>> + Send {
        async move { Ok(entity_page(snapshot, call.project, range).await?) }
    }

    /// Fails the transaction unless the owner of the entities exists, and marks it as changed.
    /// Most kinds have no owner.
    fn touch_owner(
        &self,
        _deps: &Deps,
        _call: &Call,
        _transaction: &mut Transaction,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// The event that reports a deletion, for kinds that runs refer to.
    fn deletion(_id: &str) -> Option<Kind> {
        None
    }
}
