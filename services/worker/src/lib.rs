//! Ingestion worker, control worker and periodic jobs.
