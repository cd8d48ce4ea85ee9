//! Projects, and the runs of a project.

use matyan_proto::experiments::v1::ListRequest;
use matyan_proto::runs::v1::Run;
use matyan_proto::search::v1::{Query, RunsRequest};
use serde_json::{Value, json};

use crate::budget::{Resource, held_bytes};
use crate::call::CallContext;
use crate::error::{Result, WandbError};
use crate::files::{EDGES, edge};
use crate::filter;
use crate::node::{Arguments, Node, Selection};
use crate::run_view::{ENTITY, PARAM_MEMBERS, RunSnapshot, parts, parts_without_params, project_node};

/// Runs on a page.
const DEFAULT_PAGE: i64 = 50;
const MAX_PAGE: i64 = 1_000;

/// Bytes of the configs and summaries on a page with more than one run. A page ends before it exceeds this size, and
/// its client asks for the next page.
const PAGE_BYTES: usize = 32 << 20;

/// A page of the runs of a project, with as many of the wanted runs as fit.
pub(crate) async fn runs(context: &CallContext, project: &Node, arguments: &Arguments) -> Result<Value> {
    let name = project.known("name")?;
    let entity = project.known(ENTITY)?;
    let limit = arguments.integer("first")?.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    let request = RunsRequest {
        query: Some(Query { text: filter::query(name, arguments.text("filters")?)?, ..Query::default() }),
        sort: filter::sort(arguments.text("order")?)?,
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        cursor: arguments.text("after")?.unwrap_or_default().to_owned(),
        parts: Some(parts()),
        count: true,
        ..RunsRequest::default()
    };
    let FoundRuns { nodes, total, next_cursor } = fitting_page(context, entity, request).await?;
    // Older clients continue after the last edge.
    let edges: Value = nodes.into_iter().map(|node| edge(node, next_cursor.clone())).collect();
    let mut connection = json!({
        "pageInfo": {"endCursor": next_cursor, "hasNextPage": !next_cursor.is_empty()},
        "totalCount": total,
    });
    connection[EDGES] = edges;
    Ok(connection)
}

/// All runs that have used a version of an artifact: the field has no pages. Their params are read only if the client has
/// selected a field that is made of params.
pub(crate) async fn users_of(
    context: &CallContext,
    artifact: &Node,
    selection: Selection<'_>,
) -> Result<Value> {
    let parts = if selection.has_any(&PARAM_MEMBERS) { parts() } else { parts_without_params() };
    let mut request = RunsRequest {
        query: Some(Query { text: filter::users_of(artifact.known("id")?), ..Query::default() }),
        limit: u32::try_from(MAX_PAGE).unwrap_or(u32::MAX),
        parts: Some(parts),
        ..RunsRequest::default()
    };
    let entity = artifact.known(ENTITY)?;
    let mut users = Vec::new();
    loop {
        let FoundRuns { nodes, next_cursor, .. } = fitting_page(context, entity, request.clone()).await?;
        add_users(context, &mut users, nodes)?;
        if next_cursor.is_empty() {
            let total = users.len();
            return Ok(crate::files::connection(users, 0, total));
        }
        request.cursor = next_cursor;
    }
}

/// Adds the runs of a page. They take up memory from now on, while the answer is charged only once it is complete.
fn add_users(context: &CallContext, users: &mut Vec<Value>, page: Vec<Value>) -> Result<()> {
    context.budget.charge(Resource::Rows, page.len())?;
    context.budget.take(page.iter().map(held_bytes).sum())?;
    users.extend(page);
    Ok(())
}

/// A page with as many of the wanted runs as fit.
async fn fitting_page(context: &CallContext, entity: &str, mut request: RunsRequest) -> Result<FoundRuns> {
    loop {
        match read_page(context, entity, request.clone()).await? {
            RunPage::Complete(found) => return Ok(found),
            RunPage::TooLarge { fitting_runs } if fitting_runs < request.limit => {
                request.limit = fitting_runs;
            }
            RunPage::TooLarge { .. } => return Err(WandbError::broken("limit")),
        }
    }
}

/// The runs of a page.
struct FoundRuns {
    nodes: Vec<Value>,
    /// The number of all matching runs, if it is known.
    total: Option<u64>,
    /// Empty: no runs follow.
    next_cursor: String,
}

enum RunPage {
    Complete(FoundRuns),
    /// The page exceeds `PAGE_BYTES`. At least one run fits, and fewer than were asked for.
    TooLarge {
        fitting_runs: u32,
    },
}

async fn read_page(context: &CallContext, entity: &str, request: RunsRequest) -> Result<RunPage> {
    let mut messages = context.channels.search().runs(request).await?.into_inner();
    let mut nodes = Vec::new();
    let mut total = None;
    let mut cursor = None;
    let mut bytes = 0;
    while let Some(message) = messages.message().await? {
        total = message.match_count.or(total);
        if message.done {
            cursor = Some(message.next_cursor);
        }
        let before = bytes;
        for (index, run) in message.runs.iter().enumerate() {
            bytes += run.params.len();
            let fitting_runs = nodes.len() + index;
            if bytes > PAGE_BYTES && fitting_runs > 0 {
                let fitting_runs = u32::try_from(fitting_runs).unwrap_or(u32::MAX);
                return Ok(RunPage::TooLarge { fitting_runs });
            }
        }
        let made = run_nodes(message.runs, entity.to_owned());
        nodes.extend(context.large_work.run(bytes - before, made).await?);
    }
    let next_cursor = cursor.ok_or_else(|| WandbError::broken("done"))?;
    Ok(RunPage::Complete(FoundRuns { nodes, total, next_cursor }))
}

/// Makes the nodes of runs.
fn run_nodes(runs: Vec<Run>, entity: String) -> impl FnOnce() -> Result<Vec<Value>> {
    move || runs.into_iter().map(|run| Ok(RunSnapshot::new(run)?.node(&entity))).collect()
}

/// The number of runs of a project.
pub(crate) async fn run_count(context: &CallContext, project: &Node, arguments: &Arguments) -> Result<Value> {
    let request = RunsRequest {
        query: Some(Query {
            text: filter::query(project.known("name")?, arguments.text("filters")?)?,
            ..Query::default()
        }),
        limit: 1,
        ids_only: true,
        count: true,
        ..RunsRequest::default()
    };
    let mut messages = context.channels.search().runs(request).await?.into_inner();
    let mut total = 0;
    let mut is_complete = false;
    while let Some(message) = messages.message().await? {
        total = message.match_count.unwrap_or(total);
        is_complete = message.done;
    }
    if is_complete { Ok(total.into()) } else { Err(WandbError::broken("done")) }
}

/// The projects: all experiments that are not archived.
pub(crate) async fn projects(context: &CallContext, entity: &str, arguments: &Arguments) -> Result<Value> {
    let (start, length) = crate::files::page(arguments)?;
    let mut messages = context.channels.experiments().list(ListRequest::default()).await?.into_inner();
    let mut names = Vec::new();
    while let Some(message) = messages.message().await? {
        let shown = message.experiments.into_iter().filter(|experiment| !experiment.archived);
        names.extend(shown.map(|experiment| (experiment.name, experiment.created_us)));
    }
    let total = names.len();
    let nodes = names.into_iter().skip(start).take(length).map(|(name, created_us)| {
        let mut node = project_node(&name, entity);
        if let Some(created_us) = created_us {
            node["createdAt"] = crate::names::time_text(created_us).into();
        }
        node
    });
    Ok(crate::files::connection(nodes.collect(), start, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_context::empty_context;

    #[test]
    fn rule_114_users_of_a_version_take_up_memory_of_the_port_while_others_are_read() {
        let (context, _) = empty_context();
        let mut users = Vec::new();
        for pages in 1..=3 {
            add_users(&context, &mut users, vec![json!({"config": "x".repeat(1_000)})]).unwrap();
            assert!(context.budget.taken() > pages * 1_000, "{pages} pages");
        }
        let most = usize::try_from(context.budget.left(Resource::Rows)).unwrap();
        add_users(&context, &mut users, vec![Value::Null; most + 1]).unwrap_err();
        assert_eq!(users.len(), 3);
    }
}
