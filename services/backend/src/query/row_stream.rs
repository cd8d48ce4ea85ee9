//! The stream of the rows that a search finds, to a client that may be slow.

mod delivery;
mod keep_alive;

pub(crate) use {
    delivery::{Delivery, Rank},
    keep_alive::KeepAlive,
};
