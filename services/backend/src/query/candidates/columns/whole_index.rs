//! Reads whole indexes into memory, up to a number of rows.

use std::borrow::Cow;

use matyan_model::{
    ids::{Project, RunNumber},
    index::{IndexColumn, index_rows_runs},
    keys,
};
use matyan_store::{Key, Range, Scan, Snapshot, Value};

use crate::{
    query::plan::RenewedSnapshot,
    server::{error::Result, evaluation::Evaluation},
};

/// Reads indexes of a project. An index with more rows than are allowed is `None`.
pub(super) struct WholeIndexReader<'r> {
    pub(super) evaluation: &'r Evaluation,
    pub(super) snapshot: &'r RenewedSnapshot,
    pub(super) project: Project,
}

impl WholeIndexReader<'_> {
    /// The names of the runs.
    pub(super) async fn names(&self, most: usize) -> Result<Option<IndexColumn>> {
        let project = self.project;
        let names = keys::index_names(project);
        self.column(names, most, move |column, rows| column.add_names(project, rows)).await
    }

    /// The values of some params in index rows of an earlier format, up to `most` in all.
    pub(super) async fn params(
        &self,
        paths: &[Vec<Cow<'_, str>>],
        most: usize,
    ) -> Result<Option<Vec<IndexColumn>>> {
        let most = most / paths.len().max(1);
        let columns = paths.iter().map(|path| {
            let all = keys::index_param_path(self.project, path);
            self.column(all.clone(), most, move |column, rows| column.add_params(&all, rows))
        });
        let columns = futures::future::try_join_all(columns).await?;
        Ok(columns.into_iter().collect())
    }

    /// The runs of the rows, in any order.
    pub(super) async fn runs(&self, rows: Range, most: usize) -> Result<Option<Vec<RunNumber>>> {
        let add = |runs: &mut Vec<RunNumber>, rows: &[(Key, Value)]| {
            runs.extend(index_rows_runs(rows)?);
            Ok(())
        };
        self.read(rows, most, add).await
    }

    async fn column(
        &self,
        rows: Range,
        most: usize,
        add: impl Fn(&mut IndexColumn, &[(Key, Value)]) -> matyan_store::Result<()> + Clone + Send + 'static,
    ) -> Result<Option<IndexColumn>> {
        let Some(mut column) = self.read::<IndexColumn>(rows, most, add).await? else { return Ok(None) };
        let sorted = move || {
            column.sort();
            column
        };
        self.evaluation.run(sorted).await.map(Some)
    }

    async fn read<T: Default + Send + 'static>(
        &self,
        rows: Range,
        most: usize,
        add: impl Fn(&mut T, &[(Key, Value)]) -> matyan_store::Result<()> + Clone + Send + 'static,
    ) -> Result<Option<T>> {
        let mut found = T::default();
        let mut read = 0;
        let mut rest = Some(rows);
        while let Some(range) = rest {
            let page = self.snapshot.scan(&range, Scan::default()).await?;
            rest = page.rest(&range);
            read += page.rows.len();
            if read > most {
                return Ok(None);
            }
            let add = add.clone();
            found = self.evaluation.run(move || add(&mut found, &page.rows).map(|()| found)).await??;
        }
        Ok(Some(found))
    }
}
