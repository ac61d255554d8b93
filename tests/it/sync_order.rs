//! Nothing leaves unrecorded, seen from outside: strace watches every system call of a daemon from
//! its first on. Between the read that brings a wrapped DEK and the write that carries the DEK away,
//! the audit log must have been written and then synced.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kekd::types::Padding;

use crate::harness::{KEKD, Kek, Rig, dek, program, skipped};

/// Unwraps, one after the other, on one connection.
const CALLS: u8 = 20;

#[tokio::test]
async fn the_record_is_synced_before_the_answer_leaves() {
    if !may_trace() {
        let why = "strace cannot trace a program here";
        return skipped(
            "sync_order::the_record_is_synced_before_the_answer_leaves",
            why,
        );
    }
    let rig = Rig::stopped();
    let trace = rig.dir.join("trace");
    run_under_strace(&rig, &trace);
    rig.start();
    let client = rig.local().await;
    let kek = Kek::of(&client, "recordings").await;
    let mut wrapped = Vec::new();
    for number in 0..CALLS {
        let call = kek.call(Padding::OaepSha1, &[b'A' + number; 32]);
        wrapped.push(call.wrapped_dek.as_bytes().to_vec());
        let answer = client.unwrap(call).await.unwrap();
        assert_eq!(dek(&answer.release), [b'A' + number; 32]);
    }
    let daemon = rig.daemon_pid();
    rig.stop().await;

    let seen = Seen::read(&finished(&trace, daemon));
    for (number, wrapped) in (0..CALLS).zip(&wrapped) {
        let asked = seen.received.end_of(wrapped);
        let answered = seen.sent.start_of(&[b'A' + number; 32]);
        let written = seen.log_writes.iter().find(|at| **at > asked).unwrap();
        let synced = seen
            .log_syncs
            .iter()
            .any(|sync| sync.begin > *written && sync.end < answered);
        assert!(
            synced,
            "answer {number} left at line {answered}; its request came at line {asked}, its record \
             was written at line {written}, and no sync of the audit log lies between"
        );
    }
}

/// Some containers do not allow ptrace(2).
fn may_trace() -> bool {
    let mut strace = Command::new("strace");
    let output = strace.args(["-D", "-o", "/dev/null", "true"]).output();
    output.is_ok_and(|output| output.status.success())
}

/// From the next start on, the rig's daemon is traced. The tracer is the daemon's grandchild (-D), so
/// that the daemon keeps its process id, and lets go of what the daemon starts (-b): the HSM worker.
/// The daemon's wish not to be looked into (`PR_SET_DUMPABLE`) is not passed on to the kernel: where
/// it is granted, only root's strace sees what is read and written.
fn run_under_strace(rig: &Rig, trace: &Path) {
    let calls = "openat,accept4,read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,\
                 fsync,fdatasync,prctl";
    let script = format!(
        "exec strace -D -f -b execve -xx -s 65536 -e trace={calls} -e inject=prctl:retval=0 \
         -e signal=none -o '{}' '{KEKD}' \"$@\"",
        trace.display()
    );
    let traced = rig.dir.join("kekd-traced");
    program(&traced, &script);
    rig.edit("rig.json", |text| {
        assert!(text.contains(KEKD), "{text}");
        text.replace(KEKD, traced.to_str().unwrap())
    });
}

/// The whole trace: the tracer outlives the daemon by a moment.
fn finished(trace: &Path, daemon: u32) -> String {
    for _ in 0..400 {
        let text = fs::read_to_string(trace).unwrap();
        let end = format!("{daemon} +++ exited");
        let is_end = |line: &str| {
            line.split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .starts_with(&end)
        };
        if text.lines().rev().take(100).any(is_end) {
            return text;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("strace did not see the daemon to its end: is ptrace allowed here?");
}

/// One direction of the client's connections: the bytes, and the line at which each part passed.
#[derive(Default)]
struct Passed {
    bytes: Vec<u8>,
    /// By the offset of a part's first byte.
    lines: BTreeMap<usize, usize>,
}

impl Passed {
    fn add(&mut self, line: usize, part: &[u8]) {
        self.lines.insert(self.bytes.len(), line);
        self.bytes.extend_from_slice(part);
    }

    fn offset_of(&self, needle: &[u8]) -> usize {
        let mut found = self.bytes.windows(needle.len());
        let at = found.position(|window| window == needle);
        at.expect("what was sent or received is not in the trace")
    }

    fn line_at(&self, offset: usize) -> usize {
        *self.lines.range(..=offset).next_back().unwrap().1
    }

    /// The line at which the first byte of `needle` passed.
    fn start_of(&self, needle: &[u8]) -> usize {
        self.line_at(self.offset_of(needle))
    }

    /// The line at which the last byte of `needle` passed.
    fn end_of(&self, needle: &[u8]) -> usize {
        self.line_at(self.offset_of(needle) + needle.len() - 1)
    }
}

/// A system call from its first to its last line.
struct Span {
    begin: usize,
    end: usize,
}

/// What the daemon did, by lines of the trace.
#[derive(Default)]
struct Seen {
    /// Came in from clients of the Unix socket; a line is where the read had ended.
    received: Passed,
    /// Went out to them; a line is where the write began.
    sent: Passed,
    /// Where a write to the audit log had ended.
    log_writes: Vec<usize>,
    /// Syncs of the audit log that succeeded.
    log_syncs: Vec<Span>,
}

/// What a descriptor is, as far as it matters. Closing is not followed: a number is given out again
/// only by a call that is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Client,
    Log,
    Other,
}

impl Seen {
    fn read(trace: &str) -> Self {
        let mut seen = Self::default();
        let mut kinds: HashMap<i64, Kind> = HashMap::new();
        let mut begun: HashMap<&str, (usize, &str)> = HashMap::new();
        for (line, text) in trace.lines().enumerate() {
            let (pid, call) = text.trim_start().split_once(char::is_whitespace).unwrap();
            let call = call.trim_start();
            if let Some(head) = call.strip_suffix("<unfinished ...>") {
                begun.insert(pid, (line, head));
            } else if call.starts_with("<...") {
                let (_, tail) = call.split_once(" resumed>").unwrap();
                // The daemon ends while calls are under way; those have no head any more.
                if let Some((begin, head)) = begun.remove(pid) {
                    let span = Span { begin, end: line };
                    seen.take(span, &format!("{head}{tail}"), &mut kinds);
                }
            } else {
                let span = Span {
                    begin: line,
                    end: line,
                };
                seen.take(span, call, &mut kinds);
            }
        }
        seen
    }

    fn take(&mut self, span: Span, call: &str, kinds: &mut HashMap<i64, Kind>) {
        let Some((name, rest)) = call.split_once('(') else {
            return; // "+++ exited with 0 +++"
        };
        let Some((arguments, result)) = rest.rsplit_once(" = ") else {
            return; // a call that never returned
        };
        let number = |text: &str| {
            let digits = text.split(|c: char| !c.is_ascii_digit() && c != '-').next();
            digits.and_then(|digits| digits.parse::<i64>().ok())
        };
        let Some(result) = number(result).filter(|result| *result >= 0) else {
            return;
        };
        let bytes = strings(arguments);
        let kind = number(arguments).and_then(|fd| kinds.get(&fd).copied());
        let kind = kind.unwrap_or(Kind::Other);
        match (name, kind) {
            ("openat", _) => {
                let is_log = bytes.ends_with(b"/audit.db") || bytes.ends_with(b"/audit.db-wal");
                kinds.insert(result, if is_log { Kind::Log } else { Kind::Other });
            }
            ("accept4", _) => {
                let is_unix = arguments.contains("AF_UNIX");
                kinds.insert(result, if is_unix { Kind::Client } else { Kind::Other });
            }
            ("read" | "readv" | "recvfrom" | "recvmsg", Kind::Client) => {
                self.received.add(span.end, &bytes);
            }
            ("write" | "writev" | "sendto" | "sendmsg", Kind::Client) => {
                let sent = usize::try_from(result).unwrap();
                self.sent.add(span.begin, &bytes[..sent]);
            }
            ("pwrite64" | "write" | "writev", Kind::Log) => self.log_writes.push(span.end),
            // SQLite as we build it (.cargo/config.toml) calls no fsync(2).
            ("fdatasync", Kind::Log) => self.log_syncs.push(span),
            _ => {}
        }
    }
}

/// All strings among the arguments of a call, as `strace -xx` writes them, one after the other.
fn strings(arguments: &str) -> Vec<u8> {
    let texts = arguments.split('"').skip(1).step_by(2);
    let digits = texts.flat_map(|text| text.split("\\x").skip(1));
    digits
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}
