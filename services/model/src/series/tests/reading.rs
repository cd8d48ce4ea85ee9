//! Reading: how much it reads, over how long, and the sampling rules.
