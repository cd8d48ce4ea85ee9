//! MatyanQL: parse, check, plan and evaluate. Pure, no I/O.
