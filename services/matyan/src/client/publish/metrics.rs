//! The metrics of a copy: a file with all points and levels for each of them.

use matyan_model::series::{Point, StepRange};
use matyan_proto::{
    ABSENT,
    published::v1::PublishedSeries,
    runs::v1::SeriesInfo,
    series::v1::{
        PointColumns, PointsRequest, RunSelection, SampleRequest, SeriesPoints,
        series_service_client::SeriesServiceClient,
    },
};

use super::{Error, RunCopy, client, file_error, levels::SeriesFile, run_error};

/// Epochs of a metric that a chart uses for its x axis; the web UI reads as many from a server.
const EPOCHS: u32 = 500;

/// Writes the file of a metric, and returns the positions of its pages.
pub(super) async fn write(copy: &mut RunCopy<'_>, info: &SeriesInfo) -> Result<PublishedSeries, Error> {
    let path = copy.path(format!("series/{}.bin", info.number));
    let steps = StepRange::new(info.first_step, info.last_step);
    let mut file = SeriesFile::create(&path, info.number, steps, info.count).map_err(file_error(&path))?;
    let request = PointsRequest {
        run: Some(selection(copy, info)),
        columns: Some(PointColumns { values: true, epochs: true, times: true }),
        ..PointsRequest::default()
    };
    let answer = client!(SeriesServiceClient, copy.channel.clone()).points(request).await;
    let mut messages = answer.map_err(run_error(copy.run_id))?.into_inner();
    let mut count = 0;
    while let Some(message) = messages.message().await? {
        let piece = message.points.unwrap_or_default();
        count += piece.steps.len() as u64;
        points_of(&piece).try_for_each(|point| file.add(point)).map_err(file_error(&path))?;
    }
    let epochs = read_epochs(copy, info).await?;
    let (series, bytes) = file.finish(count, epochs).map_err(file_error(&path))?;
    copy.file_done(bytes);
    Ok(series)
}

fn selection(copy: &RunCopy<'_>, info: &SeriesInfo) -> RunSelection {
    RunSelection { run_id: copy.run_id.to_owned(), numbers: vec![info.number], ..RunSelection::default() }
}

/// The epochs of some points; `None` if no point has an epoch.
async fn read_epochs(copy: &RunCopy<'_>, info: &SeriesInfo) -> Result<Option<SeriesPoints>, Error> {
    let request = SampleRequest {
        runs: vec![selection(copy, info)],
        density: EPOCHS,
        columns: Some(PointColumns { epochs: true, ..PointColumns::default() }),
        ..SampleRequest::default()
    };
    let answer = client!(SeriesServiceClient, copy.channel.clone()).sample(request).await?;
    let mut messages = answer.into_inner();
    let mut epochs = SeriesPoints::default();
    while let Some(message) = messages.message().await? {
        for piece in message.series {
            epochs.steps.extend(piece.steps);
            epochs.epochs.extend(piece.epochs);
        }
    }
    Ok(epochs.epochs.iter().any(|epoch| *epoch != ABSENT).then_some(epochs))
}

fn points_of(piece: &SeriesPoints) -> impl Iterator<Item = Point> + '_ {
    let entry = |column: &[i64], at: usize| column.get(at).copied().unwrap_or(ABSENT);
    piece.steps.iter().zip(&piece.values).enumerate().map(move |(at, (step, value))| Point {
        step: *step,
        value: *value,
        epoch: entry(&piece.epochs, at),
        time_us: entry(&piece.times_us, at),
    })
}
