//! Reader for files with one JSON object per line or a single object, with a bound on the
//! memory per object. Larger objects are not written either.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{JsonObject, Result, damaged, file_error, file_in::open_in};

/// Upper bound of an object's JSON text; the largest stored object stays below it.
const MAX_LINE: u64 = 128 << 20;

/// Refuses to write an object that could not be read back. `bytes` includes the newline.
pub(super) fn check_size(bytes: usize, name: impl FnOnce() -> String) -> Result<()> {
    if (bytes as u64) < MAX_LINE {
        return Ok(());
    }
    Err(damaged(
        name(),
        format!("an object of {bytes} bytes is too large: objects must be smaller than {MAX_LINE} bytes"),
    ))
}

pub(super) struct LineReader {
    /// Path on disk, followed by the name used in errors.
    path: PathBuf,
    name: PathBuf,
    file: BufReader<File>,
    number: usize,
    /// File position after the last line read.
    offset: u64,
    buffer: Vec<u8>,
}

impl LineReader {
    /// Opens a file at byte `offset`, which must be the start of a line. Returns `None` if
    /// the file does not exist.
    pub(super) fn open(root: &Path, name: &str, offset: u64) -> Result<Option<Self>> {
        let path = root.join(name);
        let mut file = match open_in(root, Path::new(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error(&path)(error)),
        };
        file.seek(SeekFrom::Start(offset)).map_err(file_error(&path))?;
        let name = PathBuf::from(name);
        let file = BufReader::with_capacity(1 << 18, file);
        Ok(Some(Self { path, name, file, number: 0, offset, buffer: Vec::new() }))
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the next object, skipping blank lines. Line numbers in errors count from the
    /// opening offset.
    pub(super) fn next(&mut self) -> Result<Option<JsonObject>> {
        loop {
            self.buffer.clear();
            let mut limited = (&mut self.file).take(MAX_LINE);
            let read = limited.read_until(b'\n', &mut self.buffer).map_err(file_error(&self.path))?;
            self.offset += read as u64;
            self.number += 1;
            if read == 0 {
                return Ok(None);
            }
            // The limit was reached before the end of the line.
            if read as u64 == MAX_LINE {
                return Err(damaged(
                    &self.name,
                    format!("line {}: longer than {MAX_LINE} bytes", self.number),
                ));
            }
            let text = std::str::from_utf8(&self.buffer);
            let text = text.map_err(|error| damaged(&self.name, format!("line {}: {error}", self.number)))?;
            if !text.trim().is_empty() {
                return JsonObject::parse(&self.name, self.number, text).map(Some);
            }
        }
    }
}

/// Reads a file that consists of one object.
pub(super) fn object(root: &Path, name: &str) -> Result<JsonObject> {
    JsonObject::parse(Path::new(name), 0, &text(root, name)?)
}

pub(super) fn text(root: &Path, name: &str) -> Result<String> {
    let path = root.join(name);
    let mut file = open_in(root, Path::new(name)).map_err(file_error(&path))?;
    match file.metadata().map_err(file_error(&path))?.len() {
        size if size >= MAX_LINE => Err(damaged(name, "is too large")),
        _ => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(file_error(&path))?;
            String::from_utf8(bytes).map_err(|error| damaged(name, error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses spaces: not an object, but the reader has to consume them.
    fn is_read(bytes: usize) -> bool {
        let root = tempfile::tempdir().unwrap();
        let mut line = vec![b' '; bytes];
        line[bytes - 1] = b'\n';
        std::fs::write(root.path().join("f"), line).unwrap();
        let mut lines = LineReader::open(root.path(), "f", 0).unwrap().unwrap();
        lines.next().is_ok() && text(root.path(), "f").is_ok()
    }

    #[test]
    fn an_object_that_may_be_written_can_be_read() {
        for bytes in [MAX_LINE as usize - 1, MAX_LINE as usize] {
            assert_eq!(check_size(bytes, String::new).is_ok(), is_read(bytes), "{bytes}");
        }
    }
}
