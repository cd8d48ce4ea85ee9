//! GitHub, which has OAuth without ID tokens. Its API says who has signed in. The token for the API is used for nothing
//! else and then forgotten. Organizations and their teams are groups: `org`, and `org/team`, in lowercase.

use http::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    address::{is_trustworthy, with_parameters},
    error::{SetUpError, SignInError, shown},
    http_client::{Credentials, HttpClient},
    person::{Answer, ClientSecret, ExpectedAnswer, GITHUB, Person, PersonName},
    pkce::challenge,
};

/// The public GitHub. Its API has a separate host; the API of other instances has a path.
const PUBLIC: &str = "https://github.com";
const PUBLIC_API: &str = "https://api.github.com";

/// The rights of the token: it may read the person.
const PERSON_SCOPE: &str = "read:user";
/// The rights of the token if groups have roles: it may also read the organizations.
const GROUP_SCOPES: &str = "read:user read:org";

/// The error for a client id or a secret that GitHub does not know.
const WRONG_CLIENT: &str = "incorrect_client_credentials";

/// Entries of a page of a list, and the maximum number of pages.
const PAGE_SIZE: usize = 100;
const MAX_PAGES: usize = 10;

/// Settings of an instance of GitHub.
#[derive(Clone, Debug)]
pub struct GitHubSettings {
    /// Address of the instance, such as `https://github.com`.
    pub url: String,
    pub client_id: String,
    pub client_secret: ClientSecret,
}

pub(crate) struct GitHub {
    settings: GitHubSettings,
    /// Whether organizations and teams have roles. Otherwise they are not read, so that an organization that keeps apps out
    /// does not keep people out.
    has_group_roles: bool,
    /// Without slashes at the end.
    url: String,
    api: String,
    http: HttpClient,
}

#[derive(Deserialize)]
struct AccessToken {
    access_token: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
}

#[derive(Deserialize)]
struct Organization {
    login: String,
}

#[derive(Deserialize)]
struct Team {
    slug: String,
    organization: Organization,
}

impl GitHub {
    pub(crate) fn new(
        settings: GitHubSettings,
        has_group_roles: bool,
        http: HttpClient,
    ) -> Result<Self, SetUpError> {
        if !is_trustworthy(&settings.url) {
            return Err(SetUpError::Address(settings.url));
        }
        let url = settings.url.trim_end_matches('/').to_owned();
        let api = if url == PUBLIC { PUBLIC_API.to_owned() } else { format!("{url}/api/v3") };
        Ok(Self { settings, has_group_roles, url, api, http })
    }

    pub(crate) fn begin(&self, state: &str, expected: &ExpectedAnswer) -> String {
        let challenge = challenge(&expected.verifier);
        let parameters = [
            ("client_id", self.settings.client_id.as_str()),
            ("redirect_uri", expected.redirect_uri.as_str()),
            ("scope", if self.has_group_roles { GROUP_SCOPES } else { PERSON_SCOPE }),
            ("state", state),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ];
        with_parameters(&format!("{}/login/oauth/authorize", self.url), &parameters)
    }

    pub(crate) async fn finish(
        &self,
        answer: &Answer<'_>,
        expected: &ExpectedAnswer,
    ) -> Result<Person, SignInError> {
        let token = self.token(answer, expected).await?;
        let User { id, login } = self.read("/user", &token).await?;
        let groups = if self.has_group_roles { self.groups(&token).await? } else { Vec::new() };
        Ok(Person::new(GITHUB, self.url.clone(), id.to_string(), PersonName::AnyCase(&login), groups))
    }

    /// The organizations and teams of the person.
    async fn groups(&self, token: &str) -> Result<Vec<String>, SignInError> {
        let organizations: Vec<Organization> = self.list("/user/orgs", token).await?;
        let teams: Vec<Team> = self.list("/user/teams", token).await?;
        let organizations = organizations.into_iter().map(|organization| organization.login);
        let teams = teams.into_iter().map(|team| format!("{}/{}", team.organization.login, team.slug));
        Ok(organizations.chain(teams).map(|group| group.to_lowercase()).collect())
    }

    async fn token(&self, answer: &Answer<'_>, expected: &ExpectedAnswer) -> Result<String, SignInError> {
        let url = format!("{}/login/oauth/access_token", self.url);
        let parameters = [
            ("client_id", self.settings.client_id.as_str()),
            ("client_secret", self.settings.client_secret.reveal()),
            ("code", answer.code),
            ("redirect_uri", expected.redirect_uri.as_str()),
            ("code_verifier", expected.verifier.as_str()),
        ];
        let answer: AccessToken = self.http.post(&url, &parameters, Credentials::None).await?;
        answer.access_token.filter(|token| !token.is_empty()).ok_or_else(|| {
            // GitHub answers a wrong code with status 200.
            let error = answer.error.unwrap_or_default();
            let remedy = if error == WRONG_CLIENT {
                "; correct MATYAN_GITHUB_CLIENT_ID, or the secret in the file of MATYAN_GITHUB_CLIENT_SECRET_FILE, and restart the \
                 server"
            } else {
                ""
            };
            let reason = format!(": {}{remedy}", shown(&error));
            SignInError::Refused { url: url.clone(), status: StatusCode::OK.as_u16(), reason }
        })
    }

    async fn read<T: DeserializeOwned>(&self, path: &str, token: &str) -> Result<T, SignInError> {
        self.http.get(&format!("{}{path}", self.api), Credentials::Bearer(token)).await
    }

    /// A list that is read in pages. Groups on pages after the last page that is read give no roles.
    async fn list<T: DeserializeOwned>(&self, path: &str, token: &str) -> Result<Vec<T>, SignInError> {
        let mut all = Vec::new();
        for page in 1..=MAX_PAGES {
            let path = format!("{path}?per_page={PAGE_SIZE}&page={page}");
            let found: Vec<T> = self.read(&path, token).await?;
            let is_last = found.len() < PAGE_SIZE;
            all.extend(found);
            if is_last {
                break;
            }
        }
        Ok(all)
    }
}
