//! The services through their generated clients, in process, on the real embedded log and directory of blobs.

mod harness;

mod drain;
mod envelopes;
mod faults;
mod publish;
mod stream;
mod system;
mod uploads;
