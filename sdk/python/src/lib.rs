//! The extension module `matyan_client._core`: the part of the Python package that is written in
//! Rust.
//!
//! It converts arguments and calls `matyan-sdk`. The public surface, with its types and
//! documentation, is Python. What runs in the background runs on the I/O thread of `matyan-sdk`, and
//! never touches Python.

mod arrow;
mod backend;
mod columns;
mod convert;
mod errors;
mod health;
mod interruption;
mod number;
mod payload;
mod run;
mod series_cache;
mod spools;
mod system;
mod tree;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    #[pymodule_export]
    use crate::{
        backend::Backend,
        columns::{Column, Series},
        health::Health,
        run::CoreRun,
        spools::{SpoolInfo, spools, sync},
    };
}
