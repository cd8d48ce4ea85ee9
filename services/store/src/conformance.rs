//! The suite that every store passes: one case per guarantee, by its name.
