//! Commands of access control with mistakes: they change nothing, and say what to do instead.

use matyan_tests::Server;
use serde_json::Value;

use super::{command, error_of, operator_token, run, stdout_of};

#[tokio::test]
async fn one_project_and_all_projects_contradict_each_other() {
    let server = Server::up_with(&["--access", "on"]).await;
    let operator = operator_token(&server.data_dir());
    stdout_of(&server, &operator, &["projects", "create", "speech"]);
    let words = ["access", "grant", "ana", "viewer", "--everywhere"];
    let both = [&words[..], &["--project", "speech"]].concat();
    let error = error_of(&server, Some(&operator), &both);
    assert!(error.contains("'--everywhere'") && error.contains("'--project'"), "{error}");
    assert!(!stdout_of(&server, &operator, &["access", "ls", "--everywhere"]).contains("ana"));
    // The variable may be set for other commands.
    let granted = run(command(&server, Some(&operator), &words).env("MATYAN_PROJECT", "speech"));
    assert!(granted.expect("the role is granted").contains("(all)"));
}

/// One server for all of them, in this order: each changes the list of roles.
#[tokio::test]
async fn everyone_and_disabled_principals_are_exceptions() {
    let server = Server::up_with(&["--access", "on"]).await;
    let operator = operator_token(&server.data_dir());
    everyone_is_not_invited(&server, &operator);
    a_disabled_principal_stays_in_the_list_of_all_roles(&server, &operator);
    all_projects_are_opened_to_everyone_with_a_confirmation(&server, &operator);
}

fn all_projects_are_opened_to_everyone_with_a_confirmation(server: &Server, operator: &str) {
    let words = ["access", "grant", "anonymous", "viewer", "--everywhere"];
    let error = error_of(server, Some(operator), &words);
    assert!(error.contains("nothing was done: pass --yes"), "{error}");
    assert!(!stdout_of(server, operator, &["access", "ls", "--everywhere"]).contains("anonymous"));
    stdout_of(server, operator, &[&words[..], &["--yes"]].concat());
    assert!(stdout_of(server, operator, &["access", "ls", "--everywhere"]).contains("anonymous"));
}

fn everyone_is_not_invited(server: &Server, operator: &str) {
    let error = error_of(server, Some(operator), &["access", "invite", "anonymous", "--role", "viewer"]);
    assert!(error.contains("does not sign in") && error.contains("access grant anonymous viewer"), "{error}");
    assert!(!stdout_of(server, operator, &["access", "ls"]).contains("anonymous"));
}

fn a_disabled_principal_stays_in_the_list_of_all_roles(server: &Server, operator: &str) {
    for words in [&["grant", "bob", "viewer"][..], &["disable", "bob", "--yes"], &["revoke", "bob"]] {
        stdout_of(server, operator, &[&["access"], words].concat());
    }
    let listed = stdout_of(server, operator, &["access", "ls", "--everywhere"]);
    assert!(listed.contains("bob (disabled)  (none)"), "{listed}");
    let listed = stdout_of(server, operator, &["access", "ls", "--everywhere", "--json"]);
    let bob = listed.lines().find(|line| line.contains("bob")).expect("it is listed");
    let bob: Value = serde_json::from_str(bob).expect("one object");
    assert_eq!((&bob["role"], &bob["disabled"]), (&Value::Null, &true.into()));
}

#[tokio::test]
async fn an_error_about_a_mistake_names_the_next_step() {
    let server = Server::up_with(&["--access", "on"]).await;
    let operator = operator_token(&server.data_dir());
    stdout_of(&server, &operator, &["projects", "create", "speech"]);
    stdout_of(&server, &operator, &["access", "grant", "ana", "viewer", "--project", "speech"]);
    let secret = stdout_of(&server, &operator, &["access", "token", "generate"]);
    let secret = secret.trim();
    for (words, expected) in [
        (&["revoke", "nobody"][..], "`matyan access ls`"),
        (&["disable", "nobody", "--yes"], "`matyan access ls --everywhere`"),
        (&["enable", "nobody"], "`matyan access ls --everywhere`"),
        (&["remove", "nobody", "--yes"], "`matyan access ls --everywhere`"),
        (&["token", "revoke", secret], "`matyan access token ls`"),
        (&["revoke-link", secret], "`matyan access links`"),
        (&["token", "create", "ana"], "has no role in the default project"),
        (&["token", "create", "bo", "--project", "speech"], "grant bo ROLE --project speech"),
        (&["grant", "Ana", "viewer"], "use `ana`"),
    ] {
        let error = error_of(&server, Some(&operator), &[&["access"], words].concat());
        assert!(error.contains(expected) && !error.contains(secret), "{words:?}: {error}");
    }
    // A role that is refused replaces nothing.
    let words = ["access", "grant", "ana", "operator", "--project", "speech"];
    let error = error_of(&server, Some(&operator), &words);
    assert!(!error.contains("replaces") && error.contains("`--everywhere`"), "{error}");
    let audit = ["access", "audit", "--everywhere", "--rpc", "nosuch"];
    let output = command(&server, Some(&operator), &audit).output().expect("the binary starts");
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b""[..], &b"no entries\n"[..]));
}
