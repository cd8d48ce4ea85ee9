//! Batches of points of the run of a trial, which define their series themselves: backends append them to the
//! log when they become due, and workers append the points that a backend failed to append.

use matyan_proto::ingest::v1::{IngestionBatch, Points, SeriesDef};

/// Name of the series of intermediate values.
const SERIES: &str = "intermediate_value";

/// Points in one record, which stays far below the advised size of a batch.
pub const POINTS_PER_RECORD: usize = 10_000;

/// Intermediate values by their steps. Call it with at most [`POINTS_PER_RECORD`] of them.
///
/// ```
/// let batch = matyan_wire::trial_points::intermediate_values(&[(3, 0.5)]);
/// assert_eq!(batch.series[0].name, "intermediate_value");
/// assert_eq!((&batch.points[0].steps[..], &batch.points[0].values[..]), (&[3][..], &[0.5][..]));
/// ```
pub fn intermediate_values(values: &[(i64, f64)]) -> IngestionBatch {
    let series = SeriesDef { name: SERIES.to_owned(), ..SeriesDef::default() };
    let points = Points {
        series: vec![0; values.len()],
        values: values.iter().map(|(_, value)| *value).collect(),
        steps: values.iter().map(|(step, _)| *step).collect(),
        ..Points::default()
    };
    IngestionBatch { series: vec![series], points: vec![points], ..IngestionBatch::default() }
}

/// The values of a complete trial, each as the only point of a series, by which people find the params that matter: one
/// value is `value`, several are `value_0`, `value_1`, ….
///
/// ```
/// let batch = matyan_wire::trial_points::results(&[0.5, 2.0]);
/// assert_eq!(batch.series[1].name, "value_1");
/// ```
pub fn results(values: &[f64]) -> IngestionBatch {
    let name = |at| if values.len() == 1 { "value".to_owned() } else { format!("value_{at}") };
    let series = (0..values.len()).map(|at| SeriesDef { name: name(at), ..SeriesDef::default() });
    let points = Points {
        series: (0..).zip(values).map(|(number, _)| number).collect(),
        values: values.to_vec(),
        steps: vec![0],
        ..Points::default()
    };
    IngestionBatch { series: series.collect(), points: vec![points], ..IngestionBatch::default() }
}
