//! Finds recorded data: matching files in `tests/vectors`, and in the directory
//! `MATYAN_VECTORS_DIR`, which allows more cases without code.

use std::path::PathBuf;

/// Paths and contents of all files with this prefix and extension. Panics if there are none.
pub fn files(prefix: &str, extension: &str) -> Vec<(PathBuf, String)> {
    // Tests run in the directory of their crate, and programs usually in the root. A path from compile time
    // may belong to another checkout with the same target directory.
    let places = ["vectors", "../vectors", "tests/vectors"];
    let own = places.into_iter().map(PathBuf::from).find(|path| path.is_dir());
    #[expect(
        clippy::disallowed_methods,
        reason = "the directory of additional vectors is the only setting of these tests"
    )]
    let more = std::env::var("MATYAN_VECTORS_DIR").ok().map(PathBuf::from);
    let mut found = Vec::new();
    for folder in own.into_iter().chain(more) {
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        found.extend(entries.map(|entry| entry.expect("the folder can be listed").path()).filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            name.starts_with(prefix) && name.ends_with(extension)
        }));
    }
    found.sort();
    assert!(!found.is_empty(), "no {prefix}*{extension}");
    found
        .into_iter()
        .map(|path| (path.clone(), std::fs::read_to_string(&path).expect("a vector file is text")))
        .collect()
}
