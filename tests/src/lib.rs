//! Whole-system tests: harness, vectors, real peers.
