//! Everything that a person reads: what goes where, in which colours, how wide.
//!
//! Data goes to standard output, everything else to standard error. Colours and live displays
//! only on a terminal and never with `TERM=dumb`; with `NO_COLOR`, displays without colours.

pub mod again;
pub mod bar;
pub mod changes;
pub mod closed;
pub mod detail;
pub mod escape;
pub mod excerpt;
pub mod live;
pub mod mistake;
pub mod queued;
pub mod reason;
pub mod status;
pub mod stopping;
pub mod style;
pub mod suggest;
pub mod table;
pub mod task;
pub mod time;
pub mod transcript;
pub mod width;
pub mod wrap;

use std::io::{self, IsTerminal, Write};

use orchestra_types::Timestamp;
use serde::Serialize;

use crate::{
    cli::Global,
    error::{Error, OrFailed, Result},
    exit::Exit,
    json::fleet::Status,
};
use again::Again;
use style::{Line, Style};
use wrap::At;

/// What can be done with one output stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Face {
    /// Whether a person looks at it.
    pub terminal: bool,
    /// Whether it may be coloured.
    pub colour: bool,
    /// Its columns; none when it is not a terminal.
    pub width: Option<usize>,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColourChoice {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Whether a command prints for people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Tables and sentences.
    Text,
    /// One JSON document.
    Json,
}

/// The two output streams.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    /// Standard output: data.
    pub stdout: Face,
    /// Standard error: everything else.
    pub stderr: Face,
    /// For whom data is printed.
    pub form: Form,
    /// Whether the terminal can draw over what it showed.
    pub redraws: bool,
    /// What commands that are told to the person repeat.
    pub again: Again,
}

impl Ui {
    /// The streams of this process.
    pub fn of_process(global: &Global) -> Self {
        let colour = global.color;
        let dumb = std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        let plain = dumb || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let face = |terminal: bool, width: Option<usize>| Face {
            terminal,
            colour: match colour {
                ColourChoice::Auto => terminal && !plain,
                ColourChoice::Always => true,
                ColourChoice::Never => false,
            },
            width: if terminal { width } else { None },
        };
        Self {
            stdout: face(io::stdout().is_terminal(), terminal_width(io::stdout())),
            stderr: face(io::stderr().is_terminal(), terminal_width(io::stderr())),
            form: if global.json { Form::Json } else { Form::Text },
            redraws: !dumb,
            again: Again::of(global, |name| std::env::var_os(name)),
        }
    }

    /// Whether data is printed as JSON.
    pub fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    /// Whether a live display may be drawn: on standard error, for a person.
    pub fn is_live(&self) -> bool {
        self.stderr.terminal && self.redraws
    }

    /// Prints `text` as it is to standard output.
    pub fn print(&self, text: impl AsRef<[u8]>) -> Result<()> {
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_ref()).and_then(|()| out.flush());
        written.map_err(Error::of_stdout)
    }

    /// Prints one line of data.
    pub fn line(&self, line: &Line) -> Result<()> {
        self.print(line.render(self.stdout.colour) + "\n")
    }

    /// Prints lines of data, all with one write: there may be very many.
    pub fn lines(&self, lines: &[Line]) -> Result<()> {
        let lines = lines
            .iter()
            .map(|line| line.render(self.stdout.colour) + "\n");
        self.print(lines.collect::<String>())
    }

    /// Prints one line of data, on a terminal in as many lines as it takes there.
    pub fn wrapped(&self, line: &Line, indent: usize, at: At) -> Result<()> {
        let lines = line.wrapped(self.stdout.width, indent, at);
        lines.iter().try_for_each(|line| self.line(line))
    }

    /// Prints a table, or `nothing` to standard error when it has no rows.
    pub fn table(&self, table: &table::Table) -> Result<()> {
        self.print(table.render(self.stdout.width, self.stdout.colour))
    }

    /// Prints a JSON document: indented on a terminal, one line elsewhere.
    pub fn document(&self, document: &impl Serialize) -> Result<()> {
        let text = if self.stdout.terminal {
            serde_json::to_string_pretty(document)
        } else {
            serde_json::to_string(document)
        };
        self.print(text.or_failed(|| "failed to write JSON".to_owned())? + "\n")
    }

    /// Prints one JSON document on one line, for streams of them.
    pub fn document_line(&self, document: &impl Serialize) -> Result<()> {
        let text =
            serde_json::to_string(document).or_failed(|| "failed to write JSON".to_owned())?;
        self.print(text + "\n")
    }

    /// Prints JSON documents, each on its line, all with one write: there may be very many.
    pub fn document_lines(&self, documents: &[impl Serialize]) -> Result<()> {
        let mut text = Vec::new();
        for document in documents {
            let written = serde_json::to_writer(&mut text, document);
            written.or_failed(|| "failed to write JSON".to_owned())?;
            text.push(b'\n');
        }
        self.print(text)
    }

    /// Says something to the person, on standard error. Nobody listening is no failure.
    pub fn note(&self, line: &Line) {
        let text = line.render(self.stderr.colour) + "\n";
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    /// Says something in one style.
    pub fn say(&self, text: impl Into<String>) {
        self.note(&Line::of(Style::Plain, text));
    }

    /// Says what to do next.
    pub fn next(&self, text: impl AsRef<str>) {
        self.note(&Line::of(Style::Dim, self.again.spell(text.as_ref())));
    }

    /// Warns.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.note(
            &Line::of(Style::Attention, "warning: ")
                .with(Style::Plain, self.again.spell(text.as_ref())),
        );
    }

    /// Says that the head is stopping and what to do, where it is.
    pub fn warn_of_stop(&self, status: &Status) {
        if let Some(words) = stopping::words(status, now()) {
            self.warn(words);
            self.next(stopping::NEXT);
        }
    }

    /// Says why the command failed.
    pub fn error(&self, error: &Error) {
        match self.form {
            // Whoever presses Ctrl-C knows it; what goes on is worth a word.
            Form::Text if error.exit() == Exit::Interrupted => self.next(format!("\n{error}")),
            Form::Text => {
                let message = error.chain();
                let message = escape::block(&self.again.spell(&message)).into_owned();
                self.note(&Line::of(Style::Bad, "error: ").with(Style::Plain, message));
                if let Some(hint) = error.next_step(self.again) {
                    let line = Line::of(Style::Active, "hint: ");
                    self.note(&line.with(Style::Plain, escape::block(&hint)));
                }
            }
            Form::Json => {
                let document = crate::json::error(error, self.again);
                // JSON has escapes of its own.
                let _ = io::stderr()
                    .lock()
                    .write_all(format!("{document}\n").as_bytes());
            }
        }
    }
}

/// This moment.
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(since.map_or(0, orchestra_types::time::millis))
}

fn terminal_width(stream: impl std::os::fd::AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    Some(usize::from(size.ws_col)).filter(|width| *width >= 20)
}
