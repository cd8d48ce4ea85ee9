//! Reading from a server: runs, searches, series at full resolution, objects, logs, and artifacts.
//!
//! `BackendClient` is for threads other than the I/O thread. Its calls block, and its iterators
//! decode on the thread that uses them, so a slow reader slows down its server instead of filling
//! memory. A Matyan 0.3 backend is read through REST alone; where REST has no such call, the result
//! is `HttpError::Unsupported`, or what that server can give, as documented at the call.

mod tree_stream;

mod tree;

mod wait;

mod backend;

mod columns;
mod entities;
mod logins;
mod runs;

pub use backend::{BackendClient, BackendOptions};
pub use columns::{SeriesColumns, SeriesIterator, SeriesSelection};
pub use logins::{AskedToken, BegunLogin, EndedToken, KeptLogin, LoginError, LoginState, end_kept_tokens};
pub use runs::{FoundRun, FoundRuns, LogRecords, RunPages, Search, SearchTarget, TreeIterator};
pub use tree::{Tree, TreeFolder};
pub use tree_stream::{Key, Leaf, TreeDecoder, TreeEntry, TreeError};
pub use wait::{BlockingBody, InterruptCheck};
