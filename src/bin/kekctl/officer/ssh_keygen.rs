//! Signing with OpenSSH's own program, so that key files, ssh-agent and security keys all work and
//! kekctl never sees a private key. The program has the terminal: it asks for a passphrase, a PIN
//! or a touch itself.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::SIGNATURE_LEN_MAX;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::file;
use crate::output::Format;

/// Signs these bytes and returns the armored SSHSIG. `key` is a private key, or the public key of
/// one that ssh-agent holds.
pub fn sign(key: &Path, namespace: &str, text: &[u8], format: Format) -> anyhow::Result<Vec<u8>> {
    // Not through a pipe: ssh-keygen asks for passphrases only where its standard input is the
    // terminal.
    let dir = tempfile::Builder::new().prefix("kekctl").tempdir()?;
    let statement = dir.path().join("statement");
    std::fs::write(&statement, text)?;
    let mut command = Command::new("ssh-keygen");
    command.args(["-Y", "sign", "-n", namespace, "-f"]).arg(key);
    run(command.arg(&statement), format)?;
    file::read(&statement.with_extension("sig"), SIGNATURE_LEN_MAX)
}

/// The public key of a private key, in OpenSSH form.
pub fn public_key(key: &Path, format: Format) -> anyhow::Result<String> {
    let mut command = Command::new("ssh-keygen");
    let output = run(command.args(["-y", "-f"]).arg(key), format)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What it says for people is theirs to read at once; for a program it becomes part of the error.
fn run(command: &mut Command, format: Format) -> anyhow::Result<Output> {
    let stderr = match format {
        Format::Text => Stdio::inherit(),
        Format::Json => Stdio::piped(),
    };
    let child = command.stdout(Stdio::piped()).stderr(stderr).spawn();
    let output = child.and_then(std::process::Child::wait_with_output);
    let output = output.map_err(|error| {
        let text = format!(
            "ssh-keygen cannot be run: {error}; install OpenSSH's client (Debian: apt install \
             openssh-client)"
        );
        Failure::new(Exit::NoInput, "PROGRAM_MISSING", text)
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let text = format!(
        "ssh-keygen did not sign ({}) {}",
        output.status,
        said.trim()
    );
    Err(Failure::new(Exit::Failed, "NOT_SIGNED", text.trim_end()).into())
}
