//! Operations common to all kinds of entities: reading one, listing all, and changing one in
//! its own transaction. The fields of each kind are handled in its own module.

mod listing;

pub(crate) use listing::{EntityPage, Listing, PlainListing, RunCounts};

use matyan_model::{
    entity::{Entity, EntityError, entity_create, entity_delete, entity_get, entity_put},
    events::event_put,
    keys::EntityKind,
};
use matyan_proto::{limits, log::v1::control_event::Kind};
use matyan_store::{Transaction, transact};

use crate::{
    Deps,
    call::Call,
    convert,
    error::{Error, Result},
};

/// The name of a kind in error messages.
fn resource(kind: EntityKind) -> &'static str {
    match kind {
        EntityKind::Experiment => "experiment",
        EntityKind::Tag => "tag",
        EntityKind::Note => "note",
        EntityKind::Dashboard => "dashboard",
        EntityKind::App => "app",
        EntityKind::Report => "report",
    }
}

pub(crate) fn not_found(kind: EntityKind, id: &str) -> Error {
    Error::not_found(resource(kind), id)
}

/// Rejects ids that are too long for a key. Generated ids are short.
pub(crate) fn check_id(kind: EntityKind, id: &str) -> Result<()> {
    if id.len() > limits::NAME_BYTES { Err(not_found(kind, id)) } else { Ok(()) }
}

pub(crate) fn entity_error(kind: EntityKind) -> impl Fn(EntityError) -> Error {
    move |error| match error {
        EntityError::Store(error) => error.into(),
        EntityError::NameTaken { name, .. } => Error::AlreadyExists { resource: resource(kind), name },
        EntityError::NotFound { id } => not_found(kind, &id),
    }
}

/// A required name, with surrounding whitespace trimmed.
pub(crate) fn required_name(field: &'static str, text: &str) -> Result<String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::field(field, "is blank: give a name"));
    }
    bounded_text(field, text, limits::NAME_BYTES)
}

/// An optional new name; a blank one leaves the name unchanged.
pub(crate) fn optional_name(field: &'static str, text: Option<&str>) -> Result<Option<String>> {
    text.filter(|text| !text.trim().is_empty()).map(|text| required_name(field, text)).transpose()
}

pub(crate) fn bounded_text(field: &'static str, text: &str, limit: usize) -> Result<String> {
    convert::check_limit(field, text.len(), limit)?;
    Ok(text.to_owned())
}

/// An optional text within its limit.
pub(crate) fn optional_text(
    field: &'static str,
    text: Option<String>,
    limit: usize,
) -> Result<Option<String>> {
    if let Some(text) = &text {
        convert::check_limit(field, text.len(), limit)?;
    }
    Ok(text)
}

/// Sets a field if a new value is given.
pub(crate) fn set_if_some<T: Clone>(field: &mut T, new: Option<&T>) {
    if let Some(new) = new {
        field.clone_from(new);
    }
}

pub(crate) async fn get<E: Entity>(deps: &Deps, call: &Call, id: &str) -> Result<E> {
    check_id(E::KIND, id)?;
    let snapshot = deps.store.snapshot().await?;
    let found = entity_get(snapshot.as_ref(), call.project, id).await?;
    found.ok_or_else(|| not_found(E::KIND, id))
}

/// Creates an entity and returns its id.
pub(crate) async fn create<E: Entity>(deps: &Deps, call: &Call, entity: &E) -> Result<String> {
    let id = (deps.new_id)();
    transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let made = entity_create(&mut transaction, call.project, &id, entity).await;
        made.map_err(entity_error(E::KIND))?;
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(id)
}

/// Changes an entity and returns the result.
pub(crate) async fn update<E: Entity>(
    deps: &Deps,
    call: &Call,
    id: &str,
    change: impl Fn(&mut E),
) -> Result<E> {
    check_id(E::KIND, id)?;
    let (entity, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let changed = entity_put(&mut transaction, call.project, id, &change).await;
        let entity = changed.map_err(entity_error(E::KIND))?;
        Ok::<_, Error>((transaction, entity))
    })
    .await?;
    Ok(entity)
}

/// Deletes an entity and records an event, if given.
pub(crate) async fn delete<E: Entity>(deps: &Deps, call: &Call, id: &str, event: Option<Kind>) -> Result<()> {
    check_id(E::KIND, id)?;
    let now = (deps.clock)();
    transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let deleted = entity_delete::<E>(&mut transaction, call.project, id).await;
        deleted.map_err(entity_error(E::KIND))?;
        if let Some(event) = &event {
            event_put(transaction.batch(), &call.project_name, now, &call.caller, event.clone());
        }
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}
