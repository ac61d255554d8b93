//! What a bad TLS file is answered with, word for word.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::rig::{Authority, write};
use crate::config::TcpConfig;
use crate::serve::tls::TlsMaterial;

fn refusal(folder: &Path, tcp: &TcpConfig) -> String {
    let error = TlsMaterial::load(tcp)
        .err()
        .expect("was accepted")
        .to_string();
    error.replace(&*folder.to_string_lossy(), "DIR")
}

#[test]
fn a_bad_file_is_named_with_its_setting_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let authority = Authority::new("a");
    let (good, other) = (authority.issue(&[], 1, 2090), authority.issue(&[], 2, 2090));
    let tcp = TcpConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        certificate_file: write(dir, "tls.crt", &good.certificate),
        private_key_file: write(dir, "tls.key", &good.key),
        client_ca_file: write(dir, "ca.pem", &authority.pem),
        client_crl_file: Some(write(dir, "crl.pem", &authority.crl(&[1]))),
        reload_interval_ms: 100,
    };
    assert!(TlsMaterial::load(&tcp).is_ok());

    let changed = |change: &dyn Fn(&mut TcpConfig)| {
        let mut tcp = tcp.clone();
        change(&mut tcp);
        refusal(dir, &tcp)
    };
    let junk = write(dir, "junk", "junk");
    let none = dir.join("none");
    let foreign = write(dir, "other.key", &other.key);
    let open = write(dir, "open.key", &good.key);
    let with_mode = |mode| {
        fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
        changed(&|tcp| tcp.private_key_file = open.clone())
    };
    assert_eq!(
        changed(&|tcp| tcp.certificate_file = none.clone()),
        "tcp.certificate_file: cannot read DIR/none: No such file or directory (os error 2)"
    );
    assert_eq!(
        changed(&|tcp| tcp.certificate_file = junk.clone()),
        "tcp.certificate_file: DIR/junk holds no PEM certificate: there is none in it"
    );
    assert_eq!(
        changed(&|tcp| tcp.client_ca_file = junk.clone()),
        "tcp.client_ca_file: DIR/junk holds no PEM certificate: there is none in it"
    );
    assert_eq!(
        changed(&|tcp| tcp.private_key_file = junk.clone()),
        "tcp.private_key_file: DIR/junk holds no PEM private key: there is none in it"
    );
    for mode in [0o604, 0o620, 0o644, 0o601] {
        assert_eq!(
            with_mode(mode),
            format!(
                "tcp.private_key_file: DIR/open.key has mode {mode:04o}: others can read it, or its \
                 group can write it; make it 0600 (0440 is accepted, as systemd's credentials have \
                 it)"
            )
        );
    }
    let half: Vec<&str> = good.certificate.lines().take(4).collect();
    let cut = write(dir, "cut.pem", &half.join("\n"));
    assert_eq!(
        changed(&|tcp| tcp.certificate_file = cut.clone()),
        "tcp.certificate_file: DIR/cut.pem holds no PEM certificate: it is cut off: an END line is \
         missing"
    );
    let pair = changed(&|tcp| tcp.private_key_file = foreign.clone());
    assert!(
        pair.starts_with(
            "tcp.certificate_file DIR/tls.crt and tcp.private_key_file DIR/other.key do not serve \
             together: "
        ),
        "{pair}"
    );
    let crl = changed(&|tcp| tcp.client_crl_file = Some(junk.clone()));
    let expected = "tcp.client_crl_file: DIR/junk holds no certificate revocation list: ";
    assert!(crl.starts_with(expected), "{crl}");
}

/// systemd gives a credential to the service's user by an access control list: its mask shows as the
/// mode of the group.
#[test]
fn a_key_that_systemd_hands_over_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let authority = Authority::new("a");
    let good = authority.issue(&[], 1, 2090);
    let tcp = TcpConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        certificate_file: write(dir, "tls.crt", &good.certificate),
        private_key_file: write(dir, "tls.key", &good.key),
        client_ca_file: write(dir, "ca.pem", &authority.pem),
        client_crl_file: None,
        reload_interval_ms: 100,
    };
    for mode in [0o400, 0o440, 0o600, 0o640] {
        fs::set_permissions(&tcp.private_key_file, fs::Permissions::from_mode(mode)).unwrap();
        assert!(TlsMaterial::load(&tcp).is_ok(), "{mode:o}");
    }
}

#[test]
fn the_handshake_is_tls_1_3_with_ml_kem_first_and_nothing_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let authority = Authority::new("a");
    let good = authority.issue(&[], 1, 2090);
    let tcp = TcpConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        certificate_file: write(dir, "tls.crt", &good.certificate),
        private_key_file: write(dir, "tls.key", &good.key),
        client_ca_file: write(dir, "ca.pem", &authority.pem),
        client_crl_file: None,
        reload_interval_ms: 100,
    };
    let server = TlsMaterial::load(&tcp).ok().unwrap().server;
    let groups: Vec<_> = server
        .crypto_provider()
        .kx_groups
        .iter()
        .map(|g| g.name())
        .collect();
    assert_eq!(groups[0], rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(server.alpn_protocols, [b"h2"]);
    assert_eq!(
        (server.send_tls13_tickets, server.max_early_data_size),
        (0, 0)
    );
    assert!(!server.session_storage.can_cache() && !server.ticketer.enabled());
    assert!(!server.key_log.will_log("CLIENT_TRAFFIC_SECRET_0"));
}
