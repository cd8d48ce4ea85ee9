//! Documents of the web UI: saved states of explorers, dashboards of such states, and reports; and named
//! documents of other clients.

mod apps;
mod dashboards;
mod named;
mod reports;

pub(crate) use {apps::AppApi, dashboards::DashboardApi, named::DocumentApi, reports::ReportApi};
