//! Data model: how runs, params, series, entities, and indexes are stored. This is the only
//! crate that knows the key layout. It deliberately does no I/O: every function reads a
//! `Snapshot` or fills a `Batch`.
//!
//! ```
//! use matyan_model::{format::format_open, ids::Project, project::{self, ProjectInfo}};
//! use matyan_store::{Batch, Store as _, embedded::{EmbeddedStore, Settings}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> matyan_store::Result<()> {
//! # let directory = tempfile::tempdir().expect("a directory for the example");
//! let store = EmbeddedStore::open(directory.path(), Settings::default()).await?;
//! format_open(&store).await?;
//!
//! let info = ProjectInfo { name: "Vision".into(), ..ProjectInfo::default() };
//! let mut batch = Batch::default();
//! project::project_info_put(&mut batch, Project(0), &info);
//! store.commit(batch).await?;
//!
//! let snapshot = store.snapshot().await?;
//! assert_eq!(project::project_info_get(snapshot.as_ref(), Project(0)).await?, info);
//! # store.close().await
//! # }
//! ```

pub mod ids;
pub mod keys;

mod listed_params;
mod rows;
pub mod uncollected;

pub mod format;

pub mod position;

pub mod params;
pub mod run;

pub mod artifact;
pub mod logs;
pub mod metric;
pub mod metric_goal;
pub mod object;

pub mod entity;
pub mod project;
pub mod project_quota;

pub mod parked;
pub mod pending_payload;
pub mod producer;
pub mod quarantine;

pub mod access;
pub mod audit;

pub mod branch;
pub mod index;

pub mod change;
pub mod events;
pub mod live_readers;
pub mod lock;

#[cfg(test)]
mod testing;

pub mod cohort;
pub mod param_cohort;
pub mod series;
pub mod series_edit;

pub mod study;
