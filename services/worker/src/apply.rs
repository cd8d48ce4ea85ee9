//! Applies records to one run: turns entries of the log, in order, into transactions of the
//! store.
//!
//! A transaction takes items until it is full, from several records or from a part of one, and
//! moves the cursor of the run id past the last of them. It expects the cursor and the head
//! that this writer knows, so everything that a writer keeps in memory (`RunState`) is valid
//! exactly as long as its transactions commit; a conflict discards it. That one check covers
//! redelivery, a worker that has lost its partition, and a crash between two transactions.
//!
//! `order` lists the steps from an entry to a committed transaction, and what happens if one of them fails;
//! `steps` and `failure` have a file for each. An `Attempt` collects the writes of a transaction in a
//! `RunTransaction`, and updates the parts of the `RunState`: the cursor, the producers with their
//! dictionaries, and the live run with its document, series, and log records. Each part writes its own rows.

mod order;

mod steps;

mod failure;

mod apply_failure;
mod decoded_record;
mod outcome;
mod run_key;
mod run_state;
mod transaction;
mod writer;

mod backlogs;

pub(crate) use backlogs::{Backlog, BacklogQuestion, Backlogs};
pub(crate) use failure::dead_letters::{DeadLetterQueue, DeadLetterTask};
pub(crate) use failure::quarantine::quarantine_damaged;
pub(crate) use outcome::ApplyOutcome;
pub(crate) use run_key::RunKey;
pub(crate) use run_state::live_run::WrittenBlocks;
pub(crate) use steps::payload_uploads::PayloadUploads;
pub(crate) use transaction::TransactionSlots;
pub(crate) use writer::{RunWriter, WriterContext};
