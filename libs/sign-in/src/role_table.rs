//! The text of the table that turns groups of a provider into roles:
//! `ml-team = editor@speech, ops = operator`. A row that could never give anyone a role is an error.

use std::collections::BTreeMap;

use matyan_access::{NAME_OF_DEFAULT, PROJECT_NAME_RULE, Role, is_project_name};

/// The quote at both ends of a group that contains commas.
const QUOTE: char = '"';

/// A role in a project, or in all projects (`None`).
pub type GroupRole = (Option<String>, Role);

/// The groups with their roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleTable {
    rows: Vec<(String, GroupRole)>,
}

impl RoleTable {
    /// Reads a table: `GROUP = ROLE@PROJECT` for a role in a project, `GROUP = ROLE` for a role in all
    /// projects, separated by commas or on their own lines. A group with several roles has several rows.
    /// `GROUP = ROLE@` is for the default project. A group with commas is in quotes:
    /// `"cn=ml,dc=example" = viewer@speech`. The error says what is wrong and how to correct it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut is_quoted = false;
        let separates = |letter: char| {
            is_quoted ^= letter == QUOTE;
            !is_quoted && matches!(letter, ',' | '\n')
        };
        let rows: Vec<&str> = text.split(separates).map(str::trim).filter(|row| !row.is_empty()).collect();
        if is_quoted {
            return Err(
                "has an odd number of `\"`: put both ends of a group with commas in quotes".to_owned()
            );
        }
        Ok(Self { rows: rows.into_iter().map(parse_row).collect::<Result<_, _>>()? })
    }

    /// Reads a table of groups that are compared in lowercase, because their names mean the same in any case, as at
    /// GitHub.
    pub fn parse_any_case(text: &str) -> Result<Self, String> {
        let Self { rows } = Self::parse(text)?;
        Ok(Self { rows: rows.into_iter().map(|(group, role)| (group.to_lowercase(), role)).collect() })
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The projects in which groups have roles. The name of the default project is empty.
    pub fn projects(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().filter_map(|(_, (project, _))| project.as_deref())
    }

    /// The rows that give a role in all projects, such as `my-org/ml-team = editor`.
    pub fn rows_for_all_projects(&self) -> Vec<String> {
        let rows = self.rows.iter().filter(|(_, (project, _))| project.is_none());
        rows.map(|(group, (_, role))| format!("{group} = {}", role.name())).collect()
    }

    /// The roles of a person in these groups: the largest role in each project, and in all projects.
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
    let group = group.trim();
    if group.trim_matches(QUOTE).is_empty() {
        return Err(format!("has the row `{row}` without a group before the `=`"));
    }
    let quoted = group.strip_prefix(QUOTE).and_then(|group| group.strip_suffix(QUOTE));
    if quoted.is_none() && group.contains(" = ") {
        return Err(format!("has the row `{row}` with two roles: write a row for each of them"));
    }
    Ok((quoted.unwrap_or(group).to_owned(), granted_role(granted)?))
}

/// Reads a role with its project: `ROLE@PROJECT` for a role in a project, `ROLE@` in the default project, and `ROLE`
/// in all projects. The error says what is wrong and how to correct it.
pub fn granted_role(granted: &str) -> Result<GroupRole, String> {
    let granted = granted.trim();
    let (name, project) = match granted.split_once('@') {
        Some((name, project)) => (name.trim(), Some(project.trim().to_owned())),
        None => (granted, None),
    };
    let names = Role::ALL.map(Role::name).join(", ");
    let role = Role::from_name(name).ok_or_else(|| {
        format!("gives the unknown role `{name}`; use one of {names}, and quotes around a group with commas")
    })?;
    if project.is_some() && matches!(role, Role::Operator | Role::Monitor) {
        return Err(format!(
            "gives the role `{name}` in a project; it is a role in all projects: write `{name}` alone"
        ));
    }
    match project.as_deref() {
        Some(NAME_OF_DEFAULT) => {
            Err(format!("gives a role in the default project by the name `default`: write `{name}@` alone"))
        }
        Some(project) if !project.is_empty() && !is_project_name(project) => Err(format!(
            "names the project `{project}`, which cannot exist: names of projects have {PROJECT_NAME_RULE}"
        )),
        _ => Ok((project, role)),
    }
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
        // Groups are compared exactly.
        assert_eq!(roles(table, &["ML-team", "ops", "ml-team ", ""]), []);
        assert_eq!(roles("", &["ml-team"]), []);
        // A name may contain an equals sign.
        assert_eq!(roles("cn=ml = viewer@speech", &["cn=ml"]), [named("speech", Role::Viewer)]);
    }

    #[test]
    fn rows_for_all_projects_are_named() {
        let table =
            RoleTable::parse("My-Org/ml = editor, ops = operator, all = viewer@, ml = owner@speech").unwrap();
        assert_eq!(table.rows_for_all_projects(), ["My-Org/ml = editor", "ops = operator"]);
        assert!(RoleTable::default().rows_for_all_projects().is_empty());
    }

    #[test]
    fn groups_with_commas_are_in_quotes() {
        let group = "cn=ml,ou=groups,dc=example";
        let error = RoleTable::parse(&format!("{group} = viewer@speech")).unwrap_err();
        assert!(error.contains("unknown role `ml`") && error.contains("quotes around a group"), "{error}");
        let table =
            format!("ops = operator, \"{group}\" = viewer@speech,b = viewer\n\"{group}\"=editor@vision");
        let expected = [named("speech", Role::Viewer), named("vision", Role::Editor)];
        assert_eq!(roles(&table, &[group]), expected);
        assert_eq!(roles(&table, &["b"]), [(None, Role::Viewer)]);
        assert_eq!(roles("\"a = b\" = viewer", &["a = b"]), [(None, Role::Viewer)]);
    }

    #[test]
    fn rule_86_groups_of_github_are_written_in_any_case() {
        let table = RoleTable::parse_any_case("My-Org/ML-Team = editor@speech").unwrap();
        let groups = ["my-org/ml-team".to_owned()];
        assert_eq!(table.roles_of(&groups), [named("speech", Role::Editor)]);
    }

    #[test]
    fn wrong_tables_say_what_is_wrong() {
        for (table, expected) in [
            ("ml-team", "without a `=`"),
            ("= viewer", "without a group"),
            ("a = admin@speech", "unknown role `admin`"),
            ("a = operator@speech", "write `operator` alone"),
            ("a =", "unknown role ``"),
            ("a = editor@Speech Lab", "names the project `Speech Lab`, which cannot exist"),
            ("a = editor@speech@vision", "names the project `speech@vision`"),
            ("a = editor@default", "write `editor@` alone"),
            ("a = viewer = editor@speech", "with two roles"),
            ("\"a = viewer, b = viewer", "an odd number of"),
            ("\"\" = viewer", "without a group"),
        ] {
            let error = RoleTable::parse(table).unwrap_err();
            assert!(error.contains(expected), "{table}: {error}");
        }
    }
}
