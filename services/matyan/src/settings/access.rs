//! Settings of access control: whether callers are asked who they are, the first operator, and the providers with which
//! people sign in.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf};

use matyan_sign_in::{
    GITHUB, GITHUB_TITLE, GitHubSettings, OIDC, OidcSettings, Providers, RoleTable, SetUpError,
};

use super::{
    access_file::AccessFile, parse::AccessMode, reader::Reader, role::Role, setting::Setting, table,
};

const NOT_SET: &str = "not set; set it together with the other settings of this provider";

#[derive(Debug)]
pub(crate) struct AccessSettings {
    /// `None`: not said. Then no one is asked, unless the store has access control.
    pub(crate) mode: Option<AccessMode>,
    /// File with the token of the first operator.
    pub(crate) operator_token_file: Option<PathBuf>,
    /// Roles and tokens that are configured.
    pub(crate) file: Option<AccessFile>,
    /// The only host name under which the link of the first start can be opened; `None` for any.
    pub(crate) link_host: Option<String>,
    pub(crate) providers: ProviderSettings,
}

/// Settings of the providers with which people sign in, with the roles of their groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProviderSettings {
    oidc: Option<(OidcSettings, RoleTable)>,
    github: Option<(GitHubSettings, RoleTable)>,
}

impl AccessSettings {
    pub(super) fn read(role: Role, host: IpAddr, has_tls: bool, reader: &mut Reader) -> Self {
        let mode = reader.optional(&table::ACCESS);
        match mode {
            Some(AccessMode::On) => check_closed(role, host, has_tls, reader),
            Some(AccessMode::Off) => {}
            None => require_choice(role, host, reader),
        }
        let providers = if role.has_backend() {
            ProviderSettings::read(mode, reader)
        } else {
            ProviderSettings::default()
        };
        Self {
            mode,
            operator_token_file: reader.optional(&table::OPERATOR_TOKEN_FILE),
            file: if role.has_backend() { read_file(mode, reader) } else { None },
            link_host: (!host.is_unspecified()).then(|| host.to_string()),
            providers,
        }
    }
}

impl ProviderSettings {
    fn read(mode: Option<AccessMode>, reader: &mut Reader) -> Self {
        let providers = Self { oidc: read_oidc(reader), github: read_github(reader) };
        for (setting, is_set) in [
            (&table::OIDC_ISSUER, providers.oidc.is_some()),
            (&table::GITHUB_CLIENT_ID, providers.github.is_some()),
        ] {
            if is_set && mode != Some(AccessMode::On) {
                reader.refuse(
                    setting,
                    "set, but without access control nobody has to sign in: set --access on, or unset it",
                );
            }
        }
        providers
    }

    /// The names of the providers on the page for signing in.
    pub(crate) fn titles(&self) -> Vec<&str> {
        let oidc = self.oidc.as_ref().map(|(settings, _)| settings.title.as_str());
        let github = self.github.as_ref().map(|_| GITHUB_TITLE);
        oidc.into_iter().chain(github).collect()
    }

    /// The ids with which the names of people start who sign in with these providers.
    pub(crate) fn ids(&self) -> Vec<&'static str> {
        let oidc = self.oidc.as_ref().map(|_| OIDC);
        let github = self.github.as_ref().map(|_| GITHUB);
        oidc.into_iter().chain(github).collect()
    }

    /// The projects in which groups have roles. The name of the default project is empty.
    pub(crate) fn projects(&self) -> BTreeSet<&str> {
        let oidc = self.oidc.as_ref().map(|(_, roles)| roles);
        let github = self.github.as_ref().map(|(_, roles)| roles);
        [oidc, github].into_iter().flatten().flat_map(RoleTable::projects).collect()
    }

    /// The tables with roles in all projects: the setting of a table, and its rows with such roles.
    pub(crate) fn roles_in_all_projects(&self) -> Vec<(&'static str, Vec<String>)> {
        let oidc = self.oidc.as_ref().map(|(_, roles)| (table::OIDC_ROLES.definition.variable(), roles));
        let github =
            self.github.as_ref().map(|(_, roles)| (table::GITHUB_ROLES.definition.variable(), roles));
        let tables = oidc.into_iter().chain(github);
        let tables = tables.map(|(setting, roles)| (setting, roles.rows_for_all_projects()));
        tables.filter(|(_, rows)| !rows.is_empty()).collect()
    }

    /// The providers. Does not connect to them.
    pub(crate) fn open(&self) -> Result<Providers, SetUpError> {
        let Self { oidc, github } = self.clone();
        Providers::new(oidc, github)
    }
}

/// The roles and tokens of the file.
fn read_file(mode: Option<AccessMode>, reader: &mut Reader) -> Option<AccessFile> {
    let file = reader.optional(&table::ACCESS_FILE);
    if file.is_some() && mode != Some(AccessMode::On) {
        reader.refuse(
            &table::ACCESS_FILE,
            "set, but without access control its roles are not enforced: set --access on, or unset it",
        );
    }
    file
}

fn read_oidc(reader: &mut Reader) -> Option<(OidcSettings, RoleTable)> {
    let issuer = reader.optional(&table::OIDC_ISSUER);
    let client_id = reader.optional(&table::OIDC_CLIENT_ID);
    let client_secret = reader.optional(&table::OIDC_CLIENT_SECRET_FILE);
    let title = reader.read(&table::OIDC_TITLE);
    let scopes = reader.read(&table::OIDC_SCOPES);
    let groups_claim = reader.read(&table::OIDC_GROUPS_CLAIM);
    let name_claim = reader.optional(&table::OIDC_NAME_CLAIM);
    let roles = reader.read(&table::OIDC_ROLES);
    if issuer.is_none() && client_id.is_none() && client_secret.is_none() && roles.is_empty() {
        return None;
    }
    let issuer = required(&table::OIDC_ISSUER, issuer, reader);
    let client_id = required(&table::OIDC_CLIENT_ID, client_id, reader);
    let issuer = issuer?;
    let client_id = client_id?;
    let settings = OidcSettings { issuer, client_id, client_secret, title, scopes, groups_claim, name_claim };
    Some((settings, roles))
}

fn read_github(reader: &mut Reader) -> Option<(GitHubSettings, RoleTable)> {
    let url = reader.read(&table::GITHUB_URL);
    let client_id = reader.optional(&table::GITHUB_CLIENT_ID);
    let client_secret = reader.optional(&table::GITHUB_CLIENT_SECRET_FILE);
    let roles = reader.read(&table::GITHUB_ROLES);
    if client_id.is_none() && client_secret.is_none() && roles.is_empty() {
        return None;
    }
    let client_id = required(&table::GITHUB_CLIENT_ID, client_id, reader);
    let client_secret = required(&table::GITHUB_CLIENT_SECRET_FILE, client_secret, reader);
    Some((GitHubSettings { url, client_id: client_id?, client_secret: client_secret? }, roles))
}

/// A setting that another one needs. An invalid value has been reported already.
fn required<T>(setting: &Setting<T>, value: Option<T>, reader: &mut Reader) -> Option<T> {
    if value.is_none() && !reader.is_set(setting) {
        reader.refuse(setting, NOT_SET);
    }
    value
}

/// Refuses to serve data to other machines unless someone has decided who may read it. Workers serve none.
fn require_choice(role: Role, host: IpAddr, reader: &mut Reader) {
    if role.is_worker() || host.is_loopback() || reader.is_set(&table::ACCESS) {
        return;
    }
    let problem = format!(
        "not set, but other machines can connect to {host}: set --access on, so that callers need a token, or --access off, \
         so that everyone who can connect may do everything; or listen on this machine only, with --host 127.0.0.1"
    );
    reader.refuse(&table::ACCESS, problem);
}

/// Refuses a process that could not ask a backend who its callers are.
fn check_backend(reader: &mut Reader) {
    if !reader.is_set(&table::BACKEND_URL) {
        let problem = "not set; with access control, set the address of a backend, which knows the callers";
        reader.refuse(&table::BACKEND_URL, problem);
    }
    if !reader.is_set(&table::BLOB_URI_SECRET) {
        let problem = "not set; with access control, set the same random string as for the backends, which then answer \
                       who the callers are";
        reader.refuse(&table::BLOB_URI_SECRET, problem);
    }
}

/// Refuses settings that would defeat access control.
fn check_closed(role: Role, host: IpAddr, has_tls: bool, reader: &mut Reader) {
    if !role.has_store() {
        check_backend(reader);
    }
    let is_behind_proxy = reader.read(&table::ACCESS_BEHIND_PROXY);
    if !role.is_worker() && !host.is_loopback() && !has_tls && !is_behind_proxy {
        let problem = "`on` without TLS would let others on the network read tokens: set --tls-cert and --tls-key, or \
                       --access-behind-proxy true if a proxy serves TLS";
        reader.refuse(&table::ACCESS, problem);
    }
    if reader.is_set(&table::UI_API_AUTH_TOKEN) {
        let problem =
            "would publish a token to everyone who opens the UI: unset it, because access control is on";
        reader.refuse(&table::UI_API_AUTH_TOKEN, problem);
    }
}
