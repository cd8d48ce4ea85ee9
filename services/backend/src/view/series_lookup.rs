//! Lookup of a run whose series a call reads.

use matyan_model::{
    ids::{Project, RunNumber},
    keys,
};
use matyan_proto::common::v1::SeriesType;
use matyan_store::{Range, Scan, Snapshot};

use super::run_lookup::FoundRun;
use crate::server::{
    Server,
    call::Call,
    error::{Error, Result},
    long_lists::LongListTurn,
};

/// Bytes of rows up to which a list is short.
const SHORT_BYTES: usize = 256 << 10;

impl Server {
    /// Finds a run whose series of these types are read. If they are many, waits for the call's turn, which the caller
    /// keeps until the list is no longer in memory or is counted there.
    pub(crate) async fn find_run_with_series(
        &self,
        call: &Call,
        run_id: &str,
        types: &[SeriesType],
    ) -> Result<(FoundRun, Option<LongListTurn>)> {
        let found = self.deps.find_run(call, run_id).await?;
        if !has_long_list(found.snapshot.as_ref(), call.project, found.number, types).await? {
            return Ok((found, None));
        }
        // Its snapshot may be too old when the call has its turn.
        drop(found);
        let turn = self.long_lists.turn(call.origin.client.clone()).await?;
        Ok((self.deps.find_run(call, run_id).await?, Some(turn)))
    }
}

/// Whether a run has many series of these types, or series with long names.
async fn has_long_list(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    types: &[SeriesType],
) -> Result<bool> {
    let is_long = async |headers: Range| {
        let scan = Scan { bytes: SHORT_BYTES, ..Scan::default() };
        Ok::<_, Error>(snapshot.scan(&headers, scan).await?.more)
    };
    let has_metrics = types.contains(&SeriesType::Metric);
    let has_objects = types.iter().any(|of| *of != SeriesType::Metric);
    Ok(has_metrics && is_long(keys::series_headers(project, number)).await?
        || has_objects && is_long(keys::object_headers(project, number)).await?)
}
