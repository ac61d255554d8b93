//! The progress bar over records: on standard error, only on a terminal, only for long logs.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Logs up to this many records show no bar.
const QUIET_MAX: u64 = 100_000;

/// The bar of one step, which goes away with it.
pub struct Bar {
    step: &'static str,
    bar: Option<ProgressBar>,
}

impl Bar {
    /// A step, to be read as the beginning of a line, for example "verifying".
    pub const fn new(step: &'static str) -> Self {
        Self { step, bar: None }
    }

    /// Records done, of how many.
    pub fn at(&mut self, done: u64, total: u64) {
        if total > QUIET_MAX {
            let step = self.step;
            let bar = self.bar.get_or_insert_with(|| new_bar(step, total));
            bar.set_position(done);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Hidden by indicatif itself where standard error is no terminal.
fn new_bar(step: &'static str, total: u64) -> ProgressBar {
    let template = "{msg} [{bar:40}] {pos}/{len} records ({per_sec}, {eta})";
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr())
        .with_style(style)
        .with_message(step)
}
