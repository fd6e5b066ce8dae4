//! A display at the bottom of the terminal that changes while lines pass above it. Without a
//! terminal there is none, and only the lines are printed.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Ui, style::Line};
use crate::error::Result;

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// The display.
#[derive(Debug)]
pub struct Live {
    ui: Ui,
    bar: Option<ProgressBar>,
}

impl Live {
    /// A display with a spinner in its last line; nothing is drawn before it is told something.
    pub fn new(ui: Ui) -> Self {
        let template = if ui.stderr.colour {
            "{msg}{spinner:.cyan} {prefix}"
        } else {
            "{msg}{spinner} {prefix}"
        };
        Self::with_template(ui, template)
    }

    /// A display without a spinner.
    pub fn plain(ui: Ui) -> Self {
        Self::with_template(ui, "{msg}{prefix}")
    }

    fn with_template(ui: Ui, template: &str) -> Self {
        if !ui.is_live() {
            return Self { ui, bar: None };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        bar.set_style(style.tick_strings(&["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "]));
        Self { ui, bar: Some(bar) }
    }

    /// Whether anybody sees it.
    pub fn is_seen(&self) -> bool {
        self.bar.is_some()
    }

    /// Shows these lines, the last one beside the spinner.
    pub fn show(&self, lines: &[Line]) {
        let (Some(bar), Some((last, above))) = (&self.bar, lines.split_last()) else {
            return;
        };
        let colour = self.ui.stderr.colour;
        bar.set_message(
            above
                .iter()
                .map(|line| line.render(colour) + "\n")
                .collect::<String>(),
        );
        bar.set_prefix(last.render(colour));
        bar.enable_steady_tick(TICK);
    }

    /// What is said above it, by whoever does not hold it.
    pub fn voice(&self) -> Voice {
        Voice {
            ui: self.ui,
            bar: self.bar.clone(),
        }
    }

    /// Prints a line of data above the display.
    pub fn print(&self, line: &Line) -> Result<()> {
        self.above(|ui| ui.line(line))
    }

    /// Runs `print` while the display is hidden.
    pub fn above<T>(&self, print: impl FnOnce(&Ui) -> T) -> T {
        self.voice().above(print)
    }
}

/// Says something on standard error, above the display where there is one.
#[derive(Clone, Debug)]
pub struct Voice {
    ui: Ui,
    bar: Option<ProgressBar>,
}

impl Voice {
    /// Without a display.
    pub fn plain(ui: Ui) -> Self {
        Self { ui, bar: None }
    }

    /// Warns.
    pub fn warn(&self, text: &str) {
        self.above(|ui| ui.warn(text));
    }

    /// Says how it goes on.
    pub fn next(&self, text: &str) {
        self.above(|ui| ui.next(text));
    }

    fn above<T>(&self, print: impl FnOnce(&Ui) -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(|| print(&self.ui)),
            None => print(&self.ui),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
