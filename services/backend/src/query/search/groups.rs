//! Groups of matching runs, from the table of the project.

use std::sync::Arc;

use matyan_proto::search::v1::{
    self as pb, Aggregate, AggregateValue, Group, GroupBy, GroupOrder, GroupValue, GroupsRequest,
    GroupsResponse, Query, aggregate::Of, group_by::By, group_value,
};
use matyan_ql::Endpoint;
use prost::Message;

use crate::{
    listing::{Cursor, GroupToken, MAX_VALUES, TEXT_BYTES, Term, request_digest},
    query::{
        candidates::always_raised_warning,
        plan::query_text,
        table::{
            GroupNumber, GroupQuery, GroupRow, GroupStart, RunTables, RunValue, TableQuery, ValueSource,
        },
    },
    server::{
        call::Call,
        convert,
        deps::Deps,
        error::{Error, Result},
    },
};

const MAX_AGGREGATES: usize = 16;
const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;

pub(super) async fn groups(
    deps: &Arc<Deps>,
    tables: &RunTables,
    call: &Call,
    request: GroupsRequest,
) -> Result<GroupsResponse> {
    let values = request.by.len();
    let by = group_values("by", request.by.clone())?;
    let summaries = summaries(request.aggregates.clone())?;
    let order = group_order(&request, summaries.len())?;
    convert::check_limit("prefix", request.prefix.len(), TEXT_BYTES)?;
    convert::check_limit("limit", request.limit as usize, MAX_LIMIT as usize)?;
    let digest = list_digest(&request);
    let cursor = match request.cursor.as_str() {
        "" => None,
        text => Some(Cursor::decode(text, digest, values)?),
    };
    let now_us = cursor.as_ref().map_or_else(|| (deps.clock)(), |cursor| cursor.now_us);
    let query = request.query.clone();
    let compiled = query_text::compile_query_at(&deps.evaluation, now_us, query, Endpoint::Run).await?;
    let compiled = Arc::new(compiled);
    let mut warnings = compiled.warnings.clone();
    let query = GroupQuery {
        project: call.project,
        query: TableQuery::new(deps, call.project, compiled).await?,
        by: by.clone(),
        summaries,
        order,
        order_summary: request.order_aggregate as usize,
        descending: request.descending,
        prefix: request.prefix.clone(),
        limit: if request.limit == 0 { DEFAULT_LIMIT } else { request.limit } as usize,
        now_us,
        newest: cursor.as_ref().map(|cursor| cursor.newest),
    };
    let start = cursor.map(|Cursor { terms, number, .. }| GroupStart { terms, number });
    let page = tables.groups(deps, query, start).await?;
    let next = page.groups.last().filter(|_| page.more).map(|last| {
        let number = last.number.clone();
        let newest = page.newest;
        let run_id = String::new();
        Cursor { request: digest, now_us, newest, terms: last.terms.clone(), run_id, number }
    });
    warnings.extend(page.always_raised.then(always_raised_warning));
    Ok(GroupsResponse {
        groups: page.groups.into_iter().map(|row| group(&request.by, &by, row)).collect(),
        next_cursor: next.map(|cursor| cursor.encode()).unwrap_or_default(),
        group_count: page.group_count,
        run_count: page.run_count,
        warnings,
    })
}

/// The values that runs are grouped by.
pub(super) fn group_values(field: &'static str, by: Vec<GroupBy>) -> Result<Vec<RunValue>> {
    if by.is_empty() {
        return Err(Error::field(field, "is empty: name one to three values to group by"));
    }
    convert::check_limit(field, by.len(), MAX_VALUES)?;
    let value = |GroupBy { by, metric_value }: GroupBy| {
        let source = by.map(|by| match by {
            By::Field(named) => ValueSource::Field(named),
            By::Param(path) => ValueSource::Param(path),
            By::Metric(key) => ValueSource::Metric(key, metric_value),
        });
        match RunValue::parse(field, source)? {
            RunValue::Created | RunValue::Duration | RunValue::Ended | RunValue::Description => {
                Err(Error::field(field, "contains a field of which nearly every run has its own value"))
            }
            value => Ok(value),
        }
    };
    by.into_iter().map(value).collect()
}

fn summaries(aggregates: Vec<Aggregate>) -> Result<Vec<RunValue>> {
    convert::check_limit("aggregates", aggregates.len(), MAX_AGGREGATES)?;
    aggregates.into_iter().map(aggregated_value).collect()
}

fn aggregated_value(Aggregate { of, metric_value }: Aggregate) -> Result<RunValue> {
    let source = of.map(|of| match of {
        Of::Field(named) => ValueSource::Field(named),
        Of::Param(path) => ValueSource::Param(path),
        Of::Metric(key) => ValueSource::Metric(key, metric_value),
    });
    let value = RunValue::parse("aggregates", source)?;
    let is_number = matches!(
        value,
        RunValue::Created | RunValue::Duration | RunValue::Ended | RunValue::Param(_) | RunValue::Metric(_)
    );
    if is_number { Ok(value) } else { Err(Error::field("aggregates", "contains a field that is no number")) }
}

fn group_order(request: &GroupsRequest, summaries: usize) -> Result<Option<GroupNumber>> {
    let order = match GroupOrder::try_from(request.order) {
        Err(_) => return Err(Error::field("order", "is unknown")),
        Ok(GroupOrder::Unspecified | GroupOrder::Values) => return Ok(None),
        Ok(GroupOrder::Count) => return Ok(Some(GroupNumber::Count)),
        Ok(GroupOrder::Mean) => GroupNumber::Mean,
        Ok(GroupOrder::Min) => GroupNumber::Min,
        Ok(GroupOrder::Max) => GroupNumber::Max,
    };
    match request.order_aggregate as usize {
        _ if summaries == 0 => Err(Error::field("order", "needs an aggregate: add one to `aggregates`")),
        index if index >= summaries => Err(Error::field(
            "order_aggregate",
            "is not the index of one of `aggregates`, which count from 0",
        )),
        _ => Ok(Some(order)),
    }
}

/// A digest of everything in a request but the size and the place of its page.
fn list_digest(request: &GroupsRequest) -> u64 {
    let query = request.query.as_ref().map(|query| Query { report_progress: false, ..query.clone() });
    let list = GroupsRequest { query, limit: 0, cursor: String::new(), ..request.clone() };
    request_digest(&[&list.encode_to_vec()])
}

fn group(named: &[GroupBy], by: &[RunValue], row: GroupRow) -> Group {
    let values = row.terms.iter().zip(by).map(|(term, value)| GroupValue { value: group_value(term, value) });
    let aggregates = row.summaries.iter().map(|summary| {
        let known = |value: f64| (summary.count > 0).then_some(value);
        AggregateValue {
            count: summary.count,
            mean: known(summary.mean),
            min: known(summary.min),
            max: known(summary.max),
        }
    });
    Group {
        values: values.collect(),
        run_count: row.runs,
        aggregates: aggregates.collect(),
        token: GroupToken { by: named.to_vec(), terms: row.terms.clone() }.encode(),
    }
}

fn group_value(term: &Term, value: &RunValue) -> Option<pb::group_value::Value> {
    match term {
        Term::Absent => None,
        Term::Text(text) if text.is_empty() && *value == RunValue::Experiment => None,
        Term::Text(_) | Term::LongText(_) => {
            term.shown_text().map(|text| group_value::Value::Text(text.to_owned()))
        }
        Term::Integer(integer) => Some(group_value::Value::Integer(*integer)),
        Term::Float(number) => Some(group_value::Value::Number(*number)),
        Term::Bool(flag) => Some(group_value::Value::Flag(*flag)),
    }
}
