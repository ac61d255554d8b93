//! The rig's token: SoftHSM2 in the rig's own folder, with a random PIN. The token is named by label
//! and serial number, never by slot.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::layout::Layout;
use super::tool;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::status::hex;

/// The token's label.
pub const LABEL: &str = "kekd-rig";

/// Where distributions put SoftHSM2's module.
const MODULES: [&str; 6] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

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

/// Makes the token and returns its serial number.
pub fn create(layout: &Layout, module: &Path) -> anyhow::Result<String> {
    let tokens = layout.tokens();
    let config = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n\
         slots.removable = false\n",
        tokens.display()
    );
    layout.write(&layout.softhsm_config(), config.as_bytes())?;
    let pin = random_hex()?;
    layout.write(&layout.pin(), pin.as_bytes())?;
    let mut init = util(layout, module);
    init.args(["--init-token", "--free", "--label", LABEL]);
    // A PIN in an argument can be seen by other users of this host; it guards a toy.
    let so_pin = random_hex()?;
    layout.write(&layout.so_pin(), format!("{so_pin}\n").as_bytes())?;
    tool::run(init.args(["--pin", &pin, "--so-pin", &so_pin]), b"")?;
    let slots = tool::run(util(layout, module).arg("--show-slots"), b"")?;
    serial(&slots).ok_or_else(|| {
        let text = format!("softhsm2-util shows no token {LABEL:?}:\n{slots}");
        Failure::new(Exit::Failed, "TOKEN_MISSING", text).into()
    })
}

fn util(layout: &Layout, module: &Path) -> Command {
    let mut command = Command::new("softhsm2-util");
    command.env("SOFTHSM2_CONF", layout.softhsm_config());
    command.arg("--module").arg(module);
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
        let serial = create(&layout, &module(None).unwrap()).unwrap();
        assert_eq!(serial.len(), 16, "{serial}");
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
