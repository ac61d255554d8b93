//! A process that stands still, with all its threads.

use std::fs::{DirEntry, read_dir, read_to_string};
use std::io;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Stops a process, and waits until none of its threads runs any more: each of them stops when it comes
/// to it, and until then it may take and answer what it is asked.
pub fn stand_still(pid: Pid) {
    kill_process(pid, Signal::STOP).unwrap();
    let threads = format!("/proc/{}/task", pid.as_raw_nonzero());
    // One that is gone by now does nothing either.
    while read_dir(&threads).is_ok_and(|mut threads| threads.any(runs)) {
        sleep(Duration::from_millis(1));
    }
}

/// By proc(5), `stat`: the state is behind the name, which may itself have brackets.
fn runs(thread: io::Result<DirEntry>) -> bool {
    let stat = thread.and_then(|thread| read_to_string(thread.path().join("stat")));
    let state = stat.map(|stat| {
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('T'))
    });
    state.is_ok_and(|is_stopped| !is_stopped)
}
