//! Services that change a project: runs, their tags, experiments and notes, the documents of the web
//! UI, and the project itself. Each service also reads and lists the rows that it changes.

pub(crate) mod documents;
pub(crate) mod entities;
pub(crate) mod experiments;
pub(crate) mod metric_goals;
pub(crate) mod notes;
pub(crate) mod project;
pub(crate) mod runs;
pub(crate) mod tags;
