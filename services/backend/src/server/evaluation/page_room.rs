//! Room for the documents that searches evaluate. A page of documents has a few megabytes. Params that are stored in
//! pieces are large: those of a single run may take more than a page, and twice as much while the pieces are joined. So only
//! a part of all pages may have large params at a time.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Room for a page of documents, which a search has until it has evaluated them.
pub(crate) struct PageRoom<'e> {
    large_params: &'e Semaphore,
    _page: SemaphorePermit<'e>,
    for_large_params: Option<SemaphorePermit<'e>>,
    has_large_params: bool,
}

impl<'e> PageRoom<'e> {
    pub(super) fn new(page: SemaphorePermit<'e>, large_params: &'e Semaphore) -> Self {
        Self { large_params, _page: page, for_large_params: None, has_large_params: false }
    }

    pub(super) fn with_large_params(self, room: SemaphorePermit<'e>) -> Self {
        Self { for_large_params: Some(room), ..self }
    }

    /// Whether large params can be read into the page. Takes room for them if there is some now.
    pub(crate) fn is_enough_for_large_params(&mut self) -> bool {
        if self.for_large_params.is_none() {
            self.for_large_params = self.large_params.try_acquire().ok();
        }
        self.has_large_params |= self.for_large_params.is_some();
        self.has_large_params
    }

    /// Whether large params have been read into the page.
    pub(crate) fn has_large_params(&self) -> bool {
        self.has_large_params
    }
}
