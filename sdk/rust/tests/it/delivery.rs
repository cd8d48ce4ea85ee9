//! Delivery of what a script tracks: everything that a call has returned for is stored once, in
//! order, whatever happens to the script, the network and the server.

mod child;
mod faults;
mod kill;
mod order;
mod plain;
mod power_failure;
mod processes;
mod proxy;
mod recorder;
mod scene;
mod space;
