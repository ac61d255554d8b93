//! `DIR/env`: what a shell or a test has to know to use the rig, and `DIR/officer-env`: the same for
//! an officer. Sourceable by sh; every value is quoted, every path absolute.

use std::collections::BTreeMap;

use super::layout::Layout;

/// What is not a path of the layout.
pub struct First<'a> {
    pub endpoint: &'a str,
    pub kek: &'a str,
    pub keypair_id: &'a str,
    pub lkm: &'a Front,
}

/// The front-end before the rig's kekd, as the cloud would be told of it.
pub struct Front {
    pub url: String,
    pub id: String,
    pub key: zeroize::Zeroizing<String>,
}

/// The officer that a shell becomes with `officer-env`.
const OFFICER: &str = "alice";

/// The file's text. `token_variables` are those that show a module its token.
pub fn text(
    layout: &Layout,
    first: &First<'_>,
    token_variables: &BTreeMap<String, String>,
) -> String {
    let path = |path: std::path::PathBuf| path.display().to_string();
    let variables = [
        ("KEKD_ENDPOINT", first.endpoint.to_owned()),
        ("KEKD_CA", path(layout.certificate("ca"))),
        ("KEKD_CERT", path(layout.certificate("lkm-1"))),
        ("KEKD_KEY", path(layout.private_key("lkm-1"))),
        ("KEKD_SOCKET", path(layout.socket())),
        ("KEKD_KEK", first.kek.to_owned()),
        ("KEKD_KEYPAIR_ID", first.keypair_id.to_owned()),
        ("KEKD_LKM_URL", first.lkm.url.clone()),
        ("KEKD_LKM_ID", first.lkm.id.clone()),
        ("KEKD_LKM_KEY", first.lkm.key.to_string()),
        ("KEKD_LKM_CA", path(layout.certificate("ca"))),
    ];
    let token_variables = token_variables.iter();
    let token_variables = token_variables.map(|(name, value)| (name.as_str(), value.clone()));
    exports(variables.into_iter().chain(token_variables))
}

/// The text of the officer's file: what `env` says, but for the client certificate, and whose
/// signatures kekctl makes. `KEKD_OFFICER=bob KEKD_OFFICER_KEY=…/bob` makes another officer of it.
pub fn officer_text(layout: &Layout) -> String {
    let path = |path: std::path::PathBuf| path.display().to_string();
    let variables = [
        ("KEKD_CERT", path(layout.certificate("officer"))),
        ("KEKD_KEY", path(layout.private_key("officer"))),
        ("KEKD_OFFICER", OFFICER.to_owned()),
        ("KEKD_OFFICER_KEY", path(layout.officer(OFFICER))),
    ];
    let env = quoted(&path(layout.env()));
    format!(". {env}\n{}", exports(variables.into_iter()))
}

fn exports<'a>(variables: impl Iterator<Item = (&'a str, String)>) -> String {
    variables
        .map(|(name, value)| format!("export {name}={}\n", quoted(&value)))
        .collect()
}

/// Quoted for sh: nothing inside single quotes is special but the quote itself.
pub fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_shell_reads_back_every_value() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a 'rig' $HOME \"x\"");
        let layout = Layout::create(&folder).unwrap();
        let first = First {
            endpoint: "https://127.0.0.1:1",
            kek: "recordings",
            keypair_id: "id",
            lkm: &Front {
                url: "https://127.0.0.1:2/d".to_owned(),
                id: "rig-cloud".to_owned(),
                key: "k".to_owned().into(),
            },
        };
        let conf = BTreeMap::from([("VENDOR_CONF".to_owned(), "it's here".to_owned())]);
        let text = text(&layout, &first, &conf);
        layout.write(&layout.env(), text.as_bytes()).unwrap();
        let script = r#". "$1"; printf '%s\n' "$KEKD_ENDPOINT" "$KEKD_SOCKET" "$VENDOR_CONF""#;
        let shell = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(layout.env())
            .output()
            .unwrap();
        let socket = layout.socket();
        let expected = format!("{}\n{}\nit's here\n", first.endpoint, socket.display());
        assert_eq!(String::from_utf8(shell.stdout).unwrap(), expected);

        let text = officer_text(&layout);
        layout
            .write(&layout.officer_env(), text.as_bytes())
            .unwrap();
        let script = r#". "$1"; printf '%s\n' "$KEKD_ENDPOINT" "$KEKD_CERT" "$KEKD_OFFICER_KEY""#;
        let shell = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(layout.officer_env())
            .output()
            .unwrap();
        let (certificate, key) = (layout.certificate("officer"), layout.officer("alice"));
        let expected = format!(
            "{}\n{}\n{}\n",
            first.endpoint,
            certificate.display(),
            key.display()
        );
        assert_eq!(String::from_utf8(shell.stdout).unwrap(), expected);
    }
}
