//! Examples in the help of the commands of access control.

pub(super) const ACCESS: &str = "\
Examples:
  matyan up --access on                                      prints a link that signs the first operator in, once
  export MATYAN_TOKEN=$(cat matyan-data/operator-token)
  matyan projects create speech
  matyan access invite ana --role editor --project speech    grants the role, and prints a link that signs her in, once
  matyan access invite ana --role editor --with-token        also prints a token for her scripts
  matyan access grant ci ingest --project speech
  matyan access token create ci --project speech --days 365 --label 'build server'
  matyan access ls --project speech                          who may do what in the project
  matyan access links --project speech                       links that were not opened yet
  matyan access revoke-link 0123abcd --project speech        of a link that was sent to the wrong person
  matyan access grant bo operator --everywhere
  matyan access grant prometheus monitor --everywhere        reads /metrics, and nothing else
  matyan access disable ana                                  ends all of her sessions and tokens, and keeps her roles
  matyan access enable ana                                   lets her sign in again
  matyan access remove ana                                   ends all of her roles, sessions and tokens
  matyan access check --token-file token                     who the token is for, and what it may do
  matyan access audit --project speech --days 7              who has changed what in the project
  matyan access audit --everywhere --rpc sign-in --failed
  matyan access recover --data-dir ./matyan-data             a new operator token, while the server is stopped

Roles: monitor (reads metrics), ingest (sends data), viewer (reads), writer (both), editor (also changes and deletes runs), owner (also grants roles in
the project), operator (everything, in all projects). A change takes effect within 30 s.";

pub(super) const LS: &str = "\
Examples:
  matyan access ls --project speech
  matyan access ls --everywhere --json                       all projects, and disabled principals without a role";

pub(super) const GRANT: &str = "\
Examples:
  matyan access grant ana editor --project speech
  matyan access grant github:ana viewer --project speech     the person who signs in with GitHub as ana
  matyan access grant anonymous viewer --project speech      everyone may read the project without a token
  matyan access grant anonymous viewer --everywhere --yes    everyone may read all projects, including future ones
  matyan access grant prometheus monitor --everywhere        reads /metrics, and nothing else";

pub(super) const REVOKE: &str = "\
Examples:
  matyan access revoke ana --project speech                  also ends her tokens for the project
  matyan access revoke ana --project speech --keep-tokens    they work again with a new role
  matyan access revoke bo --everywhere";

pub(super) const INVITE: &str = "\
Examples:
  matyan access invite ana --role editor --project speech    prints a link that signs her in, once, within 15 minutes
  matyan access invite ana --role viewer --minutes 1440
  matyan access invite github:ana --role viewer              the person who signs in with GitHub as ana
  matyan access invite bo --role editor --with-token         also prints a token for scripts";

pub(super) const DISABLE: &str = "\
Examples:
  matyan access disable ana
  matyan access disable ana --yes --json                     in a script";

pub(super) const ENABLE: &str = "\
Examples:
  matyan access enable ana
  matyan access invite ana --role editor --project speech    she needs a new link, because the old sessions have ended";

pub(super) const REMOVE: &str = "\
Examples:
  matyan access remove ana
  matyan access remove ana --yes --json                      in a script";

pub(super) const WHOAMI: &str = "\
Examples:
  matyan access whoami
  matyan access whoami --project speech --json";

pub(super) const CHECK: &str = "\
Examples:
  matyan access check                                        asks for the token, and does not show it
  matyan access check --token-file token --json";

pub(super) const LINKS: &str = "\
Examples:
  matyan access links --project speech
  matyan access links --everywhere --json";

pub(super) const REVOKE_LINK: &str = "\
Examples:
  matyan access revoke-link 0123abcd --project speech
  matyan access revoke-link 0123abcd --everywhere";

pub(super) const RECOVER: &str = "\
Examples:
  matyan access recover --data-dir /srv/matyan               while the server is stopped
  matyan access recover --store fdb:///etc/foundationdb/fdb.cluster";

pub(super) const TOKEN: &str = "\
Examples:
  matyan access token create ci --project speech --days 365 --label 'build server'
  matyan access token create ana --project speech --limit viewer
  matyan access token ls --project speech
  matyan access token revoke 0123abcd --project speech
  matyan access token generate > operator-token              for MATYAN_OPERATOR_TOKEN_FILE";

pub(super) const TOKEN_CREATE: &str = "\
Examples:
  matyan access token create ci --project speech --days 365 --label 'build server'
  matyan access token create ana --project speech --limit viewer
  matyan access token create ana --everywhere                for all projects in which she has a role";

pub(super) const TOKEN_LS: &str = "\
Examples:
  matyan access token ls --project speech
  matyan access token ls --everywhere --json";

pub(super) const TOKEN_REVOKE: &str = "\
Examples:
  matyan access token revoke 0123abcd --project speech
  matyan access token revoke 0123abcd --everywhere";

pub(super) const TOKEN_GENERATE: &str = "\
Examples:
  matyan access token generate > operator-token              for MATYAN_OPERATOR_TOKEN_FILE
  kubectl create secret generic matyan-operator --from-file=operator-token";

pub(super) const TOKEN_DIGEST: &str = "\
Examples:
  matyan access token digest                                 asks for the token, and does not show it
  matyan access token digest --token-file token              for MATYAN_ACCESS_FILE";
