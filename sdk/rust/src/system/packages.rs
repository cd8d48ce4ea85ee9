//! Installed Python distributions, read from their metadata without running Python.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use matyan_value::{Map, Value};

/// Lines of a metadata file that are searched for the name and the version.
const HEADER_LINES: usize = 50;

/// Returns the versions of all distributions in these directories (Python's `sys.path`) by name.
/// If two have the same name, the first one counts, as it does for `import`.
pub(super) fn installed(directories: &[PathBuf]) -> Map {
    let mut packages = Map::new();
    for directory in directories {
        let Ok(entries) = fs::read_dir(directory) else { continue };
        for entry in entries.flatten() {
            if let Some((name, version)) = metadata_file(&entry.path()).and_then(|file| read_header(&file)) {
                packages.entry(name).or_insert(Value::Text(version));
            }
        }
    }
    packages
}

fn metadata_file(path: &Path) -> Option<PathBuf> {
    match path.extension()?.to_str()? {
        "dist-info" => Some(path.join("METADATA")),
        "egg-info" if path.is_dir() => Some(path.join("PKG-INFO")),
        "egg-info" => Some(path.to_owned()),
        _ => None,
    }
}

fn read_header(file: &Path) -> Option<(String, String)> {
    let lines = BufReader::new(File::open(file).ok()?).lines().take(HEADER_LINES);
    let mut name = None;
    let mut version = None;
    for line in lines.map_while(Result::ok) {
        match line.split_once(": ") {
            Some(("Name", value)) => name = Some(value.trim().to_owned()),
            Some(("Version", value)) => version = Some(value.trim().to_owned()),
            _ => {}
        }
        if name.is_some() && version.is_some() {
            break;
        }
    }
    Some((name?, version?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_two_versions_counts() {
        let first = tempfile::tempdir().unwrap();
        let second = tempfile::tempdir().unwrap();
        let add = |directory: &Path, folder: &str, file: &str, text: &str| {
            fs::create_dir_all(directory.join(folder)).unwrap();
            fs::write(directory.join(folder).join(file), text).unwrap();
        };
        add(
            first.path(),
            "torch-2.9.dist-info",
            "METADATA",
            "Metadata-Version: 2.1\nName: torch\nVersion: 2.9\n",
        );
        add(second.path(), "torch-1.0.dist-info", "METADATA", "Name: torch\nVersion: 1.0\n");
        add(second.path(), "old.egg-info", "PKG-INFO", "Name: old\r\nVersion: 0.1\r\n");
        add(second.path(), "damaged.dist-info", "METADATA", "Name: damaged\n");
        let directories = [first.path().to_owned(), second.path().to_owned(), PathBuf::from("/missing")];
        let text = |text: &str| Value::Text(text.to_owned());
        let expected = [("old".to_owned(), text("0.1")), ("torch".to_owned(), text("2.9"))];
        assert_eq!(installed(&directories), Map::from(expected));
    }
}
