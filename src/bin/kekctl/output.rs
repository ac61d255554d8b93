//! Everything kekctl prints: results on standard output, errors on standard error, as text for
//! people or as one JSON object for programs. Nothing else in kekctl writes to either, but for
//! file content that was asked for on standard output (`file.rs`) and progress bars.

use std::ffi::OsString;
use std::fmt::Display;
use std::io;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::styling::{AnsiColor, Style};
use kekd::program::reader_may_leave;
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;

/// How results and errors are written. (No doc comments below: clap would make the help of every
/// command twice as long with them.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// Whether to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    Auto,
    Always,
    Never,
}

/// Where a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error: standard output is taken by file content.
    Err,
}

const BOLD_RED: Style = AnsiColor::Red.on_default().bold();

/// Settles the use of colour for the whole run.
pub fn colour(when: Colour) {
    match when {
        Colour::Auto => anstream::ColorChoice::Auto,
        Colour::Always => anstream::ColorChoice::Always,
        Colour::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}

/// Prints one result: its `Display` for people, its one JSON object for programs.
pub fn show<T: Serialize + Display>(format: Format, stream: Stream, result: &T) -> io::Result<()> {
    let text = match format {
        Format::Text => result.to_string(),
        Format::Json => serde_json::to_string(result)?,
    };
    let written = match stream {
        Stream::Out => write_line(&mut anstream::stdout().lock(), &text),
        Stream::Err => write_line(&mut anstream::stderr().lock(), &text),
    };
    reader_may_leave(written)
}

/// Says something beside the result, on standard error: facts before a question.
pub fn say(text: &str) {
    // Where nobody can read it, the result alone has to do.
    write_line(&mut anstream::stderr().lock(), text).ok();
}

/// Asks something: the cursor stays behind the question.
pub fn prompt(question: &str) {
    let mut to = anstream::stderr().lock();
    io::Write::write_all(&mut to, question.as_bytes()).ok();
    io::Write::flush(&mut to).ok();
}

/// Prints a failure to standard error and gives its exit status.
pub fn failure(format: Format, failure: &Failure) -> Exit {
    let line = match format {
        Format::Text => format!("{BOLD_RED}error:{BOLD_RED:#} {}", failure.message),
        Format::Json => json(failure),
    };
    // Where standard error is gone too, the exit status alone has to do.
    write_line(&mut anstream::stderr().lock(), &line).ok();
    failure.exit
}

/// Prints what clap has to say: help and version are results, everything else is wrong usage.
pub fn usage(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        return match reader_may_leave(error.print()) {
            Ok(()) => Exit::Done,
            Err(_) => Exit::Failed,
        };
    }
    let asked = |option, value| was_asked(option, value, std::env::args_os());
    if asked("--color", "never") {
        colour(Colour::Never);
    }
    if asked("--output", "json") {
        let text = error.render().to_string();
        let message = text.trim_start_matches("error: ").trim_end();
        return failure(Format::Json, &Failure::new(Exit::Usage, "USAGE", message));
    }
    error.print().ok();
    Exit::Usage
}

/// Whether an option is among arguments that clap could not make sense of. They may be no text.
fn was_asked(option: &str, value: &str, arguments: impl Iterator<Item = OsString>) -> bool {
    let in_one = format!("{option}={value}");
    let mut before = OsString::new();
    for argument in arguments {
        if argument == *in_one || (before == option && argument == value) {
            return true;
        }
        before = argument;
    }
    false
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    error: ErrorFields<'a>,
}

/// The fields of a JSON error; an interface.
#[derive(Serialize)]
struct ErrorFields<'a> {
    /// The word for the exit status.
    code: &'static str,
    /// kekd's stable reason, or one of kekctl's.
    reason: &'a str,
    message: &'a str,
    /// Null where a retry does not help.
    retry_delay_ms: Option<u64>,
}

fn json(failure: &Failure) -> String {
    let ms = |delay: Duration| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    let error = ErrorFields {
        code: failure.exit.name(),
        reason: &failure.reason,
        message: &failure.message,
        retry_delay_ms: failure.retry_delay.map(ms),
    };
    // Strings and numbers always serialise; if not, the empty line still has its exit status.
    serde_json::to_string(&ErrorObject { error }).unwrap_or_default()
}

fn write_line(to: &mut impl io::Write, text: &str) -> io::Result<()> {
    to.write_all(text.trim_end().as_bytes())?;
    to.write_all(b"\n")?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt as _;

    #[test]
    fn an_error_is_one_stable_object() {
        let mut failure = Failure::new(Exit::Unavailable, "BUSY", "full");
        failure.retry_delay = Some(Duration::from_millis(50));
        let expected = concat!(
            r#"{"error":{"code":"unavailable","reason":"BUSY","message":"full","#,
            r#""retry_delay_ms":50}}"#
        );
        assert_eq!(json(&failure), expected);
        failure.retry_delay = None;
        assert!(json(&failure).ends_with(r#""retry_delay_ms":null}}"#));
    }

    #[test]
    fn json_is_found_in_a_command_line_that_does_not_parse() {
        let asked = |text: &str| was_asked("--output", "json", text.split(' ').map(Into::into));
        assert!(asked("kekctl --output json nonsense"));
        assert!(asked("kekctl nonsense --output=json"));
        assert!(!asked("kekctl json --output text"));
        let no_text = OsString::from_vec(vec![0xff]);
        assert!(!was_asked("--output", "json", std::iter::once(no_text)));
    }
}
