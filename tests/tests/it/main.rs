//! Tests of the whole system through its binary: one file per promise. They are one program, so
//! that the harness is compiled and linked once.

mod abandoned_queries;
mod access;
mod backup;
mod bad_input;
mod bounded_memory;
mod busy_answers;
mod commands;
mod cut_frames;
mod damaged_store;
mod dashboard;
mod documents;
mod edits;
mod health;
mod host_names;
mod isolation;
mod kill;
mod large_samples;
mod log_number;
mod old_store;
mod quotas;
mod rest_pages;
mod roles;
mod run_hashes;
mod separate_access;
mod shutdown;
mod tensorboard;
mod times;
mod tls;
mod traces;
mod vectors_gateway;
mod vectors_search;
mod wandb;
mod wide_runs;
