//! The spool of a run in this process: everything that is tracked, from the call until the server
//! has stored it. It is the only queue: the sender reads what callers append, whether that was a
//! moment ago or by a process that died last week.

pub(crate) mod cuts;
pub(crate) mod dictionary;
pub(crate) mod directory;
mod directory_choice;
pub(crate) mod maintenance;
pub(crate) mod producer;
pub(crate) mod reader;
pub(crate) mod record;
pub(crate) mod segment;
pub(crate) mod store;
#[cfg(test)]
pub(crate) mod test_spool;
pub(crate) mod upload_space;
pub(crate) mod writer;
