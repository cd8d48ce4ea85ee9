//! The operations that all kinds of entities have in common, and what a kind adds to them.
//! Each kind has its own module, which converts its messages.

mod listing;
mod run_counts;

pub(crate) use run_counts::{RunCounts, name_contains};

use matyan_model::{
    entity::{
        Entity, EntityError, entity_create, entity_delete, entity_get, entity_load, entity_page, entity_put,
    },
    events::event_put,
    keys::{self, EntityKind},
};
use matyan_proto::{limits, log::v1::control_event::Kind};
use matyan_store::{Range, Snapshot, Transaction, transact};
use prost::Message;

use crate::{
    Backend, Deps,
    call::Call,
    error::{Error, Result},
    stream::ResponseStream,
};

/// Entities by id, and the range of the next page.
pub(crate) type EntityPage<E> = (Vec<(String, E)>, Option<Range>);

/// The entities of one kind that a call is about, and how it shows them. The value holds the
/// data of other rows that the views of one response share.
pub(crate) trait EntityApi: Send + Sync + Sized + 'static {
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

impl Backend {
    pub(crate) async fn get_entity<A: EntityApi>(
        &self,
        call: &Call,
        mut api: A,
        id: String,
    ) -> Result<A::View> {
        let entity: A::Entity = get(&self.deps, call, &id).await?;
        check_contains(&api, &id, &entity)?;
        api.view(&self.deps, call, id, entity).await
    }

    pub(crate) async fn create_entity<A: EntityApi>(
        &self,
        call: &Call,
        mut api: A,
        entity: A::Entity,
    ) -> Result<A::View> {
        let id = (self.deps.new_id)();
        transact(self.deps.store.as_ref(), async |mut transaction: Transaction| {
            api.touch_owner(&self.deps, call, &mut transaction).await?;
            entity_create(&mut transaction, call.project, &id, &entity).await?;
            Ok::<_, Error>((transaction, ()))
        })
        .await?;
        api.view(&self.deps, call, id, entity).await
    }

    /// Creates an entity once for each request id and content of the request; a repeated call
    /// returns the entity as it is now.
    pub(crate) async fn create_entity_once<A: EntityApi>(
        &self,
        call: &Call,
        mut api: A,
        request: CreateOnce<'_>,
        entity: A::Entity,
    ) -> Result<A::View> {
        let Some(id) = request.entity_id(A::Entity::KIND)? else {
            return self.create_entity(call, api, entity).await;
        };
        let (stored, _) = transact(self.deps.store.as_ref(), async |mut transaction: Transaction| {
            match entity_load::<A::Entity>(&transaction, call.project, &id).await {
                Ok(first) => {
                    check_contains(&api, &id, &first)?;
                    return Ok((transaction, first));
                }
                Err(EntityError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            api.touch_owner(&self.deps, call, &mut transaction).await?;
            entity_create(&mut transaction, call.project, &id, &entity).await?;
            Ok::<_, Error>((transaction, entity.clone()))
        })
        .await?;
        api.view(&self.deps, call, id, stored).await
    }

    /// Changes an entity. With `if_updated_us`, it must not have changed since then.
    pub(crate) async fn update_entity<A: EntityApi>(
        &self,
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
        let entity = update(&self.deps, call, &api, &id, change_if).await?;
        api.view(&self.deps, call, id, entity).await
    }

    pub(crate) async fn delete_entity<A: EntityApi>(&self, call: &Call, api: A, id: &str) -> Result<()> {
        check_id(A::Entity::KIND, id)?;
        let now = (self.deps.clock)();
        transact(self.deps.store.as_ref(), async |mut transaction: Transaction| {
            api.touch_owner(&self.deps, call, &mut transaction).await?;
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
    pub(crate) fn list_entities<A: EntityApi, R: Send + 'static>(
        &self,
        call: Call,
        api: A,
        response: fn(Vec<A::View>) -> R,
    ) -> ResponseStream<R> {
        let deps = self.deps.clone();
        self.respond(async move |sender| listing::send(api, &deps, &call, &sender, response).await)
    }
}

pub(crate) async fn get<E: Entity>(deps: &Deps, call: &Call, id: &str) -> Result<E> {
    check_id(E::KIND, id)?;
    let snapshot = deps.store.snapshot().await?;
    let found = entity_get(snapshot.as_ref(), call.project, id).await?;
    found.ok_or_else(|| Error::not_found(E::KIND.name(), id))
}

/// Changes an entity and returns the result.
pub(crate) async fn update<A: EntityApi>(
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

/// The request id of a create, or of an edit, and the request itself. They determine the id of what is
/// created, so that a repeated call finds it, without a list of past requests.
pub(crate) struct CreateOnce<'a> {
    request_id: &'a str,
    /// The encoded request: a request id that is used twice does not mix up two entities.
    request: Vec<u8>,
}

/// Lengths of a request id. A shorter one might be chosen twice.
const REQUEST_ID_BYTES: std::ops::RangeInclusive<usize> = 16..=128;

impl<'a> CreateOnce<'a> {
    pub(crate) fn new(request_id: &'a str, request: &impl Message) -> Self {
        Self { request_id, request: request.encode_to_vec() }
    }

    fn entity_id(&self, kind: EntityKind) -> Result<Option<String>> {
        let digest = self.digest(kind.name())?;
        Ok(digest.map(|digest| digest.to_hex().chars().take(32).collect()))
    }

    /// Digest of the request, if it has an id.
    pub(crate) fn digest(&self, what: &str) -> Result<Option<blake3::Hash>> {
        if self.request_id.is_empty() {
            return Ok(None);
        }
        if !REQUEST_ID_BYTES.contains(&self.request_id.len()) {
            let reason = "has fewer than 16 or more than 128 bytes: use a new UUID";
            return Err(Error::field("request_id", reason));
        }
        let mut hasher = blake3::Hasher::new();
        // The request includes its id.
        hasher.update(what.as_bytes()).update(&self.request);
        Ok(Some(hasher.finalize()))
    }
}

fn check_contains<A: EntityApi>(api: &A, id: &str, entity: &A::Entity) -> Result<()> {
    if api.contains(entity) { Ok(()) } else { Err(Error::not_found(A::Entity::KIND.name(), id)) }
}

/// Rejects ids that are too long for a key. Generated ids are short.
pub(crate) fn check_id(kind: EntityKind, id: &str) -> Result<()> {
    if id.len() > limits::NAME_BYTES { Err(Error::not_found(kind.name(), id)) } else { Ok(()) }
}
