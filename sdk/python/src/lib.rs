//! The extension module `matyan_client._core`: the part of the Python package that is written in
//! Rust.
//!
//! It converts arguments and calls `matyan-sdk`. The public surface, with its types and
//! documentation, is Python. What runs in the background runs on the I/O thread of `matyan-sdk`, and
//! never touches Python.

mod archive;
mod archive_files;
mod arrow;
mod backend;
mod columns;
mod convert;
#[cfg(unix)]
mod descriptors;
mod errors;
mod event_reader;
mod health;
mod histograms;
mod interruption;
mod leveldb_records;
mod line_cutter;
mod logins;
mod number;
mod opened_file;
mod payload;
mod protobuf_message;
mod query;
mod run;
mod run_name;
mod series_cache;
mod server;
mod server_version;
mod spools;
mod system;
mod tracked_tensors;
mod tree;

use pyo3::{
    prelude::*,
    types::{PyInt, PyMapping},
};

/// Creates the values that PyO3 keeps for the process and needs in `track`. Otherwise they would be
/// created at their first use, while other threads may run: a child that one of these threads forks
/// at that moment would wait for a thread that the child does not have.
fn prepare_for_forks(py: Python<'_>) -> PyResult<()> {
    // The name `__name__`, and the class `collections.abc.Mapping`.
    py.get_type::<PyInt>().name()?;
    let _is_mapping = py.None().bind(py).cast::<PyMapping>().is_ok();
    Ok(())
}

#[pymodule]
mod _core {
    use pyo3::prelude::*;

    use crate::protobuf_message::ProtobufError;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        module.add("ABSENT", matyan_proto::ABSENT)?;
        module.add("ProtobufError", py.get_type::<ProtobufError>())?;
        module.add("OUTAGE_NOTICE", matyan_sdk::OUTAGE_NOTICE)?;
        crate::prepare_for_forks(py)
    }

    #[pymodule_export]
    use crate::{
        archive::{Archive, ArchivedItems, ArchivedRun, UnpackedArchive, run_folder, singular_dtype},
        archive_files::{ArchiveFiles, RunFiles, pack_archive},
        backend::{Backend, SearchResults},
        columns::{Column, Series},
        event_reader::EventReader,
        health::Health,
        histograms::equal_bins,
        leveldb_records::{LevelDbRecords, leveldb_records},
        line_cutter::LineCutter,
        logins::{begin_login, end_logins, is_login_allowed, keep_login},
        payload::encode_media,
        protobuf_message::ProtobufMessage,
        query::query_expression,
        run::CoreRun,
        run_name::spoken_name,
        server::use_token,
        server_version::version_advice,
        spools::{SpoolInfo, remove_spool, spools, sync},
        tracked_tensors::TrackedSeries,
    };
}
