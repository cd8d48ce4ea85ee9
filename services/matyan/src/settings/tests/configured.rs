//! Settings that configure projects and people one by one.

use matyan_model::project_quota::ProjectQuotas;

use super::*;

#[test]
fn projects_may_have_limits_of_their_own() {
    let quotas = |text| resolve(Role::Up, &[], &[("MATYAN_PROJECT_UPLOAD_BYTES", text)]);
    assert!(resolve(Role::Up, &[], &[]).unwrap().project_upload_bytes.is_empty());
    let read = quotas("speech = 536870912000, default = 5").unwrap().project_upload_bytes;
    let expected = [("", 5), ("speech", 536_870_912_000)];
    assert_eq!(read, expected.map(|(name, bytes)| (name.to_owned(), bytes)).into());
    for variable in [
        "MATYAN_PROJECT_UPLOAD_BYTES",
        "MATYAN_PROJECT_RUNS",
        "MATYAN_PROJECT_SERIES",
        "MATYAN_PROJECT_BYTES",
    ] {
        let problem = resolve(Role::Up, &[], &[(variable, "speech = many")]).unwrap_err().to_string();
        let expected = "a limit of `speech` that is not a whole number";
        assert!(problem.contains(variable) && problem.contains(expected), "{problem}");
    }
}

#[test]
fn projects_have_quotas_of_runs_series_and_bytes() {
    assert_eq!(*resolve(Role::Up, &[], &[]).unwrap().project_quotas, ProjectQuotas::default());
    let variables = [
        ("MATYAN_MAX_PROJECT_RUNS", "10"),
        ("MATYAN_PROJECT_RUNS", "speech = 20, demo = 0"),
        ("MATYAN_MAX_PROJECT_SERIES", "1000"),
        ("MATYAN_PROJECT_BYTES", "default = 5"),
    ];
    let quotas = resolve(Role::Up, &[], &variables).unwrap().project_quotas;
    let of_project = |name: &str| {
        [quotas.runs.of_project(name), quotas.series.of_project(name), quotas.bytes.of_project(name)]
    };
    assert_eq!(of_project(""), [10, 1_000, 5]);
    assert_eq!(of_project("speech"), [20, 1_000, 0]);
    assert_eq!(of_project("demo"), [0, 1_000, 0]);
    for (variable, wrong, expected) in [
        ("MATYAN_MAX_PROJECT_RUNS", "many", "is not a whole number"),
        ("MATYAN_PROJECT_SERIES", "speech", "write rows such as"),
        ("MATYAN_MAX_PROJECT_BYTES", "-1", "is not a whole number"),
    ] {
        let problem = resolve(Role::Up, &[], &[(variable, wrong)]).unwrap_err().to_string();
        assert!(problem.contains(variable) && problem.contains(expected), "{problem}");
    }
}

#[test]
fn rule_122_the_access_file_needs_access_control() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[roles]\nana = [\"viewer@speech\"]\n").unwrap();
    let path = file.path().to_str().unwrap();
    let read = |mode| resolve(Role::Up, &[], &[("MATYAN_ACCESS", mode), ("MATYAN_ACCESS_FILE", path)]);
    assert_eq!(read("on").unwrap().access.file.unwrap().roles.len(), 1);
    let problem = read("off").unwrap_err().to_string();
    assert!(problem.contains("MATYAN_ACCESS_FILE") && problem.contains("--access on"), "{problem}");
    std::fs::write(file.path(), "[roles]\nana = [\"emperor\"]\n").unwrap();
    let problem = read("on").unwrap_err().to_string();
    assert!(problem.contains("unknown role `emperor`"), "{problem}");
}
