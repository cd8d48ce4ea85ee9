//! Sign-in with providers: any provider of OpenID Connect, and GitHub. A provider says who someone is and in which
//! groups; a table in the settings says which roles the groups give.
//!
//! The flow is the authorization code flow with PKCE. This crate makes the address to which a browser goes, and
//! checks the answer with which the browser comes back. Until then the browser keeps the values for checking the
//! answer, encrypted, so that a server stores nothing about people who have not signed in yet. Everything from a
//! provider is limited in size and time, and comes over https, except from the local machine.
//!
//! ```
//! use matyan_access::Role;
//! use matyan_sign_in::RoleTable;
//!
//! let table = RoleTable::parse("ml-team = editor@speech, ops = operator")?;
//! let roles = table.roles_of(&["ml-team".to_owned()]);
//! assert_eq!(roles, [(Some("speech".to_owned()), Role::Editor)]);
//! # Ok::<(), String>(())
//! ```

mod error;

mod address;
mod http_client;
mod pkce;

mod id_token;
mod key_set;

mod github;
mod oidc;

mod pending;
mod person;
mod role_table;

mod providers;

pub use address::is_trustworthy;
pub use error::{SetUpError, SignInError};
pub use github::GitHubSettings;
pub use id_token::TokenProblem;
pub use oidc::OidcSettings;
pub use pending::{PendingSignIn, SignInKey};
pub use person::{Answer, ClientSecret, ExpectedAnswer, GITHUB, OIDC, Person};
pub use providers::{GITHUB_TITLE, Providers};
pub use role_table::{GroupRole, RoleTable, granted_role};
