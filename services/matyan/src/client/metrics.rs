//! Metrics of a run: which there are, some of their points, and what they look like.

use matyan_proto::{
    common::v1::SeriesType,
    runs::v1::SeriesInfo,
    series::v1::{
        BucketColumn, BucketsRequest, ListRequest, PointColumns, RunSelection, SampleRequest, SeriesPoints,
        series_service_client::SeriesServiceClient,
    },
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::{
    Error, about_run, client, connect,
    flags::MetricsFlags,
    output::{Output, cell, number},
    plot::{Column, Plot},
    runs::{series_json, series_row},
};

pub(super) async fn run(flags: MetricsFlags, out: &mut Output) -> Result<(), Error> {
    let channel = connect(&flags.client.server).await?;
    let series = series(channel.clone(), &flags).await?;
    let Some(name) = &flags.name else { return list(&series, out) };
    if series.is_empty() {
        let (name, run) = (cell(name), cell(&flags.run));
        let context = if flags.context.is_some() { " with this context" } else { "" };
        return Err(Error::Told(format!(
            "the run has no metric `{name}`{context}: `matyan metrics {run}` lists those it has"
        )));
    }
    match flags.plot {
        true => plot(channel, &flags, &series, out).await,
        false => points(channel, &flags, &series, out).await,
    }
}

/// The series that are asked for.
async fn series(channel: Channel, flags: &MetricsFlags) -> Result<Vec<SeriesInfo>, Error> {
    let context = flags.context.as_deref().map(parse_context).transpose()?;
    let request = ListRequest {
        run_id: flags.run.clone(),
        types: vec![SeriesType::Metric.into()],
        names: flags.name.iter().cloned().collect(),
    };
    let answer = client!(SeriesServiceClient, channel).list(request).await.map_err(about_run(&flags.run))?;
    let mut messages = answer.into_inner();
    let mut found = Vec::new();
    while let Some(message) = messages.message().await.map_err(about_run(&flags.run))? {
        found.extend(message.series);
    }
    let is_asked = |series: &SeriesInfo| {
        let told = || serde_json::from_str::<Value>(&series.context).ok();
        context.as_ref().is_none_or(|asked| told().as_ref() == Some(asked))
    };
    found.retain(is_asked);
    Ok(found)
}

fn parse_context(text: &str) -> Result<Value, Error> {
    match serde_json::from_str(text) {
        Ok(Value::Object(context)) => Ok(Value::Object(context)),
        _ => Err(Error::Told(format!(
            "`{text}` is no context: give an object such as '{{\"subset\":\"val\"}}'"
        ))),
    }
}

fn list(series: &[SeriesInfo], out: &mut Output) -> Result<(), Error> {
    if out.json {
        return Ok(series.iter().try_for_each(|series| out.object(&series_json(series)))?);
    }
    let rows: Vec<_> = series.iter().map(series_row).collect();
    Ok(out.table(["METRIC", "CONTEXT", "TYPE", "POINTS", "LAST STEP", "LAST"], &rows)?)
}

fn selection(flags: &MetricsFlags, series: &[SeriesInfo]) -> RunSelection {
    let numbers = series.iter().map(|series| series.number).collect();
    RunSelection { run_id: flags.run.clone(), numbers, ..RunSelection::default() }
}

async fn points(
    channel: Channel,
    flags: &MetricsFlags,
    series: &[SeriesInfo],
    out: &mut Output,
) -> Result<(), Error> {
    let request = SampleRequest {
        runs: vec![selection(flags, series)],
        density: flags.points,
        columns: Some(PointColumns { values: true, ..PointColumns::default() }),
        ..SampleRequest::default()
    };
    let mut messages = client!(SeriesServiceClient, channel).sample(request).await?.into_inner();
    let mut open = SeriesPoints::default();
    while let Some(message) = messages.message().await? {
        for piece in message.series {
            // A long series comes in pieces.
            open.steps.extend(piece.steps);
            open.values.extend(piece.values);
            if piece.more {
                continue;
            }
            let found = SeriesPoints { place: piece.place, ..std::mem::take(&mut open) };
            let Some(info) = found.place.and_then(|place| series.get(place.series as usize)) else {
                continue;
            };
            if out.json {
                let mut shown = series_json(info);
                shown["steps"] = json!(found.steps);
                // JSON has no NaN: they come out as null.
                shown["values"] = json!(found.values);
                out.object(&shown)?;
                continue;
            }
            out.line(title(info))?;
            let rows = found.steps.iter().zip(&found.values);
            let rows: Vec<_> = rows.map(|(step, value)| [step.to_string(), number(*value)]).collect();
            out.table(["STEP", "VALUE"], &rows)?;
        }
    }
    Ok(())
}

fn title(info: &SeriesInfo) -> String {
    match info.context.as_str() {
        "" | "{}" => cell(&info.name),
        context => format!("{} {}", cell(&info.name), cell(context)),
    }
}

async fn plot(
    channel: Channel,
    flags: &MetricsFlags,
    series: &[SeriesInfo],
    out: &mut Output,
) -> Result<(), Error> {
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
    let mut messages = client!(SeriesServiceClient, channel).buckets(request).await?.into_inner();
    while let Some(message) = messages.message().await? {
        for found in message.series {
            let Some(info) = found.place.and_then(|place| series.get(place.series as usize)) else {
                continue;
            };
            let columns = (0..found.index.len()).map(|at| Column {
                first_step: found.first_step[at],
                last_step: found.last_step[at],
                min: found.min[at],
                max: found.max[at],
            });
            out.line(title(info))?;
            for line in plot.draw(&columns.collect::<Vec<_>>()) {
                out.line(line)?;
            }
        }
    }
    Ok(())
}
