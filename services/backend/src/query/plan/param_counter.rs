//! Counts the values that columns have of a param, for all probes of this param together.

use std::{borrow::Cow, collections::BTreeMap};

use matyan_model::{
    ids::Project,
    param_cohort::{ColumnCounts, param_columns_count},
    params::ParamInterval,
};
use matyan_store::{Range, Snapshot};

use super::probed_param::ProbedParam;
use crate::server::error::Result;

/// Largest number of columns of a param that are counted. If a param has more, a sample of runs tells as much.
pub(super) const COUNTED_COLUMNS: usize = 256;
/// Largest number of columns that are counted for all params of a plan.
pub(super) const COLUMNS_IN_ALL: usize = 2_048;
/// Number of columns that are read at a time.
const COLUMNS_PAGE: usize = 16;

/// How many columns of a param are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CountedColumns {
    All,
    /// More can be counted.
    Part,
    /// There are too many of them.
    TooMany,
}

/// The params that the probes of a plan look for, by their paths.
pub(super) struct ParamCounters {
    params: BTreeMap<Vec<Cow<'static, str>>, ParamCounter>,
    /// Columns that may still be counted.
    columns_left: usize,
}

/// A param whose columns are read once for all its probes.
struct ParamCounter {
    /// The places of the probes in the plan, and the values that they look for.
    probes: Vec<usize>,
    values: Vec<ParamInterval>,
    found: Vec<u64>,
    /// The columns that are not counted yet.
    rest: Option<Range>,
    columns_left: usize,
}

impl ParamCounters {
    pub(super) fn new() -> Self {
        Self { params: BTreeMap::new(), columns_left: COLUMNS_IN_ALL }
    }

    /// Adds the probe at a place in the plan.
    pub(super) fn add(&mut self, project: Project, probe: usize, param: &ProbedParam) {
        let counter = self.params.entry(param.path().to_vec()).or_insert_with(|| ParamCounter {
            probes: Vec::new(),
            values: Vec::new(),
            found: Vec::new(),
            rest: Some(param.columns(project)),
            columns_left: COUNTED_COLUMNS,
        });
        for values in param.values() {
            counter.probes.push(probe);
            counter.values.push(values.clone());
            counter.found.push(0);
        }
    }

    /// Counts until each probe has `most` values, and passes to `report` how many the columns have for each, as far as they
    /// are counted.
    pub(super) async fn count_up_to(
        &mut self,
        snapshot: &dyn Snapshot,
        most: u64,
        mut report: impl FnMut(usize, u64, CountedColumns),
    ) -> Result<()> {
        for param in self.params.values_mut() {
            param.count_up_to(snapshot, most, &mut self.columns_left).await?;
            let counted = match param.rest {
                None => CountedColumns::All,
                Some(_) if param.columns_left.min(self.columns_left) == 0 => CountedColumns::TooMany,
                Some(_) => CountedColumns::Part,
            };
            for (probe, found) in param.probes.iter().zip(&param.found) {
                report(*probe, *found, counted);
            }
        }
        Ok(())
    }
}

impl ParamCounter {
    async fn count_up_to(
        &mut self,
        snapshot: &dyn Snapshot,
        most: u64,
        columns_left: &mut usize,
    ) -> Result<()> {
        while let Some(range) = &self.rest
            && self.found.iter().any(|found| *found < most)
        {
            let wanted = self.columns_left.min(*columns_left).min(COLUMNS_PAGE);
            if wanted == 0 {
                break;
            }
            let ColumnCounts { runs, columns, rest } =
                param_columns_count(snapshot, range, &self.values, wanted).await?;
            for (found, runs) in self.found.iter_mut().zip(runs) {
                *found += runs as u64;
            }
            self.columns_left -= columns;
            *columns_left -= columns;
            self.rest = rest;
        }
        Ok(())
    }
}
