//! The document of a live run as changed by the current transaction, with the tags and
//! experiments that it refers to.

use std::collections::HashMap;

use matyan_model::{
    entity::{Entity, entity_find, entity_find_or_create},
    ids::RunNumber,
    keys::EntityKind,
    run::RunEdit,
};
use matyan_value::Map;

use super::{ApplyFailure, transaction::RunTransaction};

#[derive(Default)]
pub(super) struct RunDocument {
    /// `None` until this transaction needs the document.
    edit: Option<RunEdit>,
    /// Ids of tags and experiments that were looked up or created, by name.
    entities: HashMap<(EntityKind, String), String>,
}

impl RunDocument {
    /// The document of a run that the current transaction creates.
    pub(super) fn created(edit: RunEdit) -> Self {
        Self { edit: Some(edit), entities: HashMap::new() }
    }

    /// Returns the document for editing, reading it first if necessary.
    pub(super) async fn edit(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        number: RunNumber,
    ) -> Result<&mut RunEdit, ApplyFailure> {
        match &mut self.edit {
            Some(edit) => Ok(edit),
            empty => {
                let project = transaction.project();
                let edit = RunEdit::load(transaction.checked(), project, number).await?;
                let missing =
                    || matyan_store::Error::corrupt(format!("run {number} is live but has no document"));
                Ok(empty.insert(edit.ok_or_else(missing)?))
            }
        }
    }

    /// Merges a message into the params; `Err` holds their size if it would exceed the limit.
    pub(super) async fn merge_params(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        number: RunNumber,
        message: Map,
        updated_us: i64,
    ) -> Result<Result<(), usize>, ApplyFailure> {
        let edit = self.edit(transaction, number).await?;
        let is_empty = message.is_empty();
        let merged = edit.params_merge(transaction.snapshot(), message).await?;
        if merged.is_ok() && !is_empty {
            edit.touch(updated_us);
            if let Some(rows) = edit.take_rows_ahead() {
                transaction.commit_ahead(rows).await?;
            }
        }
        Ok(merged)
    }

    /// Returns the id of a tag or an experiment by its name, creating it if it is missing.
    pub(super) async fn find_or_create<E: Entity>(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        entity: &E,
    ) -> Result<String, ApplyFailure> {
        let name = entity.unique_name().expect("tags and experiments have unique names");
        let key = (E::KIND, name.to_owned());
        if let Some(id) = self.entities.get(&key) {
            return Ok(id.clone());
        }
        let (project, new_id) = (transaction.project(), transaction.new_id());
        let id = entity_find_or_create(transaction.checked(), project, entity, &new_id).await?;
        self.entities.insert(key, id.clone());
        Ok(id)
    }

    /// Returns the id of a tag or an experiment by its name.
    pub(super) async fn find(
        &self,
        transaction: &RunTransaction<'_>,
        kind: EntityKind,
        name: &str,
    ) -> Result<Option<String>, ApplyFailure> {
        // An entity created by this transaction is not visible in its snapshot.
        match self.entities.get(&(kind, name.to_owned())) {
            Some(id) => Ok(Some(id.clone())),
            None => Ok(entity_find(transaction.snapshot(), transaction.project(), kind, name).await?),
        }
    }

    /// Writes the changed document.
    pub(super) fn write(&mut self, transaction: &mut RunTransaction<'_>) {
        if let Some(edit) = std::mem::take(self).edit {
            edit.write(transaction.batch());
        }
    }
}
