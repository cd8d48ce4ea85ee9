//! The binary: command line, settings, telemetry and wiring; nothing else.

fn main() {}
