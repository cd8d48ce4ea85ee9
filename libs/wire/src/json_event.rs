//! The JSON members of each type of event, as Matyan 0.3 named them. A message of a client has them
//! next to its type, and an envelope has them in its payload.
//!
//! Both are read by `read_event` and written by `write_event`. They differ in strictness, which a
//! `MemberSource` and a `MessageForm` define: a message of a client is validated, and an
//! envelope has been accepted by Matyan 0.3 or checked by this version.

pub(crate) mod member;
pub(crate) mod member_writer;
pub(crate) mod read;
pub(crate) mod series_edit;
pub(crate) mod write;
