//! The client of Matyan for training code.

mod clock;
mod per_process;
mod progress;
mod sync;
mod sys;

mod config;
mod error;
mod notice;
mod series;

mod batch;
mod io_thread;
mod orphans;
mod sender;
mod spool;

mod events;
mod run;
mod upload;

pub mod grpc_web;
pub mod http;
pub mod reading;
pub mod system;

pub use config::{Config, SpoolFull, SpoolMode};
pub use error::ArgumentError;
pub use events::{LoggingRecord, Object, Properties, UploadedArtifact};
pub use matyan_value::{Context, Map, Value};
pub use notice::{Notice, NoticeLevel};
pub use run::{CloseLimits, CloseProgress, CloseReport, Health, Run, RunOptions};
pub use series::Series;
pub use spool::store::Columns;
pub use upload::{Content, Payload, Samples, UploadError};
