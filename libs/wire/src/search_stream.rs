//! Entries in the stream of a search that are not runs. Their keys distinguish them from runs, so no run id
//! may begin like such a key.

/// Beginning of the key of each such entry.
pub const PROGRESS: &str = "progress_";

/// Key of the entry with the cursor of the next page.
pub const NEXT_CURSOR: &str = "progress_cursor";
