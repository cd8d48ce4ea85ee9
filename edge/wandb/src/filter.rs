//! Filters of W&B's public API, in MongoDB's form as JSON, translated to MatyanQL; and W&B's orders as sort keys.

use matyan_proto::runs::v1::ParamPath;
use matyan_proto::search::v1::{Sort, SortField, sort::By};
use serde_json::{Map, Value};

use crate::error::{Result, WandbError};
use crate::json_text::check_values;
use crate::names::{self, CONFIG, RunName, SUMMARY, USED_ARTIFACTS, WANDB};

/// Nesting of conditions.
const MAX_DEPTH: usize = 30;

/// A query over the runs of a project.
pub(crate) fn query(project: &str, filters: Option<&str>) -> Result<String> {
    let of_project = format!("run.experiment == {}", literal(&project.into())?);
    let filters: Value = match filters {
        Some(text) => {
            check_values("`filters`", text.as_bytes())?;
            serde_json::from_str(text)
                .map_err(|error| WandbError::invalid(format!("`filters` is not JSON: {error}")))?
        }
        None => return Ok(of_project),
    };
    match filters {
        Value::Null => Ok(of_project),
        Value::Object(conditions) if conditions.is_empty() => Ok(of_project),
        Value::Object(conditions) => Ok(format!("{of_project} and ({})", all(project, &conditions, 0)?)),
        _ => Err(WandbError::invalid("`filters` must be an object")),
    }
}

/// A query for the runs that have used a version of an artifact.
pub(crate) fn users_of(artifact_id: &str) -> String {
    format!("run['{WANDB}', '{USED_ARTIFACTS}', {}] == True", quoted(artifact_id))
}

fn check_depth(depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(WandbError::invalid(
            "`filters` is nested too deep: use fewer levels of $and, $or and $not",
        ));
    }
    Ok(())
}

fn all(project: &str, conditions: &Map<String, Value>, depth: usize) -> Result<String> {
    check_depth(depth)?;
    let condition = |(key, value): (&String, &Value)| match key.as_str() {
        "$and" => each(project, value, " and ", depth),
        "$or" => each(project, value, " or ", depth),
        "$nor" => Ok(format!("not ({})", each(project, value, " or ", depth)?)),
        "$not" => match value {
            Value::Object(inner) => Ok(format!("not ({})", all(project, inner, depth + 1)?)),
            _ => Err(WandbError::invalid("`$not` must be an object")),
        },
        operator if operator.starts_with('$') => Err(unknown_operator(operator)),
        key => of_field(&Field::new(project, key)?, value, depth),
    };
    let parts = conditions.iter().map(condition).collect::<Result<Vec<_>>>()?;
    Ok(if parts.is_empty() { "True".to_owned() } else { joined(&parts, " and ") })
}

fn joined(parts: &[String], operator: &str) -> String {
    parts.iter().map(|part| format!("({part})")).collect::<Vec<_>>().join(operator)
}

fn each(project: &str, value: &Value, operator: &str, depth: usize) -> Result<String> {
    let problem = || WandbError::invalid("`$and`, `$or` and `$nor` must be lists of objects");
    let Value::Array(members) = value else { return Err(problem()) };
    let member = |member: &Value| match member {
        Value::Object(conditions) => all(project, conditions, depth + 1),
        _ => Err(problem()),
    };
    let parts = members.iter().map(member).collect::<Result<Vec<_>>>()?;
    if parts.is_empty() {
        return Err(problem());
    }
    Ok(joined(&parts, operator))
}

fn unknown_operator(operator: &str) -> WandbError {
    WandbError::invalid(format!(
        "`filters` has the operator `{}`; known are $and, $or, $nor, $not, $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, \
         $exists and $regex",
        operator.escape_debug()
    ))
}

/// The property that a key of a filter names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    /// An expression whose values are compared unchanged.
    Value(String),
    /// An expression that is a time.
    Time(String),
    /// The id of a run of this project.
    Id {
        project: String,
    },
    Tags,
    State,
}

impl Field {
    fn new(project: &str, key: &str) -> Result<Self> {
        let path = |root: &[&str], rest: &str| {
            let segments = root.iter().copied().chain(rest.split('.'));
            Ok(Self::Value(segments.fold("run".to_owned(), |parent, segment| member(&parent, segment))))
        };
        if let Some(rest) = key.strip_prefix("config.") {
            return path(&[CONFIG], rest.strip_suffix(".value").unwrap_or(rest));
        }
        if let Some(rest) = key.strip_prefix("summary_metrics.").or_else(|| key.strip_prefix("summary.")) {
            // W&B's own members have their own params.
            let root: &[&str] =
                if rest.starts_with('_') { &[WANDB, names::INTERNAL_SUMMARY] } else { &[SUMMARY] };
            return path(root, rest);
        }
        Ok(match key {
            "name" => Self::Id { project: project.to_owned() },
            "display_name" | "displayName" => Self::Value("run.name".to_owned()),
            "description" | "notes" => Self::Value("run.description".to_owned()),
            "state" => Self::State,
            "tags" => Self::Tags,
            "group" => return path(&[WANDB], names::GROUP),
            "jobType" | "job_type" => return path(&[WANDB], names::JOB_TYPE),
            "username" | "user" => return path(&[WANDB], names::USER),
            "host" => return path(&[WANDB], names::HOST),
            "created_at" | "createdAt" => Self::Time("run.created_at".to_owned()),
            "heartbeat_at" | "heartbeatAt" => Self::Time("run.end_time".to_owned()),
            "duration" => Self::Value("run.duration".to_owned()),
            _ => {
                return Err(WandbError::invalid(format!(
                    "`filters` has the key `{}`; known are config.…, summary_metrics.…, name, display_name, state, tags, \
                     group, jobType, username, created_at, heartbeat_at and duration",
                    key.escape_debug()
                )));
            }
        })
    }
}

/// The condition on a field: a value, or an object of operators.
fn of_field(field: &Field, value: &Value, depth: usize) -> Result<String> {
    match value {
        Value::Object(operators) if operators.keys().any(|key| key.starts_with('$')) => {
            check_depth(depth)?;
            let part = |(operator, operand): (&String, &Value)| match operator.as_str() {
                "$not" => Ok(format!("not ({})", of_field(field, operand, depth + 1)?)),
                operator => compared(field, operator, operand),
            };
            let parts = operators.iter().map(part).collect::<Result<Vec<_>>>()?;
            Ok(joined(&parts, " and "))
        }
        value => compared(field, "$eq", value),
    }
}

fn compared(field: &Field, operator: &str, operand: &Value) -> Result<String> {
    match operator {
        "$ne" => Ok(format!("not ({})", compared(field, "$eq", operand)?)),
        "$nin" => Ok(format!("not ({})", compared(field, "$in", operand)?)),
        "$in" => {
            let Value::Array(members) = operand else {
                return Err(WandbError::invalid("`$in` must be a list"));
            };
            let parts =
                members.iter().map(|member| compared(field, "$eq", member)).collect::<Result<Vec<_>>>()?;
            Ok(if parts.is_empty() { "False".to_owned() } else { joined(&parts, " or ") })
        }
        operator => match field {
            Field::Value(expression) => of_value(expression, operator, operand),
            Field::Time(expression) => of_time(expression, operator, operand),
            Field::Id { project } => match (operator, operand) {
                ("$eq", Value::String(id)) => {
                    let name = RunName::new(project, id)?;
                    let ids = [literal(&name.run_id().into())?, literal(&name.id.into())?];
                    Ok(format!("run.hash in [{}]", ids.join(", ")))
                }
                _ => of_value("run.hash", operator, operand),
            },
            Field::Tags => match (operator, operand) {
                ("$eq", Value::String(_)) => Ok(format!("{} in run.tags", literal(operand)?)),
                ("$exists", Value::Bool(exists)) => {
                    Ok(format!("len(run.tags) {} 0", if *exists { ">" } else { "==" }))
                }
                _ => Err(WandbError::invalid("a filter on `tags` must be $eq, $ne, $in, $nin or $exists")),
            },
            Field::State => of_state(operator, operand),
        },
    }
}

fn of_value(expression: &str, operator: &str, operand: &Value) -> Result<String> {
    let sign = match operator {
        "$eq" => "==",
        "$gt" => ">",
        "$gte" => ">=",
        "$lt" => "<",
        "$lte" => "<=",
        "$exists" => {
            let is = if operand.as_bool().unwrap_or(true) { "is not" } else { "is" };
            return Ok(format!("{expression} {is} None"));
        }
        "$regex" => return of_pattern(expression, operand),
        operator => return Err(unknown_operator(operator)),
    };
    Ok(format!("{expression} {sign} {}", literal(operand)?))
}

/// MatyanQL has no regular expressions, so only a plain text, with or without anchors, is supported.
fn of_pattern(expression: &str, operand: &Value) -> Result<String> {
    let problem = || {
        WandbError::invalid(
            "`$regex` must be a plain text, which may begin with `^` or `.*`, and end with `$` or `.*`: this server has no \
             regular expressions",
        )
    };
    let pattern = operand.as_str().ok_or_else(problem)?;
    let (is_start, pattern) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
    let (is_end, pattern) = pattern.strip_suffix('$').map_or((false, pattern), |rest| (true, rest));
    let (is_start, pattern) = pattern.strip_prefix(".*").map_or((is_start, pattern), |rest| (false, rest));
    let (is_end, pattern) = pattern.strip_suffix(".*").map_or((is_end, pattern), |rest| (false, rest));
    let text = unescaped(pattern).ok_or_else(problem)?;
    let text = literal(&text.into())?;
    let condition = match (is_start, is_end) {
        (true, true) => format!("{expression} == {text}"),
        (true, false) => format!("{expression}.startswith({text})"),
        (false, true) => format!("{expression}.endswith({text})"),
        (false, false) => format!("{text} in {expression}"),
    };
    Ok(format!("{expression} is not None and {condition}"))
}

/// The plain text of a pattern without special characters.
fn unescaped(pattern: &str) -> Option<String> {
    let mut text = String::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(characters.next().filter(|next| !next.is_alphanumeric())?),
            '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' => return None,
            other => text.push(other),
        }
    }
    Some(text)
}

fn of_time(expression: &str, operator: &str, operand: &Value) -> Result<String> {
    match operand {
        Value::String(text) if operator != "$exists" => {
            let seconds = matyan_value::datetime::parse(text).map(|us| us as f64 / 1e6);
            let seconds = seconds.ok_or_else(|| {
                WandbError::invalid(format!("`{}` in `filters` is not a time", text.escape_debug()))
            })?;
            of_value(expression, operator, &seconds.into())
        }
        operand => of_value(expression, operator, operand),
    }
}

fn of_state(operator: &str, operand: &Value) -> Result<String> {
    let ("$eq", Some(state)) = (operator, operand.as_str()) else {
        return Err(WandbError::invalid("a filter on `state` must be $eq, $ne, $in or $nin with texts"));
    };
    Ok(match state {
        "running" => "run.active".to_owned(),
        "finished" | "failed" => format!("not run.active and run.outcome == \"{state}\""),
        "killed" => "not run.active and run.outcome == \"interrupted\"".to_owned(),
        "crashed" => "not run.active and run.outcome is None".to_owned(),
        // W&B has more states, and no run of this server is in any of them.
        _ => "False".to_owned(),
    })
}

/// A scalar as a literal of MatyanQL.
fn literal(value: &Value) -> Result<String> {
    match value {
        Value::Null => Ok("None".to_owned()),
        Value::Bool(true) => Ok("True".to_owned()),
        Value::Bool(false) => Ok("False".to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        Value::String(text) => Ok(quoted(text)),
        Value::Array(_) | Value::Object(_) => Err(WandbError::invalid(
            "`filters` compares with a list or an object: compare with numbers and texts",
        )),
    }
}

/// Names that cannot be attributes of a map in MatyanQL: keywords of Python, and methods.
const RESERVED: [&str; 52] = [
    "False",
    "None",
    "True",
    "and",
    "as",
    "assert",
    "async",
    "await",
    "break",
    "class",
    "continue",
    "copy",
    "count",
    "contains",
    "def",
    "del",
    "elif",
    "else",
    "except",
    "finally",
    "for",
    "from",
    "get",
    "global",
    "if",
    "import",
    "in",
    "index",
    "is",
    "items",
    "keys",
    "lambda",
    "nonlocal",
    "not",
    "or",
    "pass",
    "raise",
    "return",
    "try",
    "union",
    "values",
    "while",
    "with",
    "yield",
    "difference",
    "intersection",
    "isdisjoint",
    "issubset",
    "issuperset",
    "symmetric_difference",
    "breakpoint",
    "builtins",
];

/// The expression for a member of a map. A missing attribute is `None`, so attributes are used where the name
/// allows it; a missing item makes the query fail for the run.
fn member(parent: &str, name: &str) -> String {
    let is_plain = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !RESERVED.contains(&name);
    if is_plain { format!("{parent}.{name}") } else { format!("{parent}[{}]", quoted(name)) }
}

/// A text in quotes. Nothing in it ends the text or starts an escape sequence.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            character if character.is_ascii_graphic() || character == ' ' => out.push(character),
            character => out.push_str(&format!("\\U{:08x}", u32::from(character))),
        }
    }
    out.push('"');
    out
}

/// The keys to sort by, for an order such as `-summary_metrics.loss`.
pub(crate) fn sort(order: Option<&str>) -> Result<Vec<Sort>> {
    let mut keys = Vec::new();
    for part in order.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (descending, key) = match part.strip_prefix('-') {
            Some(key) => (true, key),
            None => (false, part.strip_prefix('+').unwrap_or(part)),
        };
        keys.push(Sort { by: Some(sort_key(key)?), descending, ..Sort::default() });
    }
    Ok(keys)
}

fn sort_key(key: &str) -> Result<By> {
    let param = |root: &[&str], rest: &str| {
        let segments = root.iter().copied().chain(rest.split('.')).map(str::to_owned).collect();
        By::Param(ParamPath { segments })
    };
    if let Some(rest) = key.strip_prefix("config.") {
        return Ok(param(&[CONFIG], rest.strip_suffix(".value").unwrap_or(rest)));
    }
    if let Some(rest) = key.strip_prefix("summary_metrics.") {
        let root: &[&str] =
            if rest.starts_with('_') { &[WANDB, names::INTERNAL_SUMMARY] } else { &[SUMMARY] };
        return Ok(param(root, rest));
    }
    let field = match key {
        "created_at" | "createdAt" => SortField::Created,
        "heartbeat_at" | "heartbeatAt" | "updated_at" => SortField::Ended,
        "name" => SortField::RunId,
        "display_name" | "displayName" => SortField::Name,
        "duration" => SortField::Duration,
        "state" => SortField::Outcome,
        "group" => return Ok(param(&[WANDB], names::GROUP)),
        "jobType" | "job_type" => return Ok(param(&[WANDB], names::JOB_TYPE)),
        _ => {
            return Err(WandbError::invalid(format!(
                "`order` has the key `{}`; known are created_at, heartbeat_at, name, display_name, duration, state, group, \
                 jobType, config.… and summary_metrics.…",
                key.escape_debug()
            )));
        }
    };
    Ok(By::Field(field.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(filters: &str) -> String {
        let query = query("p", Some(filters)).unwrap();
        query.strip_prefix("run.experiment == \"p\" and (").unwrap().strip_suffix(')').unwrap().to_owned()
    }

    #[test]
    fn conditions_are_translated() {
        for (filters, expected) in [
            (r#"{"config.lr": 0.1}"#, r#"(run.hparams.lr == 0.1)"#),
            (r#"{"config.opt.name.value": {"$ne": "sgd"}}"#, r#"((not (run.hparams.opt.name == "sgd")))"#),
            (
                r#"{"summary_metrics.acc": {"$gt": 0.5, "$lte": 1}}"#,
                r#"((run.summary.acc > 0.5) and (run.summary.acc <= 1))"#,
            ),
            (
                r#"{"$or": [{"state": "running"}, {"tags": {"$in": ["a", "b"]}}]}"#,
                r#"(((run.active)) or ((((("a" in run.tags)) or (("b" in run.tags))))))"#,
            ),
            (
                r#"{"display_name": {"$regex": "^base"}}"#,
                r#"((run.name is not None and run.name.startswith("base")))"#,
            ),
            (r#"{"name": "r1"}"#, r#"(run.hash in ["r1:p", "r1"])"#),
            (r#"{"created_at": {"$gte": "1970-01-01T00:00:10"}}"#, "((run.created_at >= 10.0))"),
            (r#"{"config.x": {"$exists": false}}"#, r#"((run.hparams.x is None))"#),
        ] {
            let without_brackets = |text: &str| text.replace(['(', ')'], "");
            assert_eq!(without_brackets(&translated(filters)), without_brackets(expected), "{filters}");
        }
        assert_eq!(query("p", None).unwrap(), "run.experiment == \"p\"");
        assert_eq!(query("p", Some("{}")).unwrap(), "run.experiment == \"p\"");
    }

    #[test]
    fn rule_112_texts_cannot_leave_their_quotes() {
        assert_eq!(quoted("a\"b\\c\nä"), "\"a\\\"b\\\\c\\U0000000a\\U000000e4\"");
        let filters = serde_json::json!({"config.a\"] or True #": "x"}).to_string();
        assert_eq!(translated(&filters), r#"(run.hparams["a\"] or True #"] == "x")"#);
    }

    #[test]
    fn users_of_an_artifact_have_its_id() {
        assert_eq!(users_of("1\"f"), r#"run['wandb', 'used_artifacts', "1\"f"] == True"#);
    }

    #[test]
    fn unknown_keys_are_named() {
        for (filters, named) in [
            (r#"{"config.a": {"$where": 1}}"#, "$where"),
            (r#"{"nothing": 1}"#, "`nothing`"),
            (r#"{"display_name": {"$regex": "a|b"}}"#, "$regex"),
            (r#"{"config.a": [1]}"#, "list"),
            ("[]", "object"),
            ("{", "JSON"),
        ] {
            let error = query("p", Some(filters)).unwrap_err();
            assert!(error.message.contains(named), "{filters}: {error}");
        }
        assert!(sort(Some("-nothing")).unwrap_err().message.contains("`nothing`"));
    }

    #[test]
    fn orders_are_keys() {
        let keys = sort(Some("+created_at,-summary_metrics.val.acc")).unwrap();
        assert!(!keys[0].descending && keys[1].descending);
        assert_eq!(keys[0].by, Some(By::Field(SortField::Created.into())));
        let segments = ["summary", "val", "acc"].map(str::to_owned).to_vec();
        assert_eq!(keys[1].by, Some(By::Param(ParamPath { segments })));
    }
}
