//! Wrappers that are stores themselves, put around any store where the program is wired.
