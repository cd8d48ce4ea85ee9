//! Folding: rules 17, 19, 20 and 21, and who may fold.
