//! The goals of a copy. A server keeps the goals of all metrics of a project, and a copy has only
//! the goals of the metrics of its run.

use std::collections::HashSet;

use matyan_proto::{
    metrics::v1::{Goal, ListGoalsRequest, metric_service_client::MetricServiceClient},
    runs::v1::SeriesInfo,
};

use super::{Error, RunCopy, client};

/// Reads the goals of the metrics of the run.
pub(super) async fn read(copy: &RunCopy<'_>, metrics: &[SeriesInfo]) -> Result<Vec<Goal>, Error> {
    let answer = client!(MetricServiceClient, copy.channel.clone()).list_goals(ListGoalsRequest {}).await?;
    Ok(of_metrics(answer.into_inner().goals, metrics))
}

/// The goals of these metrics, without the names of other metrics.
fn of_metrics(mut goals: Vec<Goal>, metrics: &[SeriesInfo]) -> Vec<Goal> {
    let names: HashSet<&str> = metrics.iter().map(|info| info.name.as_str()).collect();
    goals.retain(|goal| names.contains(goal.name.as_str()));
    for goal in &mut goals {
        if !names.contains(goal.x_axis.as_str()) {
            goal.x_axis.clear();
        }
    }
    goals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_metrics_of_the_run_have_goals_in_a_copy() {
        let goal = |name: &str, x_axis: &str| Goal {
            name: name.to_owned(),
            x_axis: x_axis.to_owned(),
            unit: "ms".to_owned(),
            ..Goal::default()
        };
        let metrics = ["loss", "time", "size"]
            .map(|name| SeriesInfo { name: name.to_owned(), ..SeriesInfo::default() });
        let goals = vec![goal("loss", "time"), goal("secret", "loss"), goal("size", "secret")];
        assert_eq!(of_metrics(goals, &metrics), [goal("loss", "time"), goal("size", "")]);
    }
}
