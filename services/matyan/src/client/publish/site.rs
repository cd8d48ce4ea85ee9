//! The web UI of a published copy: the files in this program, and index pages that say what they show.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use include_dir::{Dir, DirEntry};

use super::{CopySize, Error, file_error};

/// Scripts, styles, images and data are files of the copy, and nothing else is loaded or run.
const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'self'; form-action 'none'";
/// Name of the element of an index page that says what it shows. The web UI and `--force` look for it.
pub(super) const MARK: &str = "<meta name=\"matyan-published\"";
/// The attribute of that element in the index pages of a copy with several pages.
pub(super) const PAGES_ATTRIBUTE: &str = " data-pages=\"";
/// Folder of the files of the web UI, as its index page names it.
pub(super) const FILES: &str = "static-files";
/// The prefix of the addresses in the index page, which a server replaces with its own path.
const SERVER_BASE: &str = "{{ base_path }}/";
pub(super) const INDEX: &str = "index.html";

/// The content of an index page.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    /// Folders below the root of the copy, with slashes between them; empty: the root.
    pub(super) place: String,
    /// Id of the run, the report or the dashboard.
    pub(super) id: String,
    /// Further attributes of the element that says what the page shows, by their names.
    pub(super) attributes: Vec<(&'static str, String)>,
}

impl Page {
    /// The way from the page back to the root of the copy.
    fn way_up(&self) -> String {
        "../".repeat(self.place.split('/').filter(|folder| !folder.is_empty()).count())
    }
}

/// The index page of the web UI, as a server gets it.
pub(super) fn index<'u>(ui: &'u Dir<'_>) -> Result<&'u str, Error> {
    ui.get_file(INDEX).and_then(|file| file.contents_utf8()).ok_or_else(|| {
        let message = "this program was built without its web UI: run `make ui-build`, and build it again";
        Error::Message(message.to_owned())
    })
}

/// Writes the index pages of a copy at `root`.
pub(super) fn write_pages(
    index: &str,
    root: &Path,
    pages: &[Page],
    published_ms: i64,
    size: &mut CopySize,
) -> Result<(), Error> {
    for page in pages {
        let folder = root.join(&page.place);
        fs::create_dir_all(&folder).map_err(file_error(&folder))?;
        let path = folder.join(INDEX);
        let text = index_page(index, page, published_ms);
        fs::write(&path, &text).map_err(file_error(&path))?;
        size.add(text.len() as u64);
    }
    Ok(())
}

fn index_page(index: &str, page: &Page, published_ms: i64) -> String {
    let id = attribute(&page.id);
    let attributes = page.attributes.iter().map(|(name, value)| format!(" {name}=\"{}\"", attribute(value)));
    let attributes: String = attributes.collect();
    let head = format!(
        "<head>\n    <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\" />\n    \
         {MARK} content=\"{published_ms} {id}\"{attributes} />"
    );
    index.replace(SERVER_BASE, &page.way_up()).replacen("<head>", &head, 1)
}

/// Text in an attribute of an element.
fn attribute(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
}

/// Writes the files of the web UI. Web servers compress files themselves, or not at all, so the files are decompressed.
pub(super) fn write_folder(folder: &Dir<'_>, to: &Path, size: &mut CopySize) -> Result<(), Error> {
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
        let index =
            "<html><head><base href=\"{{ base_path }}/static-files/\"><meta charset=\"utf-8\"></head></html>";
        let page = Page { id: "a\"<b".to_owned(), ..Page::default() };
        let written = index_page(index, &page, 12);
        assert!(written.contains("<base href=\"static-files/\">"), "{written}");
        assert!(written.contains("content=\"12 a&quot;&lt;b\""), "{written}");
        // Before anything that it restricts.
        assert!(
            written.starts_with("<html><head>\n    <meta http-equiv=\"Content-Security-Policy\""),
            "{written}"
        );
    }

    #[test]
    fn an_index_page_in_a_folder_finds_the_files_of_the_root() {
        let index = "<head><base href=\"{{ base_path }}/static-files/\"></head>";
        let attributes = vec![("data-page", "run".to_owned()), ("data-folder", "runs/a&b/".to_owned())];
        let page = Page { place: "runs/a&b".to_owned(), id: "a&b".to_owned(), attributes };
        let written = index_page(index, &page, 12);
        assert!(written.contains("<base href=\"../../static-files/\">"), "{written}");
        let mark = "content=\"12 a&amp;b\" data-page=\"run\" data-folder=\"runs/a&amp;b/\" />";
        assert!(written.contains(mark), "{written}");
    }
}
