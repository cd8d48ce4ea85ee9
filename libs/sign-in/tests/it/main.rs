//! Sign-in with providers that behave as each test demands, over real sockets on the local machine.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking, and the lint also applies to helpers")]

mod github;
mod issuer;
mod oidc;
mod signer;
