//! Lookup of a run whose series a call reads.

use matyan_model::{
    keys::{self, SeriesKind},
    series::RunRef,
};
use matyan_proto::common::v1::SeriesType;
use matyan_store::{Range, Scan, Snapshot};

use super::{WantedSeries, run_lookup::FoundRun};
use crate::server::{Server, call::Call, error::Result, long_lists::LongListTurn};

/// Rows of series that are read without a turn, and their bytes.
const SHORT: Scan = Scan { rows: 256, bytes: 256 << 10, ..Scan::DEFAULT };

impl Server {
    /// Finds a run of which these series are read. If they are many, waits for the call's turn, which the caller keeps
    /// until the list is no longer in memory or is counted there.
    pub(crate) async fn find_run_with_series(
        &self,
        call: &Call,
        run_id: &str,
        types: &[SeriesType],
        wanted: WantedSeries<'_>,
    ) -> Result<(FoundRun, Option<LongListTurn>)> {
        let found = self.deps.find_run(call, run_id).await?;
        let run_ref = RunRef { project: call.project, number: found.number };
        if !are_many(found.snapshot.as_ref(), rows_to_read(run_ref, types, wanted)).await? {
            return Ok((found, None));
        }
        // Its snapshot may be too old when the call has its turn.
        drop(found);
        let turn = self.long_lists.turn(call.origin.client.clone()).await?;
        Ok((self.deps.find_run(call, run_id).await?, Some(turn)))
    }
}

/// The rows that are scanned to find the series. Objects are selected by name only after all of them were read. Series that
/// are wanted by key are not counted, because a request has few keys.
fn rows_to_read(run_ref: RunRef, types: &[SeriesType], wanted: WantedSeries<'_>) -> Vec<Range> {
    let RunRef { project, number } = run_ref;
    let mut ranges = Vec::new();
    if types.iter().any(|of| *of != SeriesType::Metric) {
        ranges.push(keys::object_headers(project, number));
    }
    if types.contains(&SeriesType::Metric) {
        if wanted.is_everything() {
            ranges.push(keys::series_headers(project, number));
        }
        for name in wanted.names {
            ranges.push(keys::series_of_name(project, number, SeriesKind::Metric, name));
        }
    }
    ranges
}

/// Whether the ranges together have more rows than are read without a turn.
async fn are_many(snapshot: &dyn Snapshot, ranges: Vec<Range>) -> Result<bool> {
    let mut left = SHORT;
    for range in ranges {
        if left.rows == 0 || left.bytes == 0 {
            return Ok(true);
        }
        let page = snapshot.scan(&range, left).await?;
        if page.more {
            return Ok(true);
        }
        let bytes = page.rows.iter().map(|(key, value)| key.len() + value.len()).sum();
        left.rows = left.rows.saturating_sub(page.rows.len());
        left.bytes = left.bytes.saturating_sub(bytes);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use matyan_model::{
        ids::{Project, RunNumber, SeriesNumber},
        metric::metric_series_create,
        series::MetricHeader,
    };
    use matyan_store::{Batch, Store as _, embedded::EmbeddedStore};

    use super::*;

    const RUN: RunRef = RunRef { project: Project(0), number: RunNumber(7) };
    const WIDE: u32 = 1_000;

    fn digest(number: u32) -> [u8; 16] {
        u128::from(number).to_be_bytes()
    }

    /// A run with a metric `wide` in many contexts, and metrics of one context each.
    async fn store(directory: &std::path::Path) -> EmbeddedStore {
        let store = EmbeddedStore::open(directory, Default::default()).await.unwrap();
        let mut batch = Batch::default();
        for number in 0..WIDE + 300 {
            let name = if number < WIDE { "wide".to_owned() } else { format!("metric-{number}") };
            let header = MetricHeader { name, context: String::new(), dtype: "float".to_owned() };
            let series = SeriesNumber(number);
            metric_series_create(&mut batch, RUN.project, RUN.number, series, &header, &digest(number));
        }
        store.commit(batch).await.unwrap();
        store
    }

    #[tokio::test]
    async fn rule_45_only_reads_of_many_series_take_a_turn() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path()).await;
        let snapshot = store.snapshot().await.unwrap();
        let takes_turn = async |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let wanted = WantedSeries { names: &names, keys: &[] };
            are_many(&*snapshot, rows_to_read(RUN, &[SeriesType::Metric], wanted)).await.unwrap()
        };
        assert!(takes_turn(&[]).await, "the whole list");
        assert!(takes_turn(&["wide"]).await);
        assert!(!takes_turn(&["metric-1000", "metric-1001", "unknown"]).await);
        let metrics: Vec<String> = (WIDE..WIDE + 300).map(|number| format!("metric-{number}")).collect();
        let metrics: Vec<&str> = metrics.iter().map(String::as_str).collect();
        assert!(takes_turn(&metrics).await, "many names");
        assert!(!takes_turn(&metrics[..200]).await);
        store.close().await.unwrap();
    }
}
