//! Files of one object a line, or of one alone, read with a bound on what an object takes in memory. What is larger is not written
//! either.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{Record, Result, at, damaged};

/// An object of the largest size as JSON text.
const MAX_LINE: u64 = 128 << 20;

/// Refuses to write, with the end of its line, what could not be read.
pub(super) fn check_size(bytes: usize, name: impl FnOnce() -> String) -> Result<()> {
    if (bytes as u64) < MAX_LINE {
        return Ok(());
    }
    Err(damaged(
        name(),
        format!("has an object of {bytes} bytes, and less than {MAX_LINE} can be read again"),
    ))
}

pub(super) struct Lines {
    /// Where it lies, and how errors call it.
    path: PathBuf,
    name: PathBuf,
    file: BufReader<File>,
    number: usize,
    /// Bytes read.
    offset: u64,
    buffer: Vec<u8>,
}

impl Lines {
    /// From byte `offset` on, which begins a line. `None` if there is no file.
    pub(super) fn open(root: &Path, name: &str, offset: u64) -> Result<Option<Self>> {
        let path = root.join(name);
        if !path.exists() {
            return Ok(None);
        }
        let mut file = File::open(&path).map_err(at(&path))?;
        file.seek(SeekFrom::Start(offset)).map_err(at(&path))?;
        let (name, file) = (PathBuf::from(name), BufReader::with_capacity(1 << 18, file));
        Ok(Some(Self { path, name, file, number: 0, offset, buffer: Vec::new() }))
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next object; blank lines are passed over. Numbers of lines count from where the reading began.
    pub(super) fn next(&mut self) -> Result<Option<Record>> {
        loop {
            self.buffer.clear();
            let mut limited = (&mut self.file).take(MAX_LINE);
            let read = limited.read_until(b'\n', &mut self.buffer).map_err(at(&self.path))?;
            self.offset += read as u64;
            self.number += 1;
            if read == 0 {
                return Ok(None);
            }
            if read as u64 == MAX_LINE {
                return Err(damaged(&self.name, format!("line {} is too long", self.number)));
            }
            let text = std::str::from_utf8(&self.buffer);
            let text = text.map_err(|error| damaged(&self.name, format!("line {}: {error}", self.number)))?;
            if !text.trim().is_empty() {
                return Record::parse(&self.name, self.number, text).map(Some);
            }
        }
    }
}

/// A file that is one object.
pub(super) fn object(root: &Path, name: &str) -> Result<Record> {
    Record::parse(Path::new(name), 0, &text(root, name)?)
}

pub(super) fn text(root: &Path, name: &str) -> Result<String> {
    let path = root.join(name);
    match std::fs::metadata(&path).map_err(at(&path))?.len() {
        size if size >= MAX_LINE => Err(damaged(name, "is too large")),
        _ => {
            let bytes = std::fs::read(&path).map_err(at(&path))?;
            String::from_utf8(bytes).map_err(|error| damaged(name, error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blanks, which are no object but have to be read.
    fn is_read(bytes: usize) -> bool {
        let root = tempfile::tempdir().unwrap();
        let mut line = vec![b' '; bytes];
        line[bytes - 1] = b'\n';
        std::fs::write(root.path().join("f"), line).unwrap();
        let mut lines = Lines::open(root.path(), "f", 0).unwrap().unwrap();
        lines.next().is_ok() && text(root.path(), "f").is_ok()
    }

    #[test]
    fn what_is_written_can_be_read() {
        for bytes in [MAX_LINE as usize - 1, MAX_LINE as usize] {
            assert_eq!(check_size(bytes, String::new).is_ok(), is_read(bytes), "{bytes}");
        }
    }
}
