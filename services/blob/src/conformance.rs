//! What every implementation of `Blobs` has to show: one case for each guarantee of the trait, by its name.
//! A backend's test is a `Fixture` and a call of `run`; cases see nothing but the trait and the fixture.
#![expect(clippy::unwrap_used, reason = "a failed case is a panic")]

mod content;
mod listing;
mod model;
mod urls;
mod writing;

use std::{process::ExitCode, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::{BlobKey, Blobs, Upload};

/// One store that is empty at first. Every case gets its own.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Opens the store as a process does that has just started: the first time, and after an earlier handle was dropped.
    async fn open(&self) -> Arc<dyn Blobs>;

    /// What a client does with an upload: one PUT of `body`, with this Content-Type if any. False if it was refused.
    async fn upload(&self, upload: &Upload, content_type: Option<&str>, body: Bytes) -> bool;

    /// An upload for `key` whose time is over.
    async fn presign_expired(&self, key: &BlobKey) -> Upload;
}

type Case = fn(Arc<dyn Fixture>) -> BoxFuture<'static, ()>;

/// The list of cases: guarantee, what it looks at, function.
const CASES: &[(&str, Case)] = &[
    ("whole/replaced_while_read", |f| Box::pin(writing::replaced_while_read(f))),
    ("whole/broken_put_leaves_the_old", |f| Box::pin(writing::broken_put_leaves_the_old(f))),
    ("whole/announced_size_is_checked", |f| Box::pin(writing::announced_size_is_checked(f))),
    ("durable/reopened", |f| Box::pin(writing::reopened(f))),
    ("durable/writers_and_deleters_of_one_folder", |f| Box::pin(writing::writers_and_deleters(f))),
    ("url/works_for_its_key_alone", |f| Box::pin(urls::works_for_its_key_alone(f))),
    ("url/content_type_is_optional", |f| Box::pin(urls::content_type_is_optional(f))),
    ("url/expires", |f| Box::pin(urls::expires(f))),
    ("range/exact_bytes", |f| Box::pin(content::exact_bytes(f))),
    ("range/every_size_reads_back", |f| Box::pin(content::every_size_reads_back(f))),
    ("absent/answers", |f| Box::pin(content::absent_answers(f))),
    ("list/key_order_and_pages", |f| Box::pin(listing::key_order_and_pages(f))),
    ("list/complete_while_others_change", |f| Box::pin(listing::complete_while_others_change(f))),
    ("safe_keys/strange_keys_read_back", |f| Box::pin(content::strange_keys_read_back(f))),
    ("safe_keys/bad_keys_are_refused", |f| Box::pin(content::bad_keys_are_refused(f))),
    ("model/random_calls", |f| Box::pin(model::random_calls(f))),
];

/// A backend under test: its name, and how a fixture of it is made.
pub type Backend = (&'static str, fn() -> Arc<dyn Fixture>);

/// Runs every case on every backend, each under its own name.
pub fn run(backends: &[Backend]) -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = backends.iter().flat_map(|&(backend, make)| {
        CASES.iter().map(move |&(name, case)| {
            Trial::test(format!("{backend}/{name}"), move || {
                tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()
                    .map_err(Failed::from)?
                    .block_on(case(make()));
                Ok(())
            })
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

mod tools {
    use std::ops::Range;

    use bytes::Bytes;
    use futures::{StreamExt, TryStreamExt, stream};

    use crate::{BlobKey, Blobs, Content, Meta, Result};

    pub(super) fn key(key: &str) -> BlobKey {
        BlobKey::new(key).unwrap()
    }

    /// Content in pieces, as a body comes.
    pub(super) fn content(bytes: impl Into<Bytes>) -> Content {
        const PIECE: usize = 100_000;
        let bytes: Bytes = bytes.into();
        let pieces = (0..bytes.len().div_ceil(PIECE))
            .map(move |piece| Ok(bytes.slice(piece * PIECE..bytes.len().min((piece + 1) * PIECE))));
        stream::iter(pieces).boxed()
    }

    pub(super) async fn put(blobs: &dyn Blobs, at: &str, bytes: impl Into<Bytes>) -> Meta {
        blobs.put(&key(at), "text/plain", None, content(bytes)).await.unwrap()
    }

    pub(super) async fn collect(content: Content) -> Result<Vec<u8>> {
        let check = |piece: Bytes| {
            assert!(piece.len() <= 1 << 20, "a piece of {} bytes", piece.len());
            piece
        };
        content
            .map_ok(check)
            .try_fold(Vec::new(), async |all, piece| Ok([all, piece.to_vec()].concat()))
            .await
    }

    pub(super) async fn read(
        blobs: &dyn Blobs,
        at: &str,
        range: Option<Range<u64>>,
    ) -> Option<(Meta, Vec<u8>)> {
        let (meta, content) = blobs.read(&key(at), range).await.unwrap()?;
        Some((meta, collect(content).await.unwrap()))
    }

    pub(super) async fn read_all(blobs: &dyn Blobs, at: &str) -> Option<Vec<u8>> {
        read(blobs, at, None).await.map(|(_, bytes)| bytes)
    }

    /// Every key below a prefix, page by page.
    pub(super) async fn list_all(blobs: &dyn Blobs, prefix: &str) -> Vec<String> {
        let (mut keys, mut from) = (Vec::new(), None);
        loop {
            let page = blobs.list(prefix, from.as_ref()).await.unwrap();
            assert!(page.blobs.len() <= crate::MAX_PAGE);
            keys.extend(page.blobs.into_iter().map(|(key, _)| key.as_str().to_owned()));
            let Some(next) = page.next else { return keys };
            assert!(from.is_none_or(|from| from < next), "the listing does not get on");
            from = Some(next);
        }
    }
}
