//! Documents of the web UI: saved states of explorers, dashboards of such states, and reports.

mod apps;
mod dashboards;
mod reports;

pub(crate) use {apps::AppApi, dashboards::DashboardApi, reports::ReportApi};
