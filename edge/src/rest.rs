//! REST: a projection of the gRPC API for the Python client, the browser UI, and curl.
//! A single table of operations defines the routes, the validation of parameters and bodies,
//! and the OpenAPI description. The handlers are in one file per section of the API contract;
//! each of them decodes, makes one call, and encodes.

mod artifacts;
pub(crate) mod call;
mod dashboards;
mod experiments;
pub(crate) mod ingest;
mod json_list;
mod metric_batch;
mod notes;
mod openapi;
mod project;
mod request_schema;
mod response_schema;
mod runs_control;
mod runs_info;
mod runs_logs;
mod runs_metrics;
mod runs_objects;
mod runs_search;
mod shared;
mod stream_response;
mod system;
pub(crate) mod table;
mod tags;
pub(crate) mod values;

use table::Operation;

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
        artifacts::operations(),
        notes::operations(),
        experiments::operations(),
        tags::operations(),
        dashboards::operations(),
        project::operations(),
    ];
    sections.into_iter().flatten()
}
