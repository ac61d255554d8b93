//! The rig's token. Where none is given the rig makes one: SoftHSM2 in the rig's own folder, with a
//! random PIN. The token is named by label and serial number, never by slot.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::layout::Layout;
use super::tool;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::status::hex;

/// The label of a token made here.
const LABEL: &str = "kekd-rig";
/// The variable that shows SoftHSM2 its configuration (softhsm2.conf(5)).
pub const SOFTHSM2_CONF: &str = "SOFTHSM2_CONF";

/// Where distributions put SoftHSM2's module.
const MODULES: [&str; 6] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// A token, as kekd's configuration names it.
pub struct Token {
    pub module: PathBuf,
    pub label: String,
    pub serial: String,
    pub pin_file: PathBuf,
}

/// The PKCS#11 module: the one named, or SoftHSM2's.
pub fn module(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let found = match named {
        Some(path) => path.exists().then(|| path.to_path_buf()),
        None => MODULES.iter().map(PathBuf::from).find(|path| path.exists()),
    };
    let Some(path) = found else {
        let text = match named {
            Some(path) => format!("the module {} does not exist", path.display()),
            None => "SoftHSM2 is not installed (Debian: apt install softhsm2); name its module \
                     with --module if it is"
                .to_owned(),
        };
        return Err(Failure::new(Exit::NoInput, "MODULE_MISSING", text).into());
    };
    Ok(std::path::absolute(path)?)
}

/// The variables with which a process sees the token that [`create`] makes.
pub fn environment(layout: &Layout) -> BTreeMap<String, String> {
    let config = layout.softhsm_config().display().to_string();
    BTreeMap::from([(SOFTHSM2_CONF.to_owned(), config)])
}

/// Makes the token. `variables` are those of [`environment`], and what the module needs beside.
pub fn create(
    layout: &Layout,
    module: &Path,
    variables: &BTreeMap<String, String>,
) -> anyhow::Result<Token> {
    layout.folder("tokens")?;
    let config = softhsm_config(&layout.tokens());
    layout.write(&layout.softhsm_config(), config.as_bytes())?;
    let pin = random_hex()?;
    layout.write(&layout.pin(), pin.as_bytes())?;
    let mut init = util(module, variables);
    init.args(["--init-token", "--free", "--label", LABEL]);
    // A PIN in an argument can be seen by other users of this host; it guards a toy.
    let so_pin = random_hex()?;
    layout.write(&layout.so_pin(), format!("{so_pin}\n").as_bytes())?;
    tool::run(init.args(["--pin", &pin, "--so-pin", &so_pin]), b"")?;
    let slots = tool::run(util(module, variables).arg("--show-slots"), b"")?;
    let serial = serial(&slots).ok_or_else(|| {
        let text = format!("softhsm2-util shows no token {LABEL:?}:\n{slots}");
        Failure::new(Exit::Failed, "TOKEN_MISSING", text)
    })?;
    Ok(Token {
        module: module.to_path_buf(),
        label: LABEL.to_owned(),
        serial,
        pin_file: layout.pin(),
    })
}

/// SoftHSM2's configuration for the tokens in a folder.
pub fn softhsm_config(tokens: &Path) -> String {
    format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n\
         slots.removable = false\n",
        tokens.display()
    )
}

fn util(module: &Path, variables: &BTreeMap<String, String>) -> Command {
    let mut command = Command::new("softhsm2-util");
    command.envs(variables).arg("--module").arg(module);
    command
}

/// 16 hexadecimal digits.
pub(super) fn random_hex() -> anyhow::Result<String> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow::anyhow!("no randomness"))?;
    Ok(hex(&bytes))
}

/// The serial number of the token with our label; the label comes after it in each slot.
fn serial(slots: &str) -> Option<String> {
    let mut serial = None;
    for line in slots.lines().map(str::trim) {
        if let Some(number) = line.strip_prefix("Serial number:") {
            serial = Some(number.trim().to_owned());
        }
        if line.strip_prefix("Label:").map(str::trim) == Some(LABEL) {
            return serial.filter(|serial| !serial.is_empty());
        }
    }
    None
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_real_token_is_made_and_named_by_its_serial() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(&dir.path().join("rig")).unwrap();
        let module = module(None).unwrap();
        let token = create(&layout, &module, &environment(&layout)).unwrap();
        assert_eq!(token.serial.len(), 16, "{}", token.serial);
        let mode = layout.pin().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(layout.tokens()).unwrap().count(), 1);
    }

    #[test]
    fn the_serial_is_that_of_our_label() {
        let slots = "Slot 9\n  Serial number:  aa\n  Label:   other\nSlot 1\n    Serial number: \
                     bb  \n    Label:    kekd-rig   \n Serial number: \n Label:\n";
        assert_eq!(serial(slots).unwrap(), "bb");
        assert_eq!(serial("Serial number: \nLabel: kekd-rig"), None);
    }
}
