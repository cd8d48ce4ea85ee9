//! The steps of applying records to a run.

pub(crate) mod decode;

pub(crate) mod branch;
pub(crate) mod payload_store;
pub(crate) mod payload_uploads;
pub(crate) mod payloads;

pub(crate) mod attempt;
pub(crate) mod edits;
pub(crate) mod events;
pub(crate) mod points;
