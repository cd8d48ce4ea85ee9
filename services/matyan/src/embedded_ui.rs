//! The web UI in the program, which `build.rs` has collected.

use include_dir::Dir;

/// The built web UI; empty if the program was built without it.
pub(crate) static EMBEDDED_UI: Dir<'_> = include_dir::include_dir!("$OUT_DIR/ui");
