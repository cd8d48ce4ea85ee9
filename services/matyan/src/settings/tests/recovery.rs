//! Settings of `access recover`, which needs the store alone.

use super::*;

fn recovery(flags: Pairs<'_>, variables: Pairs<'_>) -> Result<RecoverySettings, String> {
    RecoverySettings::resolve(map(flags), map(variables)).map_err(|violations| violations.to_string())
}

#[test]
fn a_recovery_needs_no_settings_of_sign_ins_and_of_ports() {
    let github = [
        ("MATYAN_GITHUB_CLIENT_ID", "Iv1"),
        ("MATYAN_GITHUB_CLIENT_SECRET_FILE", "/nothing/here"),
        ("MATYAN_GITHUB_ROLES", "my-org/ml-team = editor@speech"),
    ];
    let oidc = [
        ("MATYAN_OIDC_ISSUER", "https://id.example"),
        ("MATYAN_OIDC_CLIENT_ID", "matyan"),
        ("MATYAN_OIDC_ROLES", "ops = operator"),
    ];
    let server =
        [("MATYAN_HOST", "0.0.0.0"), ("MATYAN_ACCESS_FILE", "/nothing/here"), ("TLS_CERT_FILE", "c.pem")];
    let all = [&github[..], &oidc[..], &server[..]].concat();
    for variables in [&github[..], &oidc[..], &server[..], &all[..]] {
        let settings = recovery(&[("data-dir", "/d")], variables).unwrap();
        assert!(matches!(settings.store, Store::Embedded), "{settings:?}");
        assert_eq!(settings.data_dir.as_deref(), Some(Path::new("/d")));
    }
}

#[test]
fn a_recovery_reads_where_the_store_is() {
    let settings = recovery(&[], &[]).unwrap();
    assert_eq!(settings.data_dir.as_deref(), Some(Path::new("matyan-data")));
    let error = recovery(&[("store", "sqlite:")], &[]).unwrap_err();
    assert!(error.contains("MATYAN_STORE: invalid store URI `sqlite:`"), "{error}");
    let on_network = recovery(&[], &[("MATYAN_STORE", "fdb:")]);
    if cfg!(feature = "fdb") {
        assert!(on_network.unwrap().data_dir.is_none(), "such a store is on other machines");
    } else {
        assert!(on_network.unwrap_err().contains(WITHOUT_FDB));
    }
}
