//! The table that turns groups of a provider into roles, as text: `ml-team = editor@speech, ops = operator`.

use std::collections::BTreeMap;

use matyan_access::Role;

/// A role in a project, or in all of them (`None`).
type GroupRole = (Option<String>, Role);

/// Which roles a group gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleTable {
    rows: Vec<(String, GroupRole)>,
}

impl RoleTable {
    /// Reads a table: `GROUP = ROLE@PROJECT` for a role in a project, `GROUP = ROLE` for one in all projects, separated by
    /// commas or in lines of their own. A group with several roles has several rows. Nothing after `@` is the default
    /// project. The error says what is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rows = text.split([',', '\n']).map(str::trim).filter(|row| !row.is_empty());
        Ok(Self { rows: rows.map(parse_row).collect::<Result<_, _>>()? })
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The roles of someone in these groups: the largest one in each project, and in all of them.
    pub fn roles_of(&self, groups: &[String]) -> Vec<(Option<String>, Role)> {
        let mut roles = BTreeMap::new();
        for (_, (project, role)) in self.rows.iter().filter(|(group, _)| groups.contains(group)) {
            let largest = roles.entry(project.clone()).or_insert(*role);
            *largest = (*largest).max(*role);
        }
        roles.into_iter().collect()
    }
}

fn parse_row(row: &str) -> Result<(String, GroupRole), String> {
    let (group, granted) = row.rsplit_once('=').ok_or_else(|| {
        format!("has the row `{row}` without a `=`; write rows such as `ml-team = editor@speech` or `ops = operator`")
    })?;
    let (group, granted) = (group.trim(), granted.trim());
    let (name, project) = match granted.split_once('@') {
        Some((name, project)) => (name.trim(), Some(project.trim().to_owned())),
        None => (granted, None),
    };
    if group.is_empty() {
        return Err(format!("has the row `{row}` without a group before the `=`"));
    }
    let names = Role::ALL.map(Role::name).join(", ");
    let role = Role::from_name(name)
        .ok_or_else(|| format!("gives the unknown role `{name}`; use one of {names}"))?;
    if project.is_some() && matches!(role, Role::Operator | Role::Monitor) {
        return Err(format!(
            "gives the role `{name}` in a project; it is one in all projects: write `{name}` alone"
        ));
    }
    Ok((group.to_owned(), (project, role)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(table: &str, groups: &[&str]) -> Vec<(Option<String>, Role)> {
        let groups: Vec<_> = groups.iter().map(|group| (*group).to_owned()).collect();
        RoleTable::parse(table).unwrap().roles_of(&groups)
    }

    fn named(project: &str, role: Role) -> (Option<String>, Role) {
        (Some(project.to_owned()), role)
    }

    #[test]
    fn rule_86_groups_give_the_largest_of_their_roles() {
        let table = "ml-team = editor@speech, ml-team=viewer@vision\nleads = owner@speech , org/ops = operator, all = viewer@";
        assert_eq!(
            roles(table, &["ml-team"]),
            [named("speech", Role::Editor), named("vision", Role::Viewer)]
        );
        assert_eq!(
            roles(table, &["ml-team", "leads"]),
            [named("speech", Role::Owner), named("vision", Role::Viewer)]
        );
        assert_eq!(roles(table, &["org/ops"]), [(None, Role::Operator)]);
        assert_eq!(roles(table, &["all"]), [named("", Role::Viewer)]);
        // Groups are compared as they are.
        assert_eq!(roles(table, &["ML-team", "ops", "ml-team ", ""]), []);
        assert_eq!(roles("", &["ml-team"]), []);
        // A name may contain an equals sign.
        assert_eq!(roles("cn=ml = viewer@speech", &["cn=ml"]), [named("speech", Role::Viewer)]);
    }

    #[test]
    fn wrong_tables_say_what_is_wrong() {
        for (table, expected) in [
            ("ml-team", "without a `=`"),
            ("= viewer", "without a group"),
            ("a = admin@speech", "unknown role `admin`"),
            ("a = operator@speech", "write `operator` alone"),
            ("a =", "unknown role ``"),
        ] {
            let error = RoleTable::parse(table).unwrap_err();
            assert!(error.contains(expected), "{table}: {error}");
        }
    }
}
