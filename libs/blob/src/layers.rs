//! Wrappers that implement the trait around another store; they are composed where everything is wired.

mod faults;

pub use faults::{Call, Fault, Faulty};
