//! Entries in the stream of a search that are no runs. They are told from runs by their keys, so no run id may begin
//! like them.

/// Beginning of the key of each such entry.
pub const PROGRESS: &str = "progress_";

/// Key of the entry with the cursor of the next page.
pub const NEXT_CURSOR: &str = "progress_cursor";
