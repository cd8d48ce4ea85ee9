//! Listing, searching, showing, and changing runs.

mod bin;
mod edits;
mod flags;
mod primary;

use std::io;

use matyan_proto::{
    admin::v1::{ParkRunRequest, ResumeRunRequest, admin_service_client::AdminServiceClient},
    artifacts::v1::{self as artifacts, artifact_service_client::ArtifactServiceClient},
    common::v1::SeriesType,
    runs::v1::{GetRequest, Props, Run, RunParts, SeriesInfo, run_service_client::RunServiceClient},
    search::v1::{
        ExplainRequest, ExplainResponse, Query, QueryError, RunsRequest, SearchKind, Sort, SortField,
        Warning, search_service_client::SearchServiceClient, sort::By,
    },
    series::v1::{self as series, series_service_client::SeriesServiceClient},
};
use matyan_value::json::{self, JsonStyle};
use serde_json::{Map, Value, json};
use tonic::Code;

use super::{
    Error, client,
    connection::Connection,
    output::{Output, cell, duration, moment, notice, number, readable},
    run_error, run_ids,
};

pub(crate) use flags::RunsFlags;
use flags::{RunsCommand, SearchFlags, SortKey};
use primary::PrimaryMetric;

pub(super) async fn run(flags: RunsFlags) -> Result<(), Error> {
    let out = &mut Output::new(flags.client.connection.json);
    let channel = flags.client.connect().await?;
    let mut command = flags.command;
    for run in command.runs_mut() {
        *run = run_ids::complete(&channel, std::mem::take(run)).await?;
    }
    match command {
        RunsCommand::Ls { limit, active, archived } => {
            let mut terms = Vec::new();
            terms.extend(active.then_some("run.active == True"));
            terms.extend(archived.then_some("run.archived == True"));
            let newest =
                Sort { by: Some(By::Field(SortField::Created.into())), descending: true, ..Sort::default() };
            // The server's default order is also newest first, and needs no sort:
            // its list of runs is already in that order.
            let sort = if terms.is_empty() { Vec::new() } else { vec![newest] };
            list(channel, &terms.join(" and "), sort, limit, out).await
        }
        RunsCommand::Search(flags) if flags.explain => explain(channel, flags.query, out).await,
        RunsCommand::Search(flags) => {
            let sort = vec![sort(&flags)];
            list(channel, &flags.query, sort, flags.limit, out).await
        }
        RunsCommand::Show { run, system } => show(channel, run, system, out).await,
        RunsCommand::Rm { runs, yes } => edits::remove(channel, runs, yes, out).await,
        RunsCommand::Bin { limit } => bin::list(channel, limit, out).await,
        RunsCommand::Restore { runs } => bin::restore(channel, runs, out).await,
        RunsCommand::Purge { runs, yes } => bin::purge(channel, runs, yes, out).await,
        RunsCommand::Park { run, reason } => {
            let mut admin = client!(AdminServiceClient, channel);
            admin.park_run(ParkRunRequest { run_id: run.clone(), reason }).await?;
            report(out, &run, "parked", "its records are parked from now on")
        }
        RunsCommand::Resume { run } => {
            let mut admin = client!(AdminServiceClient, channel);
            admin.resume_run(ResumeRunRequest { run_id: run.clone() }).await?;
            report(out, &run, "resumed", "its parked records will be applied")
        }
        RunsCommand::Archive { runs, undo } => edits::archive(channel, runs, !undo, out).await,
        RunsCommand::Tag { runs, tag } => edits::tag(channel, runs, tag, out).await,
        RunsCommand::Untag { runs, tag } => edits::untag(channel, runs, tag, out).await,
        RunsCommand::Move { runs, target } => edits::move_to(channel, runs, target.to, out).await,
    }
}

fn report(out: &mut Output, run: &str, state: &str, text: &str) -> Result<(), Error> {
    out.result(&json!({"run_id": run, "state": state}), format!("{run}: {text}"))?;
    Ok(())
}

fn sort(flags: &SearchFlags) -> Sort {
    let field = match flags.sort {
        SortKey::Created => SortField::Created,
        SortKey::Ended => SortField::Ended,
        SortKey::Duration => SortField::Duration,
        SortKey::Outcome => SortField::Outcome,
        SortKey::Name => SortField::Name,
        SortKey::Experiment => SortField::Experiment,
        SortKey::Tags => SortField::Tags,
        SortKey::Id => SortField::RunId,
    };
    Sort { by: Some(By::Field(field.into())), descending: !flags.ascending, ..Sort::default() }
}

fn query(text: &str) -> Query {
    Query { text: text.to_owned(), ..Query::default() }
}

/// Lists runs: for programs as they are found, for users as a table, whose column widths depend
/// on all rows.
async fn list(
    channel: Connection,
    text: &str,
    sort: Vec<Sort>,
    limit: u32,
    out: &mut Output,
) -> Result<(), Error> {
    let primary = PrimaryMetric::read(channel.clone()).await?;
    let mut parts = RunParts { props: true, ..RunParts::default() };
    if let Some(primary) = &primary {
        primary.add_parts(&mut parts);
    }
    let request =
        RunsRequest { query: Some(query(text)), sort, limit, parts: Some(parts), ..RunsRequest::default() };
    let mut search = client!(SearchServiceClient, channel.clone());
    let mut messages = match search.runs(request).await {
        Ok(messages) => messages.into_inner(),
        Err(status) if status.code() == Code::InvalidArgument => {
            return Err(query_error(channel, SearchKind::Runs, text, status).await);
        }
        Err(status) => return Err(status.into()),
    };
    let mut rows = Vec::new();
    let mut is_complete = false;
    loop {
        let message = match messages.message().await {
            Ok(Some(message)) => message,
            Ok(None) => break,
            Err(status) if status.code() == Code::InvalidArgument => {
                return Err(query_error(channel, SearchKind::Runs, text, status).await);
            }
            Err(status) => return Err(status.into()),
        };
        // On standard error, so that the output can still be parsed.
        for warning in &message.warnings {
            notice(format!("warning: {}", warning.message));
        }
        for run in &message.runs {
            if out.json {
                out.object(&listed_json(run, primary.as_ref()))?;
            } else {
                rows.push(row(run, primary.as_ref()));
            }
        }
        is_complete = message.done;
    }
    if !out.json {
        print_table(&rows, primary.as_ref(), out)?;
    }
    if !is_complete {
        return Err(Error::Message("the response ended early: try again".to_owned()));
    }
    Ok(())
}

/// Prints runs. The value of the primary metric comes before the tags, which may be long.
fn print_table(rows: &[[String; 8]], primary: Option<&PrimaryMetric>, out: &mut Output) -> io::Result<()> {
    let Some(primary) = primary else {
        let rows: Vec<[String; 7]> = rows
            .iter()
            .map(|[run, name, experiment, created, took, state, _, tags]| {
                [run, name, experiment, created, took, state, tags].map(Clone::clone)
            })
            .collect();
        return out.table(["RUN", "NAME", "EXPERIMENT", "CREATED (UTC)", "TOOK", "STATE", "TAGS"], &rows);
    };
    let value = primary.heading();
    out.table(["RUN", "NAME", "EXPERIMENT", "CREATED (UTC)", "TOOK", "STATE", value.as_str(), "TAGS"], rows)
}

/// The search for series of a type.
pub(super) fn search_kind(objects: SeriesType) -> SearchKind {
    match objects {
        SeriesType::Images => SearchKind::Images,
        SeriesType::Texts => SearchKind::Texts,
        SeriesType::Distributions => SearchKind::Distributions,
        SeriesType::Audios => SearchKind::Audios,
        SeriesType::Figures => SearchKind::Figures,
        SeriesType::Htmls => SearchKind::Htmls,
        SeriesType::PointClouds => SearchKind::PointClouds,
        SeriesType::Metric => SearchKind::Metrics,
        SeriesType::Unspecified => SearchKind::Runs,
    }
}

/// Error for an invalid query, with a marker below the position given in the server's
/// explanation.
pub(super) async fn query_error(
    channel: Connection,
    kind: SearchKind,
    text: &str,
    status: tonic::Status,
) -> Error {
    let request = ExplainRequest { kind: kind.into(), query: Some(query(text)) };
    let explained = client!(SearchServiceClient, channel).explain(request).await;
    match explained.ok().and_then(|explained| explained.into_inner().error) {
        Some(error) => Error::Message(format!(
            "invalid query: {}{}\nSee `matyan runs search --help` for examples",
            error.message,
            error_marker(text, &error)
        )),
        None => status.into(),
    }
}

/// The line of the query, with a marker below it that shows the expected text.
fn error_marker(text: &str, error: &QueryError) -> String {
    let Some(shown) = text.lines().nth((error.line as usize).wrapping_sub(1)) else { return String::new() };
    let blank = " ".repeat((error.column as usize).saturating_sub(1));
    let mark = "^".repeat((error.end_column.saturating_sub(error.column) as usize).max(1));
    let expected = error.expected.as_ref().map(|it| format!(" expected {it}")).unwrap_or_default();
    format!("\n  {shown}\n  {blank}{mark}{expected}")
}

fn names(props: &Props) -> Vec<&str> {
    props.tags.iter().map(|tag| tag.name.as_str()).collect()
}

fn state(props: &Props) -> &'static str {
    match (props.active, props.archived) {
        (true, false) => "active",
        (true, true) => "active, archived",
        (false, true) => "archived",
        // Without a report, all that is known is that the run does not continue.
        (false, false) => {
            props.outcome.as_ref().and_then(|outcome| outcome.kind().name()).unwrap_or("finished")
        }
    }
}

fn row(run: &Run, primary: Option<&PrimaryMetric>) -> [String; 8] {
    let props = run.props.clone().unwrap_or_default();
    [
        cell(&run.run_id),
        cell(&props.name),
        props.experiment.as_ref().map(|it| cell(&it.name)).unwrap_or_default(),
        moment(props.created_us),
        props.ended_us.map(|ended| duration(ended - props.created_us)).unwrap_or_default(),
        state(&props).to_owned(),
        primary.map(|primary| primary.text(run)).unwrap_or_default(),
        cell(&names(&props).join(", ")),
    ]
}

/// A run in a list, with its value of the primary metric if the project has one.
fn listed_json(run: &Run, primary: Option<&PrimaryMetric>) -> Value {
    let mut shown = run_json(run);
    if let Some(primary) = primary {
        let value = primary.value(run).map(json_number);
        shown["primary_metric"] = json!({"name": primary.name(), "value": value});
    }
    shown
}

fn run_json(run: &Run) -> Value {
    let props = run.props.clone().unwrap_or_default();
    json!({
        "run_id": run.run_id,
        "name": props.name,
        "description": props.description,
        "experiment": props.experiment.as_ref().map(|it| &it.name),
        "tags": names(&props),
        "creation_time": props.created_us as f64 / 1e6,
        "end_time": props.ended_us.map(|ended| ended as f64 / 1e6),
        "archived": props.archived,
        "active": props.active,
        "outcome": props.outcome.as_ref().and_then(|outcome| outcome.kind().name()),
        "outcome_message": props.outcome.as_ref().map(|outcome| &outcome.message),
        "client": props.client,
        "parent": props.parent.as_ref().map(|it| json!({"run_id": it.run_id, "step": it.step})),
    })
}

async fn explain(channel: Connection, text: String, out: &mut Output) -> Result<(), Error> {
    let request = ExplainRequest { kind: SearchKind::Runs.into(), query: Some(query(&text)) };
    let answer = client!(SearchServiceClient, channel).explain(request).await?.into_inner();
    if let Some(error) = &answer.error {
        let marker = error_marker(&text, error);
        return Err(Error::Message(format!(
            "invalid query: {}{marker}\nSee `matyan runs search --help` for examples",
            error.message
        )));
    }
    if out.json {
        return Ok(out.object(&explained_json(&answer))?);
    }
    out.line(format!("query     {}", answer.normalized))?;
    out.line(format!("answered  {}", execution_summary(&answer)))?;
    out.line("plan")?;
    for line in answer.plan.lines() {
        out.line(format!("  {line}"))?;
    }
    for Warning { message, .. } in &answer.warnings {
        out.line(format!("warning   {message}"))?;
    }
    Ok(())
}

fn execution_summary(answer: &ExplainResponse) -> String {
    let candidates = answer.candidates;
    match (answer.full_scan, answer.exact) {
        (true, _) => "by scanning all runs: no index narrows the search".to_owned(),
        (false, true) => format!("by indexes alone, {candidates} runs"),
        (false, false) => format!("by checking {candidates} runs that indexes propose"),
    }
}

fn explained_json(answer: &ExplainResponse) -> Value {
    json!({
        "normalized": answer.normalized,
        "plan": answer.plan,
        "full_scan": answer.full_scan,
        "exact": answer.exact,
        "candidates": answer.candidates,
        "warnings": answer.warnings.iter().map(|it| &it.message).collect::<Vec<_>>(),
    })
}

/// Fetches the series and artifacts that did not fit in the message of a run.
async fn complete(run: &mut Run, channel: Connection) -> Result<(), Error> {
    if run.more_series {
        let request = series::ListRequest { run_id: run.run_id.clone(), ..series::ListRequest::default() };
        let mut messages = client!(SeriesServiceClient, channel.clone()).list(request).await?.into_inner();
        run.series.clear();
        while let Some(message) = messages.message().await? {
            run.series.extend(message.series);
        }
    }
    if run.more_artifacts {
        let request =
            artifacts::ListRequest { run_id: run.run_id.clone(), ..artifacts::ListRequest::default() };
        let mut messages = client!(ArtifactServiceClient, channel).list(request).await?.into_inner();
        run.artifacts.clear();
        while let Some(message) = messages.message().await? {
            run.artifacts.extend(message.artifacts);
        }
    }
    Ok(())
}

async fn show(channel: Connection, run_id: String, system: bool, out: &mut Output) -> Result<(), Error> {
    // All series types that this version supports.
    let types = (1..).map_while(|number| SeriesType::try_from(number).ok()).map(i32::from).collect();
    let parts = RunParts {
        props: true,
        params: true,
        system_params: system,
        series_types: types,
        artifacts: true,
        ..RunParts::default()
    };
    let request = GetRequest { run_id: run_id.clone(), parts: Some(parts) };
    let answer = client!(RunServiceClient, channel.clone()).get(request).await.map_err(run_error(&run_id))?;
    let mut run = answer.into_inner().run.unwrap_or_default();
    complete(&mut run, channel).await?;
    // JSON has no NaN and no infinities, so they are shown as texts.
    let params = readable(json::cbor_text(&run.params, JsonStyle::AIM).ok(), "the params")?;
    if out.json {
        let mut shown = run_json(&run);
        shown["params"] = params;
        shown["series"] = run.series.iter().map(series_json).collect();
        shown["artifacts"] =
            run.artifacts.iter().map(|it| json!({"path": it.path, "size": it.size})).collect();
        return Ok(out.object(&shown)?);
    }
    show_props(&run, out)?;
    let mut leaves = Vec::new();
    flatten("", &params, &mut leaves);
    if !leaves.is_empty() {
        out.line("")?;
        out.table(["PARAM", "VALUE"], &leaves)?;
    }
    if !run.series.is_empty() {
        out.line("")?;
        let rows: Vec<_> = run.series.iter().map(series_row).collect();
        out.table(["SERIES", "CONTEXT", "TYPE", "POINTS", "LAST STEP", "LAST"], &rows)?;
    }
    if !run.artifacts.is_empty() {
        out.line("")?;
        let mut rows = Vec::new();
        for artifact in &run.artifacts {
            let size = artifact.size.map(|size| size.to_string()).unwrap_or_default();
            rows.push([cell(&artifact.path), size]);
        }
        out.table(["ARTIFACT", "BYTES"], &rows)?;
    }
    Ok(())
}

fn show_props(run: &Run, out: &mut Output) -> io::Result<()> {
    let props = run.props.clone().unwrap_or_default();
    let ended =
        props.ended_us.map(|ended| format!("{} ({})", moment(ended), duration(ended - props.created_us)));
    let parent = props.parent.as_ref().map(|parent| match parent.step {
        Some(step) => format!("{}, up to step {step}", cell(&parent.run_id)),
        None => cell(&parent.run_id),
    });
    let lines = [
        ("run", cell(&run.run_id)),
        ("parent", parent.unwrap_or_default()),
        ("name", cell(&props.name)),
        ("description", cell(&props.description)),
        ("experiment", props.experiment.as_ref().map(|it| cell(&it.name)).unwrap_or_default()),
        ("tags", cell(&names(&props).join(", "))),
        ("state", state(&props).to_owned()),
        ("message", props.outcome.as_ref().map(|it| cell(&it.message)).unwrap_or_default()),
        ("created", moment(props.created_us)),
        ("ended", ended.unwrap_or_default()),
        ("client", cell(&props.client)),
    ];
    lines
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .try_for_each(|(name, value)| out.line(format!("{name:<12}{value}")))
}

/// Collects the leaves of a tree, with the path to each.
fn flatten(path: &str, value: &Value, leaves: &mut Vec<[String; 2]>) {
    match value {
        Value::Object(members) if !members.is_empty() || path.is_empty() => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, member, leaves);
            }
        }
        leaf => leaves.push([cell(path), cell(&leaf.to_string())]),
    }
}

fn series_type(series: &SeriesInfo) -> String {
    series.r#type().as_str_name().trim_start_matches("SERIES_TYPE_").to_lowercase()
}

pub(super) fn series_json(series: &SeriesInfo) -> Value {
    let context = readable(json::rewrite(&series.context, JsonStyle::STRICT).ok(), "a context")
        .unwrap_or_else(|_| Value::Object(Map::new()));
    let mut shown = json!({
        "name": series.name,
        "context": context,
        "type": series_type(series),
        "points": series.count,
        "first_step": series.first_step,
        "last_step": series.last_step,
    });
    let summary = [("last", series.last), ("first", series.first), ("min", series.min), ("max", series.max)];
    for (name, value) in summary {
        if let Some(value) = value {
            shown[name] = json_number(value);
        }
    }
    shown
}

/// A number, or the text of a number that JSON does not have.
pub(super) fn json_number(value: f64) -> Value {
    if value.is_finite() {
        return Value::from(value);
    }
    let mut text = String::new();
    json::write_float(&mut text, value, JsonStyle::AIM);
    serde_json::from_str(&text).expect("the writer writes JSON")
}

pub(super) fn series_row(series: &SeriesInfo) -> [String; 6] {
    let context = if series.context == "{}" { "" } else { &series.context };
    [
        cell(&series.name),
        cell(context),
        series_type(series),
        series.count.to_string(),
        series.last_step.to_string(),
        series.last.map(number).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use matyan_proto::common::v1::{Outcome, OutcomeKind};

    use super::*;

    #[test]
    fn numbers_that_json_does_not_have_are_texts() {
        let series = SeriesInfo {
            last: Some(f64::NAN),
            max: Some(f64::INFINITY),
            min: Some(1.5),
            ..Default::default()
        };
        let shown = series_json(&series);
        assert_eq!(
            (&shown["last"], &shown["max"], &shown["min"]),
            (&json!("NaN"), &json!("inf"), &json!(1.5))
        );
    }

    #[test]
    fn the_outcome_is_shown_with_its_message() {
        let outcome = Some(Outcome { kind: OutcomeKind::Failed.into(), message: "out of memory".into() });
        let run = Run { props: Some(Props { outcome, ..Default::default() }), ..Default::default() };
        let shown = run_json(&run);
        assert_eq!(
            (&shown["outcome"], &shown["outcome_message"]),
            (&json!("failed"), &json!("out of memory"))
        );
        let unknown = run_json(&Run::default());
        assert_eq!((&unknown["outcome"], &unknown["outcome_message"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn the_position_of_an_error_is_marked() {
        let check = |text: &str, (line, column, end_column), expected: Option<&str>, marked: &str| {
            let expected = expected.map(str::to_owned);
            let error = QueryError { line, column, end_column, expected, ..QueryError::default() };
            assert_eq!(error_marker(text, &error), marked);
        };
        check("run.x ==", (1, 7, 9), None, "\n  run.x ==\n        ^^");
        check("a and\nb b", (2, 3, 3), Some("an operator"), "\n  b b\n    ^ expected an operator");
        check("", (0, 0, 0), Some("an expression"), "");
    }

    #[test]
    fn params_are_flattened_to_their_leaves() {
        let mut leaves = Vec::new();
        flatten("", &json!({"a": {"b": 1, "c": {}}, "d": [1, {"e": null}]}), &mut leaves);
        let expected = [["a.b", "1"], ["a.c", "{}"], ["d", "[1,{\"e\":null}]"]];
        assert_eq!(leaves, expected.map(|row| row.map(str::to_owned)));
        flatten("", &json!({}), &mut leaves);
        assert_eq!(leaves.len(), 3, "no params are no rows");
    }
}
