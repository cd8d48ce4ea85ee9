//! The providers of a server: at most one provider of OpenID Connect, and GitHub.

use matyan_access::Role;

use crate::{
    error::{SetUpError, SignInError},
    github::{GitHub, GitHubSettings},
    http_client::HttpClient,
    oidc::{OidcProvider, OidcSettings},
    person::{Answer, ExpectedAnswer, GITHUB, OIDC, Person},
    role_table::RoleTable,
};

/// The name on the button of GitHub.
pub const GITHUB_TITLE: &str = "GitHub";

/// The providers with which people sign in, and the roles of their groups. Each provider has its own table,
/// because anyone may create an organization at GitHub with the name of a group elsewhere.
#[derive(Default)]
pub struct Providers {
    oidc: Option<(OidcProvider, RoleTable)>,
    github: Option<(GitHub, RoleTable)>,
}

impl Providers {
    /// Creates the providers without connecting: a provider may start later.
    pub fn new(
        oidc: Option<(OidcSettings, RoleTable)>,
        github: Option<(GitHubSettings, RoleTable)>,
    ) -> Result<Self, SetUpError> {
        let oidc = oidc.map(|(settings, roles)| {
            Ok::<_, SetUpError>((OidcProvider::new(settings, HttpClient::new()?)?, roles))
        });
        let github = github.map(|(settings, roles)| {
            Ok::<_, SetUpError>((GitHub::new(settings, !roles.is_empty(), HttpClient::new()?)?, roles))
        });
        Ok(Self { oidc: oidc.transpose()?, github: github.transpose()? })
    }

    /// The ids of the providers, and the names on their buttons.
    pub fn titles(&self) -> impl Iterator<Item = (&str, &str)> {
        let oidc = self.oidc.as_ref().map(|(provider, _)| (OIDC, provider.title()));
        let github = self.github.as_ref().map(|_| (GITHUB, GITHUB_TITLE));
        oidc.into_iter().chain(github)
    }

    /// Starts a sign-in. Returns the address to which the browser goes.
    pub async fn begin(
        &self,
        id: &str,
        state: &str,
        expected: &ExpectedAnswer,
    ) -> Result<String, SignInError> {
        match (id, &self.oidc, &self.github) {
            (OIDC, Some((provider, _)), _) => provider.begin(state, expected).await,
            (GITHUB, _, Some((github, _))) => Ok(github.begin(state, expected)),
            _ => Err(SignInError::UnknownProvider(id.to_owned())),
        }
    }

    /// Checks the answer of a provider, at this time in seconds since the Unix epoch. Returns who has signed in.
    pub async fn finish(
        &self,
        id: &str,
        answer: &Answer<'_>,
        expected: &ExpectedAnswer,
        now_s: i64,
    ) -> Result<Person, SignInError> {
        match (id, &self.oidc, &self.github) {
            (OIDC, Some((provider, _)), _) => provider.finish(answer, expected, now_s).await,
            (GITHUB, _, Some((github, _))) => github.finish(answer, expected).await,
            _ => Err(SignInError::UnknownProvider(id.to_owned())),
        }
    }

    /// The roles of a person in these groups of a provider.
    pub fn roles_of(&self, id: &str, groups: &[String]) -> Vec<(Option<String>, Role)> {
        let table = match id {
            OIDC => self.oidc.as_ref().map(|(_, roles)| roles),
            GITHUB => self.github.as_ref().map(|(_, roles)| roles),
            _ => None,
        };
        table.map(|table| table.roles_of(groups)).unwrap_or_default()
    }
}

/// Formats the ids, and omits everything else.
impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.titles().map(|(id, _)| id)).finish()
    }
}
