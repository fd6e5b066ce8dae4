//! Turns an attempt's events into lines for a person: messages with their pieces joined, thinking
//! dimmed, tool calls with titles and their results in brief.
//!
//! Pure: events in, lines out. What is still being said is `partial`.

mod speech;

use std::collections::BTreeMap;

use orchestra_types::{
    Event, EventKind, Usage,
    event::{Gap, ToolStatus},
};

use super::{
    escape::{block, line},
    style::{Line, Style},
    time::counted,
    width::fit,
    wrap::At,
};
use crate::follow::Piece;
use speech::{Speech, Voice};

/// Columns for a tool's title or result where the width is not known.
const BRIEF: usize = 100;
/// Lines of a failed tool's output that are shown.
const ERROR_LINES: usize = 4;
/// Longest sentence about what goes on, in columns.
const STATUS_MAX: usize = 600;

/// What kind of lines came last: a change of it is a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Talk(Voice),
    Tools,
    Notes,
}

/// What an attempt has said and done so far.
#[derive(Debug)]
pub struct Transcript {
    width: Option<usize>,
    speech: Speech,
    group: Option<Group>,
    calls: BTreeMap<String, String>,
    latest_call: String,
    plan: String,
    usage: Usage,
    lines: Vec<Line>,
}

impl Transcript {
    /// Nothing yet. `width` is the terminal's; without one lines are as long as they come.
    pub fn new(width: Option<usize>) -> Self {
        Self {
            width,
            speech: Speech::default(),
            group: None,
            calls: BTreeMap::new(),
            latest_call: String::new(),
            plan: String::new(),
            usage: Usage::default(),
            lines: Vec::new(),
        }
    }

    /// The lines that come of this.
    pub fn piece(&mut self, piece: &Piece) -> Vec<Line> {
        match piece {
            Piece::Events(events) => events.iter().flat_map(|event| self.on(event)).collect(),
            Piece::Gap(missing) => {
                self.note("", gap(missing));
                std::mem::take(&mut self.lines)
            }
        }
    }

    /// The lines that this event completes.
    pub fn on(&mut self, event: &Event) -> Vec<Line> {
        let agent = event.agent.as_str();
        match &event.kind {
            EventKind::Message {
                message_id,
                text,
                form,
            } => {
                self.say(Voice::Message, agent, message_id, text, *form);
            }
            EventKind::Thinking {
                message_id,
                text,
                form,
            } => {
                self.say(Voice::Thinking, agent, message_id, text, *form);
            }
            EventKind::ToolCall {
                call_id,
                tool,
                title,
                ..
            } => self.call(agent, call_id, tool, title),
            EventKind::ToolResult {
                call_id,
                status,
                output,
            } => self.result(agent, call_id, *status, output),
            EventKind::PermissionRequest {
                tool,
                title,
                decision,
                ..
            } => {
                let what = format!("permission: {} {}: ", line(tool), line(title));
                let text = Line::of(Style::Attention, what).with(Style::Plain, line(decision));
                self.note(agent, text);
            }
            EventKind::Plan { text } => self.plan(agent, text),
            EventKind::Status { phase, text, .. } => self.status(agent, phase, text),
            EventKind::Final { text } => self.last_words(text),
            EventKind::Usage(usage) => self.usage = *usage,
            EventKind::SessionStarted { model, .. } if !model.is_empty() => {
                self.note(
                    agent,
                    Line::of(Style::Dim, format!("· model {}", line(model))),
                );
            }
            EventKind::SessionStarted { .. } | EventKind::Raw => {}
        }
        std::mem::take(&mut self.lines)
    }

    /// The lines that nothing more will complete.
    pub fn end(&mut self) -> Vec<Line> {
        self.close();
        std::mem::take(&mut self.lines)
    }

    /// What is being said at the moment.
    pub fn partial(&self) -> Option<Line> {
        let (voice, agent, text) = self.speech.partial()?;
        let text = block(text);
        let room = self.width.map_or(usize::MAX, |w| {
            w.saturating_sub(voice.gutter().chars().count())
        });
        (!text.is_empty()).then(|| voice.line(agent, &fit(&text, room)))
    }

    /// Tokens and cost so far.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    fn say(
        &mut self,
        voice: Voice,
        agent: &str,
        id: &str,
        text: &str,
        form: orchestra_types::event::TextForm,
    ) {
        if !self.speech.continues(voice, agent, id) {
            self.close();
        }
        let said = self.speech.hear(voice, agent, id, text, form, self.width);
        self.talk(voice, agent, said);
    }

    fn close(&mut self) {
        if let Some((voice, agent, said)) = self.speech.close() {
            self.talk(voice, &agent, said);
        }
    }

    fn talk(&mut self, voice: Voice, agent: &str, said: Vec<String>) {
        for text in said {
            // Silence at the beginning of a message is not worth a line.
            if text.trim().is_empty() && self.group != Some(Group::Talk(voice)) {
                continue;
            }
            self.gap(Group::Talk(voice));
            self.lines.push(voice.line(agent, &text));
        }
    }

    fn call(&mut self, agent: &str, id: &str, tool: &str, title: &str) {
        self.close();
        self.gap(Group::Tools);
        let tool = line(tool).into_owned();
        let title = fit(&line(title), self.room(tool.chars().count() + 4));
        let title = if title == tool { String::new() } else { title };
        self.calls.insert(
            id.to_owned(),
            format!("{tool} {title}").trim_end().to_owned(),
        );
        id.clone_into(&mut self.latest_call);
        let start = if agent.is_empty() {
            "▸ ".to_owned()
        } else {
            format!("▸ {}: ", line(agent))
        };
        let text = Line::of(Style::Active, start + &tool)
            .with(Style::Plain, format!("  {title}").trim_end());
        self.lines.push(text);
    }

    fn result(&mut self, agent: &str, id: &str, status: ToolStatus, output: &str) {
        self.close();
        self.gap(Group::Tools);
        // With calls side by side a result says whose it is.
        let name = self.calls.remove(id).unwrap_or_default();
        let whose = match name.as_str() {
            _ if id == self.latest_call => String::new(),
            "" => line(agent).into_owned(),
            name => format!("{}: ", fit(name, 40)),
        };
        let (style, symbol) = match status {
            ToolStatus::Ok => (Style::Good, "  ✓ "),
            ToolStatus::Error => (Style::Bad, "  ✗ "),
            ToolStatus::Aborted => (Style::Dim, "  ⊘ stopped "),
        };
        let mut brief = self.brief(status, output).into_iter();
        let first = brief.next().unwrap_or_default();
        self.lines
            .push(Line::of(style, symbol).with(Style::Dim, whose + &first));
        self.lines
            .extend(brief.map(|text| Line::of(Style::Dim, format!("    {text}"))));
    }

    /// A result in brief: one line, or the first lines of what went wrong.
    fn brief(&self, status: ToolStatus, output: &str) -> Vec<String> {
        let lines: Vec<&str> = output.lines().filter(|l| !l.trim().is_empty()).collect();
        let cut = |text: &str| fit(&line(text), self.room(6));
        match (status, lines.as_slice()) {
            (_, []) => vec!["done".to_owned()],
            (_, [only]) => vec![cut(only)],
            (ToolStatus::Ok, all) => vec![counted(all.len() as u64, "line")],
            (ToolStatus::Error | ToolStatus::Aborted, all) => {
                let mut brief: Vec<String> = all.iter().take(ERROR_LINES).map(|l| cut(l)).collect();
                if all.len() > ERROR_LINES {
                    brief.push(format!(
                        "… {} more",
                        counted((all.len() - ERROR_LINES) as u64, "line")
                    ));
                }
                brief
            }
        }
    }

    fn plan(&mut self, agent: &str, text: &str) {
        if self.plan == text {
            return;
        }
        text.clone_into(&mut self.plan);
        self.note(agent, Line::of(Style::Bold, "plan"));
        let entries = text
            .lines()
            .map(|entry| Line::of(Style::Plain, format!("  {}", line(entry))));
        self.lines.extend(entries.collect::<Vec<_>>());
    }

    fn status(&mut self, agent: &str, phase: &str, text: &str) {
        let style = match phase {
            "rate_limited" | "retrying" => Style::Attention,
            _ => Style::Dim,
        };
        let text = if text.is_empty() {
            phase.replace('_', " ")
        } else {
            text.to_owned()
        };
        // Whole, as long as a sentence may be: it says what to do, and where files are.
        let whole = Line::of(style, format!("· {}", fit(&line(&text), STATUS_MAX)));
        let mut lines = whole.wrapped(self.width, 2, At::Words).into_iter();
        self.note(agent, lines.next().unwrap_or_default());
        self.lines.extend(lines);
    }

    fn note(&mut self, agent: &str, text: Line) {
        self.close();
        self.gap(Group::Notes);
        let whose = if agent.is_empty() {
            String::new()
        } else {
            format!("{}: ", line(agent))
        };
        let mut whole = Line::of(Style::Dim, whose);
        whole.0.extend(text.0);
        self.lines.push(whole);
    }

    /// The final text, unless it is what was said last.
    fn last_words(&mut self, text: &str) {
        self.close();
        if !self.speech.has_said(text) {
            let form = orchestra_types::event::TextForm::Snapshot;
            self.say(Voice::Message, "", "", text, form);
            self.close();
        }
    }

    fn gap(&mut self, group: Group) {
        if self.group.is_some_and(|before| before != group) {
            self.lines.push(Line::default());
        }
        self.group = Some(group);
    }

    fn room(&self, used: usize) -> usize {
        self.width.unwrap_or(BRIEF).saturating_sub(used).max(10)
    }
}

/// Says that events are missing, and why.
pub fn gap(gap: &Gap) -> Line {
    let Gap { from, to, why } = gap;
    let text = format!("· events {from} to {to} are gone: {}", why.words());
    Line::of(Style::Attention, text)
}

#[cfg(test)]
mod tests {
    use orchestra_types::{Timestamp, event::TextForm};

    use super::*;

    fn event(kind: EventKind) -> Event {
        Event {
            seq: 1,
            time: Timestamp(0),
            agent: String::new(),
            kind,
            raw: String::new(),
        }
    }

    fn message(id: &str, text: &str, form: TextForm) -> EventKind {
        EventKind::Message {
            message_id: id.into(),
            text: text.into(),
            form,
        }
    }

    fn delta(text: &str) -> EventKind {
        message("m", text, TextForm::Delta)
    }

    fn call(id: &str, title: &str) -> EventKind {
        EventKind::ToolCall {
            call_id: id.into(),
            tool: "bash".into(),
            title: title.into(),
            input: "{}".into(),
        }
    }

    fn result(id: &str, status: ToolStatus, output: &str) -> EventKind {
        EventKind::ToolResult {
            call_id: id.into(),
            status,
            output: output.into(),
        }
    }

    fn shown(width: Option<usize>, kinds: impl IntoIterator<Item = EventKind>) -> String {
        let mut transcript = Transcript::new(width);
        let mut lines: Vec<Line> = kinds
            .into_iter()
            .flat_map(|kind| transcript.on(&event(kind)))
            .collect();
        lines.extend(transcript.end());
        lines.iter().map(|line| line.render(false) + "\n").collect()
    }

    #[test]
    fn a_whole_attempt_reads_like_a_conversation() {
        let thinking = EventKind::Thinking {
            message_id: "t".into(),
            text: "Look first.\n".into(),
            form: TextForm::Delta,
        };
        let kinds = [
            EventKind::Status {
                phase: "preparing".into(),
                text: "making the workspace".into(),
                fields: BTreeMap::new(),
            },
            thinking,
            delta("I'll look"),
            delta(" at it.\nThen wr"),
            delta("ite."),
            call("1", "ls -la"),
            result("1", ToolStatus::Ok, "a\nb\nc\n"),
            call("2", "cargo test"),
            result("2", ToolStatus::Error, "error[E0599]\n\n --> src/lib.rs\n"),
            message("m2", "Done.", TextForm::Snapshot),
            EventKind::Final {
                text: "Done.".into(),
            },
        ];
        assert_eq!(
            shown(None, kinds),
            "· making the workspace\n\n┊ Look first.\n\nI'll look at it.\nThen write.\n\n\
             ▸ bash  ls -la\n  ✓ 3 lines\n▸ bash  cargo test\n  ✗ error[E0599]\n    --> src/lib.rs\n\nDone.\n"
        );
    }

    #[test]
    fn the_end_of_a_long_output_is_not_said_again_whatever_stood_in_between() {
        let last = |text: &str| EventKind::Final { text: text.into() };
        let lines = [
            delta("one\n"),
            call("1", "x"),
            delta("two\n"),
            delta("three\n"),
        ];
        for text in ["one\ntwo\nthree", "[cut]…\ntwo\nthree"] {
            let kinds = lines.clone().into_iter().chain([last(text)]);
            let said = shown(None, kinds);
            assert_eq!(said.matches("three").count(), 1, "{text}: {said}");
        }
    }

    #[test]
    fn a_snapshot_after_its_pieces_is_not_said_twice() {
        let pieces = [
            delta("Hello "),
            delta("world"),
            message("m", "Hello world", TextForm::Snapshot),
        ];
        assert_eq!(shown(None, pieces), "Hello world\n");
        let later = [
            delta("Hello"),
            call("1", "ls"),
            message("m", "Hello", TextForm::Snapshot),
        ];
        assert_eq!(shown(None, later), "Hello\n\n▸ bash  ls\n");
        let longer = [delta("Hel"), message("m", "Hello!", TextForm::Snapshot)];
        assert_eq!(shown(None, longer), "Hello!\n");
    }

    #[test]
    fn results_of_calls_side_by_side_say_whose_they_are() {
        let kinds = [
            call("1", "sleep 2"),
            call("2", "true"),
            result("1", ToolStatus::Ok, "slept"),
            result("2", ToolStatus::Aborted, ""),
        ];
        assert_eq!(
            shown(None, kinds),
            "▸ bash  sleep 2\n▸ bash  true\n  ✓ bash sleep 2: slept\n  ⊘ stopped done\n"
        );
    }

    #[test]
    fn what_an_agent_says_cannot_steer_the_terminal() {
        let kinds = [
            delta("\x1b]0;owned\x07\x1b[2J"),
            delta("\n"),
            call("1", "\x1b[31mrm\n-rf"),
            result("1", ToolStatus::Error, "\u{202e}evil\r\n\x1b[8mhidden"),
            EventKind::Plan {
                text: "\x1b[5mblink".into(),
            },
        ];
        let text = shown(Some(60), kinds);
        assert!(
            !text.contains('\x1b') && !text.contains('\u{202e}') && !text.contains('\r'),
            "{text:?}"
        );
    }

    #[test]
    fn on_a_terminal_long_lines_are_wrapped_and_the_rest_is_partial() {
        let mut transcript = Transcript::new(Some(20));
        let lines = transcript.on(&event(delta("one two three four five six")));
        let shown: Vec<String> = lines.iter().map(|l| l.render(false)).collect();
        assert_eq!(shown, ["one two three four"]);
        assert_eq!(transcript.partial().unwrap().render(false), "five six");
        assert_eq!(transcript.end()[0].render(false), "five six");
        assert!(transcript.partial().is_none());
    }
}
