//! A progress bar for long files: on standard error, only on a terminal, only above 8 MiB. One bar a
//! step, made when the step turns out to be long.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Files up to this length show no bar.
const LEN_QUIET: u64 = 8 * 1024 * 1024;

/// The bar of one step.
pub struct Progress {
    step: &'static str,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A step, to be read as the beginning of a line, for example "reading".
    pub const fn new(step: &'static str) -> Self {
        Self { step, bar: None }
    }

    /// Bytes done, of how many; 0 where that is unknown.
    pub fn at(&mut self, done: u64, total: u64) {
        if done.max(total) <= LEN_QUIET {
            return;
        }
        let step = self.step;
        self.bar
            .get_or_insert_with(|| bar(step, total))
            .set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Hidden by indicatif itself where standard error is no terminal.
fn bar(step: &'static str, total: u64) -> ProgressBar {
    let (len, template) = match total {
        0 => (None, "{msg:>10} {spinner} {bytes} ({bytes_per_sec})"),
        len => (
            Some(len),
            "{msg:>10} [{bar:40}] {bytes}/{total_bytes} ({bytes_per_sec}, {eta})",
        ),
    };
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    ProgressBar::with_draw_target(len, ProgressDrawTarget::stderr())
        .with_style(style)
        .with_message(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_file_shows_no_bar() {
        let mut progress = Progress::new("reading");
        progress.at(LEN_QUIET, LEN_QUIET);
        progress.at(LEN_QUIET, 0);
        assert!(progress.bar.is_none());
        progress.at(1, LEN_QUIET + 1);
        assert!(progress.bar.is_some());
    }
}
