//! Lists of entities, oldest first, of any number and size, in messages of about a megabyte.
//! Entities beyond the memory limit are read a second time when they are sent.

use matyan_model::entity::{Entity, entity_get};
use prost::Message;

use super::entity_set::EntitySet;
use crate::server::{
    call::Call,
    deps::Deps,
    error::Result,
    stream::{MESSAGE_BYTES, Sender, StreamEnd},
};

/// Maximum size of the views kept in memory until the list is sorted.
const MAX_CACHED_BYTES: usize = 4 << 20;

pub(super) async fn send<A: EntitySet, R>(
    mut api: A,
    deps: &Deps,
    call: &Call,
    sender: &Sender<R>,
    response: fn(Vec<A::View>) -> R,
) -> Result<(), StreamEnd> {
    let mut views = Vec::new();
    let mut bytes = 0;
    for (id, cached) in read_all(&mut api, deps, call).await? {
        let next = match cached {
            Some(view) => Some(view),
            None => reread(&mut api, deps, call, id).await?,
        };
        bytes += next.as_ref().map_or(0, Message::encoded_len);
        views.extend(next);
        if bytes >= MESSAGE_BYTES {
            sender.send(response(std::mem::take(&mut views))).await?;
            bytes = 0;
        }
    }
    sender.send(response(views)).await
}

/// Ids in order, with the views of as many entities as fit in memory.
async fn read_all<A: EntitySet>(
    api: &mut A,
    deps: &Deps,
    call: &Call,
) -> Result<Vec<(String, Option<A::View>)>> {
    let mut listed = Vec::new();
    let mut bytes = 0;
    let mut rest = Some(api.range(call));
    while let Some(range) = rest {
        let snapshot = deps.store.snapshot().await?;
        let (page, next) = api.page(snapshot.as_ref(), call, &range).await?;
        drop(snapshot);
        rest = next;
        for (id, entity) in page {
            let created_us = entity.created_us();
            if api.is_listed(&entity) {
                let view = api.view(deps, call, id.clone(), entity).await?;
                bytes += view.encoded_len();
                listed.push((created_us, id, (bytes <= MAX_CACHED_BYTES).then_some(view)));
            }
        }
    }
    // The sort is stable, so entities created at the same time remain ordered by id.
    listed.sort_by_key(|(created_us, ..)| *created_us);
    Ok(listed.into_iter().map(|(_, id, view)| (id, view)).collect())
}

/// The view of one entity, unless it has been deleted since it was listed.
async fn reread<A: EntitySet>(api: &mut A, deps: &Deps, call: &Call, id: String) -> Result<Option<A::View>> {
    let snapshot = deps.store.snapshot().await?;
    let found: Option<A::Entity> = entity_get(snapshot.as_ref(), call.project, &id).await?;
    drop(snapshot);
    match found.filter(|entity| api.is_listed(entity)) {
        Some(entity) => Ok(Some(api.view(deps, call, id, entity).await?)),
        None => Ok(None),
    }
}
