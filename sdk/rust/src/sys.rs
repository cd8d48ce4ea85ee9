//! Everything that is unsafe, or that differs between operating systems.

pub(crate) mod files;
pub(crate) mod fork;
pub(crate) mod process;
pub(crate) mod region;
pub(crate) mod shared_memory;
pub(crate) mod signals;
