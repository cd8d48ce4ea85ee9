//! Host names under which the operator's services are closed. An ingress routes by path prefix, so below a
//! base path or `/p/{project}/` it cannot recognize operator calls. The edge removes both prefixes, then
//! refuses these calls by host name. They remain open under the server's other names, such as its address.

use http::{Request, StatusCode};

use crate::allowed_hosts::is_named;
use crate::error::ApiError;
use crate::settings::Settings;
use crate::ui::METRICS_PATH;
use crate::uri_path;

const ADMIN: &str = "/matyan.admin.v1.AdminService/";
const BACKUP: &str = "/matyan.backup.v1.BackupService/";
/// The one admin method that the web UI calls for every user.
const USAGE: &str = "/matyan.admin.v1.AdminService/Usage";

/// Refuses calls of an operator under a closed name.
pub(crate) fn check_closed_host<B>(settings: &Settings, request: &Request<B>) -> Result<(), ApiError> {
    if settings.closed_hosts.is_empty() || !is_of_operator(uri_path::normalized(request.uri()).path()) {
        return Ok(());
    }
    if !is_named(request, &settings.closed_hosts) {
        return Ok(());
    }
    let message = "administration, backups and metrics are closed under this host name: use another address of the server, \
                   such as one of `kubectl port-forward`, or remove the name from its MATYAN_CLOSED_HOSTS";
    Err(ApiError::new(StatusCode::FORBIDDEN, message))
}

fn is_of_operator(path: &str) -> bool {
    path == METRICS_PATH || path.starts_with(BACKUP) || (path.starts_with(ADMIN) && path != USAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods;

    #[test]
    fn the_paths_are_those_of_methods() {
        assert!(methods::find(USAGE).is_some());
        for path in ["DeleteParkedItems", "ListPartitions"].map(|method| format!("{ADMIN}{method}")) {
            assert!(methods::find(&path).is_some() && is_of_operator(&path), "{path}");
        }
        for path in ["BeginRun", "WriteBlob"].map(|method| format!("{BACKUP}{method}")) {
            assert!(methods::find(&path).is_some() && is_of_operator(&path), "{path}");
        }
        for path in [USAGE, "/", "/metrics/loss", "/matyan.runs.v1.RunService/Get"] {
            assert!(!is_of_operator(path), "{path}");
        }
    }
}
