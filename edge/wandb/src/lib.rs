//! The protocol of W&B's clients, translated onto the gRPC services, for the unmodified `wandb` package.
//!
//! A W&B run is an ordinary run: its project is the experiment, its config is in `hparams`, its history is points and
//! objects, its terminal is terminal lines, and its files are artifacts. Versions of W&B's artifacts are named documents.
//!
//! The crate knows the services only through the channels that each request brings, which check the rights of its
//! caller, and keeps nothing between requests but parsed manifests, which do not change, and hints at where to search.
//! Everything that a client streams identifies its own place, so that a repeated request stores nothing twice.

mod aliases;
mod artifact_view;
mod artifacts;
mod batch;
mod budget;
mod call;
mod collections;
mod document;
mod documents;
mod error;
mod file_by_digest;
mod file_stream;
mod files;
mod filter;
mod fitting;
mod history;
mod json_object;
mod json_text;
mod lines;
mod links;
mod manifest;
mod manifest_cache;
mod manifest_content;
mod media;
mod metered_channel;
mod metric_goals;
mod names;
mod node;
mod owner_hints;
mod param_changes;
mod parted_uploads;
mod resolve;
mod route;
mod run_view;
mod runs;
mod schema;
mod search;
mod series;
mod server;
mod shown_collection;
mod summary;
mod terminal;
#[cfg(test)]
mod test_context;

pub use budget::AnswerShare;
pub use call::PermitMaker;
pub use error::WandbError;
pub use matyan_channels::{Channel, Channels, LargeWork};
pub use route::{CollectionName, Route};
pub use server::{Answer, FileAnswer, Request, Wandb};
