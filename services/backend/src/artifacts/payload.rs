//! Single payloads of objects, for browsers: described, in parts, and reduced.

use std::{io::Cursor, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use image::{DynamicImage, ImageError, ImageFormat, ImageReader, Limits};
use matyan_blob::{BlobKey, BlobMeta, Content};
use matyan_proto::artifacts::v1::{PayloadInfo, PayloadRequest, ThumbnailRequest, ThumbnailResponse};
use matyan_wire::headers::UNKNOWN_TYPE;
use tokio::time::timeout;

use super::image_slots::ImageSlots;
use crate::server::{
    call::Call,
    convert,
    deps::Deps,
    error::{Error, Result},
    evaluation::Evaluation,
};

/// Number of first bytes that show the type of a payload.
const SIGNATURE_BYTES: u64 = 512;

/// Types that a browser may show, because it runs nothing in them.
const SHOWN: [&str; 3] = ["image/", "audio/", "video/"];

const MAX_IMAGE_BYTES: usize = 32 << 20;
/// 4,096 × 4,096 pixels.
const MAX_DECODED_BYTES: usize = 64 << 20;
const PIXEL_BYTES: u64 = 4;
/// Pixels that are decoded, counted once for each scan of a progressive JPEG, which may have any number of
/// scans: a quarter of a billion pixels take some seconds.
const MAX_SCANNED_PIXELS: u64 = 1 << 28;

/// Time after which the client of an image gets an error.
const DECODING_TIMEOUT: Duration = Duration::from_secs(20);

const SIZES: std::ops::RangeInclusive<u32> = 16..=1_024;

/// A URI of another project is as unknown as a forged one.
fn blob_key(deps: &Deps, call: &Call, uri: &str) -> Result<BlobKey> {
    let key = deps.uri_key.blob(uri).filter(|key| key.is_in_project(&call.project_name));
    key.ok_or_else(|| Error::not_found("payload", uri))
}

/// A payload, or a part of it.
pub(super) async fn open(
    deps: &Deps,
    call: &Call,
    request: &PayloadRequest,
) -> Result<(PayloadInfo, Content)> {
    let key = blob_key(deps, call, &request.uri)?;
    let missing = || Error::not_found("payload", &request.uri);
    let end = request.length.map_or(u64::MAX, |length| request.offset.saturating_add(length));
    if request.offset == 0 && end >= SIGNATURE_BYTES {
        let (meta, mut content) = deps.blobs.read(&key, Some(0..end)).await?.ok_or_else(missing)?;
        let first = content.next().await.transpose()?.unwrap_or_default();
        let info = info(meta, &first);
        return Ok((info, stream::iter([Ok(first)]).chain(content).boxed()));
    }
    let (_, signature) = deps.blobs.read(&key, Some(0..SIGNATURE_BYTES)).await?.ok_or_else(missing)?;
    let signature = collected(signature, SIGNATURE_BYTES as usize).await?;
    let found = match request.length {
        Some(0) => deps.blobs.describe(&key).await?.map(|meta| (meta, stream::empty().boxed())),
        _ => deps.blobs.read(&key, Some(request.offset..end)).await?,
    };
    let (meta, content) = found.ok_or_else(missing)?;
    Ok((info(meta, &signature), content))
}

fn info(meta: BlobMeta, signature: &[u8]) -> PayloadInfo {
    let found = infer::get(signature).map(|found| found.mime_type());
    let shown = found.filter(|found| SHOWN.iter().any(|shown| found.starts_with(shown)));
    PayloadInfo {
        size: meta.size,
        version: meta.version,
        media_type: shown.unwrap_or(UNKNOWN_TYPE).to_owned(),
    }
}

/// Refuses an image that is too large to be reduced.
fn check_size(size: u64, limit: usize) -> Result<()> {
    convert::check_limit("uri", usize::try_from(size).unwrap_or(usize::MAX), limit)
}

/// All bytes, at most `limit`.
async fn collected(mut content: Content, limit: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = content.next().await {
        bytes.extend_from_slice(&chunk?);
        check_size(bytes.len() as u64, limit)?;
    }
    Ok(bytes)
}

pub(super) async fn thumbnail(
    deps: &Deps,
    slots: &ImageSlots,
    call: &Call,
    request: ThumbnailRequest,
) -> Result<ThumbnailResponse> {
    let smallest = SIZES.start();
    let largest = SIZES.end();
    if !SIZES.contains(&request.size) {
        let size = request.size;
        return Err(Error::field("size", format!("is {size}: use {smallest} to {largest} pixels")));
    }
    let key = blob_key(deps, call, &request.uri)?;
    // Taken before the image is read, so that only a few are in memory.
    let slot = slots.take(&call.caller).await?;
    let found = deps.blobs.read(&key, None).await?;
    let (meta, content) = found.ok_or_else(|| Error::not_found("payload", &request.uri))?;
    check_size(meta.size, MAX_IMAGE_BYTES)?;
    let bytes = collected(content, MAX_IMAGE_BYTES).await?;
    let png = in_time(&deps.evaluation, move || {
        let reduced = reduced(&bytes, request.size);
        drop(slot);
        reduced
    });
    Ok(ThumbnailResponse { png: png.await??, version: meta.version })
}

/// Runs work on a thread of low priority, so that ingestion does not wait, and not on the threads of queries:
/// an image cannot be decoded in slices.
async fn in_time<T: Send + 'static>(
    evaluation: &Evaluation,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let late =
        "the image was not reduced in time, because the server is busy: try again, or read the whole payload";
    timeout(DECODING_TIMEOUT, evaluation.run_apart(work)).await.map_err(|_| Error::Waiting(late))?
}

/// The image as PNG, whose longer side has at most `size` pixels.
fn reduced(bytes: &[u8], size: u32) -> Result<Bytes> {
    let reader = || {
        let reader = ImageReader::new(Cursor::new(bytes));
        reader.with_guessed_format().map_err(|error| unreadable(&ImageError::IoError(error)))
    };
    let (width, height) = reader()?.into_dimensions().map_err(|error| unreadable(&error))?;
    let decoded = u64::from(width).saturating_mul(height.into()).saturating_mul(PIXEL_BYTES);
    check_size(decoded, MAX_DECODED_BYTES)?;
    check_scans(bytes, decoded / PIXEL_BYTES)?;
    let mut reader = reader()?;
    let mut limits = Limits::no_limits();
    // Some formats have 16 bits per channel.
    limits.max_alloc = Some(2 * MAX_DECODED_BYTES as u64);
    reader.limits(limits);
    let image = reader.decode().map_err(|error| unreadable(&error))?;
    let image = if width.max(height) > size { image.thumbnail(size, size) } else { image };
    let mut png = Cursor::new(Vec::new());
    DynamicImage::from(image.into_rgba8())
        .write_to(&mut png, ImageFormat::Png)
        .map_err(|error| unreadable(&error))?;
    Ok(png.into_inner().into())
}

/// Refuses a progressive JPEG whose number of scans would make decoding slow.
fn check_scans(bytes: &[u8], pixels: u64) -> Result<()> {
    if !bytes.starts_with(&[0xff, 0xd8]) {
        return Ok(());
    }
    // In the data of a scan, a zero follows each byte of this value.
    let scans = bytes.windows(2).filter(|marker| *marker == [0xff, 0xda]).count() as u64;
    if pixels.saturating_mul(scans) > MAX_SCANNED_PIXELS {
        let reason = format!("is a JPEG of {scans} scans, too many for its size: read the whole payload");
        return Err(Error::field("uri", reason));
    }
    Ok(())
}

fn unreadable(error: &ImageError) -> Error {
    Error::field("uri", format!("is not an image that can be reduced ({error}): read the whole payload"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
        let mut encoded = Cursor::new(Vec::new());
        DynamicImage::new_rgb8(width, height).write_to(&mut encoded, format).unwrap();
        encoded.into_inner()
    }

    fn dimensions(png: &[u8]) -> (u32, u32) {
        assert_eq!(image::guess_format(png).unwrap(), ImageFormat::Png);
        ImageReader::with_format(Cursor::new(png), ImageFormat::Png).into_dimensions().unwrap()
    }

    #[tokio::test]
    async fn an_image_is_reduced_on_a_thread_of_its_own() {
        let evaluation = Evaluation::start(1).unwrap();
        let name = || std::thread::current().name().map(str::to_owned);
        assert_eq!(in_time(&evaluation, name).await.unwrap().as_deref(), Some("matyan-image"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_that_is_not_reduced_in_time_is_an_error() {
        let evaluation = Evaluation::start(1).unwrap();
        let (unblock, blocked) = std::sync::mpsc::channel::<()>();
        let late = in_time(&evaluation, move || blocked.recv()).await;
        assert!(matches!(late, Err(Error::Waiting(_))), "{late:?}");
        drop(unblock);
    }

    #[test]
    fn images_of_all_formats_are_reduced_and_never_enlarged() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::WebP] {
            let reduced = |size| dimensions(&reduced(&image(300, 100, format), size).unwrap());
            assert_eq!(reduced(60), (60, 20), "{format:?}");
            assert_eq!(reduced(1_024), (300, 100));
        }
    }

    #[test]
    fn a_small_file_with_a_huge_image_is_refused_before_it_is_decoded() {
        let mut huge = image(1, 1, ImageFormat::Gif);
        // Width and height in the header.
        huge[6..10].fill(0xff);
        assert!(matches!(reduced(&huge, 100), Err(Error::TooLarge { field: "uri", .. })));
        for damaged in [&b"text"[..], b"", &image(30, 30, ImageFormat::Png)[..60]] {
            assert!(matches!(reduced(damaged, 16), Err(Error::InvalidField { field: "uri", .. })));
        }
    }

    #[test]
    fn a_jpeg_with_many_scans_is_refused_before_it_is_decoded() {
        let jpeg = image(4_096, 4_096, ImageFormat::Jpeg);
        check_scans(&jpeg, 1 << 24).unwrap();
        let scans = |count: usize| [&jpeg[..], &[0xff, 0xda].repeat(count - 1)].concat();
        check_scans(&scans(16), 1 << 24).unwrap();
        let refused = reduced(&scans(17), 100);
        assert!(
            matches!(&refused, Err(Error::InvalidField { field: "uri", reason }) if reason.contains("17 scans"))
        );
        // A small image may have more of them.
        check_scans(&scans(64), 1 << 22).unwrap();
    }

    #[test]
    fn only_types_without_scripts_are_named() {
        let meta =
            || BlobMeta { size: 1, content_type: "text/html".into(), modified_us: 0, version: String::new() };
        let named = |bytes: &[u8]| info(meta(), bytes).media_type;
        assert_eq!(named(&image(1, 1, ImageFormat::Png)), "image/png");
        assert_eq!(named(b"RIFF\x24\0\0\0WAVEfmt "), "audio/x-wav");
        for other in [&b"<html><script>"[..], b"<svg xmlns='http://www.w3.org/2000/svg'>", b"%PDF-1.7", b""] {
            assert_eq!(named(other), UNKNOWN_TYPE);
        }
    }
}
