//! The operations that all kinds of entities have in common. Each kind has its own module, which
//! converts its messages.

mod entity_set;
mod listing;
mod run_counts;

pub(crate) use {
    entity_set::{EntityPage, EntitySet},
    run_counts::{RunCounts, name_contains},
};

use matyan_model::{
    entity::{Entity, EntityError, entity_create, entity_delete, entity_get, entity_load, entity_put},
    events::event_put,
    keys::EntityKind,
};
use matyan_proto::limits;
use matyan_store::{Transaction, transact};

use crate::server::{
    Server,
    call::Call,
    create_once::CreateOnce,
    deps::Deps,
    error::{Error, Result},
    stream::ResponseStream,
};

pub(crate) async fn get_entity<A: EntitySet>(
    deps: &Deps,
    call: &Call,
    mut api: A,
    id: String,
) -> Result<A::View> {
    let entity: A::Entity = get(deps, call, &id).await?;
    check_contains(&api, &id, &entity)?;
    api.view(deps, call, id, entity).await
}

pub(crate) async fn create_entity<A: EntitySet>(
    deps: &Deps,
    call: &Call,
    mut api: A,
    entity: A::Entity,
) -> Result<A::View> {
    let id = (deps.new_id)();
    transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        api.touch_owner(deps, call, &mut transaction).await?;
        entity_create(&mut transaction, call.project, &id, &entity).await?;
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    api.view(deps, call, id, entity).await
}

/// Creates an entity once for each request id and content of the request; a repeated call
/// returns the entity as it is now.
pub(crate) async fn create_entity_once<A: EntitySet>(
    deps: &Deps,
    call: &Call,
    mut api: A,
    request: CreateOnce<'_>,
    entity: A::Entity,
) -> Result<A::View> {
    let Some(id) = request.entity_id(A::Entity::KIND)? else {
        return create_entity(deps, call, api, entity).await;
    };
    let (stored, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        match entity_load::<A::Entity>(&transaction, call.project, &id).await {
            Ok(first) => {
                check_contains(&api, &id, &first)?;
                return Ok((transaction, first));
            }
            Err(EntityError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        api.touch_owner(deps, call, &mut transaction).await?;
        entity_create(&mut transaction, call.project, &id, &entity).await?;
        Ok::<_, Error>((transaction, entity.clone()))
    })
    .await?;
    api.view(deps, call, id, stored).await
}

/// Changes an entity. With `if_updated_us`, it must not have changed since then.
pub(crate) async fn update_entity<A: EntitySet>(
    deps: &Deps,
    call: &Call,
    mut api: A,
    id: String,
    if_updated_us: Option<i64>,
    change: impl Fn(&mut A::Entity) -> Result<()>,
) -> Result<A::View> {
    // Invalid fields are reported even if the entity does not exist.
    change(&mut A::Entity::default())?;
    let change_if = |entity: &mut A::Entity| {
        check_unchanged(A::Entity::KIND.name(), &id, *entity.updated_us(), if_updated_us)?;
        change(entity)
    };
    let entity = update(deps, call, &api, &id, change_if).await?;
    api.view(deps, call, id, entity).await
}

pub(crate) async fn delete_entity<A: EntitySet>(deps: &Deps, call: &Call, api: A, id: &str) -> Result<()> {
    check_id(A::Entity::KIND, id)?;
    let now = (deps.clock)();
    transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        api.touch_owner(deps, call, &mut transaction).await?;
        let deleted: A::Entity = entity_delete(&mut transaction, call.project, id).await?;
        check_contains(&api, id, &deleted)?;
        if let Some(event) = A::deletion(id) {
            event_put(transaction.batch(), &call.project_name, now, &call.caller, event);
        }
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}

/// Streams all entities of a list, oldest first.
pub(crate) fn list_entities<A: EntitySet, R: Send + 'static>(
    server: &Server,
    call: Call,
    api: A,
    response: fn(Vec<A::View>) -> R,
) -> ResponseStream<R> {
    let deps = server.deps.clone();
    server.respond(async move |sender| listing::send(api, &deps, &call, &sender, response).await)
}

pub(crate) async fn get<E: Entity>(deps: &Deps, call: &Call, id: &str) -> Result<E> {
    check_id(E::KIND, id)?;
    let snapshot = deps.store.snapshot().await?;
    let found = entity_get(snapshot.as_ref(), call.project, id).await?;
    found.ok_or_else(|| Error::not_found(E::KIND.name(), id))
}

/// Changes an entity and returns the result.
pub(crate) async fn update<A: EntitySet>(
    deps: &Deps,
    call: &Call,
    api: &A,
    id: &str,
    change: impl Fn(&mut A::Entity) -> Result<()>,
) -> Result<A::Entity> {
    check_id(A::Entity::KIND, id)?;
    let (entity, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        api.touch_owner(deps, call, &mut transaction).await?;
        let change = |entity: &mut A::Entity| {
            check_contains(api, id, entity)?;
            change(entity)
        };
        let entity = entity_put(&mut transaction, call.project, id, change).await?;
        Ok::<_, Error>((transaction, entity))
    })
    .await?;
    Ok(entity)
}

/// Refuses the change of a resource that has changed since the caller read it.
pub(crate) fn check_unchanged(
    resource: &'static str,
    id: &str,
    updated_us: i64,
    if_updated_us: Option<i64>,
) -> Result<()> {
    match if_updated_us {
        Some(read_us) if read_us != updated_us => {
            Err(Error::Changed { resource, id: id.to_owned(), updated_us })
        }
        Some(_) | None => Ok(()),
    }
}

fn check_contains<A: EntitySet>(api: &A, id: &str, entity: &A::Entity) -> Result<()> {
    if api.contains(entity) { Ok(()) } else { Err(Error::not_found(A::Entity::KIND.name(), id)) }
}

/// Rejects ids that are too long for a key. Generated ids are short.
pub(crate) fn check_id(kind: EntityKind, id: &str) -> Result<()> {
    if id.len() > limits::NAME_BYTES { Err(Error::not_found(kind.name(), id)) } else { Ok(()) }
}
