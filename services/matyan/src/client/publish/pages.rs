//! Files that consist of pages: encoded messages in the order of their steps, so that readers fetch the
//! pages of some steps only.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read as _, Seek as _, Write as _},
    path::Path,
};

use matyan_proto::published::v1::PageList;
use prost::Message;

/// A file that is written page by page.
pub(super) struct PageFile {
    file: BufWriter<File>,
    bytes: u64,
    list: PageList,
}

impl PageFile {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self::over(File::create_new(path)?))
    }

    /// A file without a name, in a folder. It is gone when it is closed.
    pub(super) fn unnamed(folder: &Path) -> io::Result<Self> {
        Ok(Self::over(tempfile::tempfile_in(folder)?))
    }

    fn over(file: File) -> Self {
        Self { file: BufWriter::new(file), bytes: 0, list: PageList::default() }
    }

    /// Appends a page with these first and last steps, which come after the steps of the page before.
    pub(super) fn put(&mut self, page: &impl Message, first_step: i64, last_step: i64) -> io::Result<()> {
        let encoded = page.encode_to_vec();
        let length = u32::try_from(encoded.len()).map_err(io::Error::other)?;
        self.file.write_all(&encoded)?;
        self.bytes += u64::from(length);
        self.list.first_steps.push(first_step);
        self.list.lengths.push(length);
        self.list.last_step = Some(last_step);
        Ok(())
    }

    /// Appends all pages of another file, and returns where they are in this one.
    pub(super) fn append(&mut self, other: Self) -> io::Result<PageList> {
        let mut file = other.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        let copied = io::copy(&mut file.take(other.bytes), &mut self.file)?;
        let list = PageList { offset: self.bytes, ..other.list };
        self.bytes += copied;
        Ok(list)
    }

    /// Appends a page that is not part of the list, and returns where it is.
    pub(super) fn append_page(&mut self, page: &impl Message) -> io::Result<PageList> {
        let own = std::mem::take(&mut self.list);
        let offset = self.bytes;
        self.put(page, 0, 0)?;
        Ok(PageList { offset, ..std::mem::replace(&mut self.list, own) })
    }

    /// The pages of the list, in their order.
    pub(super) fn into_pages(self) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>>> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        let mut file = BufReader::new(file);
        Ok(self.list.lengths.into_iter().map(move |length| {
            let mut page = vec![0; length as usize];
            file.read_exact(&mut page).map(|()| page)
        }))
    }

    /// The pages that were written so far, without pages of other files.
    pub(super) fn list(&self) -> PageList {
        self.list.clone()
    }

    /// Completes the file, and returns its number of bytes.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use matyan_proto::objects::v1::Step;

    use super::*;

    #[test]
    fn pages_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = PageFile::unnamed(folder.path()).unwrap();
        let steps = [-3, 0, 1 << 40].map(|step| Step { step, ..Step::default() });
        steps.iter().for_each(|step| file.put(step, step.step, step.step).unwrap());
        let read = file.into_pages().unwrap().map(|page| Step::decode(page.unwrap().as_slice()).unwrap());
        assert_eq!(read.collect::<Vec<_>>(), steps);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
