//! Rights and roles. A right is what an rpc needs; a role is what a person grants.

use std::fmt;
use std::ops::BitOr;

use matyan_proto::access::v1::Role as ProtoRole;

/// A right in one project, or in the whole instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    Read,
    Ingest,
    Edit,
    Manage,
    /// In the whole instance; implies all others.
    Operate,
    /// In the whole instance: reads its metrics.
    Monitor,
}

impl Right {
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Ingest, Self::Edit, Self::Manage, Self::Operate, Self::Monitor];

    const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The name of the right in texts and headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Ingest => "INGEST",
            Self::Edit => "EDIT",
            Self::Manage => "MANAGE",
            Self::Operate => "OPERATE",
            Self::Monitor => "MONITOR",
        }
    }

    /// The least role that has this right.
    pub fn least_role(self) -> Role {
        match self {
            Self::Read => Role::Viewer,
            Self::Ingest => Role::Ingest,
            Self::Edit => Role::Editor,
            Self::Manage => Role::Owner,
            Self::Operate => Role::Operator,
            Self::Monitor => Role::Monitor,
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RightSet(u8);

impl RightSet {
    pub const NONE: Self = Self(0);

    /// Every right.
    pub fn all() -> Self {
        Right::ALL.into_iter().collect()
    }

    pub fn contains(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }

    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    pub fn contains_all(self, rights: Self) -> bool {
        self.intersection(rights) == rights
    }

    /// The names of the rights.
    fn names(self) -> impl Iterator<Item = &'static str> {
        Right::ALL.into_iter().filter(move |right| self.contains(*right)).map(Right::name)
    }

    /// The rights with these names, separated by commas. A name that this version does not know gives no right.
    fn from_names(names: &str) -> Self {
        let is_named = |right: &Right| names.split(',').any(|name| name == right.name());
        Right::ALL.into_iter().filter(is_named).collect()
    }

    /// The rights in projects that are in the set.
    #[must_use]
    pub fn in_projects(self) -> Self {
        self.intersection(Role::Owner.rights())
    }

    /// The rights that are in both sets.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for RightSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Right> for RightSet {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        Self(rights.into_iter().fold(0, |bits, right| bits | right.bit()))
    }
}

/// The name that is listed among the rights if further rights cannot be looked up. Processes that do not know the name
/// ignore it.
const AWAY: &str = "AWAY";

/// The rights of a caller that one process sends to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownRights {
    pub held: RightSet,
    /// Whether the caller may have further rights, which cannot be looked up at the moment.
    pub are_outdated: bool,
}

impl KnownRights {
    /// The names of the rights, separated by commas.
    pub fn names(self) -> String {
        let names = self.held.names().chain(self.are_outdated.then_some(AWAY));
        names.collect::<Vec<_>>().join(",")
    }

    /// The rights with these names, separated by commas. A name that this version does not know gives no right.
    pub fn from_names(names: &str) -> Self {
        let are_outdated = names.split(',').any(|name| name == AWAY);
        Self { held: RightSet::from_names(names), are_outdated }
    }
}

/// A set of rights with a name, which is granted to a principal in a project, or in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads metrics and nothing else, for Prometheus. Only in all projects.
    Monitor,
    /// Sends data and reads nothing, for training nodes.
    Ingest,
    Viewer,
    Writer,
    Editor,
    Owner,
    /// Only in all projects.
    Operator,
}

impl Role {
    pub const ALL: [Self; 7] =
        [Self::Monitor, Self::Ingest, Self::Viewer, Self::Writer, Self::Editor, Self::Owner, Self::Operator];

    pub fn rights(self) -> RightSet {
        use Right::{Edit, Ingest, Manage, Read};
        match self {
            Self::Monitor => RightSet::from_iter([Right::Monitor]),
            Self::Ingest => RightSet::from_iter([Ingest]),
            Self::Viewer => RightSet::from_iter([Read]),
            Self::Writer => RightSet::from_iter([Read, Ingest]),
            Self::Editor => RightSet::from_iter([Read, Ingest, Edit]),
            Self::Owner => RightSet::from_iter([Read, Ingest, Edit, Manage]),
            Self::Operator => RightSet::all(),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Ingest => "ingest",
            Self::Viewer => "viewer",
            Self::Writer => "writer",
            Self::Editor => "editor",
            Self::Owner => "owner",
            Self::Operator => "operator",
        }
    }

    /// The role in the store and in messages.
    pub fn to_proto(self) -> ProtoRole {
        match self {
            Self::Monitor => ProtoRole::Monitor,
            Self::Ingest => ProtoRole::Ingest,
            Self::Viewer => ProtoRole::Viewer,
            Self::Writer => ProtoRole::Writer,
            Self::Editor => ProtoRole::Editor,
            Self::Owner => ProtoRole::Owner,
            Self::Operator => ProtoRole::Operator,
        }
    }

    /// `None` if the role is unspecified.
    pub fn from_proto(role: ProtoRole) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.to_proto() == role)
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_role_of_a_right_has_it_and_no_lesser_role() {
        for right in Right::ALL {
            let having: Vec<_> = Role::ALL.into_iter().filter(|it| it.rights().contains(right)).collect();
            assert_eq!(having.first(), Some(&right.least_role()), "{right}");
        }
    }

    #[test]
    fn rights_are_found_by_their_names() {
        let names = |role: Role| role.rights().names().collect::<Vec<_>>().join(",");
        for role in Role::ALL {
            assert_eq!(RightSet::from_names(&names(role)), role.rights(), "{role:?}");
        }
        assert_eq!(names(Role::Writer), "READ,INGEST");
        assert_eq!(RightSet::from_names(""), RightSet::NONE);
        assert_eq!(RightSet::from_names("edit,FUTURE,READ"), Role::Viewer.rights());
        assert!(Role::Editor.rights().contains_all(Role::Writer.rights()));
        assert!(!Role::Ingest.rights().contains_all(Role::Writer.rights()));
    }

    #[test]
    fn known_rights_say_whether_there_may_be_others() {
        for (held, are_outdated, names) in [
            (Role::Writer.rights(), false, "READ,INGEST"),
            (Role::Ingest.rights(), true, "INGEST,AWAY"),
            (RightSet::NONE, true, "AWAY"),
            (RightSet::NONE, false, ""),
        ] {
            let rights = KnownRights { held, are_outdated };
            assert_eq!(rights.names(), names);
            assert_eq!(KnownRights::from_names(names), rights);
            assert_eq!(RightSet::from_names(names), held, "an earlier version ignores the mark");
        }
    }

    #[test]
    fn roles_are_found_by_their_names_and_numbers() {
        for role in Role::ALL {
            assert_eq!(Role::from_name(role.name()), Some(role));
            assert_eq!(Role::from_proto(role.to_proto()), Some(role));
        }
        assert_eq!(Role::from_proto(ProtoRole::Unspecified), None);
        assert_eq!(Role::from_name("Owner"), None);
    }
}
