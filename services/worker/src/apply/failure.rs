//! The handling of records that cannot be applied: the failing item is isolated, then parked, or the
//! records of its run are parked whole and replayed later.

pub(crate) mod isolate;

pub(crate) mod dead_letters;
pub(crate) mod park;

pub(crate) mod quarantine;
pub(crate) mod replay;
