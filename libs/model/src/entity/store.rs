//! Reading and writing entities of any kind. Entities are stored in pieces, because a report
//! may exceed the size limit of a value.

use bytes::Bytes;
use matyan_store::{Batch, Error, Key, Mutation, Range, Result, Scan, Snapshot, Transaction};

use super::{Entity, NoteOwner, notes_clear};
use crate::{
    ids::Project,
    keys::{self, Counter, EntityKind},
    rows,
};

#[derive(Clone, Debug, thiserror::Error)]
pub enum EntityError {
    #[error(transparent)]
    Store(#[from] Error),
    /// The caller can choose another name, or use the entity that has it.
    #[error("the {} name `{name}` is already used by {id}", kind.name())]
    NameTaken { kind: EntityKind, name: String, id: String },
    #[error("there is no {} `{id}`", kind.name())]
    NotFound { kind: EntityKind, id: String },
}

pub async fn entity_get<E: Entity>(snapshot: &dyn Snapshot, project: Project, id: &str) -> Result<Option<E>> {
    let range = keys::entity(project, E::KIND, id);
    let Some(bytes) = rows::get_pieces(snapshot, &range).await? else { return Ok(None) };
    rows::decode(&range.start, &bytes).map(Some)
}

/// All entities of a kind by id. Only for kinds with few entities.
pub async fn entity_list<E: Entity>(snapshot: &dyn Snapshot, project: Project) -> Result<Vec<(String, E)>> {
    let mut all = Vec::new();
    let mut rest = Some(keys::entities(project, E::KIND));
    while let Some(range) = rest {
        let (page, next) = entity_page(snapshot, project, &range).await?;
        all.extend(page);
        rest = next;
    }
    Ok(all)
}

/// About one megabyte of the entities of a kind by id, starting at `range` (`keys::entities`
/// for the first page), and the range of the rest.
pub async fn entity_page<E: Entity>(
    snapshot: &dyn Snapshot,
    project: Project,
    range: &Range,
) -> Result<(Vec<(String, E)>, Option<Range>)> {
    let all = keys::entities(project, E::KIND);
    let page = snapshot.scan(range, Scan::default()).await?;
    let mut found: Vec<(String, Vec<Bytes>)> = Vec::new();
    for (key, value) in page.rows {
        let (id, _piece): (String, u32) = keys::tail(&all.start, &key)?;
        match found.last_mut() {
            Some((last, pieces)) if *last == id => pieces.push(value),
            _ => found.push((id, vec![value])),
        }
    }
    let mut rest = None;
    // More pieces of the last entity may follow after the page.
    if page.more
        && let Some((id, _)) = found.pop()
    {
        let own = keys::entity(project, E::KIND, &id);
        rest = Some(Range::new(own.start.clone(), range.end.clone()));
        if found.is_empty() {
            let whole = rows::get_pieces(snapshot, &own).await?;
            found.extend(whole.map(|whole| (id, vec![whole])));
            rest = Some(Range::new(own.end, range.end.clone()));
        }
    }
    let decoded = found.into_iter().map(|(id, pieces)| {
        let entity = rows::decode(&keys::entity_piece(project, E::KIND, &id, 0), &pieces.concat())?;
        Ok((id, entity))
    });
    Ok((decoded.collect::<Result<_>>()?, rest))
}

/// The id of the entity with this name.
pub async fn entity_find(
    snapshot: &dyn Snapshot,
    project: Project,
    kind: EntityKind,
    name: &str,
) -> Result<Option<String>> {
    rows::get(snapshot, &keys::entity_name(project, kind, name)).await
}

/// The id of the entity with this name, which is created if it does not exist. Two concurrent
/// calls return the same id.
pub async fn entity_find_or_create<E: Entity>(
    transaction: &mut Transaction,
    project: Project,
    entity: &E,
    new_id: &str,
) -> Result<String> {
    let name = entity.unique_name().expect("only kinds with unique names are looked up by name");
    let key = keys::entity_name(project, E::KIND, name);
    if let Some(value) = transaction.get(&key).await? {
        return rows::decode(&key, &value);
    }
    put(transaction, project, new_id, entity, None);
    Ok(new_id.to_owned())
}

/// Creates an entity under a new id.
pub async fn entity_create<E: Entity>(
    transaction: &mut Transaction,
    project: Project,
    id: &str,
    entity: &E,
) -> Result<(), EntityError> {
    check_name_is_free(transaction, project, id, entity).await?;
    put(transaction, project, id, entity, None);
    Ok(())
}

/// Applies `change` to an entity, which may also rename it, and returns the result. Its time of
/// change increases even if clocks do not, because callers recognize a version by it.
pub async fn entity_put<E: Entity, X: From<EntityError>>(
    transaction: &mut Transaction,
    project: Project,
    id: &str,
    change: impl FnOnce(&mut E) -> Result<(), X>,
) -> Result<E, X> {
    let mut before: E = entity_load(transaction, project, id).await?;
    let mut after = before.clone();
    change(&mut after)?;
    let updated_us = *before.updated_us();
    *after.updated_us() = updated_us.saturating_add(1).max(*after.updated_us());
    if after.unique_name() != before.unique_name() {
        check_name_is_free(transaction, project, id, &after).await?;
    }
    put(transaction, project, id, &after, Some(&before));
    Ok(after)
}

/// Deletes an entity and returns its last state. Links to it are left to the sweep, as are
/// notes beyond the limit of one transaction.
pub async fn entity_delete<E: Entity>(
    transaction: &mut Transaction,
    project: Project,
    id: &str,
) -> Result<E, EntityError> {
    let before: E = entity_load(transaction, project, id).await?;
    if E::KIND == EntityKind::Experiment {
        notes_clear(transaction, project, &NoteOwner::Experiment(id.to_owned())).await?;
    }
    let batch = transaction.batch();
    if let Some(name) = before.unique_name() {
        batch.clear(keys::entity_name(project, E::KIND, name));
        batch.clear(keys::entity_counter(project, E::KIND, id, Counter::Runs));
        // The sweep finds the runs that still link to the entity through this row.
        batch.set(keys::dead_entity(project, E::KIND, id), Vec::new());
    }
    batch.mutations.extend(before.link(project, id).map(|key| Mutation::Clear { key }));
    batch.clear_range(keys::entity(project, E::KIND, id));
    count_bytes(batch, project, id, Some(&before), None);
    Ok(before)
}

/// The number of runs of an experiment or a tag.
pub async fn runs_count(
    snapshot: &dyn Snapshot,
    project: Project,
    kind: EntityKind,
    id: &str,
) -> Result<i64> {
    let key = keys::entity_counter(project, kind, id, Counter::Runs);
    Ok(snapshot.get(&key).await?.map(|value| decode_counter(&key, &value)).transpose()?.unwrap_or_default())
}

/// The number of runs of every experiment or tag that has any.
pub async fn runs_counts(
    snapshot: &dyn Snapshot,
    project: Project,
    kind: EntityKind,
) -> Result<Vec<(String, i64)>> {
    let range = keys::entity_counters(project, kind);
    let rows = rows::scan_all(snapshot, &range).await?;
    let counts = rows.iter().map(|(key, value)| {
        let (id, _counter): (String, u16) = keys::tail(&range.start, key)?;
        Ok((id, decode_counter(key, value)?))
    });
    counts.collect()
}

/// Decodes a counter, which the store keeps as a little-endian integer.
pub(crate) fn decode_counter(key: &Key, value: &[u8]) -> Result<i64> {
    value.try_into().map(i64::from_le_bytes).map_err(|_| rows::corrupt(key, &"a counter has 8 bytes"))
}

/// Reads an entity that must exist. The transaction fails if the entity changes in the
/// meantime.
pub async fn entity_load<E: Entity>(
    transaction: &Transaction,
    project: Project,
    id: &str,
) -> Result<E, EntityError> {
    let range = keys::entity(project, E::KIND, id);
    let first = keys::entity_piece(project, E::KIND, id, 0);
    // The first piece holds the time of the last change, so checking that piece covers all
    // of them.
    if transaction.get(&first).await?.is_none() {
        return Err(EntityError::NotFound { kind: E::KIND, id: id.to_owned() });
    }
    let bytes = rows::get_pieces(transaction.unchecked(), &range).await?.unwrap_or_default();
    Ok(rows::decode(&range.start, &bytes)?)
}

async fn check_name_is_free<E: Entity>(
    transaction: &Transaction,
    project: Project,
    id: &str,
    entity: &E,
) -> Result<(), EntityError> {
    let Some(name) = entity.unique_name() else { return Ok(()) };
    let key = keys::entity_name(project, E::KIND, name);
    let Some(value) = transaction.get(&key).await? else { return Ok(()) };
    let owner: String = rows::decode(&key, &value)?;
    if owner == id {
        return Ok(());
    }
    Err(EntityError::NameTaken { kind: E::KIND, name: name.to_owned(), id: owner })
}

fn put<E: Entity>(transaction: &mut Transaction, project: Project, id: &str, entity: &E, before: Option<&E>) {
    let batch = transaction.batch();
    if let Some(name) = entity.unique_name() {
        if let Some(old) = before.and_then(Entity::unique_name).filter(|old| *old != name) {
            batch.clear(keys::entity_name(project, E::KIND, old));
        }
        batch.set(keys::entity_name(project, E::KIND, name), rows::encode(&id));
    }
    if let Some(link) = entity.link(project, id) {
        batch.set(link, Vec::new());
    }
    count_bytes(batch, project, id, before, Some(entity));
    let encoded = rows::encode(entity);
    let range = keys::entity(project, E::KIND, id);
    rows::put_pieces(batch, range, |piece| keys::entity_piece(project, E::KIND, id, piece), &encoded);
}

/// Changes the bytes of a project by the difference that a change of an entity makes.
fn count_bytes<E: Entity>(
    batch: &mut Batch,
    project: Project,
    id: &str,
    before: Option<&E>,
    after: Option<&E>,
) {
    let bytes = |entity: Option<&E>| {
        entity.map_or(0, |entity| i64::try_from(entity.project_bytes(id)).unwrap_or(i64::MAX))
    };
    let change = bytes(after) - bytes(before);
    if change != 0 {
        batch.add(keys::project_counter(project, Counter::Bytes), change);
    }
}
