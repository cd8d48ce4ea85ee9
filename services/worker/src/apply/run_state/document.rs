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

use crate::apply::{apply_failure::ApplyFailure, transaction::RunTransaction};

#[derive(Default)]
pub(crate) struct RunDocument {
    /// `None` until this transaction needs the document.
    edit: Option<RunEdit>,
    /// Ids of tags and experiments that were looked up or created, by name.
    entities: HashMap<(EntityKind, String), String>,
}

impl RunDocument {
    /// The document of a run that the current transaction creates.
    pub(crate) fn created(edit: RunEdit) -> Self {
        Self { edit: Some(edit), entities: HashMap::new() }
    }

    /// Returns the document for editing, reading it first if necessary.
    pub(crate) async fn edit(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        number: RunNumber,
    ) -> Result<&mut RunEdit, ApplyFailure> {
        match &mut self.edit {
            Some(edit) => Ok(edit),
            empty => {
                let project = transaction.project();
                let edit = RunEdit::load(transaction.checked(), project, number).await?;
                let Some(edit) = edit else {
                    let damage = format!("run {number} is live but has no document");
                    return Err(matyan_store::Error::corrupt(damage).into());
                };
                Ok(empty.insert(edit))
            }
        }
    }

    /// Merges a message into the params; `Err` holds their size if it would exceed the limit.
    pub(crate) async fn merge_params(
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
    pub(crate) async fn find_or_create<E: Entity>(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        entity: &E,
    ) -> Result<String, ApplyFailure> {
        let name = entity.unique_name().expect("tags and experiments have unique names");
        let key = (E::KIND, name.to_owned());
        if let Some(id) = self.entities.get(&key) {
            return Ok(id.clone());
        }
        let project = transaction.project();
        let new_id = transaction.new_id();
        let id = entity_find_or_create(transaction.checked(), project, entity, &new_id).await?;
        self.entities.insert(key, id.clone());
        Ok(id)
    }

    /// Returns the id of a tag or an experiment by its name.
    pub(crate) async fn find(
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
    pub(crate) fn write(&mut self, transaction: &mut RunTransaction<'_>) {
        if let Some(edit) = std::mem::take(self).edit {
            edit.write(transaction.batch());
        }
    }
}
