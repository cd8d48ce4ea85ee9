//! REST: a projection of the gRPC API for the Python client, the browser UI and curl.
//! One table of operations makes the routes, the checks of parameters and bodies, and the OpenAPI description; one file per
//! section of the contract holds the handlers, each of them decode, one call, encode.

mod artifacts;
pub(crate) mod call;
mod dashboards;
mod experiments;
mod form;
pub(crate) mod ingest;
mod json_list;
mod metric_batch;
mod notes;
mod openapi;
mod project;
mod runs_control;
mod runs_info;
mod runs_logs;
mod runs_metrics;
mod runs_objects;
mod runs_search;
mod shape;
mod shared;
mod streamed;
mod system;
pub(crate) mod table;
mod tags;
pub(crate) mod values;

use table::Operation;

use crate::services::Services;

/// Every operation that these services can answer.
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
