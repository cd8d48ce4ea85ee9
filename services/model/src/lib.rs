//! What the bytes mean: runs, params, series, entities, indexes.
