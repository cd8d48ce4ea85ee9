//! Content of uploads on its way into the spool: copied while there is space, and referred to if it is
//! a file that is too large.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, Read as _, Seek as _},
    path::Path,
};

use super::{
    Content, UploadError,
    content_file::FileId,
    manifest::{self, Announcement, DataDigest, Encoding, Manifest, Source, data_path},
};
use crate::{notice::NoticeLevel, spool::store::Spool, sys::files};

/// Largest file that is copied at the call if there is space, so that it may be changed or deleted
/// right after. A larger file is uploaded with the content that it has at the time of the upload.
const COPIED_BYTES: u64 = 16 << 20;

/// The parts of an upload that do not depend on its content.
pub(super) struct Draft {
    pub(super) path: String,
    pub(super) content_type: String,
    pub(super) encoding: Encoding,
}

impl Draft {
    pub(super) fn write(
        &self,
        spool: &Spool,
        number: u64,
        raw: &RawContent<'_>,
        announcement: &Announcement,
        (time_us, parts): (i64, Vec<u64>),
    ) -> Result<(), UploadError> {
        let directory = spool.uploads();
        let StoredContent { source, data } = raw.store(spool, &data_path(&directory, number))?;
        let path = self.path.clone();
        let content_type = self.content_type.clone();
        let announcement = announcement.clone();
        let mut manifest = Manifest::new(path, content_type, source, self.encoding, announcement, time_us);
        manifest.data = data;
        manifest.parts = parts;
        // With the lock, because the spool is only removed if there are no manifests.
        let written = spool.with_writer(|writer| {
            if writer.is_retired() {
                Err(io::ErrorKind::NotFound.into())
            } else {
                manifest.write(&directory, number)
            }
        });
        written.map_err(|source| UploadError::File { path: directory, source })
    }
}

/// Where the content of an upload is, with the digest of content in the spool.
struct StoredContent {
    source: Source,
    data: Option<DataDigest>,
}

/// Content before encoding.
pub(super) enum RawContent<'a> {
    Whole(Content<'a>),
    I16(&'a [i16]),
    F32(&'a [f32]),
}

impl RawContent<'_> {
    /// Whether the content is not a file, or a file that can be read once there is a descriptor for it.
    pub(super) fn is_readable(&self) -> bool {
        let Self::Whole(Content::File(path)) = self else { return true };
        path.is_file() && File::open(path).err().is_none_or(|error| files::is_lack_of_descriptors(&error))
    }

    /// Puts the content where it stays until it is uploaded.
    fn store(&self, spool: &Spool, data: &Path) -> Result<StoredContent, UploadError> {
        let failed = |source| UploadError::File { path: data.to_owned(), source };
        match *self {
            Self::Whole(Content::File(path)) => return store_file(spool, path, None, data),
            Self::Whole(Content::OpenFile { file, path }) => {
                return store_file(spool, path, Some(file), data);
            }
            _ => {}
        }
        let bytes = self.bytes()?;
        if !spool.take_upload_space(bytes.len() as u64) {
            return Err(failed(io::ErrorKind::QuotaExceeded.into()));
        }
        let length = bytes.len() as u64;
        store_data(spool, data, length, || fs::write(data, &bytes).map(|()| DataDigest::of(&bytes)))
            .map_err(failed)
    }

    pub(super) fn bytes(&self) -> Result<Cow<'_, [u8]>, UploadError> {
        match self {
            Self::Whole(Content::Bytes(bytes)) => Ok(Cow::Borrowed(bytes)),
            Self::Whole(Content::File(path)) => fs::read(path)
                .map(Cow::Owned)
                .map_err(|source| UploadError::File { path: path.to_path_buf(), source }),
            Self::Whole(Content::OpenFile { file, path }) => {
                let mut file = *file;
                let mut bytes = Vec::new();
                let read = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
                read.map_err(|source| UploadError::File { path: path.to_path_buf(), source })?;
                Ok(Cow::Owned(bytes))
            }
            Self::I16(samples) => Ok(samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()),
            Self::F32(samples) => Ok(samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()),
        }
    }
}

/// Removes the files that a failed call has written, as far as they exist.
pub(super) fn discard(spool: &Spool, number: u64) {
    let directory = spool.uploads();
    let bytes = manifest::data_bytes(&directory, number);
    manifest::discard(&directory, number);
    spool.give_back_upload_space(bytes);
}

/// Writes content to the spool, whose space for it was taken.
fn store_data(
    spool: &Spool,
    data: &Path,
    bytes: u64,
    write: impl FnOnce() -> io::Result<DataDigest>,
) -> io::Result<StoredContent> {
    match write() {
        Ok(digest) => {
            // A file may shrink while it is copied.
            spool.give_back_upload_space(bytes.saturating_sub(digest.size));
            Ok(StoredContent { source: Source::Data, data: Some(digest) })
        }
        Err(error) => {
            // A directory that has been removed since has no file.
            fs::remove_file(data).ok();
            spool.give_back_upload_space(bytes);
            Err(error)
        }
    }
}

/// Stores the file at a path, which must be this one if it is open.
fn store_file(
    spool: &Spool,
    path: &Path,
    opened: Option<&File>,
    data: &Path,
) -> Result<StoredContent, UploadError> {
    let failed = |source| UploadError::File { path: path.to_owned(), source };
    let metadata = opened.map_or_else(|| fs::metadata(path), File::metadata).map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")));
    }
    let absolute = std::path::absolute(path).map_err(failed)?;
    // The manifest is JSON, which cannot hold every path.
    let can_be_referred_to = absolute.to_str().is_some();
    let is_large = can_be_referred_to && metadata.len() > COPIED_BYTES;
    if is_large || !spool.take_upload_space(metadata.len()) {
        if !can_be_referred_to {
            return Err(failed(io::ErrorKind::QuotaExceeded.into()));
        }
        if !is_large {
            let message = format!(
                "{} is not copied, because the spool is full: keep it until it is uploaded",
                path.display()
            );
            spool.notices.push(NoticeLevel::Warning, message);
        }
        if opened.is_none() {
            // It must be readable now, because the call cannot be corrected later.
            File::open(path).map_err(failed)?;
        }
        let modified_us = manifest::modified_us(&metadata);
        let id = opened.and_then(|_| FileId::of(&metadata));
        let source = Source::File { path: absolute, size: metadata.len(), modified_us, id };
        return Ok(StoredContent { source, data: None });
    }
    let copy = || match opened {
        Some(mut file) => file.rewind().and_then(|()| DataDigest::copying(file, data)),
        None => DataDigest::copying(File::open(path)?, data),
    };
    store_data(spool, data, metadata.len(), copy).map_err(failed)
}
