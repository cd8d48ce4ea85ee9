//! The file of the studies. A study may be larger than memory, so its parts are written and read one by one.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use matyan_proto::backup::v1 as pb;

use super::{
    Result, STUDIES, durable, file_error,
    lines::{self, LineReader},
    studies,
};

/// Name of the file until it is complete.
const UNFINISHED_STUDIES: &str = ".studies.part";

/// The file of the studies while it is written.
pub struct StudiesFile {
    root: PathBuf,
    file: BufWriter<File>,
    is_empty: bool,
}

impl StudiesFile {
    pub(crate) fn begin(root: &Path) -> Result<Self> {
        let path = root.join(UNFINISHED_STUDIES);
        let file = BufWriter::new(File::create(&path).map_err(file_error(&path))?);
        Ok(Self { root: root.to_owned(), file, is_empty: true })
    }

    pub fn add(&mut self, part: &pb::StudyPart) -> Result<()> {
        let line = studies::part_line(part) + "\n";
        lines::check_size(line.len(), || STUDIES.to_owned())?;
        self.is_empty = false;
        let path = self.root.join(UNFINISHED_STUDIES);
        self.file.write_all(line.as_bytes()).map_err(file_error(&path))
    }

    /// Makes the file part of the archive; without a study, there is none.
    pub fn finish(self) -> Result<()> {
        let Self { root, file, is_empty } = self;
        let part = root.join(UNFINISHED_STUDIES);
        let path = root.join(STUDIES);
        let file = file.into_inner().map_err(|error| file_error(&part)(error.into_error()))?;
        file.sync_all().map_err(file_error(&part))?;
        if is_empty {
            remove(&part)?;
            remove(&path)?;
        } else {
            fs::rename(&part, &path).map_err(file_error(&path))?;
        }
        durable::sync(&root)
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(path)(error)),
        _ => Ok(()),
    }
}

/// The parts in the file of the studies, in order.
pub struct StudyLines {
    /// `None` if the archive has no studies.
    lines: Option<LineReader>,
}

impl StudyLines {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        Ok(Self { lines: LineReader::open(root, STUDIES, 0)? })
    }

    /// Returns the next part. Parts of an unknown kind, which an archive of a later version may contain, are left out.
    pub fn next_part(&mut self) -> Result<Option<pb::StudyPart>> {
        let Some(lines) = &mut self.lines else { return Ok(None) };
        while let Some(line) = lines.next()? {
            if let Some(part) = studies::part(&line)? {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use matyan_proto::backup::v1::{StudyDescription, study_part::Content};

    use super::*;

    #[test]
    fn the_file_exists_only_if_there_are_studies() {
        let root = tempfile::tempdir().unwrap();
        let parts: Vec<_> = (1..4)
            .map(|study_id| pb::StudyPart {
                study_id,
                content: Some(Content::Study(StudyDescription { name: "s".into(), ..Default::default() })),
            })
            .collect();
        for parts in [&parts[..], &parts[..1], &[]] {
            let mut file = StudiesFile::begin(root.path()).unwrap();
            for part in parts {
                file.add(part).unwrap();
            }
            // Until it is complete, the file of the attempt before is in its place.
            assert!(root.path().join(UNFINISHED_STUDIES).exists());
            file.finish().unwrap();
            let mut found = Vec::new();
            let mut lines = StudyLines::open(root.path()).unwrap();
            while let Some(part) = lines.next_part().unwrap() {
                found.push(part.study_id);
            }
            assert_eq!(found, parts.iter().map(|part| part.study_id).collect::<Vec<_>>());
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
