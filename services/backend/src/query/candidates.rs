//! Candidates: runs that may match a query. `page_reader` reads them page by page, `scan` has the next page read while
//! a page is sent, `columns` avoids reading documents, `load`, `candidate` and `encoded_params` present a document to
//! the query language, and `filter` evaluates the query.

mod by_created;
mod candidate;
mod columns;
mod encoded_params;
mod filter;
mod load;
mod page_reader;
mod scan;

pub(crate) use {
    by_created::RunsByCreated,
    candidate::{Candidate, Sequence, SequenceHeader},
    filter::{MatchedRun, QueryFilter},
    load::{CandidateLoader, reads_large_params},
    page_reader::MatchPage,
    scan::{RunScanner, always_raised_warning, newest_run},
};
