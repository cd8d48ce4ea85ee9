//! The guarantees of `LogWriter` and `LogReader`, each a case of that name, for every implementation to run.
//! Cases know only the traits and a `Fixture`.
