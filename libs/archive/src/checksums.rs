//! Checksums in the format of `sha256sum`: digest, two spaces, path. In an interrupted backup,
//! the list also shows which runs are complete: those whose files are all listed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{CHECKSUMS, Result, UNFINISHED, damaged, durable, file_error, file_in::open_in};

/// Files next to the runs that the checksums do not cover.
const NOT_CHECKSUMMED: [&str; 2] = [CHECKSUMS, UNFINISHED];

/// Hexadecimal digests by path inside the archive.
pub(super) type Checksums = BTreeMap<String, String>;

/// A file being written, with its running checksum.
pub(super) struct SummedFile {
    path: PathBuf,
    file: io::BufWriter<File>,
    digest: Sha256,
}

impl SummedFile {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create_new(path).map_err(file_error(path))?;
        Ok(Self { path: path.to_owned(), file: io::BufWriter::new(file), digest: Sha256::new() })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.digest.update(bytes);
        self.file.write_all(bytes).map_err(file_error(&self.path))
    }

    /// Closes the file, which is then on disk, and returns its checksum.
    pub(super) fn finish(self) -> Result<String> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(|file| file.sync_all()).map_err(file_error(&self.path))?;
        Ok(hex::encode(self.digest.finalize()))
    }
}

/// Computes the checksum of a file of an archive.
pub(super) fn sum(root: &Path, name: &str) -> Result<String> {
    let path = &root.join(name);
    let mut file = open_in(root, Path::new(name)).map_err(file_error(path))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(file_error(path))? {
            0 => return Ok(hex::encode(digest.finalize())),
            read => digest.update(&buffer[..read]),
        }
    }
}

pub(super) fn append(root: &Path, sums: &Checksums) -> Result<()> {
    let path = root.join(CHECKSUMS);
    let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(file_error(&path))?;
    file.write_all(lines(sums).as_bytes()).and_then(|()| file.sync_all()).map_err(file_error(&path))
}

fn lines(sums: &Checksums) -> String {
    sums.iter().map(|(path, sum)| format!("{sum}  {path}\n")).collect()
}

pub(super) fn write(root: &Path, sums: &Checksums) -> Result<()> {
    durable::put(root, CHECKSUMS, &lines(sums))
}

/// Reads the list, or returns `None` if there is none. An unterminated last line was being
/// written when the backup was interrupted.
pub(super) fn read(root: &Path) -> Result<Option<Checksums>> {
    let path = root.join(CHECKSUMS);
    let mut text = String::new();
    match open_in(root, Path::new(CHECKSUMS)).and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(&path)(error)),
    }
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    let mut sums = Checksums::new();
    for (line, number) in whole.lines().zip(1..) {
        let Some((sum, file)) = line.split_once("  ") else {
            return Err(damaged(CHECKSUMS, format!("line {number} is not a checksum")));
        };
        sums.insert(file.to_owned(), sum.to_owned());
    }
    Ok(Some(sums))
}

/// Collects every file that needs a checksum by its path inside the archive. Refuses links and other special files.
pub(super) fn collect_files(root: &Path, inside: &Path, files: &mut BTreeSet<String>) -> Result<()> {
    let folder = root.join(inside);
    for entry in fs::read_dir(&folder).map_err(file_error(&folder))? {
        let entry = entry.map_err(file_error(&folder))?;
        let kind = entry.file_type().map_err(file_error(&folder))?;
        let path = inside.join(entry.file_name());
        let Some(name) = path.to_str() else {
            return Err(damaged(&path, "has a name that is not valid UTF-8"));
        };
        if kind.is_dir() {
            collect_files(root, &path, files)?;
        } else if !kind.is_file() {
            return Err(damaged(&path, "is neither a file nor a folder"));
        } else if !NOT_CHECKSUMMED.contains(&name) {
            files.insert(name.to_owned());
        }
    }
    Ok(())
}
