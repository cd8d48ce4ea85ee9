//! The client of Matyan for training code. What a script tracks is in a file when the call returns,
//! and is stored by the server once, whatever happens to the script, the network and the server.
//!
//! ```no_run
//! use matyan_sdk::{CloseLimits, Config, Context, Run, RunOptions};
//!
//! let (config, _warnings) = Config::from_process();
//! let run = Run::new(RunOptions { config, ..RunOptions::default() })?;
//! let loss = run.series("loss", &Context::parse(r#"{"subset": "train"}"#)?, "float")?;
//! for step in 0..1_000 {
//!     run.track(&loss, 1.0 / f64::from(step + 1), Some(i64::from(step)), None);
//! }
//! let report = run.close(CloseLimits::default(), |_| true);
//! assert_eq!(report.pending, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing that tracks waits for the network. One thread of the process sends the spools of all runs
//! (`spool`, `sender`, `upload`), and takes over the spools that other processes left (`orphans`).
//! `reading` asks a server for the stored data.

mod clock;
mod locks;
mod numbering;
mod per_process;
mod plain_text;
mod progress;
mod server_url;
mod sys;
mod tls;

mod access_token;
mod config;
mod error;
mod notice;
mod series;

mod batch;
mod io_thread;
mod orphans;
mod run_order;
mod sender;
mod spool;
mod supervision;

mod events;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod left_spools;
mod run;
mod upload;

pub mod grpc_web;
pub mod http;
pub mod reading;
pub mod system;

pub use access_token::{AccessToken, is_sent_in_clear};
pub use clock::now_us;
pub use config::kept_tokens_path;
pub use config::{Config, SpoolFull, SpoolMode};
pub use error::ArgumentError;
pub use events::{LoggingRecord, Object, Properties};
pub use io_thread::io_runtime;
pub use left_spools::{
    ServerUrls, SpoolInfo, SpoolState, SyncOptions, SyncProgress, remove_spool, spools, sync,
};
pub use matyan_value::{Context, Map, Value};
pub use matyan_wire::server_version::advice as version_advice;
pub use notice::{Notice, NoticeLevel, OUTAGE_NOTICE};
pub use run::{CloseLimits, CloseProgress, CloseReport, Health, Outcome, ParentRun, Run, RunOptions};
pub use series::Series;
pub use spool::store::Columns;
pub use upload::{Content, Payload, Samples, UploadError};
