//! The script: its syntax, and which rule meets a call. Nothing here touches PKCS#11 memory.

use std::env::var_os;
use std::ffi::OsString;
use std::fs::{File, metadata, read_to_string};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use cryptoki_sys::{CK_ATTRIBUTE_TYPE, CK_RV};

use crate::actions::has_output;
use crate::names::number;

/// What is done to a call; `lib.rs` has the words for these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Answer(CK_RV),
    Ok {
        output_len: usize,
    },
    Lie(CK_RV),
    Corrupt,
    LieAttribute(CK_ATTRIBUTE_TYPE, Vec<u8>),
    Delay {
        ms: u64,
    },
    LogOut,
    CloseAllSessions,
    Hang,
    /// Until there is another script than this one.
    Hold(Option<Stamp>),
    Segv,
    Abort,
    Exit,
}

#[derive(Debug, PartialEq, Eq)]
enum When {
    Once { nth: u64 },
    Every { nth: u64 },
}

#[derive(Debug)]
struct Rule {
    function: String,
    when: When,
    action: Action,
    calls: u64,
}

/// Device, inode, length and time of last change: a script with the same stamp is the same script.
pub type Stamp = (u64, u64, u64, i64, i64);

static SCRIPT: Mutex<(Option<Stamp>, Vec<Rule>)> = Mutex::new((None, Vec::new()));

/// The action for one call to `function`, counting the call.
pub fn choose(function: &str, asks_size: bool) -> Option<Action> {
    let path = var_os("PKCS11_FAULT_SCRIPT")?;
    let mut script = SCRIPT.lock().unwrap_or_else(PoisonError::into_inner);
    let stamp = stamp(&path);
    if script.0 != stamp {
        let text = read_to_string(&path).unwrap_or_default();
        let rules = text
            .lines()
            .map(strip_comment)
            .filter(|line| !line.is_empty());
        *script = (stamp, rules.map(parse_or_abort).collect());
    }

    let mut chosen = None;
    for (line, rule) in script.1.iter_mut().enumerate() {
        if rule.function != "*" && rule.function != function {
            continue;
        }
        if asks_size {
            let always_ok = matches!(
                (&rule.when, &rule.action),
                (When::Every { nth: 1 }, Action::Ok { .. })
            );
            if always_ok {
                return Some(rule.action.clone());
            }
            continue;
        }
        rule.calls += 1;
        let fits = match rule.when {
            When::Every { nth } => rule.calls % nth == 0,
            When::Once { nth } => {
                rule.calls == nth && chosen.is_none() && spend(&path, stamp, line)
            }
        };
        if fits && chosen.is_none() {
            chosen = Some(match rule.action {
                Action::Hold(_) => Action::Hold(stamp),
                ref action => action.clone(),
            });
        }
    }
    chosen
}

fn stamp(path: &OsString) -> Option<Stamp> {
    let found = metadata(path).ok()?;
    let (device, inode) = (found.dev(), found.ino());
    Some((
        device,
        inode,
        found.len(),
        found.mtime(),
        found.mtime_nsec(),
    ))
}

/// Waits until there is another script than this one.
pub fn wait_for_another_than(script: Option<Stamp>) {
    let Some(path) = var_os("PKCS11_FAULT_SCRIPT") else {
        return;
    };
    while stamp(&path) == script {
        sleep(Duration::from_millis(2));
    }
}

/// True for the first process to ask: a file beside the script remembers it.
fn spend(script: &OsString, stamp: Option<Stamp>, line: usize) -> bool {
    let Some((_, inode, _, seconds, nanoseconds)) = stamp else {
        return false;
    };
    let mut mark = script.clone();
    mark.push(format!(".spent.{inode}.{seconds}.{nanoseconds}.{line}"));
    File::create_new(Path::new(&mark)).is_ok()
}

fn strip_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim()
}

fn parse_or_abort(line: &str) -> Rule {
    parse(line).unwrap_or_else(|| {
        eprintln!("fault: the script's line \"{line}\" is not FUNCTION WHEN ACTION");
        std::process::abort()
    })
}

fn parse(line: &str) -> Option<Rule> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (function, when, action) = match *words.as_slice() {
        [function, "*", ref action @ ..] => (function, When::Every { nth: 1 }, action),
        [function, "every", nth, ref action @ ..] => (
            function,
            When::Every {
                nth: nth.parse().ok()?,
            },
            action,
        ),
        [function, nth, ref action @ ..] => (
            function,
            When::Once {
                nth: nth.parse().ok()?,
            },
            action,
        ),
        _ => return None,
    };
    let nth = match when {
        When::Once { nth } | When::Every { nth } => nth,
    };
    let action = parse_action(function, action)?;
    let known = function == "*" || function.starts_with("C_");
    (known && nth > 0).then(|| Rule {
        function: function.to_owned(),
        when,
        action,
        calls: 0,
    })
}

fn parse_action(function: &str, words: &[&str]) -> Option<Action> {
    Some(match *words {
        ["ok"] => Action::Ok { output_len: 0 },
        ["ok", len] => Action::Ok {
            output_len: len.parse().ok()?,
        },
        ["lie", code] => Action::Lie(number(code, "CKR_")?),
        ["corrupt"] if has_output(function) || function == "C_GenerateRandom" => Action::Corrupt,
        ["lie-attribute", attribute, value] if function == "C_GetAttributeValue" => {
            Action::LieAttribute(number(attribute, "CKA_")?, bytes(value)?)
        }
        ["delay", ms] => Action::Delay {
            ms: ms.parse().ok()?,
        },
        ["log-out"] if function.starts_with("C_Decrypt") => Action::LogOut,
        ["close-all-sessions"] if function.starts_with("C_Decrypt") => Action::CloseAllSessions,
        ["hang"] => Action::Hang,
        ["hold"] => Action::Hold(None),
        ["segv"] => Action::Segv,
        ["abort"] => Action::Abort,
        ["exit"] => Action::Exit,
        [code] => Action::Answer(number(code, "CKR_")?),
        _ => return None,
    })
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_rule_is_understood() {
        let rule = parse("C_Decrypt 3 CKR_DEVICE_ERROR").unwrap();
        assert_eq!(
            (rule.when, rule.action),
            (When::Once { nth: 3 }, Action::Answer(0x30))
        );
        let rule = parse("C_Decrypt every 2 lie 0x5").unwrap();
        assert_eq!(
            (rule.when, rule.action),
            (When::Every { nth: 2 }, Action::Lie(5))
        );
        let rule = parse("C_GetAttributeValue * lie-attribute CKA_EXTRACTABLE 00").unwrap();
        assert_eq!(rule.action, Action::LieAttribute(0x162, vec![0]));
        for line in [
            "* * hang",
            "C_Decrypt * hold",
            "C_Sign 1 corrupt",
            "C_Login 1 delay 500",
            "C_WrapKey * ok 24",
            "C_Decrypt 1 log-out",
            "C_DecryptInit 1 close-all-sessions",
        ] {
            assert!(parse(line).is_some(), "{line}");
        }
    }

    #[test]
    fn a_mistake_is_not_taken_for_a_rule() {
        for line in [
            "C_Decrypt",
            "C_Decrypt 1",
            "C_Decrypt 0 hang",
            "C_Decrypt every hang",
            "C_Decrypt 1 CKR_NO_SUCH_CODE",
            "C_Decrypt 1 CKA_LABEL",
            "C_Decrypt 1 delay",
            "C_Login 1 corrupt",
            "C_Decrypt * lie-attribute CKA_SIGN 00",
            "C_GetAttributeValue * lie-attribute CKA_SIGN 0",
            "Decrypt 1 hang",
            "C_Login 1 log-out",
        ] {
            assert!(parse(line).is_none(), "{line}");
        }
    }
}
