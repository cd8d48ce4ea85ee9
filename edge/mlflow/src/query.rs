//! Searches of runs in the query language of the server: the filter becomes a query, and the order becomes sort keys.
//! So indexes answer searches, and not this crate.

use matyan_proto::common::v1::SeriesKey;
use matyan_proto::search::v1::sort::By;
use matyan_proto::search::v1::{MetricValue, Sort, SortField};
use matyan_value::Value;

use crate::error::{MlflowError, Result};
use crate::filter::{Comparator, Comparison, Identifier, IdentifierKind, Operand};
use crate::numbers::python_float;
use crate::order::OrderKey;
use crate::pattern::{Pattern, quote};
use crate::run_names::{DATASETS, HOLDS_MODEL, MLFLOW, NAME_TAG, PARAMS, TAGS, USER, path};
use crate::values::stored_param;

/// The stages of runs to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ViewType {
    Active,
    Deleted,
    All,
}

impl ViewType {
    pub(crate) fn parse(text: Option<&str>) -> Result<Self> {
        match text {
            None | Some("ACTIVE_ONLY" | "1" | "") => Ok(Self::Active),
            Some("DELETED_ONLY" | "2") => Ok(Self::Deleted),
            Some("ALL" | "3") => Ok(Self::All),
            Some(other) => Err(MlflowError::invalid(format!(
                "Invalid value '{other}' for a view type: use ACTIVE_ONLY, DELETED_ONLY or ALL"
            ))),
        }
    }

    pub(crate) fn contains(self, is_deleted: bool) -> bool {
        match self {
            Self::Active => !is_deleted,
            Self::Deleted => is_deleted,
            Self::All => true,
        }
    }
}

/// The statuses of a run, each with its condition.
const STATUSES: [(&str, &str); 4] = [
    ("RUNNING", "run.active == True"),
    ("FINISHED", "(run.active == False and run.outcome != 'failed' and run.outcome != 'interrupted')"),
    ("FAILED", "run.outcome == 'failed'"),
    ("KILLED", "run.outcome == 'interrupted'"),
];

/// A query for the runs of experiments. `has_default`: also runs without an experiment.
pub(crate) fn run_query(
    filter: &[Comparison],
    experiments: &[String],
    has_default: bool,
    view: ViewType,
) -> Result<String> {
    let mut conditions = vec![in_experiments(experiments, has_default)];
    match view {
        ViewType::Active => {}
        ViewType::Deleted => conditions.push("run.archived == True".to_owned()),
        ViewType::All => conditions.push("run.archived in (True, False)".to_owned()),
    }
    if view != ViewType::Active {
        conditions.push(format!("run['{MLFLOW}', '{HOLDS_MODEL}'] is None"));
    }
    for comparison in filter {
        conditions.push(format!("({})", condition(comparison)?));
    }
    Ok(conditions.join(" and "))
}

fn in_experiments(experiments: &[String], has_default: bool) -> String {
    let names = match experiments {
        [] => None,
        [name] => Some(format!("run.experiment == {}", quote(name))),
        names => {
            let names: Vec<String> = names.iter().map(|name| quote(name)).collect();
            Some(format!("run.experiment in ({})", names.join(", ")))
        }
    };
    match (names, has_default) {
        (Some(names), false) => names,
        (Some(names), true) => format!("({names} or run.experiment is None)"),
        (None, _) => "run.experiment is None".to_owned(),
    }
}

fn condition(comparison: &Comparison) -> Result<String> {
    let Comparison { identifier, comparator, operand } = comparison;
    match identifier.kind {
        IdentifierKind::Metric => {
            let value = format!("run.metrics[{}, {{}}].last", quote(&identifier.key));
            number_condition(&value, *comparator, number(identifier, operand)?, identifier)
        }
        IdentifierKind::Param => param_condition(identifier, *comparator, operand),
        IdentifierKind::Tag => text_condition(&tag_value(&identifier.key), *comparator, operand, identifier),
        IdentifierKind::Attribute => attribute_condition(identifier, *comparator, operand),
        IdentifierKind::Dataset => dataset_condition(identifier, *comparator, operand),
    }
}

fn tag_value(key: &str) -> String {
    match key {
        NAME_TAG => "run.name".to_owned(),
        key => format!("run['{MLFLOW}', '{TAGS}', {}]", quote(key)),
    }
}

/// The error for a comparison that this kind of value does not have.
fn unsupported(identifier: &Identifier) -> MlflowError {
    MlflowError::invalid(format!("Invalid comparator or value for '{}'", identifier.key))
}

fn number(identifier: &Identifier, operand: &Operand) -> Result<f64> {
    match operand {
        Operand::Number(number) => Ok(*number),
        _ => Err(MlflowError::invalid(format!("Expected numeric value type for '{}'", identifier.key))),
    }
}

fn text<'o>(identifier: &Identifier, operand: &'o Operand) -> Result<&'o str> {
    match operand {
        Operand::Text(text) => Ok(text),
        _ => Err(MlflowError::invalid(format!("Expected a quoted string value for '{}'", identifier.key))),
    }
}

/// A number as a literal. The language has no literals for infinities.
fn literal(number: f64) -> String {
    match number {
        f64::INFINITY => "math.inf".to_owned(),
        f64::NEG_INFINITY => "-math.inf".to_owned(),
        number => python_float(number),
    }
}

fn number_condition(
    value: &str,
    comparator: Comparator,
    number: f64,
    identifier: &Identifier,
) -> Result<String> {
    let sign = match comparator {
        Comparator::Equal => "==",
        Comparator::NotEqual => "!=",
        Comparator::Less => "<",
        Comparator::LessOrEqual => "<=",
        Comparator::Greater => ">",
        Comparator::GreaterOrEqual => ">=",
        _ => return Err(unsupported(identifier)),
    };
    // A run without the value must not match: for MLflow, a missing value is not unequal to a number.
    let guard =
        if comparator == Comparator::NotEqual { format!("{value} is not None and ") } else { String::new() };
    Ok(format!("{guard}{value} {sign} {}", literal(number)))
}

/// A condition on a text that a run may lack.
fn text_condition(
    value: &str,
    comparator: Comparator,
    operand: &Operand,
    identifier: &Identifier,
) -> Result<String> {
    match (comparator, operand) {
        (Comparator::IsNull, _) => Ok(format!("{value} is None")),
        (Comparator::IsNotNull, _) => Ok(format!("{value} is not None")),
        (Comparator::Equal, operand) => Ok(format!("{value} == {}", quote(text(identifier, operand)?))),
        (Comparator::NotEqual, operand) => {
            let wanted = quote(text(identifier, operand)?);
            Ok(format!("{value} is not None and {value} != {wanted}"))
        }
        (Comparator::Like, operand) => {
            let pattern = Pattern::new(text(identifier, operand)?).query(value);
            Ok(format!("{value} is not None and {pattern}"))
        }
        (Comparator::CaselessLike, operand) => {
            let pattern = text(identifier, operand)?.to_lowercase();
            let pattern = Pattern::new(&pattern).query(&format!("{value}.lower()"));
            Ok(format!("{value} is not None and {pattern}"))
        }
        (Comparator::In, Operand::Texts(texts)) => Ok(format!("{value} in ({},)", list(texts))),
        (Comparator::NotIn, Operand::Texts(texts)) => {
            Ok(format!("{value} is not None and {value} not in ({},)", list(texts)))
        }
        _ => Err(unsupported(identifier)),
    }
}

fn list(texts: &[String]) -> String {
    texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(", ")
}

/// A condition on a param, which may be stored as a number.
fn param_condition(identifier: &Identifier, comparator: Comparator, operand: &Operand) -> Result<String> {
    let value = format!("run['{PARAMS}', {}]", quote(&identifier.key));
    let as_text = format!("str({value})");
    match comparator {
        Comparator::IsNull | Comparator::IsNotNull => text_condition(&value, comparator, operand, identifier),
        Comparator::Equal => {
            let wanted = text(identifier, operand)?;
            match stored_param(wanted) {
                // Equal numbers may be different texts, such as `1` and `1.0`.
                Value::Integer(number) => {
                    Ok(format!("{value} == {number} and {as_text} == {}", quote(wanted)))
                }
                Value::Float(number) => {
                    Ok(format!("{value} == {} and {as_text} == {}", literal(number), quote(wanted)))
                }
                _ => Ok(format!("{value} == {}", quote(wanted))),
            }
        }
        Comparator::NotEqual | Comparator::Like | Comparator::CaselessLike => {
            let condition = text_condition(&as_text, comparator, operand, identifier)?;
            Ok(format!("{value} is not None and {condition}"))
        }
        _ => Err(unsupported(identifier)),
    }
}

fn attribute_condition(identifier: &Identifier, comparator: Comparator, operand: &Operand) -> Result<String> {
    let text_of = |value: &str| match comparator {
        Comparator::IsNull | Comparator::IsNotNull => Err(unsupported(identifier)),
        _ => text_condition(value, comparator, operand, identifier),
    };
    let time_of = |value: &str| {
        let seconds = number(identifier, operand)? / 1_000.0;
        number_condition(value, comparator, seconds, identifier)
    };
    match identifier.key.as_str() {
        "run_id" | "run_uuid" => text_of("run.hash"),
        "run_name" | "run name" | "Run name" | "Run Name" => text_of("run.name"),
        "user_id" => text_of(&format!("run['{MLFLOW}', '{USER}']")),
        "start_time" | "created" | "Created" => time_of("run.created_at"),
        "end_time" => time_of("run.end_time"),
        "status" => status_condition(identifier, comparator, operand),
        other => Err(MlflowError::invalid(format!(
            "Invalid attribute key '{other}' specified. Valid keys are 'run_id', 'run_name', 'status', 'user_id', \
             'start_time' and 'end_time'"
        ))),
    }
}

/// The server has no statuses: the matching statuses are listed with their conditions.
fn status_condition(identifier: &Identifier, comparator: Comparator, operand: &Operand) -> Result<String> {
    let mut conditions = Vec::new();
    for (status, condition) in STATUSES {
        let fits = match (comparator, operand) {
            (Comparator::Equal, operand) => text(identifier, operand)? == status,
            (Comparator::NotEqual, operand) => text(identifier, operand)? != status,
            (Comparator::Like, operand) => Pattern::new(text(identifier, operand)?).matches(status),
            (Comparator::CaselessLike, operand) => {
                Pattern::new(&text(identifier, operand)?.to_uppercase()).matches(status)
            }
            (Comparator::In, Operand::Texts(texts)) => texts.iter().any(|text| text == status),
            (Comparator::NotIn, Operand::Texts(texts)) => texts.iter().all(|text| text != status),
            _ => return Err(unsupported(identifier)),
        };
        if fits {
            conditions.push(condition);
        }
    }
    Ok(if conditions.is_empty() { "False".to_owned() } else { conditions.join(" or ") })
}

fn dataset_condition(identifier: &Identifier, comparator: Comparator, operand: &Operand) -> Result<String> {
    if !matches!(identifier.key.as_str(), "name" | "digest" | "context") {
        return Err(MlflowError::invalid(format!(
            "Invalid dataset key '{}' specified. Valid keys are 'name', 'digest' and 'context'",
            identifier.key
        )));
    }
    if matches!(comparator, Comparator::IsNull | Comparator::IsNotNull) {
        return Err(unsupported(identifier));
    }
    let value = format!("dataset.{}", identifier.key);
    let condition = text_condition(&value, comparator, operand, identifier)?;
    Ok(format!("any({condition} for dataset in run['{MLFLOW}', '{DATASETS}'].values())"))
}

/// The keys to sort runs by. Runs with equal keys are sorted newest first.
pub(crate) fn run_sort(order: &[OrderKey]) -> Result<Vec<Sort>> {
    let mut sort = order.iter().map(sort_key).collect::<Result<Vec<_>>>()?;
    let by_creation = By::Field(SortField::Created.into());
    if !sort.iter().any(|key| key.by.as_ref() == Some(&by_creation)) {
        sort.push(Sort { by: Some(by_creation), descending: true, ..Sort::default() });
    }
    Ok(sort)
}

fn sort_key(key: &OrderKey) -> Result<Sort> {
    let name = key.identifier.key.as_str();
    let field = |field: SortField| By::Field(field.into());
    let by = match key.identifier.kind {
        IdentifierKind::Metric => By::Metric(SeriesKey { name: name.to_owned(), context: String::new() }),
        IdentifierKind::Param => By::Param(path([PARAMS, name])),
        IdentifierKind::Tag if name == NAME_TAG => field(SortField::Name),
        IdentifierKind::Tag => By::Param(path([MLFLOW, TAGS, name])),
        IdentifierKind::Dataset => {
            return Err(MlflowError::invalid("Invalid order_by entity type 'dataset'"));
        }
        IdentifierKind::Attribute => match name {
            "start_time" | "created" | "Created" => field(SortField::Created),
            "end_time" => field(SortField::Ended),
            "run_id" | "run_uuid" | "artifact_uri" => field(SortField::RunId),
            "run_name" | "run name" | "Run name" | "Run Name" => field(SortField::Name),
            "status" => field(SortField::Outcome),
            "experiment_id" => field(SortField::Experiment),
            "user_id" => By::Param(path([MLFLOW, USER])),
            other => {
                return Err(MlflowError::invalid(format!("Invalid attribute key '{other}' in `order_by`")));
            }
        },
    };
    let metric_value = if matches!(by, By::Metric(_)) { MetricValue::Last.into() } else { 0 };
    Ok(Sort { by: Some(by), descending: key.is_descending, metric_value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{filter, order};

    fn query(filter: &str) -> Result<String> {
        let names = ["e".to_owned()];
        let query = run_query(&filter::parse(filter)?, &names, false, ViewType::Active)?;
        Ok(query.strip_prefix("run.experiment == 'e'").expect("the experiment comes first").to_owned())
    }

    #[test]
    fn filters_become_queries() {
        let check = |filter: &str, expected: &str| {
            assert_eq!(query(filter).unwrap(), format!(" and ({expected})"), "{filter}");
        };
        check("metrics.loss < 0.2", "run.metrics['loss', {}].last < 0.2");
        check("metrics.a != 1", "run.metrics['a', {}].last is not None and run.metrics['a', {}].last != 1.0");
        check("params.opt = 'adam'", "run['hparams', 'opt'] == 'adam'");
        check("params.lr = '0.1'", "run['hparams', 'lr'] == 0.1 and str(run['hparams', 'lr']) == '0.1'");
        check("params.lr = '0.10'", "run['hparams', 'lr'] == '0.10'");
        check("params.n = '1'", "run['hparams', 'n'] == 1 and str(run['hparams', 'n']) == '1'");
        check("params.a IS NULL", "run['hparams', 'a'] is None");
        check("tags.`a b` = 'it''s'", "run['mlflow', 'tags', 'a b'] == 'it\\'s'");
        check("tags.mlflow.runName = 'x'", "run.name == 'x'");
        check("run_id IN ('a', 'b')", "run.hash in ('a', 'b',)");
        check(
            "run_name LIKE 'a%'",
            "run.name is not None and len(run.name) >= 1 and run.name.startswith('a')",
        );
        check("start_time >= 1500", "run.created_at >= 1.5");
        check("status = 'FAILED'", "run.outcome == 'failed'");
        check("status IN ('RUNNING', 'KILLED')", "run.active == True or run.outcome == 'interrupted'");
        check("status = 'nothing'", "False");
        check(
            "dataset.name = 'd'",
            "any(dataset.name == 'd' for dataset in run['mlflow', 'datasets'].values())",
        );
        assert_eq!(query("").unwrap(), "");
    }

    #[test]
    fn comparisons_that_values_do_not_have_are_refused() {
        for filter in [
            "metrics.a LIKE '1'",
            "metrics.a = 'x'",
            "metrics.a IS NULL",
            "params.a = 1",
            "params.a < '1'",
            "params.a IN ('a')",
            "tags.a > 'x'",
            "status < 'x'",
            "start_time = 'x'",
            "artifact_uri = 'x'",
            "nothing = 'x'",
            "dataset.size = 'x'",
            "run_id IS NULL",
        ] {
            query(filter).expect_err(filter);
        }
    }

    #[test]
    fn experiments_and_stages_are_conditions() {
        let names = ["a".to_owned(), "b'".to_owned()];
        let query = run_query(&[], &names, true, ViewType::All).unwrap();
        assert_eq!(
            query,
            "(run.experiment in ('a', 'b\\'') or run.experiment is None) and run.archived in (True, False) and \
             run['mlflow', 'holds_model'] is None"
        );
        assert!(ViewType::parse(Some("OTHER")).is_err());
    }

    #[test]
    fn orders_become_sort_keys() {
        let sort = |text: &str| run_sort(&order::parse(&[text.to_owned()])?);
        let created =
            Sort { by: Some(By::Field(SortField::Created.into())), descending: true, ..Sort::default() };
        assert_eq!(run_sort(&[]).unwrap(), std::slice::from_ref(&created));
        let by_metric = sort("metrics.loss ASC").unwrap();
        assert!(matches!(&by_metric[0].by, Some(By::Metric(key)) if key.name == "loss"));
        assert_eq!(by_metric[1], created);
        assert_eq!(sort("start_time asc").unwrap().len(), 1);
        sort("dataset.name").unwrap_err();
        sort("attribute.nothing").unwrap_err();
    }
}
