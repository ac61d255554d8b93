//! Running the programs a rig is made with: ssh-keygen, softhsm2-util and kekd itself. A program
//! that is missing or fails is named with what it said.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::exit::Exit;
use crate::failure::Failure;

/// Runs a program to its end with this on its standard input, and returns its standard output.
pub fn run(command: &mut Command, input: &[u8]) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        let text = format!("{name} cannot be run: {error}{}", hint(&name));
        Failure::new(Exit::NoInput, "PROGRAM_MISSING", text)
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input)?;
    }
    let output = child.wait_with_output()?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(said(&output.stdout));
    }
    let text = format!(
        "{name} failed ({}): {}\n{}",
        output.status,
        said(&output.stderr),
        said(&output.stdout)
    );
    Err(Failure::new(Exit::Failed, "PROGRAM_FAILED", text.trim_end()).into())
}

fn hint(name: &str) -> &'static str {
    match name {
        "softhsm2-util" => "; install SoftHSM2 (Debian: apt install softhsm2)",
        "ssh-keygen" => "; install OpenSSH's client (Debian: apt install openssh-client)",
        _ => "",
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_heard() {
        assert_eq!(run(&mut Command::new("cat"), b"hello\n").unwrap(), "hello");
        let failing = run(Command::new("sh").args(["-c", "echo no >&2; exit 3"]), b"");
        let text = failing.unwrap_err().to_string();
        assert!(text.contains("sh failed") && text.contains("no"), "{text}");
        let text = run(&mut Command::new("kekd-no-such-program"), b"").unwrap_err();
        assert!(text.to_string().contains("cannot be run"), "{text}");
    }
}
