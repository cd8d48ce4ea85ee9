//! Goals of metrics that a run defines, in the params `__metrics__`: a map from the name of a metric to a map
//! with `direction`, `summary`, `format`, `unit` and `x_axis`. They are params like all others, so spools, archives and
//! older servers keep them without knowing their meaning. Members that are not understood stay mere params.

use matyan_model::metric_goal::{Direction, GoalFields, GoalSummary, NumberFormat};
use matyan_proto::limits;
use matyan_value::{Map, Value};

const METRICS: &str = "__metrics__";

/// The goals in a message of params.
pub(crate) fn goal_definitions(message: &Map) -> Vec<(String, GoalFields)> {
    let metrics = message.get(METRICS).and_then(Value::as_map);
    let definitions = metrics.into_iter().flatten().filter_map(|(metric, definition)| {
        let is_valid = is_name(metric);
        let fields = goal_fields(metric, definition.as_map().filter(|_| is_valid)?);
        (fields != GoalFields::default()).then(|| (metric.clone(), fields))
    });
    definitions.take(limits::METRIC_GOALS).collect()
}

fn goal_fields(metric: &str, definition: &Map) -> GoalFields {
    let text = |key: &str| match definition.get(key) {
        Some(Value::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    GoalFields {
        direction: match text("direction") {
            Some("lower") => Some(Direction::Lower),
            Some("higher") => Some(Direction::Higher),
            _ => None,
        },
        summary: match text("summary") {
            Some("last") => Some(GoalSummary::Last),
            Some("best") => Some(GoalSummary::Best),
            _ => None,
        },
        format: match text("format") {
            Some("percent") => Some(NumberFormat::Percent),
            Some("scientific") => Some(NumberFormat::Scientific),
            Some("integer") => Some(NumberFormat::Integer),
            _ => None,
        },
        unit: text("unit").map(str::trim).filter(|unit| is_unit(unit)).map(str::to_owned),
        x_axis: text("x_axis").filter(|axis| is_name(axis) && *axis != metric).map(str::to_owned),
    }
}

fn is_name(text: &str) -> bool {
    (1..=limits::NAME_BYTES).contains(&text.len())
}

fn is_unit(text: &str) -> bool {
    (1..=limits::UNIT_BYTES).contains(&text.len())
}

#[cfg(test)]
mod tests {
    use matyan_value::json;

    use super::*;

    fn definitions(text: &str) -> Vec<(String, GoalFields)> {
        let Value::Map(message) = json::parse(text).unwrap() else { panic!("no map") };
        goal_definitions(&message)
    }

    #[test]
    fn a_goal_has_the_fields_that_are_understood() {
        let text = r#"{"lr": 1, "__metrics__": {
            "acc": {"direction": "higher", "summary": "best", "format": "percent", "unit": " % ", "x_axis": "epoch"},
            "loss": {"direction": "lower", "summary": "mean", "format": 3, "unit": "", "x_axis": "loss"}
        }}"#;
        let acc = GoalFields {
            direction: Some(Direction::Higher),
            summary: Some(GoalSummary::Best),
            format: Some(NumberFormat::Percent),
            unit: Some("%".into()),
            x_axis: Some("epoch".into()),
        };
        let loss = GoalFields { direction: Some(Direction::Lower), ..GoalFields::default() };
        assert_eq!(definitions(text), [("acc".to_owned(), acc), ("loss".to_owned(), loss)]);
    }

    #[test]
    fn an_invalid_goal_is_only_a_param() {
        for text in [
            r#"{"lr": 1}"#,
            r#"{"__metrics__": null}"#,
            r#"{"__metrics__": {"acc": "higher"}}"#,
            r#"{"__metrics__": {"acc": {"direction": "sideways"}}}"#,
            r#"{"__metrics__": {"": {"direction": "lower"}}}"#,
        ] {
            assert!(definitions(text).is_empty(), "{text}");
        }
        let long = "m".repeat(limits::NAME_BYTES + 1);
        let text = format!(r#"{{"__metrics__": {{"{long}": {{"unit": "s"}}}}}}"#);
        assert!(definitions(&text).is_empty());
        let unit = "u".repeat(limits::UNIT_BYTES + 1);
        let text = format!(r#"{{"__metrics__": {{"m": {{"unit": "{unit}"}}}}}}"#);
        assert!(definitions(&text).is_empty());
    }
}
