//! A caller and its decision: whether it may make a call.

use std::collections::{BTreeMap, BTreeSet};

use matyan_proto::common::v1::Access;

use crate::right::{KnownRights, Right, RightSet, Role};

/// The rights of a caller, by project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerRights {
    /// In every project, also in projects that do not exist yet.
    everywhere: RightSet,
    /// By the name of the project; the name of the default project is empty.
    projects: BTreeMap<String, RightSet>,
}

/// The part of its principal's rights that a token has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenLimits {
    /// Absent: all projects of the principal.
    pub projects: Option<BTreeSet<String>>,
    /// Absent: all rights of the principal.
    pub role: Option<Role>,
}

impl CallerRights {
    /// Adds a role in all projects.
    pub fn grant_everywhere(&mut self, role: Role) {
        self.everywhere = self.everywhere | role.rights();
    }

    /// Adds a role in a project. The role of operator applies to the whole instance, so in a project it gives
    /// the rights of an owner.
    pub fn grant_in(&mut self, project: &str, role: Role) {
        let rights = role.rights().in_projects();
        let known = self.projects.entry(project.to_owned()).or_default();
        *known = *known | rights;
    }

    fn in_project(&self, project: &str) -> RightSet {
        self.everywhere | self.projects.get(project).copied().unwrap_or_default()
    }

    fn are_any(&self) -> bool {
        !self.everywhere.in_projects().is_empty() || self.projects.values().any(|rights| !rights.is_empty())
    }

    /// The rights that are left by the limits of a token.
    #[must_use]
    pub fn limited(&self, limits: &TokenLimits) -> Self {
        let allowed = limits.role.map_or_else(RightSet::all, Role::rights);
        match &limits.projects {
            None => self.intersection(allowed),
            Some(projects) => {
                let in_project = allowed.in_projects();
                let rights = |name: &String| (name.clone(), self.in_project(name).intersection(in_project));
                Self { everywhere: RightSet::NONE, projects: projects.iter().map(rights).collect() }
            }
        }
    }

    fn intersection(&self, allowed: RightSet) -> Self {
        let rights = |(name, rights): (&String, &RightSet)| (name.clone(), rights.intersection(allowed));
        let projects = self.projects.iter().map(rights).collect();
        Self { everywhere: self.everywhere.intersection(allowed), projects }
    }
}

/// Roles, each in one project, or in all projects.
impl<'a> FromIterator<(Option<&'a str>, Role)> for CallerRights {
    fn from_iter<I: IntoIterator<Item = (Option<&'a str>, Role)>>(roles: I) -> Self {
        let mut rights = Self::default();
        for (project, role) in roles {
            match project {
                Some(project) => rights.grant_in(project, role),
                None => rights.grant_everywhere(role),
            }
        }
        rights
    }
}

/// A principal and its rights, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    name: String,
    rights: CallerRights,
    /// The limits of the token, which the rights already respect.
    limits: TokenLimits,
    is_anonymous: bool,
    /// Whether the rights may have changed since.
    is_outdated: bool,
}

/// The reason why a caller may not make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// An anonymous caller lacks the right.
    NotSignedIn,
    /// The caller has no right in the project, so it must not learn whether the project exists.
    UnknownProject,
    MissingRight(Right),
    /// The rights of the caller cannot be looked up at the moment.
    RightsAway,
}

impl Caller {
    /// A principal that has shown a credential.
    pub fn new(name: impl Into<String>, rights: CallerRights) -> Self {
        Self::limited(name, &rights, TokenLimits::default())
    }

    /// A principal that has shown a token with these limits.
    pub fn limited(name: impl Into<String>, rights: &CallerRights, limits: TokenLimits) -> Self {
        let rights = rights.limited(&limits);
        Self { name: name.into(), rights, limits, is_anonymous: false, is_outdated: false }
    }

    /// The caller of requests without a credential.
    pub fn anonymous(rights: CallerRights) -> Self {
        let limits = TokenLimits::default();
        Self { name: "anonymous".to_owned(), rights, limits, is_anonymous: true, is_outdated: false }
    }

    /// The name of the principal in data and logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The limits of the token that the caller has shown.
    pub fn limits(&self) -> &TokenLimits {
        &self.limits
    }

    /// The largest role whose rights the caller has in this project, within the limits of its token.
    pub fn role_in(&self, project: &str) -> Option<Role> {
        let held = self.rights.in_project(project);
        let has = |role: &Role| held.intersection(role.rights()) == role.rights();
        Role::ALL.into_iter().rev().find(has)
    }

    /// The rights of the caller in this project, within the limits of its token. Rights that may have changed since are
    /// left out, except the right to send data.
    pub fn known_rights(&self, project: &str) -> KnownRights {
        let all = self.rights.in_project(project);
        let held = if self.is_outdated { all.intersection(Role::Ingest.rights()) } else { all };
        KnownRights { held, are_outdated: self.is_outdated }
    }

    /// Whether the caller has shown no credential.
    pub fn is_anonymous(&self) -> bool {
        self.is_anonymous
    }

    /// Decides whether the caller may make a call that needs this right in this project.
    pub fn check(&self, access: Access, project: &str) -> Result<(), Denial> {
        let held = self.rights.in_project(project);
        let right = match access {
            Access::Public | Access::Signed => return Ok(()),
            Access::Ingest if self.is_outdated && held.contains(Right::Ingest) => return Ok(()),
            // Metrics are needed most while something is away.
            Access::Monitor if self.is_outdated && held.contains(Right::Monitor) => return Ok(()),
            _ if self.is_outdated => return Err(Denial::RightsAway),
            Access::Caller => return self.check_known(project),
            Access::Read => Right::Read,
            Access::Ingest => Right::Ingest,
            Access::Edit => Right::Edit,
            Access::Manage => Right::Manage,
            Access::Monitor => Right::Monitor,
            // The build refuses rpcs that need an unspecified right.
            Access::Operate | Access::Unspecified => Right::Operate,
        };
        match right {
            _ if held.contains(right) => Ok(()),
            _ if self.is_anonymous => Err(Denial::NotSignedIn),
            // The same answer for every project.
            Right::Operate | Right::Monitor => Err(Denial::MissingRight(right)),
            _ if held.in_projects().is_empty() => Err(Denial::UnknownProject),
            _ => Err(Denial::MissingRight(right)),
        }
    }

    /// Decides whether the caller may know of this project. Everyone knows the default one.
    fn check_known(&self, project: &str) -> Result<(), Denial> {
        let is_known = project.is_empty() || !self.rights.in_project(project).in_projects().is_empty();
        match (is_known, self.is_anonymous) {
            (true, false) => Ok(()),
            (true, true) if self.rights.are_any() => Ok(()),
            (_, true) => Err(Denial::NotSignedIn),
            (false, false) => Err(Denial::UnknownProject),
        }
    }

    /// The projects that the caller may know of; `None` for all.
    pub fn known_projects(&self) -> Option<impl Iterator<Item = &str>> {
        let known = self.rights.projects.iter().filter(|(_, rights)| !rights.is_empty());
        self.rights.everywhere.in_projects().is_empty().then(|| known.map(|(name, _)| name.as_str()))
    }

    /// Whether the caller manages every project, also those that do not exist.
    pub fn manages_all_projects(&self) -> bool {
        self.rights.everywhere.contains(Right::Manage)
    }

    /// The caller with rights that may have changed since: it may send data and read metrics, but do nothing
    /// else.
    pub(crate) fn outdated(&self) -> Self {
        Self { is_outdated: true, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(grants: &[(Option<&str>, Role)]) -> Caller {
        Caller::new("service:test", grants.iter().copied().collect())
    }

    #[test]
    fn rule_54_a_right_in_one_project_is_none_in_another() {
        let needs = [Access::Read, Access::Ingest, Access::Edit, Access::Manage];
        for role in Role::ALL {
            let owner = caller(&[(Some("own"), role)]);
            for access in needs {
                for other in ["", "other", "own2", "Own"] {
                    assert_eq!(
                        owner.check(access, other),
                        Err(Denial::UnknownProject),
                        "{role:?} {access:?}"
                    );
                }
            }
            assert_eq!(owner.check(Access::Operate, "own"), Err(Denial::MissingRight(Right::Operate)));
            let known: &[&str] = if role == Role::Monitor { &[] } else { &["own"] };
            assert_eq!(owner.known_projects().unwrap().collect::<Vec<_>>(), known);
        }
        assert_eq!(caller(&[(Some("own"), Role::Editor)]).check(Access::Edit, "own"), Ok(()));
    }

    #[test]
    fn the_role_in_a_project_is_the_largest_within_the_limits_of_the_token() {
        let grants = [(None, Role::Viewer), (Some("own"), Role::Ingest), (Some("team"), Role::Owner)];
        let ana = caller(&grants);
        assert_eq!(ana.role_in("own"), Some(Role::Writer));
        assert_eq!((ana.role_in("team"), ana.role_in("other")), (Some(Role::Owner), Some(Role::Viewer)));
        let limits = TokenLimits { role: Some(Role::Editor), ..TokenLimits::default() };
        let limited = Caller::limited("ana", &grants.into_iter().collect(), limits);
        assert_eq!(limited.role_in("team"), Some(Role::Editor));
        assert_eq!(caller(&[]).role_in("own"), None);
        assert_eq!(caller(&[(None, Role::Operator)]).role_in("own"), Some(Role::Operator));
    }

    #[test]
    fn rule_79_a_monitor_reads_metrics_and_knows_no_project() {
        let monitor = caller(&[(None, Role::Monitor)]);
        assert_eq!(monitor.check(Access::Monitor, ""), Ok(()));
        for access in [Access::Read, Access::Ingest, Access::Edit, Access::Manage] {
            for project in ["", "any"] {
                assert_eq!(monitor.check(access, project), Err(Denial::UnknownProject), "{access:?}");
            }
        }
        assert_eq!(monitor.check(Access::Operate, ""), Err(Denial::MissingRight(Right::Operate)));
        assert_eq!(monitor.check(Access::Caller, "any"), Err(Denial::UnknownProject));
        assert_eq!(monitor.known_projects().unwrap().count(), 0);
        let owner = caller(&[(None, Role::Owner), (Some("own"), Role::Monitor)]);
        assert_eq!(owner.check(Access::Monitor, "own"), Err(Denial::MissingRight(Right::Monitor)));
        // An operator gives Prometheus a small token.
        let operator = caller(&[(None, Role::Operator)]).rights;
        let limits = TokenLimits { projects: None, role: Some(Role::Monitor) };
        let limited = Caller::new("operator", operator.limited(&limits));
        assert_eq!(limited.check(Access::Monitor, ""), Ok(()));
        assert_eq!(limited.check(Access::Read, ""), Err(Denial::UnknownProject));
        // While rights cannot be looked up, Prometheus still sees why.
        assert_eq!(limited.outdated().check(Access::Monitor, ""), Ok(()));
        assert_eq!(owner.outdated().check(Access::Monitor, ""), Err(Denial::RightsAway));
    }

    #[test]
    fn rights_that_may_have_changed_are_left_out_except_that_to_send_data() {
        let editor = caller(&[(Some("own"), Role::Editor)]);
        assert_eq!(editor.known_rights("own").names(), "READ,INGEST,EDIT");
        assert_eq!(editor.known_rights("other").names(), "");
        assert_eq!(editor.outdated().known_rights("own").names(), "INGEST,AWAY");
    }

    #[test]
    fn an_operator_may_do_everything() {
        let operator = caller(&[(None, Role::Operator)]);
        for access in
            [Access::Read, Access::Ingest, Access::Edit, Access::Manage, Access::Operate, Access::Monitor]
        {
            assert_eq!(operator.check(access, "any"), Ok(()));
        }
        assert!(operator.known_projects().is_none());
        assert!(operator.manages_all_projects());
        // To know all projects is less than to manage them.
        let viewer = caller(&[(None, Role::Viewer), (Some("own"), Role::Owner)]);
        assert!(viewer.known_projects().is_none() && !viewer.manages_all_projects());
    }

    #[test]
    fn an_anonymous_caller_is_asked_to_sign_in() {
        let mut rights = CallerRights::default();
        let nobody = Caller::anonymous(rights.clone());
        for access in [Access::Caller, Access::Read, Access::Manage, Access::Operate, Access::Monitor] {
            assert_eq!(nobody.check(access, "team"), Err(Denial::NotSignedIn), "{access:?}");
        }
        for access in [Access::Public, Access::Signed] {
            assert_eq!(nobody.check(access, "team"), Ok(()));
        }
        rights.grant_in("team", Role::Viewer);
        let guest = Caller::anonymous(rights);
        assert_eq!(guest.check(Access::Read, "team"), Ok(()));
        assert_eq!(guest.check(Access::Caller, ""), Ok(()));
        assert_eq!(guest.check(Access::Caller, "other"), Err(Denial::NotSignedIn));
        assert_eq!(guest.check(Access::Edit, "team"), Err(Denial::NotSignedIn));
        assert_eq!(guest.check(Access::Read, "other"), Err(Denial::NotSignedIn));
    }

    #[test]
    fn a_token_has_at_most_the_rights_of_its_principal() {
        let owner = caller(&[(Some("own"), Role::Owner), (None, Role::Viewer)]).rights;
        let check = |projects: Option<&[&str]>, role, access, project, expected| {
            let projects = projects.map(|it| it.iter().map(|name| (*name).to_owned()).collect());
            let limited = owner.limited(&TokenLimits { projects, role });
            assert_eq!(Caller::new("service:test", limited).check(access, project), expected);
        };
        let unknown = Err(Denial::UnknownProject);
        check(None, None, Access::Manage, "own", Ok(()));
        check(None, Some(Role::Writer), Access::Ingest, "own", Ok(()));
        check(None, Some(Role::Writer), Access::Edit, "own", Err(Denial::MissingRight(Right::Edit)));
        check(Some(&["own"]), None, Access::Manage, "own", Ok(()));
        check(Some(&["own"]), None, Access::Read, "other", unknown);
        check(Some(&["other"]), Some(Role::Owner), Access::Read, "other", Ok(()));
        let missing = Err(Denial::MissingRight(Right::Ingest));
        check(Some(&["other"]), Some(Role::Owner), Access::Ingest, "other", missing);
        check(Some(&["other"]), None, Access::Read, "own", unknown);
        // Only a token without limits operates the instance.
        let operator = caller(&[(None, Role::Operator)]).rights;
        let only = TokenLimits { projects: Some(["own".to_owned()].into()), role: Some(Role::Operator) };
        let limited = Caller::new("service:test", operator.limited(&only));
        assert_eq!(limited.check(Access::Manage, "own"), Ok(()));
        assert_eq!(limited.check(Access::Operate, "own"), Err(Denial::MissingRight(Right::Operate)));
    }
}
