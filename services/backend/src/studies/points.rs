//! Values as points: appended to the log like the points of any run, because only workers write series.
//! The call is acknowledged afterwards, so every acknowledged value is charted. Repeating a value sets the
//! same step again, which changes nothing.

use matyan_proto::ingest::v1::{IngestionBatch, Points, SeriesDef};

use crate::server::{call::Call, control_record, deps::Deps, error::Result};

/// Name of the series of intermediate values.
const SERIES: &str = "intermediate_value";

/// Points in one record, which stays far below the advised size of a batch.
const POINTS_PER_RECORD: usize = 10_000;

/// Appends intermediate values of a trial to the log.
pub(super) async fn publish(deps: &Deps, call: &Call, run_id: &str, values: &[(i64, f64)]) -> Result<()> {
    let now = (deps.clock)();
    // One after the other, so that few of them are in memory.
    for values in values.chunks(POINTS_PER_RECORD) {
        let records = control_record::points(deps.log_format, call, run_id, batch(values), now);
        deps.append(records).await?;
    }
    Ok(())
}

/// Appends the values of a complete trial to the log, each as the only point of a series, by which people find the params
/// that matter.
pub(super) async fn publish_results(deps: &Deps, call: &Call, run_id: &str, values: &[f64]) -> Result<()> {
    if values.is_empty() {
        return Ok(());
    }
    let name = |at| if values.len() == 1 { "value".to_owned() } else { format!("value_{at}") };
    let series = (0..values.len()).map(|at| SeriesDef { name: name(at), ..SeriesDef::default() });
    let points = Points {
        series: (0..).zip(values).map(|(number, _)| number).collect(),
        values: values.to_vec(),
        steps: vec![0],
        ..Points::default()
    };
    let batch =
        IngestionBatch { series: series.collect(), points: vec![points], ..IngestionBatch::default() };
    let now = (deps.clock)();
    deps.append(control_record::points(deps.log_format, call, run_id, batch, now)).await?;
    Ok(())
}

fn batch(values: &[(i64, f64)]) -> IngestionBatch {
    let series = SeriesDef { name: SERIES.to_owned(), ..SeriesDef::default() };
    let points = Points {
        series: vec![0; values.len()],
        values: values.iter().map(|(_, value)| *value).collect(),
        steps: values.iter().map(|(step, _)| *step).collect(),
        ..Points::default()
    };
    IngestionBatch { series: vec![series], points: vec![points], ..IngestionBatch::default() }
}
