//! MLflow's REST API for unmodified clients, translated onto the gRPC services.
//!
//! An MLflow run is an ordinary run: its params are in `hparams`, its tags in `mlflow.tags`, as the importer
//! of MLflow writes them, its metrics are series, and its status is whether the run is active, or its outcome.
//! Experiments are experiments. Everything that is not a run, such as a registered model, is a named document.
//!
//! The crate knows the services only through the channels that each request brings, which check the rights of its
//! caller, and keeps nothing between requests. A write starts once all earlier writes are applied, and returns once
//! it is applied itself, so that the next read of any client sees it.

mod artifact_path;
mod artifacts;
mod batch;
mod body;
mod clock;
mod documents;
mod error;
mod experiment_search;
mod experiments;
mod fields;
mod filter;
mod history;
mod input_view;
mod inputs;
mod list_answer;
mod local_filter;
mod logged_metric;
mod logged_models;
mod metric_log;
mod model_metrics;
mod model_search;
mod names;
mod numbers;
mod order;
mod parted_uploads;
mod pattern;
mod query;
mod registry;
mod registry_store;
mod route;
mod run_locks;
mod run_log;
mod run_names;
mod run_pages;
mod run_search;
mod run_tags;
mod run_view;
mod runs;
mod server;
mod values;
mod version_view;
mod versions;

pub use body::Body;
pub use error::{ErrorCode, MlflowError};
pub use matyan_channels::{Channel, Channels};
pub use route::{BodyKind, Operation, Route};
pub use server::{Answer, Mlflow, Request, RequestBody};
