//! Joins the pieces of messages and thinking into lines.

use std::collections::VecDeque;

use orchestra_types::{event::TextForm, limits};

use crate::ui::{
    escape::{block, line},
    style::{Line, Style},
    width::{break_at, columns},
};

/// How many messages are remembered, to know a snapshot of what was already said in pieces.
const REMEMBERED: usize = 32;

/// How something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Aloud.
    Message,
    /// To itself.
    Thinking,
}

impl Voice {
    /// What stands in front of each line.
    pub fn gutter(self) -> &'static str {
        match self {
            Self::Message => "",
            Self::Thinking => "┊ ",
        }
    }

    /// A line of this voice; `text` is escaped already.
    pub fn line(self, agent: &str, text: &str) -> Line {
        let style = match self {
            Self::Message => Style::Plain,
            Self::Thinking => Style::Dim,
        };
        let whose = if agent.is_empty() {
            String::new()
        } else {
            format!("{}: ", line(agent))
        };
        Line::of(Style::Dim, whose).with(style, format!("{}{text}", self.gutter()))
    }
}

#[derive(Debug)]
struct Open {
    voice: Voice,
    agent: String,
    id: String,
    /// All that was said.
    text: String,
    /// The end of it that is not a whole line yet.
    rest: String,
}

/// What is being said, and what was.
#[derive(Debug, Default)]
pub struct Speech {
    open: Option<Open>,
    /// Id and text of the latest messages.
    said: VecDeque<(String, String)>,
    /// The end of all that was said aloud, whatever stood in between.
    aloud: String,
}

impl Speech {
    /// Whether a piece belongs to what is being said.
    pub fn continues(&self, voice: Voice, agent: &str, id: &str) -> bool {
        self.open
            .as_ref()
            .is_some_and(|o| o.voice == voice && o.agent == agent && o.id == id)
    }

    /// Takes a piece or a whole, and gives the lines that it completes.
    pub fn hear(
        &mut self,
        voice: Voice,
        agent: &str,
        id: &str,
        text: &str,
        form: TextForm,
        width: Option<usize>,
    ) -> Vec<String> {
        let fresh = || Open {
            voice,
            agent: agent.to_owned(),
            id: id.to_owned(),
            text: String::new(),
            rest: String::new(),
        };
        let text = match form {
            TextForm::Delta => text,
            TextForm::Snapshot => match self.unsaid(id, text) {
                Some(rest) => rest,
                None => return Vec::new(),
            },
        };
        let open = self.open.get_or_insert_with(fresh);
        open.text.push_str(text);
        open.rest.push_str(text);
        let mut lines = whole_lines(&mut open.rest);
        if let Some(width) = width {
            lines = lines
                .iter()
                .flat_map(|line| wrap(line, voice, width))
                .collect();
            lines.extend(full_lines(&mut open.rest, voice, width));
        }
        if form == TextForm::Snapshot {
            lines.extend(self.close().map(|(_, _, rest)| rest).unwrap_or_default());
        }
        lines
    }

    /// The part of a whole message that was not said yet; none if all of it was.
    fn unsaid<'t>(&self, id: &str, whole: &'t str) -> Option<&'t str> {
        let begun = self
            .open
            .as_ref()
            .and_then(|open| whole.strip_prefix(open.text.as_str()));
        if begun.is_some() {
            return begun;
        }
        let known = |(said_id, text): &(String, String)| {
            said_id == id && !id.is_empty() && text.trim() == whole.trim()
        };
        if self.said.iter().any(known) {
            None
        } else {
            Some(whole)
        }
    }

    /// Ends what is being said, and gives its last line.
    pub fn close(&mut self) -> Option<(Voice, String, Vec<String>)> {
        let open = self.open.take()?;
        let rest = if open.rest.is_empty() {
            Vec::new()
        } else {
            vec![block(&open.rest).into_owned()]
        };
        if open.voice == Voice::Message {
            self.remember_aloud(&open.text);
        }
        self.said.push_back((open.id, open.text));
        if self.said.len() > REMEMBERED {
            self.said.pop_front();
        }
        Some((open.voice, open.agent, rest))
    }

    /// What is not a whole line yet.
    pub fn partial(&self) -> Option<(Voice, &str, &str)> {
        self.open
            .as_ref()
            .map(|o| (o.voice, o.agent.as_str(), o.rest.as_str()))
    }

    fn remember_aloud(&mut self, text: &str) {
        self.aloud.push_str(text);
        let more = self
            .aloud
            .len()
            .saturating_sub(2 * limits::EVENT_TEXT_BYTES_MAX);
        self.aloud.drain(..self.aloud.ceil_char_boundary(more));
    }

    /// Whether one of the latest messages was this, or ended with it; or whether it is the last lines of all.
    pub fn has_said(&self, text: &str) -> bool {
        let text = text.strip_prefix(limits::CUT_FRONT_MARK).unwrap_or(text);
        let text = text.trim();
        let before = self.aloud.trim_end().strip_suffix(text);
        let are_last_lines =
            before.is_some_and(|before| before.is_empty() || before.ends_with('\n'));
        let mut said = self.said.iter();
        are_last_lines || said.any(|(_, said)| said.trim().ends_with(text))
    }
}

/// Takes the whole lines out of `rest`.
fn whole_lines(rest: &mut String) -> Vec<String> {
    let Some(end) = rest.rfind('\n') else {
        return Vec::new();
    };
    let tail = rest.split_off(end + 1);
    let whole = std::mem::replace(rest, tail);
    block(&whole).lines().map(str::to_owned).collect()
}

fn wrap(text: &str, voice: Voice, width: usize) -> Vec<String> {
    crate::ui::width::wrap(text, room(voice, width))
}

/// Takes the lines out of `rest` that are full, though they have not ended.
fn full_lines(rest: &mut String, voice: Voice, width: usize) -> Vec<String> {
    let room = room(voice, width);
    let mut lines = Vec::new();
    while columns(&block(rest)) > room && rest.chars().count() > 1 {
        let (line, after) = break_at(rest, room);
        lines.push(block(line).into_owned());
        *rest = after.to_owned();
    }
    lines
}

fn room(voice: Voice, width: usize) -> usize {
    width.saturating_sub(voice.gutter().chars().count()).max(10)
}
