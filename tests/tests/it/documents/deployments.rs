//! Deployment files that make a server reachable for others turn access control on, unless an operator turns it off.

use super::{check, text};

/// The lines that turn access control on, by file.
const CLOSED: [(&str, &str); 6] = [
    ("deploy/compose/compose.yaml", "\n    MATYAN_ACCESS: ${MATYAN_ACCESS:-on}\n"),
    ("deploy/compose/up.yaml", "\n      MATYAN_ACCESS: ${MATYAN_ACCESS:-on}\n"),
    ("deploy/compose/.env.example", "\nMATYAN_ACCESS=on\n"),
    ("deploy/docker/Dockerfile", "\n    MATYAN_ACCESS=on \\\n"),
    ("deploy/systemd/matyan.service", "Environment=MATYAN_DATA_DIR=/var/lib/matyan MATYAN_ACCESS=on "),
    ("deploy/helm/matyan/values.yaml", "\naccess: \"on\"\n"),
];

/// The line that forces a decision about TLS once Compose publishes its ports to others: the server refuses an address
/// as the value.
const UNDECIDED: &str =
    "MATYAN_ACCESS_BEHIND_PROXY: ${MATYAN_ACCESS_BEHIND_PROXY:-${MATYAN_ADDRESS:-true}}\n";

#[test]
fn rule_63_deployments_ask_callers_who_they_are() {
    let open = CLOSED.iter().filter(|(file, line)| !text(file).contains(line));
    let open =
        open.map(|(file, line)| format!("{file}: access control is not on: `{}` is missing", line.trim()));
    let compose = ["deploy/compose/compose.yaml", "deploy/compose/up.yaml"];
    let undecided = compose.iter().filter(|file| !text(file).contains(UNDECIDED));
    let undecided = undecided.map(|file| format!("{file}: nothing asks whether a proxy serves TLS"));
    check(open.chain(undecided).collect());
}
