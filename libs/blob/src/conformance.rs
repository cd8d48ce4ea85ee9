//! Conformance suite of `Blobs`: one case for each guarantee of the trait, with the same name.
//! A backend's test is a `Fixture` and a call of `trials`; cases use only the trait and the
//! fixture.
#![expect(clippy::unwrap_used, reason = "a failed case is a panic")]

mod content;
mod listing;
mod model;
mod multipart;
mod urls;
mod writing;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use libtest_mimic::{Failed, Trial};

use crate::{BlobKey, Blobs, OpenBucket, PresignedUpload};

/// One store that is initially empty. Every case gets its own.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Opens the store the way a newly started process does, both the first time and after
    /// an earlier handle was dropped.
    async fn open_bucket(&self) -> OpenBucket;

    async fn open(&self) -> Arc<dyn Blobs> {
        self.open_bucket().await.blobs
    }

    /// Does a client's part of an upload: one PUT of `body`, with this Content-Type if any.
    /// Returns false if it was refused.
    async fn upload(&self, upload: &PresignedUpload, content_type: Option<&str>, body: Bytes) -> bool;

    /// Like `upload`, for one part. Returns its ETag, or `None` if it was refused.
    async fn upload_part(&self, upload: &PresignedUpload, body: Bytes) -> Option<String>;

    /// Returns an upload for `key` that has expired.
    async fn presign_expired(&self, key: &BlobKey) -> PresignedUpload;

    /// False if the server under test keeps blobs as files, so that no key can be a folder
    /// of another key.
    fn keys_nest(&self) -> bool {
        true
    }

    /// False if the server under test stores a blob and its content type separately, so
    /// that a reader may see them from different versions.
    fn keeps_type_with_content(&self) -> bool {
        true
    }

    /// False if the store refuses keys that contain a backslash.
    fn takes_backslash(&self) -> bool {
        true
    }
}

type Case = fn(Arc<dyn Fixture>) -> BoxFuture<'static, ()>;

/// All cases: name of the guarantee and of the case, function.
const CASES: &[(&str, Case)] = &[
    ("whole/replaced_while_read", |f| Box::pin(writing::replaced_while_read(f))),
    ("whole/failed_put_changes_nothing", |f| Box::pin(writing::failed_put_changes_nothing(f))),
    ("whole/announced_size_is_checked", |f| Box::pin(writing::announced_size_is_checked(f))),
    ("durable/reopened", |f| Box::pin(writing::reopened(f))),
    ("durable/writers_and_deleters_of_one_folder", |f| Box::pin(writing::writers_and_deleters(f))),
    ("url/works", |f| Box::pin(urls::works(f))),
    ("url/of_another_key_is_refused", |f| Box::pin(urls::of_another_key_is_refused(f))),
    ("url/content_type_is_optional", |f| Box::pin(urls::content_type_is_optional(f))),
    ("url/size_is_signed", |f| Box::pin(urls::size_is_signed(f))),
    ("url/expires", |f| Box::pin(urls::expires(f))),
    ("range/exact_bytes", |f| Box::pin(content::exact_bytes(f))),
    ("range/every_size_reads_back", |f| Box::pin(content::every_size_reads_back(f))),
    ("range/large_content_goes_in_parts", |f| Box::pin(content::large_content_goes_in_parts(f))),
    ("absent/answers", |f| Box::pin(content::absent_answers(f))),
    ("list/key_order_and_pages", |f| Box::pin(listing::key_order_and_pages(f))),
    ("list/complete_while_others_change", |f| Box::pin(listing::complete_while_others_change(f))),
    ("safe_keys/strange_keys_read_back", |f| Box::pin(content::strange_keys_read_back(f))),
    ("safe_keys/bad_keys_are_refused", |f| Box::pin(content::bad_keys_are_refused(f))),
    ("multipart/invisible_until_complete", |f| Box::pin(multipart::invisible_until_complete(f))),
    ("multipart/invisible_after_abort", |f| Box::pin(multipart::invisible_after_abort(f))),
    ("multipart/parts_in_any_order_and_repeated", |f| {
        Box::pin(multipart::parts_in_any_order_and_repeated(f))
    }),
    ("multipart/missing_part_is_reported", |f| Box::pin(multipart::missing_part_is_reported(f))),
    ("multipart/unknown_upload_is_reported", |f| Box::pin(multipart::unknown_upload_is_reported(f))),
    ("multipart/url_of_another_part_is_refused", |f| Box::pin(multipart::url_of_another_part_is_refused(f))),
    ("model/random_calls", |f| Box::pin(model::random_calls(f))),
];

/// A backend under test.
pub struct Backend {
    pub name: &'static str,
    pub make: fn() -> Arc<dyn Fixture>,
    /// Reason why no server is available to run on.
    pub absent: Option<String>,
    /// Cases that the server under test cannot pass, each with the reason.
    pub lacks: &'static [(&'static str, &'static str)],
}

/// Returns every case on every backend, each under its own name. Cases that cannot run are
/// marked as ignored, with the reason.
pub fn trials(backends: &[Backend]) -> Vec<Trial> {
    let trials = backends.iter().flat_map(|backend| CASES.iter().map(|case| trial(backend, case)));
    trials.collect()
}

fn trial(backend: &Backend, &(name, case): &(&'static str, Case)) -> Trial {
    let make = backend.make;
    let lacks = backend.lacks.iter().find(|(lacking, _)| *lacking == name).map(|(_, reason)| *reason);
    let reason = backend.absent.as_deref().or(lacks);
    let label = match reason {
        Some(reason) => format!("{}/{name} ({reason})", backend.name),
        None => format!("{}/{name}", backend.name),
    };
    Trial::test(label, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.map_err(Failed::from)?.block_on(case(make()));
        Ok(())
    })
    .with_ignored_flag(reason.is_some())
}

mod tools {
    use std::ops::Range;

    use bytes::Bytes;
    use futures::{StreamExt, TryStreamExt, stream};

    use super::Fixture;
    use crate::{BlobKey, BlobMeta, Blobs, Content, Result};

    pub(super) fn key(key: &str) -> BlobKey {
        BlobKey::new(key).unwrap()
    }

    /// Content in pieces, like an HTTP body.
    pub(super) fn content(bytes: impl Into<Bytes>) -> Content {
        const PIECE: usize = 100_000;
        let bytes: Bytes = bytes.into();
        let pieces = (0..bytes.len().div_ceil(PIECE))
            .map(move |piece| Ok(bytes.slice(piece * PIECE..bytes.len().min((piece + 1) * PIECE))));
        stream::iter(pieces).boxed()
    }

    pub(super) async fn put(blobs: &dyn Blobs, at: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let size = bytes.len() as u64;
        let written = blobs.put(&key(at), "text/plain", None, content(bytes)).await.unwrap();
        assert_eq!(written, size, "{at}");
    }

    /// Returns the keys in order. If keys cannot nest, each gets a suffix that no folder
    /// has.
    pub(super) fn keys(fixture: &dyn Fixture, keys: &[&str]) -> Vec<String> {
        let mut keys: Vec<_> = keys.iter().map(|at| leaf(fixture, at)).collect();
        keys.sort_unstable();
        keys
    }

    pub(super) fn leaf(fixture: &dyn Fixture, key: &str) -> String {
        if fixture.keys_nest() { key.to_owned() } else { format!("{key}=") }
    }

    pub(super) async fn collect(content: Content) -> Result<Vec<u8>> {
        content
            .map_ok(|piece| {
                assert!(piece.len() <= 1 << 20, "a piece of {} bytes", piece.len());
                piece
            })
            .try_fold(Vec::new(), async |all, piece| Ok([all, piece.to_vec()].concat()))
            .await
    }

    pub(super) async fn read(
        blobs: &dyn Blobs,
        at: &str,
        range: Option<Range<u64>>,
    ) -> Option<(BlobMeta, Vec<u8>)> {
        let (meta, content) = blobs.read(&key(at), range).await.unwrap()?;
        Some((meta, collect(content).await.unwrap()))
    }

    pub(super) async fn read_all(blobs: &dyn Blobs, at: &str) -> Option<Vec<u8>> {
        read(blobs, at, None).await.map(|(_, bytes)| bytes)
    }

    /// Returns every key below a folder, page by page.
    pub(super) async fn list_all(blobs: &dyn Blobs, folder: &str) -> Vec<String> {
        let mut keys = Vec::new();
        let mut after = None;
        loop {
            let page = blobs.list(folder, after.as_ref()).await.unwrap();
            assert!(page.blobs.len() <= crate::MAX_PAGE);
            keys.extend(page.blobs.into_iter().map(|(key, _)| key.as_str().to_owned()));
            let Some(next) = page.next else { return keys };
            assert!(after.is_none_or(|after| after < next), "the listing makes no progress");
            after = Some(next);
        }
    }
}
