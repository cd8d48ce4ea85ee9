//! Explains the meaning and the execution plan of a query without running it.

use matyan_proto::search::v1::{ExplainRequest, ExplainResponse, QueryError, SearchKind};
use matyan_ql::{AccessPath, Endpoint, Plan, Statistics as _};

use crate::{
    query::plan::{
        RenewedSnapshot,
        index::{self, ProbeCounts},
        propose_runs, query_text,
    },
    server::{
        call::Call,
        deps::Deps,
        error::{Error, Result},
        text_position::TextPosition,
    },
};

/// Maximum number of candidates to report.
const COUNTED: usize = 10_000;

pub(super) async fn explain(deps: &Deps, call: &Call, request: ExplainRequest) -> Result<ExplainResponse> {
    let endpoint = match request.kind() {
        SearchKind::Unspecified => return Err(Error::field("kind", "is missing: name a kind of search")),
        SearchKind::Runs => Endpoint::Run,
        SearchKind::Metrics => Endpoint::Metric,
        SearchKind::Images => Endpoint::Images,
        SearchKind::Texts => Endpoint::Texts,
        SearchKind::Distributions => Endpoint::Distributions,
        SearchKind::Audios => Endpoint::Audios,
        SearchKind::Figures => Endpoint::Figures,
        SearchKind::Htmls => Endpoint::Htmls,
        SearchKind::PointClouds => Endpoint::PointClouds,
    };
    let compiled = match query_text::compile_query(deps, request.query, endpoint).await {
        Ok(compiled) => compiled,
        Err(Error::InvalidQuery { error, position }) => {
            let TextPosition { line, column, end_column } = position;
            let matyan_ql::QueryError { message, expected, .. } = *error;
            let error = QueryError { message, line, column, end_column, expected };
            return Ok(ExplainResponse { error: Some(error), ..ExplainResponse::default() });
        }
        Err(error) => return Err(error),
    };
    let plan = compiled.plan;
    let snapshot = RenewedSnapshot::open(deps.store.clone()).await?;
    let counts = index::count_probes(&snapshot, call.project, &plan, &deps.run_samples).await?;
    let choice = plan.choose(&counts);
    let planned = (snapshot, counts.list().cloned());
    let proposed = propose_runs(deps, call.project, &choice.access, planned).await?;
    let candidates =
        proposed.map_or(counts.known_runs().unwrap_or_default(), |proposed| proposed.len() as u64);
    Ok(ExplainResponse {
        error: None,
        normalized: compiled.query.normalized().to_owned(),
        plan: lines(&plan, &choice.access, &counts),
        full_scan: choice.access == AccessPath::Scan,
        exact: choice.exact,
        candidates: candidates.min(COUNTED as u64),
        warnings: compiled.warnings,
    })
}

/// Renders one node per line, each with the number of runs it proposes.
fn lines(plan: &Plan, access: &AccessPath<'_>, counts: &ProbeCounts<'_>) -> String {
    let mut text = String::new();
    write(&mut text, 0, access, counts);
    if let Some(names) = &plan.sequences {
        let plan_text = plan.to_string();
        let names = if names.is_empty() {
            "no sequences"
        } else {
            // The text of a plan ends with the names of its sequences.
            plan_text.rsplit("; ").next().unwrap_or_default()
        };
        text.push_str(names);
        text.push('\n');
    }
    text
}

fn write(text: &mut String, depth: usize, access: &AccessPath<'_>, counts: &ProbeCounts<'_>) {
    let line = match access {
        AccessPath::Scan => {
            counts.known_runs().map_or("every run".to_owned(), |runs| format!("every run: {runs}"))
        }
        AccessPath::Nothing => "nothing".to_owned(),
        AccessPath::Probe(probe) => match counts.count(probe) {
            Some(count) => format!("{probe}: {count}"),
            None => probe.to_string(),
        },
        AccessPath::Intersect(_) => "all of".to_owned(),
        AccessPath::Union(_) => "any of".to_owned(),
    };
    text.push_str(&"  ".repeat(depth));
    text.push_str(&line);
    text.push('\n');
    if let AccessPath::Intersect(parts) | AccessPath::Union(parts) = access {
        for part in parts {
            write(text, depth + 1, part, counts);
        }
    }
}
