//! The web UI of a published copy: the files in this program, and an index page that says which run it shows.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use include_dir::{Dir, DirEntry};

use super::{CopySize, Error, file_error};

/// Scripts, styles, images and data are files of the copy, and nothing else is loaded or run.
const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'self'; form-action 'none'";
/// Name of the element of an index page that names the run. The web UI and `--force` look for it.
pub(super) const MARK: &str = "<meta name=\"matyan-published\"";
/// Folder of the files of the web UI, as its index page names it.
pub(super) const FILES: &str = "static-files";
/// The prefix of the addresses in the index page, which a server replaces with its own path.
const SERVER_BASE: &str = "{{ base_path }}/";
pub(super) const INDEX: &str = "index.html";

/// Writes the web UI for a copy of a run to `root`.
pub(super) fn write(
    ui: &Dir<'_>,
    root: &Path,
    run_id: &str,
    published_ms: i64,
    size: &mut CopySize,
) -> Result<(), Error> {
    let index = ui.get_file(INDEX).and_then(|file| file.contents_utf8()).ok_or_else(|| {
        let message = "this program was built without its web UI: run `make ui-build`, and build it again";
        Error::Message(message.to_owned())
    })?;
    let page = index_page(index, run_id, published_ms);
    let path = root.join(INDEX);
    fs::write(&path, &page).map_err(file_error(&path))?;
    size.add(page.len() as u64);
    write_folder(ui, &root.join(FILES), size)
}

fn index_page(page: &str, run_id: &str, published_ms: i64) -> String {
    let run_id = attribute(run_id);
    let head = format!(
        "<head>\n    <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\" />\n    \
         {MARK} content=\"{published_ms} {run_id}\" />"
    );
    page.replace(SERVER_BASE, "").replacen("<head>", &head, 1)
}

/// Text in an attribute of an element.
fn attribute(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
}

/// Web servers compress files themselves, or not at all, so the files are decompressed.
fn write_folder(folder: &Dir<'_>, to: &Path, size: &mut CopySize) -> Result<(), Error> {
    for entry in folder.entries() {
        match entry {
            DirEntry::Dir(folder) => write_folder(folder, to, size)?,
            DirEntry::File(file) if file.path().extension().is_some_and(|it| it == "gz") => {
                let path: PathBuf = to.join(file.path().with_extension(""));
                let decompressed = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
                    io::copy(&mut GzDecoder::new(file.contents()), &mut fs::File::create_new(&path)?)
                });
                size.add(decompressed.map_err(file_error(&path))?);
            }
            DirEntry::File(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_page_names_its_run_and_no_server() {
        let page =
            "<html><head><base href=\"{{ base_path }}/static-files/\"><meta charset=\"utf-8\"></head></html>";
        let written = index_page(page, "a\"<b", 12);
        assert!(written.contains("<base href=\"static-files/\">"), "{written}");
        assert!(written.contains("content=\"12 a&quot;&lt;b\""), "{written}");
        // Before anything that it restricts.
        assert!(
            written.starts_with("<html><head>\n    <meta http-equiv=\"Content-Security-Policy\""),
            "{written}"
        );
    }
}
