//! Lists of entities, oldest first, of any number and size, in messages of about a megabyte.
//! Entities beyond the memory limit are read a second time when they are sent.

use std::collections::HashMap;

use matyan_model::{
    entity::{Entity, entity_get, entity_page, runs_counts},
    keys,
};
use matyan_store::{Range, Snapshot};
use prost::Message;

use crate::{
    Deps,
    call::Call,
    error::Result,
    stream::{MESSAGE_BYTES, Sender, StreamEnd},
};

/// Maximum size of the views kept in memory until the list is sorted.
const MAX_CACHED_BYTES: usize = 4 << 20;

/// Entities by id, and the range of the next page.
pub(crate) type EntityPage<E> = (Vec<(String, E)>, Option<Range>);

/// A list of entities, and how it presents each of them.
pub(crate) trait Listing: Send + Sized {
    type Entity: Entity;
    type View: Message;
    type Answer: Send;

    fn created_us(&self, entity: &Self::Entity) -> i64;

    /// The view of an entity, or `None` to leave it out.
    fn view(
        &mut self,
        deps: &Deps,
        call: &Call,
        id: String,
        entity: Self::Entity,
    ) -> impl Future<Output = Result<Option<Self::View>>> + Send;

    fn answer(&self, views: Vec<Self::View>) -> Self::Answer;

    /// The rows that list the entities.
    fn range(&self, call: &Call) -> Range {
        keys::entities(call.project, Self::Entity::KIND)
    }

    /// A page of entities with their ids from the start of the range, and the range of the
    /// next page.
    fn page(
        &self,
        snapshot: &dyn Snapshot,
        call: &Call,
        range: &Range,
    ) -> impl Future<Output = Result<EntityPage<Self::Entity>>> + Send {
        async move { Ok(entity_page(snapshot, call.project, range).await?) }
    }

    fn send(
        mut self,
        deps: &Deps,
        call: &Call,
        sender: &Sender<Self::Answer>,
    ) -> impl Future<Output = Result<(), StreamEnd>> + Send {
        async move {
            let (mut views, mut bytes) = (Vec::new(), 0);
            for (id, kept) in self.read_all(deps, call).await? {
                let next = match kept {
                    Some(kept) => Some(kept),
                    None => self.reread(deps, call, id).await?,
                };
                bytes += next.as_ref().map_or(0, Message::encoded_len);
                views.extend(next);
                if bytes >= MESSAGE_BYTES {
                    sender.send(self.answer(std::mem::take(&mut views))).await?;
                    bytes = 0;
                }
            }
            Ok(sender.send(self.answer(views)).await?)
        }
    }

    /// Ids in order, with the views of as many entities as fit in memory.
    fn read_all(
        &mut self,
        deps: &Deps,
        call: &Call,
    ) -> impl Future<Output = Result<Vec<(String, Option<Self::View>)>>> + Send {
        async move {
            let (mut listed, mut bytes) = (Vec::new(), 0);
            let mut rest = Some(self.range(call));
            while let Some(range) = rest {
                let snapshot = deps.store.snapshot().await?;
                let (page, next) = self.page(snapshot.as_ref(), call, &range).await?;
                drop(snapshot);
                rest = next;
                for (id, entity) in page {
                    let created_us = self.created_us(&entity);
                    if let Some(view) = self.view(deps, call, id.clone(), entity).await? {
                        bytes += view.encoded_len();
                        listed.push((created_us, id, (bytes <= MAX_CACHED_BYTES).then_some(view)));
                    }
                }
            }
            // The sort is stable, so entities created at the same time remain
            // ordered by id.
            listed.sort_by_key(|(created_us, ..)| *created_us);
            Ok(listed.into_iter().map(|(_, id, view)| (id, view)).collect())
        }
    }

    /// The view of one entity, unless it has been deleted in the meantime.
    fn reread(
        &mut self,
        deps: &Deps,
        call: &Call,
        id: String,
    ) -> impl Future<Output = Result<Option<Self::View>>> + Send {
        async move {
            let snapshot = deps.store.snapshot().await?;
            let found = entity_get::<Self::Entity>(snapshot.as_ref(), call.project, &id).await?;
            drop(snapshot);
            match found {
                Some(entity) => self.view(deps, call, id, entity).await,
                None => Ok(None),
            }
        }
    }
}

/// A list whose views are built from the entities alone.
pub(crate) struct PlainListing<E, S, A, V> {
    pub(crate) created_us: fn(&E) -> i64,
    pub(crate) view: V,
    pub(crate) answer: fn(Vec<S>) -> A,
}

impl<E, S, A, V> Listing for PlainListing<E, S, A, V>
where
    E: Entity,
    S: Message,
    A: Send,
    V: FnMut(String, E) -> Option<S> + Send,
{
    type Entity = E;
    type View = S;
    type Answer = A;

    fn created_us(&self, entity: &E) -> i64 {
        (self.created_us)(entity)
    }

    async fn view(&mut self, _: &Deps, _: &Call, id: String, entity: E) -> Result<Option<S>> {
        Ok((self.view)(id, entity))
    }

    fn answer(&self, views: Vec<S>) -> A {
        (self.answer)(views)
    }
}

/// Numbers of runs of the experiments or tags whose name contains a substring.
pub(crate) struct RunCounts {
    part: String,
    runs: HashMap<String, i64>,
}

impl RunCounts {
    pub(crate) async fn read<E: Entity>(deps: &Deps, call: &Call, part: String) -> Result<Self> {
        let snapshot = deps.store.snapshot().await?;
        let runs = runs_counts(snapshot.as_ref(), call.project, E::KIND).await?;
        Ok(Self { part, runs: runs.into_iter().collect() })
    }

    /// The number of runs of an entity, if its name contains the substring.
    pub(crate) fn runs(&self, id: &str, name: &str) -> Option<i64> {
        name_contains(name, &self.part).then(|| self.runs.get(id).copied().unwrap_or_default())
    }
}

/// Whether a name contains a substring, ignoring case.
fn name_contains(name: &str, part: &str) -> bool {
    name.to_lowercase().contains(&part.trim().to_lowercase())
}
