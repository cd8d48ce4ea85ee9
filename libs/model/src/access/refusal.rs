//! The reasons why a row of access control is not written.

/// The reason why a row of access control was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessRefusal {
    TooManyPrincipals {
        limit: usize,
    },
    TooManyGrants {
        limit: usize,
    },
    /// Too many valid tokens.
    TooManyCredentials {
        limit: usize,
    },
    /// Too many links that nobody has opened yet.
    TooManyLinks {
        limit: usize,
    },
    /// Too many grants in one project.
    TooManyGrantsOfProject {
        limit: usize,
    },
    /// Too many valid tokens that are limited to one project.
    TooManyTokensOfProject {
        limit: usize,
    },
    /// Too many unopened links that are limited to one project.
    TooManyLinksOfProject {
        limit: usize,
    },
    /// Too many programs of one network have begun a login in the last two minutes.
    TooManyLogins,
    /// The principal has signed in with its provider too often in a short time.
    TooManySignIns {
        limit: usize,
    },
    /// The principal has no role yet, was forgotten, or was removed.
    UnknownPrincipal,
    /// The principal is disabled, so it gets no credentials.
    DisabledPrincipal,
    /// Nobody else would be an operator.
    LastOperator,
}
