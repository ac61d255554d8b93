//! Every text a bad configuration can be answered with.

use std::path::Path;

use super::*;

const GOOD: &str = r#"
state_dir = "state"
node = "n1"
[hsm]
module = "/usr/lib/softhsm/libsofthsm2.so"
token_label = "007"
token_serial = "0011"
pin_file = "hsm-pin"
sessions = 2
[unix]
socket = "/run/kekd/kekd.sock"
"#;

const TCP: &str = r#"
[tcp]
listen = "127.0.0.1:0"
certificate_file = "tls.crt"
private_key_file = "tls.key"
client_ca_file = "/etc/ca.pem"
"#;

fn load_with(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kekd.toml");
    std::fs::write(&file, text).unwrap();
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    Environment::from_variables(variables)
        .and_then(|environment| load(&file, &environment))
        .map_err(|error| {
            error
                .to_string()
                .replace(&*folder.path().to_string_lossy(), "DIR")
        })
}

fn refusal(text: &str, variables: &[(&str, &str)]) -> String {
    load_with(text, variables).unwrap_err()
}

#[test]
fn every_refusal_names_the_place_the_key_and_the_remedy() {
    let changed = |from: &str, to: &str| GOOD.replace(from, to);
    let cases = [
        (
            changed("sessions = 2", "sesions = 2"),
            "DIR/kekd.toml: there is no setting \"hsm.sesions\"; the nearest one is \"hsm.sessions\"",
        ),
        (
            changed("[hsm]", "[hms]"),
            "DIR/kekd.toml: there is no setting \"hms.module\"; the nearest one is \"hsm.module\"",
        ),
        (
            changed("node = ", "listen = "),
            "DIR/kekd.toml: there is no setting \"listen\"; the nearest one is \"tcp.listen\"",
        ),
        (
            changed("node = ", "quite_another_thing = "),
            "DIR/kekd.toml: there is no setting \"quite_another_thing\"",
        ),
        (
            changed("module = ", "profiles_dir = "),
            "DIR/kekd.toml: the setting \"hsm.module\" is missing",
        ),
        (
            changed("state_dir = \"state\"", ""),
            "DIR/kekd.toml: the setting \"state_dir\" is missing",
        ),
        (
            format!("{GOOD}[tcp]\n"),
            "DIR/kekd.toml: the setting \"tcp.listen\" is missing",
        ),
        (
            changed("sessions = 2", "sessions = \"two\""),
            "DIR/kekd.toml: hsm.sessions: found string \"two\", expected an integer",
        ),
        (
            changed("sessions = 2", "sessions = 65"),
            "DIR/kekd.toml: hsm.sessions must be 1 to 64, found 65",
        ),
        (
            changed("sessions = 2", "call_timeout_ms = 0"),
            "DIR/kekd.toml: hsm.call_timeout_ms must be 100 to 60000, found 0",
        ),
        (
            changed("\"n1\"", "\"n 1\""),
            "DIR/kekd.toml: node must be 1 to 63 printable ASCII characters, no spaces",
        ),
        (
            changed("\"hsm-pin\"", "\"\""),
            "DIR/kekd.toml: hsm.pin_file must be a path, not empty",
        ),
        (
            changed("[unix]", "[limits]").replace("socket = \"/run/kekd/kekd.sock\"", ""),
            "DIR/kekd.toml: neither [tcp] nor [unix] is there, so nobody could call; add one",
        ),
        (
            format!("{GOOD}[log]\nfilter = \"kekd=loud\"\n"),
            "DIR/kekd.toml: log.filter must be a level (error, warn, info, debug, trace) or a \
             filter such as \"info,kekd::hsm=debug\"",
        ),
        (
            format!("{GOOD}[log]\nformat = \"xml\"\n"),
            "DIR/kekd.toml: log.format: expected text or json",
        ),
        (
            format!("{GOOD}{}", TCP.replace("127.0.0.1:0", "localhost")),
            "DIR/kekd.toml: tcp.listen: expected an address and a port, such as 127.0.0.1:7443 or \
             [::]:7443; a host's name is neither",
        ),
        (
            changed("sessions = 2", "sessions = 2.5"),
            "DIR/kekd.toml: hsm.sessions: found a number with a fraction, expected an integer",
        ),
        (
            changed("sessions = 2", "sessions = true"),
            "DIR/kekd.toml: hsm.sessions: found true or false, expected an integer",
        ),
        (
            changed("sessions = 2", "sessions = \"2\""),
            "DIR/kekd.toml: hsm.sessions: found a text in quotes, expected an integer",
        ),
        (
            changed("state_dir = \"state\"", "state_dir = 5"),
            "DIR/kekd.toml: state_dir: found an integer, expected a text in quotes",
        ),
        (
            changed("[unix]", "[[unix]]"),
            "DIR/kekd.toml: unix: found a list, expected a section, [unix]",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(&text, &[]), expected);
    }
    let number = "DIR/kekd.toml: [[token]] number";
    for (lines, expected) in [
        ("name = \"b\"\nsesions = 2", "DIR/kekd.toml: there is no setting \"token[0].sesions\"; the nearest one is \"token[].sessions\"".to_owned()),
        ("name = \"b\"\nsessions = \"2\"", "DIR/kekd.toml: token[0].sessions: found a text in quotes, expected an integer".to_owned()),
        ("name = \"b\"\nrequired = 1", "DIR/kekd.toml: token[0].required: found an integer, expected true or false".to_owned()),
        ("name = \"b\"\nenvironment = { A = 1 }", "DIR/kekd.toml: token[0].environment.A: found an integer, expected a text in quotes".to_owned()),
        ("name = \"b\"\nenvironment = 1", "DIR/kekd.toml: there is no setting \"token[0].environment\"; the nearest one is \"token[].environment.*\"".to_owned()),
        ("required = true", "DIR/kekd.toml: the setting \"token[0].name\" is missing".to_owned()),
        ("name = \"primary\"", format!("{number} 1 (\"primary\"): name must be another than \"primary\", which is the token of [hsm]")),
        ("name = \"../b\"", format!("{number} 1 (\"../b\"): name must be 1 to 63 letters, digits, '.', '_' and '-', and not begin with '.'")),
        ("name = \"b\"\nsessions = 65", format!("{number} 1 (\"b\"): sessions must be 1 to 64")),
        ("name = \"b\"\n", format!("{number} 1 (\"b\"): entry must be another token than that of [hsm]: give it a module, token_label, token_serial or environment of its own")),
        ("name = \"b\"\nmodule = \"m\"\n[[token]]\nname = \"B\"\nmodule = \"m\"", format!("{number} 2 (\"B\"): name must be another than that of an entry before it")),
        ("name = \"b\"\nenvironment = { KEKD_X = \"1\" }", format!("{number} 1 (\"b\"): environment must be names of variables without '=' that do not begin with KEKD_, and values without a zero byte")),
    ] {
        let text = format!("{GOOD}[[token]]\n{lines}\n");
        assert_eq!(refusal(&text, &[]), expected);
    }
    assert_eq!(
        refusal(&format!("{GOOD}[token]\nname = \"b\"\n"), &[]),
        "DIR/kekd.toml: token: expected sections in a list, each begun with [[token]]"
    );
    let nine: String = (0..9)
        .map(|number| format!("[[token]]\nname = \"{number}\"\nmodule = \"m\"\n"))
        .collect();
    assert_eq!(
        refusal(&format!("{GOOD}{nine}"), &[]),
        format!("{number} 9 (\"8\"): entry must be one of 8 at most")
    );
    let broken = refusal("node =", &[]);
    assert!(
        broken.starts_with("DIR/kekd.toml is not TOML: "),
        "{broken}"
    );
    let absent = load(
        Path::new("/nonexistent/kekd.toml"),
        &Environment::from_variables([]).unwrap(),
    );
    assert_eq!(
        absent.unwrap_err().to_string(),
        "cannot read the configuration file /nonexistent/kekd.toml: \
         No such file or directory (os error 2)"
    );
}

#[test]
fn a_bad_variable_is_named() {
    let cases = [
        (
            ("KEKD_LABEL", "x"),
            "the environment variable KEKD_LABEL is not a setting of kekd: settings are written \
             KEKD__SECTION__KEY, with two underscores; rename it or remove it",
        ),
        (
            ("KEKD__HSM__SESIONS", "3"),
            "the environment variable KEKD__HSM__SESIONS: there is no setting \"hsm.sesions\"; \
             the nearest one is \"hsm.sessions\"",
        ),
        (
            ("KEKD__HSM__SESSIONS", "0"),
            "the environment variable KEKD__HSM__SESSIONS: hsm.sessions must be 1 to 64, found 0",
        ),
        (
            ("KEKD__HSM__SESSIONS", "many"),
            "the environment variable KEKD__HSM__SESSIONS: hsm.sessions: found string \"many\", \
             expected an integer",
        ),
        (
            ("KEKD__NODE", ""),
            "the environment variable KEKD__NODE: node must be 1 to 63 printable ASCII characters, no spaces",
        ),
    ];
    for (variable, expected) in cases {
        assert_eq!(refusal(GOOD, &[variable]), expected);
    }
}

#[test]
fn the_environment_overrides_the_file_and_text_stays_text() {
    let variables = [
        ("KEKD__HSM__SESSIONS", "9"),
        ("KEKD__HSM__TOKEN_LABEL", "0042"),
        ("KEKD__LIMITS__CONNECTIONS_MAX", "10"),
        ("KEKD_ENDPOINT", "https://kekctl.example"),
    ];
    let loaded = load_with(GOOD, &variables).unwrap();
    assert_eq!(loaded.config.hsm.sessions, 9);
    assert_eq!(loaded.config.hsm.token_label, "0042");
    assert_eq!(loaded.config.hsm.token_serial, "0011");
    assert_eq!(loaded.config.limits.connections_max, 10);
    let origin = |key: &str| {
        let setting = loaded
            .settings
            .iter()
            .find(|setting| setting.key == key)
            .unwrap();
        setting.origin.to_string()
    };
    assert_eq!(
        origin("hsm.sessions"),
        "the environment variable KEKD__HSM__SESSIONS"
    );
    assert!(origin("hsm.token_serial").ends_with("/kekd.toml"));
    assert_eq!(origin("limits.request_bytes_max"), "the default");
}

#[test]
fn relative_paths_begin_where_the_file_is_and_secrets_where_systemd_says() {
    let text = format!("{GOOD}{TCP}");
    let here = load_with(&text, &[]).unwrap().config;
    let folder = here.state_dir.parent().unwrap();
    assert_eq!(here.hsm.pin_file, folder.join("hsm-pin"));
    assert_eq!(
        here.tcp.clone().unwrap().private_key_file,
        folder.join("tls.key")
    );
    assert_eq!(here.tcp.unwrap().client_ca_file, Path::new("/etc/ca.pem"));

    let there = load_with(&text, &[("CREDENTIALS_DIRECTORY", "/run/credentials/kekd")]).unwrap();
    let tcp = there.config.tcp.unwrap();
    assert_eq!(
        there.config.hsm.pin_file,
        Path::new("/run/credentials/kekd/hsm-pin")
    );
    assert_eq!(
        tcp.private_key_file,
        Path::new("/run/credentials/kekd/tls.key")
    );
    assert_eq!(
        tcp.certificate_file,
        there.config.state_dir.with_file_name("tls.crt")
    );
}

#[test]
fn the_list_of_keys_is_the_types() {
    let token = "[[token]]\nname = \"b\"\nenvironment = { VENDOR_CONF = \"/x\" }\n";
    let loaded = load_with(&format!("{GOOD}{TCP}{token}"), &[]).unwrap();
    let form = |key: String| key.replace("[0]", "[]").replace("VENDOR_CONF", "*");
    let mut found: Vec<_> = loaded
        .settings
        .into_iter()
        .map(|setting| form(setting.key))
        .collect();
    let mut listed = schema::KEYS.to_vec();
    found.sort();
    listed.sort_unstable();
    assert_eq!(found, listed);
}

#[test]
fn a_replica_has_from_hsm_what_it_leaves_out() {
    let tokens = "[[token]]\nname = \"b\"\nenvironment = { Vendor_CONF = \"/b\" }\n\
                  [[token]]\nname = \"c\"\ntoken_serial = \"0022\"\npin_file = \"c-pin\"\n\
                  sessions = 7\nrequired = false\n";
    let config = load_with(&format!("{GOOD}{tokens}"), &[]).unwrap().config;
    let mut tokens = config.token.iter();
    let (b, c) = (tokens.next().unwrap(), tokens.next().unwrap());
    let (of_b, of_c) = (b.hsm(&config.hsm), c.hsm(&config.hsm));
    assert_eq!(of_b.token_serial, "0011");
    assert_eq!(of_b.pin_file, config.hsm.pin_file);
    assert_eq!((of_b.sessions, b.required), (2, true));
    assert_eq!(b.environment.get("Vendor_CONF").unwrap(), "/b");
    assert_eq!(of_c.token_serial, "0022");
    assert_eq!(of_c.pin_file, config.hsm.pin_file.with_file_name("c-pin"));
    assert_eq!((of_c.sessions, c.required), (7, false));
    assert_eq!(of_c.module, config.hsm.module);
}
