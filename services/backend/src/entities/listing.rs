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
    Context,
    call::Call,
    error::Result,
    stream::{End, MESSAGE_BYTES, Sender},
};

/// Maximum size of the views kept in memory until the list is sorted.
const KEPT_BYTES: usize = 4 << 20;

/// Entities by id, and the range of the next page.
pub(crate) type Page<E> = (Vec<(String, E)>, Option<Range>);

/// A list of entities, and how it presents each of them.
pub(crate) trait Listing: Send + Sized {
    type Entity: Entity;
    type Shown: Message;
    type Answer: Send;

    fn created_us(&self, entity: &Self::Entity) -> i64;

    /// The view of an entity, or `None` to leave it out.
    fn show(
        &mut self,
        context: &Context,
        call: &Call,
        id: String,
        entity: Self::Entity,
    ) -> impl Future<Output = Result<Option<Self::Shown>>> + Send;

    fn answer(&self, shown: Vec<Self::Shown>) -> Self::Answer;

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
    ) -> impl Future<Output = Result<Page<Self::Entity>>> + Send {
        async move { Ok(entity_page(snapshot, call.project, range).await?) }
    }

    fn send(
        mut self,
        context: &Context,
        call: &Call,
        sender: &Sender<Self::Answer>,
    ) -> impl Future<Output = Result<(), End>> + Send {
        async move {
            let (mut shown, mut bytes) = (Vec::new(), 0);
            for (id, kept) in self.all(context, call).await? {
                let next = match kept {
                    Some(kept) => Some(kept),
                    None => self.one(context, call, id).await?,
                };
                bytes += next.as_ref().map_or(0, Message::encoded_len);
                shown.extend(next);
                if bytes >= MESSAGE_BYTES {
                    sender.send(self.answer(std::mem::take(&mut shown))).await?;
                    bytes = 0;
                }
            }
            Ok(sender.send(self.answer(shown)).await?)
        }
    }

    /// Ids in order, with the views of as many entities as fit into memory.
    fn all(
        &mut self,
        context: &Context,
        call: &Call,
    ) -> impl Future<Output = Result<Vec<(String, Option<Self::Shown>)>>> + Send {
        async move {
            let (mut listed, mut bytes) = (Vec::new(), 0);
            let mut rest = Some(self.range(call));
            while let Some(range) = rest {
                let snapshot = context.store.snapshot().await?;
                let (page, next) = self.page(snapshot.as_ref(), call, &range).await?;
                drop(snapshot);
                rest = next;
                for (id, entity) in page {
                    let created_us = self.created_us(&entity);
                    if let Some(shown) = self.show(context, call, id.clone(), entity).await? {
                        bytes += shown.encoded_len();
                        listed.push((created_us, id, (bytes <= KEPT_BYTES).then_some(shown)));
                    }
                }
            }
            // The sort is stable, so entities created at the same time remain
            // ordered by id.
            listed.sort_by_key(|(created_us, ..)| *created_us);
            Ok(listed.into_iter().map(|(_, id, shown)| (id, shown)).collect())
        }
    }

    /// The view of one entity, unless it has been deleted in the meantime.
    fn one(
        &mut self,
        context: &Context,
        call: &Call,
        id: String,
    ) -> impl Future<Output = Result<Option<Self::Shown>>> + Send {
        async move {
            let snapshot = context.store.snapshot().await?;
            let found = entity_get::<Self::Entity>(snapshot.as_ref(), call.project, &id).await?;
            drop(snapshot);
            match found {
                Some(entity) => self.show(context, call, id, entity).await,
                None => Ok(None),
            }
        }
    }
}

/// A list whose views are made from the entities alone.
pub(crate) struct Plain<E, S, A, V> {
    pub(crate) created_us: fn(&E) -> i64,
    pub(crate) view: V,
    pub(crate) answer: fn(Vec<S>) -> A,
}

impl<E, S, A, V> Listing for Plain<E, S, A, V>
where
    E: Entity,
    S: Message,
    A: Send,
    V: FnMut(String, E) -> Option<S> + Send,
{
    type Entity = E;
    type Shown = S;
    type Answer = A;

    fn created_us(&self, entity: &E) -> i64 {
        (self.created_us)(entity)
    }

    async fn show(&mut self, _: &Context, _: &Call, id: String, entity: E) -> Result<Option<S>> {
        Ok((self.view)(id, entity))
    }

    fn answer(&self, shown: Vec<S>) -> A {
        (self.answer)(shown)
    }
}

/// Numbers of runs of the experiments or tags whose name contains a text.
pub(crate) struct Counts {
    part: String,
    runs: HashMap<String, i64>,
}

impl Counts {
    pub(crate) async fn read<E: Entity>(context: &Context, call: &Call, part: String) -> Result<Self> {
        let snapshot = context.store.snapshot().await?;
        let runs = runs_counts(snapshot.as_ref(), call.project, E::KIND).await?;
        Ok(Self { part, runs: runs.into_iter().collect() })
    }

    /// The number of runs of an entity, if its name contains the text.
    pub(crate) fn of(&self, id: &str, name: &str) -> Option<i64> {
        name_contains(name, &self.part).then(|| self.runs.get(id).copied().unwrap_or_default())
    }
}

/// Whether a name contains a text, ignoring case.
fn name_contains(name: &str, part: &str) -> bool {
    name.to_lowercase().contains(&part.trim().to_lowercase())
}
