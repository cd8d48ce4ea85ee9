//! REST: a projection of the gRPC API for the Python client, the browser UI, and curl.
//! A single table of operations defines the routes and the OpenAPI description. The handlers are
//! in one file per section of the API contract; each of them makes one call. The types that a
//! handler takes and returns define the parameters, the bodies, their validation, and their
//! description.

mod answer;
mod apps;
pub(crate) mod artifacts;
mod audit;
mod byte_range;
pub(crate) mod call;
mod cbor_pieces;
mod cbor_text;
mod column_writer;
mod dashboards;
mod edit_condition;
mod experiments;
mod export;
mod file;
pub(crate) mod ingest;
mod input_schema;
mod json_list;
mod merged_params;
mod metric_batch;
mod metric_goals;
mod notes;
mod openapi;
mod operation;
mod payloads;
mod project;
mod projects;
mod reports;
pub(crate) mod router;
mod run_info;
mod runs_control;
mod runs_info;
mod runs_logs;
mod runs_metrics;
mod runs_objects;
mod runs_search;
mod search_writer;
mod series_edits;
mod shared;
mod stream_response;
mod system;
mod tags;
mod valid_json;
mod values;

use operation::Operation;

use crate::services::Services;

/// All operations that these services support.
pub(crate) fn operations(services: &Services) -> Vec<Operation> {
    let mut operations = system::operations();
    if services.has_frontier() {
        operations.extend(ingest::operations());
    }
    if services.has_backend() {
        operations.extend(query_operations());
    }
    operations
}

fn query_operations() -> impl Iterator<Item = Operation> {
    let sections = [
        runs_search::operations(),
        runs_metrics::operations(),
        runs_objects::operations(),
        runs_logs::operations(),
        runs_info::operations(),
        runs_control::operations(),
        series_edits::operations(),
        artifacts::operations(),
        payloads::operations(),
        export::operations(),
        notes::operations(),
        experiments::operations(),
        tags::operations(),
        apps::operations(),
        dashboards::operations(),
        reports::operations(),
        project::operations(),
        metric_goals::operations(),
        projects::operations(),
        audit::operations(),
    ];
    sections.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_of_a_path_are_parameters() {
        let operations = query_operations().chain(ingest::operations()).chain(system::operations());
        for operation in operations {
            let parameters = &operation.inputs.parameters;
            for segment in operation.path.split('/').filter_map(|it| it.strip_prefix('{')) {
                let name = segment.trim_start_matches('*').trim_end_matches('}');
                assert!(parameters.is_required(name), "{} has no parameter `{name}`", operation.path);
            }
        }
    }
}
