//! The keys of `kekd-lkm.toml`, and from where its paths are taken.

use std::path::Path;

use super::{LkmConfig, limits};
use crate::config::{Schema, path_from};

/// How `kekd-lkm` is configured.
pub const SCHEMA: Schema<LkmConfig> = Schema {
    program: "kekd-lkm",
    prefix: "KEKD_LKM",
    client_variables: &["KEKD_LKM_URL", "KEKD_LKM_ID", "KEKD_LKM_KEY", "KEKD_LKM_CA"],
    others: &[],
    keys: &KEYS,
    expected,
    numbers: limits::numbers,
    texts: limits::texts,
    resolve,
};

/// Every key there is. A test holds this list against the types.
pub(super) const KEYS: [&str; 36] = [
    "https.listen",
    "https.certificate_file",
    "https.private_key_file",
    "https.public_host",
    "https.public_port",
    "https.path",
    "https.tls_min",
    "https.allow_sources",
    "https.reload_interval_ms",
    "hawk.credentials_file",
    "hawk.skew_s_max",
    "hawk.signed_path",
    "hawk.nonces_max",
    "protocol.decrypt_type",
    "kekd.endpoint",
    "kekd.ca_file",
    "kekd.certificate_file",
    "kekd.private_key_file",
    "kekd.connections",
    "kekd.timeout_ms",
    "kekd.canary_interval_ms",
    "local.listen",
    "limits.connections_max",
    "limits.connections_per_address_max",
    "limits.handshake_timeout_ms",
    "limits.head_timeout_ms",
    "limits.request_timeout_ms",
    "limits.connection_age_ms_max",
    "limits.head_bytes_max",
    "limits.body_bytes_max",
    "limits.requests_per_s_of_credential",
    "limits.requests_per_s_of_address",
    "limits.interactive_max",
    "limits.bulk_max",
    "log.format",
    "log.filter",
];

fn expected(key: &str) -> Option<&'static str> {
    match key {
        "https.listen" | "local.listen" => Some(
            "expected an address and a port, such as 127.0.0.1:8443 or [::]:443; a host's name is \
             neither",
        ),
        "https.tls_min" => Some("expected \"1.2\" or \"1.3\""),
        "hawk.signed_path" => Some("expected either, with-query or without-query"),
        "protocol.decrypt_type" => Some("expected either, query or body"),
        "log.format" => Some("expected text or json"),
        _ => None,
    }
}

fn resolve(config: &mut LkmConfig, folder: &Path, credentials: Option<&Path>) {
    let secrets = credentials.unwrap_or(folder);
    path_from(folder, &mut config.https.certificate_file);
    path_from(secrets, &mut config.https.private_key_file);
    path_from(secrets, &mut config.hawk.credentials_file);
    let kekd = &mut config.kekd;
    for path in [&mut kekd.ca_file, &mut kekd.certificate_file]
        .into_iter()
        .flatten()
    {
        path_from(folder, path);
    }
    if let Some(path) = &mut kekd.private_key_file {
        path_from(secrets, path);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;
    use crate::config::{Environment, Loaded, load_as};

    const GOOD: &str = r#"
[https]
certificate_file = "tls.crt"
private_key_file = "tls-key"
public_host = "lkm.example.com"
[kekd]
endpoint = "unix:/run/kekd/kekd.sock"
"#;

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Loaded<LkmConfig>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kekd-lkm.toml");
        std::fs::write(&file, text).unwrap();
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        Environment::of(&SCHEMA, variables)
            .and_then(|environment| load_as(&SCHEMA, &file, &environment))
            .map_err(|error| {
                error
                    .to_string()
                    .replace(&*folder.path().to_string_lossy(), "DIR")
            })
    }

    #[test]
    fn the_list_of_keys_is_that_of_the_types() {
        let loaded = load(GOOD, &[]).unwrap();
        let mut found: Vec<_> = loaded.settings.iter().map(|s| s.key.as_str()).collect();
        let mut listed = KEYS.to_vec();
        found.sort_unstable();
        listed.sort_unstable();
        assert_eq!(found, listed);
    }

    #[test]
    fn the_environment_is_this_programs_own() {
        let variables = [
            ("KEKD_LKM__HTTPS__PUBLIC_PORT", "8443"),
            ("KEKD_LKM_URL", "https://a"),
            ("KEKD__HSM__SESSIONS", "2"),
            ("CREDENTIALS_DIRECTORY", "/run/credentials/lkm"),
        ];
        let config = load(GOOD, &variables).unwrap().config;
        assert_eq!(config.https.public_port, 8443);
        let secret = config.https.private_key_file;
        assert_eq!(secret, Path::new("/run/credentials/lkm/tls-key"));
        let error = load(GOOD, &[("KEKD_LKM_PORT", "1")]).unwrap_err();
        assert!(error.contains("not a setting of kekd-lkm"), "{error}");
        assert!(error.contains("KEKD_LKM__SECTION__KEY"), "{error}");
        let error = load(GOOD, &[("KEKD_LKM__HTTPS__PROT", "1")]).unwrap_err();
        assert!(
            error.contains("there is no setting \"https.prot\""),
            "{error}"
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (
                GOOD.replace("lkm.example.com", "https://lkm"),
                "https.public_host must be",
            ),
            (
                GOOD.replace("[kekd]", "path = \"decrypt\"\n[kekd]"),
                "https.path must be",
            ),
            (
                GOOD.replace("[kekd]", "allow_sources = \"10.0.0.0/33\"\n[kekd]"),
                "allow_sources",
            ),
            (
                GOOD.replace("[kekd]", "tls_min = \"1.1\"\n[kekd]"),
                "expected \"1.2\" or \"1.3\"",
            ),
            (
                GOOD.replace("unix:/run", "http://run"),
                "kekd.endpoint must be",
            ),
            (
                GOOD.replace("unix:/run/kekd/kekd.sock", "https://kekd:7443"),
                "kekd.endpoint must be",
            ),
            (
                format!("{GOOD}[local]\nlisten = \"192.0.2.1:1\"\n"),
                "local.listen must be",
            ),
            (
                format!("{GOOD}[limits]\nbody_bytes_max = 1\n"),
                "must be 1024 to 65536, found 1",
            ),
        ];
        for (text, said) in cases {
            let error = load(&text, &[]).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
