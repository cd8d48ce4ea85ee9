//! REST: a projection of the gRPC API for the Python client, the browser UI and curl.
//! One table of operations makes the routes, the checks of parameters and bodies, and the OpenAPI description; one file per
//! section of the contract holds the handlers, each of them decode, one call, encode.

pub(crate) mod call;
pub(crate) mod ingest;
pub(crate) mod openapi;
pub(crate) mod shape;
pub(crate) mod system;
pub(crate) mod table;

use table::Operation;

use crate::services::Services;

/// Every operation that these services can answer.
pub(crate) fn operations(services: &Services) -> Vec<Operation> {
    let mut operations = system::operations();
    if services.has_frontier() {
        operations.extend(ingest::operations());
    }
    operations
}
