//! The series of a run, and the steps of several writers.

use std::collections::BTreeSet;

use matyan_proto::common::v1::SeriesType;
use matyan_proto::runs::v1::SeriesInfo;
use matyan_proto::series::v1::ListRequest;

use crate::error::{Result, WandbError};
use crate::lines::WRITER;
use crate::names::{SYSTEM_PREFIX, WANDB_SYSTEM_PREFIX};
use matyan_channels::{Channels, is_missing};

/// A metric of a run, or a sequence of objects.
#[derive(Clone, Debug)]
pub(crate) struct LoggedSeries {
    pub(crate) is_metric: bool,
    pub(crate) number: u32,
    pub(crate) name: String,
    /// Canonical JSON text.
    pub(crate) context: String,
    /// The type of the values.
    dtype: String,
    pub(crate) count: u64,
    pub(crate) first_step: i64,
    pub(crate) last_step: i64,
    /// The value of a metric at the last step.
    pub(crate) last: Option<f64>,
    /// The writer of the series, if its run has several.
    writer: Option<String>,
    shown_name: String,
}

impl LoggedSeries {
    pub(crate) fn new(info: SeriesInfo) -> Self {
        let is_metric = info.r#type() == SeriesType::Metric;
        let SeriesInfo { number, name, context, dtype, count, first_step, last_step, last, .. } = info;
        let writer = writer_of(&context);
        let shown_name = shown_name(&name, &context, writer.is_some());
        Self {
            is_metric,
            number,
            name,
            context,
            dtype,
            count,
            first_step,
            last_step,
            last,
            writer,
            shown_name,
        }
    }

    /// Whether the metric is about the machine, and not about the training.
    pub(crate) fn is_system(&self) -> bool {
        self.name.starts_with(SYSTEM_PREFIX)
    }

    /// The type by which deletions of steps choose the series. Any type of objects stands for all types of objects.
    pub(crate) fn deletion_type(&self) -> SeriesType {
        if self.is_metric { SeriesType::Metric } else { SeriesType::Texts }
    }

    /// The type of the values in W&B.
    pub(crate) fn wandb_type(&self) -> &str {
        match self.dtype.as_str() {
            _ if self.is_metric => "number",
            "text" => "string",
            "image" => "image-file",
            "audio" => "audio-file",
            "html" => "html-file",
            "point_cloud" => "object3D-file",
            "distribution" => "histogram",
            other => other,
        }
    }

    /// The name in W&B.
    pub(crate) fn shown_name(&self) -> &str {
        &self.shown_name
    }
}

/// The writer in a context, if the run has several.
fn writer_of(context: &str) -> Option<String> {
    let context: serde_json::Value = serde_json::from_str(context).ok()?;
    Some(context.as_object().filter(|members| members.len() == 1)?.get(WRITER)?.as_str()?.to_owned())
}

/// The name of a series in W&B. A series of another client may have a context, which becomes a part of the name.
fn shown_name(name: &str, context: &str, has_writer: bool) -> String {
    if let Some(name) = name.strip_prefix(SYSTEM_PREFIX) {
        return format!("{WANDB_SYSTEM_PREFIX}{name}");
    }
    match context {
        "" | "{}" => name.to_owned(),
        _ if has_writer => name.to_owned(),
        context => format!("{name} {context}"),
    }
}

/// Lists the metrics of a run and its sequences of objects; none if there is no run.
pub(crate) async fn all_series(channels: &Channels, run_id: &str) -> Result<Vec<LoggedSeries>> {
    let request = ListRequest { run_id: run_id.to_owned(), ..ListRequest::default() };
    let mut messages = match channels.series().list(request).await {
        Ok(response) => response.into_inner(),
        Err(status) if is_missing(&status) => return Ok(Vec::new()),
        Err(status) => return Err(WandbError::from(status)),
    };
    let mut found = Vec::new();
    while let Some(message) = messages.message().await? {
        found.extend(message.series.into_iter().map(LoggedSeries::new));
    }
    Ok(found)
}

/// The writers of a run, sorted. Each writer counts its steps from 0, and the client expects one row for each step: with n
/// writers, step s of the writer at index i is shown as s·n + i.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Writers(Vec<String>);

impl Writers {
    pub(crate) fn of(series: &[LoggedSeries]) -> Self {
        let writers: BTreeSet<&String> = series.iter().filter_map(|series| series.writer.as_ref()).collect();
        Self(writers.into_iter().cloned().collect())
    }

    fn count(&self) -> i64 {
        i64::try_from(self.0.len().max(1)).unwrap_or(i64::MAX)
    }

    /// The steps of a series as a client sees them.
    pub(crate) fn steps_of(&self, series: &LoggedSeries) -> ShownSteps {
        let index = series.writer.as_ref().and_then(|writer| self.0.binary_search(writer).ok());
        let index = i64::try_from(index.unwrap_or_default()).unwrap_or(i64::MAX);
        ShownSteps { count: self.count(), index }
    }

    /// The step that a client sees.
    pub(crate) fn shown_step(&self, series: &LoggedSeries, step: i64) -> i64 {
        self.steps_of(series).shown(step)
    }

    /// The first stored step whose shown step is not less than this step, for any writer.
    pub(crate) fn stored_start(&self, shown: i64) -> i64 {
        shown.div_euclid(self.count())
    }

    /// The first stored step after all steps whose shown steps are less than this step.
    pub(crate) fn stored_stop(&self, shown: i64) -> i64 {
        shown.saturating_sub(1).div_euclid(self.count()).saturating_add(1)
    }
}

/// The steps of one series as a client sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShownSteps {
    /// The number of writers.
    count: i64,
    /// The index of the writer of the series.
    index: i64,
}

impl ShownSteps {
    /// The step that a client sees.
    pub(crate) fn shown(self, step: i64) -> i64 {
        step.saturating_mul(self.count).saturating_add(self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, context: &str) -> LoggedSeries {
        LoggedSeries::new(SeriesInfo {
            r#type: SeriesType::Metric.into(),
            name: name.to_owned(),
            context: context.to_owned(),
            dtype: "float".to_owned(),
            count: 1,
            ..SeriesInfo::default()
        })
    }

    #[test]
    fn each_of_many_writers_has_its_own_index() {
        let context = |writer: usize| format!(r#"{{"writer":"w{writer:04}"}}"#);
        let all: Vec<LoggedSeries> = (0..2_000).map(|writer| series("loss", &context(writer))).collect();
        let writers = Writers::of(&all);
        for (index, series) in (0..).zip(&all) {
            let steps = writers.steps_of(series);
            assert_eq!((steps.shown(0), steps.shown(2)), (index, 4_000 + index));
        }
    }

    #[test]
    fn rule_109_rows_of_several_writers_have_separate_steps() {
        let all = [series("loss", r#"{"writer":"b"}"#), series("loss", r#"{"writer":"a"}"#)];
        let writers = Writers::of(&all);
        let shown: Vec<i64> = (0..3)
            .flat_map(|step| [writers.shown_step(&all[1], step), writers.shown_step(&all[0], step)])
            .collect();
        assert_eq!(shown, [0, 1, 2, 3, 4, 5]);
        assert_eq!((writers.stored_start(3), writers.stored_stop(3)), (1, 2));
        assert_eq!((writers.stored_start(4), writers.stored_stop(4)), (2, 2));
        let one = Writers::of(&[series("loss", "{}")]);
        assert_eq!((one.shown_step(&all[0], 7), one.stored_start(7), one.stored_stop(7)), (7, 7, 7));
    }

    #[test]
    fn series_have_names_of_wandb() {
        assert_eq!(series("loss", "{}").shown_name(), "loss");
        assert_eq!(series("__system__cpu", "{}").shown_name(), "system.cpu");
        assert_eq!(series("loss", r#"{"subset":"val"}"#).shown_name(), r#"loss {"subset":"val"}"#);
        assert_eq!(series("loss", r#"{"writer":"a"}"#).shown_name(), "loss");
    }
}
