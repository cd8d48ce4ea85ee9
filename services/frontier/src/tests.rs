//! Tests of the services through their generated clients, in process, on the embedded log and
//! the directory blob store.

mod harness;

mod drain;
mod envelopes;
mod faults;
mod local_stream;
mod publish;
mod quotas;
mod stream;
mod system;
mod uploads;
