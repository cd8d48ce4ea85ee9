//! Which file of the product imports which, in Rust, Python, and TypeScript.

pub mod python;
pub mod rust;
pub mod typescript;
