//! How far something long has come: a bar on a terminal, lines of JSON for a program, else nothing.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::{
    Ui,
    style::{Line, Style},
};

/// How often a program hears of it. What is quicker says nothing.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// A bar that counts bytes. It goes when it is dropped.
#[derive(Debug)]
pub struct Bar {
    ui: Ui,
    what: &'static str,
    bar: Option<ProgressBar>,
    told: Instant,
}

impl Bar {
    /// A bar for `what`, a verb.
    pub fn new(ui: Ui, what: &'static str) -> Self {
        let bar = (ui.is_live() && !ui.is_json()).then(|| drawn(ui, what));
        let told = Instant::now();
        Self {
            ui,
            what,
            bar,
            told,
        }
    }

    /// So many bytes of so many are done; none are known of a total of 0.
    pub fn show(&mut self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total.max(done));
            bar.set_position(done);
        }
        if self.ui.is_json() && self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            let progress = json!({
                "progress": { "what": self.what, "bytes": done, "total": total.max(done) }
            });
            self.ui.note(&Line::of(Style::Plain, progress.to_string()));
        }
    }
}

fn drawn(ui: Ui, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let template = match ui.stderr.colour {
        true => "{spinner:.cyan} {msg} [{wide_bar:.cyan}] {bytes} of {total_bytes}, {eta} left",
        false => "{spinner} {msg} [{wide_bar}] {bytes} of {total_bytes}, {eta} left",
    };
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    bar.set_style(style.progress_chars("=> "));
    bar.set_message(what);
    bar.enable_steady_tick(TICK);
    bar
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
