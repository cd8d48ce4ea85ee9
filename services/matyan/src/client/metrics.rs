//! Metrics of a run: the list of series, samples of their points, and plots.

use clap::Args;
use matyan_proto::{
    common::v1::{SeriesKey, SeriesType},
    runs::v1::SeriesInfo,
    series::v1::{
        BucketColumn, BucketsRequest, ListRequest, PointColumns, RunSelection, SampleRequest, SeriesPoints,
        series_service_client::SeriesServiceClient,
    },
};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::{
    Error, client,
    connection::Connection,
    flags::ClientFlags,
    output::{Output, cell, number},
    plot::{Column, Plot},
    run_error, run_ids,
    runs::{json_number, series_json, series_row},
};

const METRICS_EXAMPLES: &str = "\
Examples:
  matyan metrics 3fd1c0                                      list the metrics
  matyan metrics 3fd1c0 loss                                 twenty points, spread over all steps
  matyan metrics 3fd1c0 loss --points 0 --json               every point
  matyan metrics 3fd1c0 loss --context '{\"subset\":\"val\"}' --plot";

#[derive(Debug, Args)]
#[command(after_help = METRICS_EXAMPLES)]
pub(crate) struct MetricsFlags {
    /// Hash of the run, or at least its first four characters
    run: String,
    /// Name of a metric; without it, all metrics are listed
    name: Option<String>,
    /// Only the series of this context
    #[arg(long, value_name = "JSON", requires = "name")]
    context: Option<String>,
    /// Draw a plot
    #[arg(long, requires = "name", conflicts_with = "json")]
    plot: bool,
    /// Maximum number of points, spread over all steps; 0 means every point
    #[arg(long, default_value_t = 20)]
    points: u32,
    /// Width of a plot in columns
    #[arg(long, env = "COLUMNS", default_value_t = 80, value_parser = clap::value_parser!(u16).range(30..=1_000))]
    width: u16,
    /// Height of a plot in lines
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(4..=200))]
    height: u16,
    #[command(flatten)]
    client: ClientFlags,
}

pub(super) async fn run(flags: MetricsFlags) -> Result<(), Error> {
    let out = &mut Output::new(flags.client.connection.json);
    let channel = flags.client.connect().await?;
    let flags = MetricsFlags { run: run_ids::complete(&channel, flags.run).await?, ..flags };
    let series = series(channel.clone(), &flags).await?;
    let Some(name) = &flags.name else { return list(&series, out) };
    let shown = if series.is_empty() {
        0
    } else if flags.plot {
        plot(channel, &flags, &series, out).await?
    } else {
        points(channel, &flags, &series, out).await?
    };
    // A misspelled name should not look like a metric without points.
    if shown == 0 {
        let name = cell(name);
        let run = cell(&flags.run);
        let context = if flags.context.is_some() { " with this context" } else { "" };
        return Err(Error::Message(format!(
            "run `{run}` has no metric `{name}`{context}: `matyan metrics {run}` lists its metrics"
        )));
    }
    Ok(())
}

/// Lists the series of the given name, or all series.
async fn series(channel: Connection, flags: &MetricsFlags) -> Result<Vec<SeriesInfo>, Error> {
    let request = ListRequest {
        run_id: flags.run.clone(),
        types: vec![SeriesType::Metric.into()],
        names: flags.name.iter().cloned().collect(),
        ..ListRequest::default()
    };
    let answer = client!(SeriesServiceClient, channel).list(request).await.map_err(run_error(&flags.run))?;
    let mut messages = answer.into_inner();
    let mut found = Vec::new();
    while let Some(message) = messages.message().await.map_err(run_error(&flags.run))? {
        found.extend(message.series);
    }
    Ok(found)
}

fn list(series: &[SeriesInfo], out: &mut Output) -> Result<(), Error> {
    if out.json {
        return Ok(series.iter().try_for_each(|series| out.object(&series_json(series)))?);
    }
    let rows: Vec<_> = series.iter().map(series_row).collect();
    Ok(out.table(["METRIC", "CONTEXT", "TYPE", "POINTS", "LAST STEP", "LAST"], &rows)?)
}

/// Selects the series to read. The server resolves contexts, because only the server knows which
/// contexts are equal.
fn selection(flags: &MetricsFlags, series: &[SeriesInfo]) -> RunSelection {
    let run_id = flags.run.clone();
    match (&flags.name, &flags.context) {
        (Some(name), Some(context)) => {
            let key = SeriesKey { name: name.clone(), context: context.clone() };
            RunSelection { run_id, keys: vec![key], ..RunSelection::default() }
        }
        _ => {
            let numbers = series.iter().map(|series| series.number).collect();
            RunSelection { run_id, numbers, ..RunSelection::default() }
        }
    }
}

/// Maps an invalid request to the context, the only user input that has not been validated by
/// this time.
fn refused(flags: &MetricsFlags) -> impl Fn(Status) -> Error {
    |status| match &flags.context {
        Some(context) if status.code() == Code::InvalidArgument => Error::Message(format!(
            "invalid context `{context}` ({}): use an object such as '{{\"subset\":\"val\"}}'",
            status.message()
        )),
        _ => status.into(),
    }
}

/// Prints sampled points, and returns the number of series shown.
async fn points(
    channel: Connection,
    flags: &MetricsFlags,
    series: &[SeriesInfo],
    out: &mut Output,
) -> Result<usize, Error> {
    let request = SampleRequest {
        runs: vec![selection(flags, series)],
        density: flags.points,
        columns: Some(PointColumns { values: true, ..PointColumns::default() }),
        ..SampleRequest::default()
    };
    let mut client = client!(SeriesServiceClient, channel);
    let mut messages = client.sample(request).await.map_err(refused(flags))?.into_inner();
    let mut open = SeriesPoints::default();
    let mut shown = 0;
    while let Some(message) = messages.message().await.map_err(refused(flags))? {
        for piece in message.series {
            // A long series is sent in several messages, and only the first one
            // contains its description.
            open.info = open.info.or(piece.info);
            open.steps.extend(piece.steps);
            open.values.extend(piece.values);
            if piece.more {
                continue;
            }
            let found = std::mem::take(&mut open);
            let info = found.info.unwrap_or_default();
            shown += 1;
            if out.json {
                out.object(&points_json(&info, &found.steps, &found.values))?;
                continue;
            }
            out.line(title(&info))?;
            let rows = found.steps.iter().zip(&found.values);
            let rows: Vec<_> = rows.map(|(step, value)| [step.to_string(), number(*value)]).collect();
            out.table(["STEP", "VALUE"], &rows)?;
        }
    }
    Ok(shown)
}

fn points_json(info: &SeriesInfo, steps: &[i64], values: &[f64]) -> Value {
    let mut object = series_json(info);
    object["steps"] = json!(steps);
    object["values"] = values.iter().copied().map(json_number).collect();
    object
}

fn title(info: &SeriesInfo) -> String {
    match info.context.as_str() {
        "" | "{}" => cell(&info.name),
        context => format!("{} {}", cell(&info.name), cell(context)),
    }
}

/// Plots series, and returns the number of series shown.
async fn plot(
    channel: Connection,
    flags: &MetricsFlags,
    series: &[SeriesInfo],
    out: &mut Output,
) -> Result<usize, Error> {
    let plot = Plot::new(flags.width.into(), flags.height.into());
    let columns = [
        BucketColumn::Min,
        BucketColumn::Max,
        BucketColumn::Mean,
        BucketColumn::FirstStep,
        BucketColumn::LastStep,
    ];
    let request = BucketsRequest {
        runs: vec![selection(flags, series)],
        pixels: plot.pixels(),
        columns: columns.map(i32::from).to_vec(),
        ..BucketsRequest::default()
    };
    let mut client = client!(SeriesServiceClient, channel);
    let mut messages = client.buckets(request).await.map_err(refused(flags))?.into_inner();
    let mut shown = 0;
    while let Some(message) = messages.message().await.map_err(refused(flags))? {
        for found in message.series {
            shown += 1;
            let columns = (0..found.index.len()).map(|at| Column {
                first_step: found.first_step[at],
                last_step: found.last_step[at],
                min: found.min[at],
                max: found.max[at],
            });
            out.line(title(&found.info.unwrap_or_default()))?;
            for line in plot.draw(&columns.collect::<Vec<_>>()) {
                out.line(line)?;
            }
        }
    }
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_that_json_does_not_have_are_texts() {
        let values = [0.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let shown = points_json(&SeriesInfo::default(), &[0, 1, 2, 3], &values);
        assert_eq!(shown["values"], json!([0.5, "NaN", "inf", "-inf"]));
    }
}
