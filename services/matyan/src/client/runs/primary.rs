//! The primary metric of a project, which lists of runs show in a column.

use matyan_proto::{
    common::v1::SeriesType,
    metrics::v1::{
        Goal, GoalDirection, GoalSummary, ListGoalsRequest, NumberFormat,
        metric_service_client::MetricServiceClient,
    },
    runs::v1::{Run, RunParts},
};
use tonic::Code;

use crate::client::{
    Error, client,
    connection::Connection,
    output::{cell, number},
};

/// Contexts with one of these texts are about held-out data, whose results count more.
const HELD_OUT: [&str; 4] = ["val", "test", "eval", "dev"];

pub(super) struct PrimaryMetric(Goal);

impl PrimaryMetric {
    /// `None` if the project has chosen none, or if the server is older than this program.
    pub(super) async fn read(channel: Connection) -> Result<Option<Self>, Error> {
        match client!(MetricServiceClient, channel).list_goals(ListGoalsRequest {}).await {
            Ok(listed) => Ok(listed.into_inner().goals.into_iter().find(|goal| goal.primary).map(Self)),
            Err(status) if status.code() == Code::Unimplemented => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// Adds what `value` needs.
    pub(super) fn add_parts(&self, parts: &mut RunParts) {
        parts.series_types = vec![SeriesType::Metric.into()];
        parts.series_names = vec![self.0.name.clone()];
    }

    pub(super) fn heading(&self) -> String {
        cell(&self.0.name).to_uppercase()
    }

    /// The value that stands for a run: of the series with held-out data, or else of the first.
    pub(super) fn value(&self, run: &Run) -> Option<f64> {
        let mut own = run.series.iter().filter(|info| info.name == self.0.name);
        let first = own.clone().next();
        let held_out = own.find(|info| HELD_OUT.iter().any(|word| info.context.contains(word)));
        let info = held_out.or(first)?;
        match (self.0.summary(), self.0.direction()) {
            (GoalSummary::Best, GoalDirection::Lower) => info.min,
            (GoalSummary::Best, GoalDirection::Higher) => info.max,
            _ => info.last,
        }
    }

    pub(super) fn text(&self, run: &Run) -> String {
        let Some(value) = self.value(run) else { return String::new() };
        let unit = self.0.unit.as_str();
        let is_percent = self.0.format() == NumberFormat::Percent && value.is_finite();
        let text = match self.0.format() {
            _ if !value.is_finite() => number(value),
            NumberFormat::Percent => format!("{} %", number(100.0 * value)),
            NumberFormat::Scientific => format!("{value:.3e}"),
            NumberFormat::Integer => format!("{value:.0}"),
            NumberFormat::Unspecified => number(value),
        };
        if unit.is_empty() || (is_percent && unit == "%") { text } else { format!("{text} {}", cell(unit)) }
    }
}

#[cfg(test)]
mod tests {
    use matyan_proto::runs::v1::SeriesInfo;

    use super::*;

    fn goal(
        summary: GoalSummary,
        direction: GoalDirection,
        format: NumberFormat,
        unit: &str,
    ) -> PrimaryMetric {
        PrimaryMetric(Goal {
            name: "acc".into(),
            summary: summary.into(),
            direction: direction.into(),
            format: format.into(),
            unit: unit.into(),
            ..Goal::default()
        })
    }

    fn run(contexts: &[(&str, f64)]) -> Run {
        let series = contexts.iter().map(|(context, last)| SeriesInfo {
            name: "acc".into(),
            context: (*context).to_owned(),
            last: Some(*last),
            min: Some(last - 1.0),
            max: Some(last + 1.0),
            ..SeriesInfo::default()
        });
        Run { series: series.collect(), ..Run::default() }
    }

    #[test]
    fn the_value_follows_the_goal() {
        let value = |summary, direction, contexts: &[(&str, f64)]| {
            goal(summary, direction, NumberFormat::Unspecified, "").value(&run(contexts))
        };
        let one = [("{}", 5.0)];
        assert_eq!(value(GoalSummary::Unspecified, GoalDirection::Higher, &one), Some(5.0));
        assert_eq!(value(GoalSummary::Best, GoalDirection::Higher, &one), Some(6.0));
        assert_eq!(value(GoalSummary::Best, GoalDirection::Lower, &one), Some(4.0));
        assert_eq!(value(GoalSummary::Best, GoalDirection::Unspecified, &one), Some(5.0));
        let two = [(r#"{"subset":"train"}"#, 1.0), (r#"{"subset":"val"}"#, 2.0)];
        assert_eq!(value(GoalSummary::Last, GoalDirection::Higher, &two), Some(2.0));
        assert_eq!(value(GoalSummary::Last, GoalDirection::Higher, &[]), None);
    }

    #[test]
    fn the_text_has_the_format_and_the_unit() {
        let text = |format, unit, last| {
            goal(GoalSummary::Last, GoalDirection::Higher, format, unit).text(&run(&[("{}", last)]))
        };
        assert_eq!(text(NumberFormat::Unspecified, "ms", 1.5), "1.5 ms");
        assert_eq!(text(NumberFormat::Percent, "%", 0.5), "50 %");
        assert_eq!(text(NumberFormat::Percent, "", 0.912), "91.2 %");
        assert_eq!(text(NumberFormat::Scientific, "", 12_340.0), "1.234e4");
        assert_eq!(text(NumberFormat::Integer, "tokens", 12.4), "12 tokens");
        assert_eq!(text(NumberFormat::Percent, "", f64::NAN), "NaN");
    }
}
