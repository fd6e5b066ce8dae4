//! A request of any wire format in plain words: who said what, and which tools are offered.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The wire format of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Responses.
    Responses,
    /// OpenAI Chat Completions.
    Chat,
    /// Gemini generateContent.
    Gemini,
}

/// One entry of a conversation, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A person's text.
    User(String),
    /// Text with the user's role that the CLI itself added.
    Note(String),
    /// The model's text.
    Assistant(String),
    /// The model's tool call.
    Call(String),
    /// A tool's result.
    Result(String),
}

/// A tool that a request offers.
#[derive(Clone, Debug, PartialEq)]
pub struct OfferedTool {
    /// Its own name.
    pub name: String,
    /// How it takes its arguments.
    pub input: ToolInput,
}

/// How a tool takes its arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolInput {
    /// As a JSON object of this schema.
    Json(Value),
    /// As free text.
    Text,
}

/// A request in plain words.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Its wire format.
    pub api: Api,
    /// The model it names.
    pub model: String,
    /// The system prompt.
    pub system: String,
    /// Who said what.
    pub items: Vec<Item>,
    /// The tools it offers.
    pub tools: Vec<OfferedTool>,
    /// Whether it wants the answer as a stream.
    pub stream: bool,
    /// The JSON schema that it wants the answer's text to have.
    pub answer_schema: Option<Value>,
}

/// Beginnings of texts that CLIs add with the user's role.
const NOTE_STARTS: [&str; 10] = [
    "<system-reminder>",
    "<environment_context>",
    "<user_instructions>",
    "<permissions instructions>",
    "<skills_instructions>",
    "<session_context>",
    "<info-msg>",
    "<local-command-caveat>",
    "# AGENTS.md instructions",
    "This is the Gemini CLI.",
];

/// What some CLIs append to a person's text.
const NOTE_AT_END: &str = "\n<turn-context>";

/// Texts after which CLIs name their working directory, up to the end of the line or a `<`.
const CWD_MARKS: [&str; 9] = [
    "<cwd>",
    "<working-directory>",
    "Primary working directory: ",
    "Current working directory: ",
    "Working directory: ",
    "working directory: ",
    "Working Directory: ",
    "currently working in the directory: ",
    "Workspace Directories:**\n  - ",
];

impl Item {
    /// A text with the user's role: a person's, one that the CLI added, or both.
    pub fn user(text: impl Into<String>) -> Vec<Self> {
        let text = text.into();
        let start = text.trim_start();
        if start.is_empty() || NOTE_STARTS.iter().any(|note| start.starts_with(note)) {
            return vec![Self::Note(text)];
        }
        match text.find(NOTE_AT_END) {
            Some(end) => {
                let note = text[end..].to_owned();
                vec![Self::Note(note), Self::User(text[..end].to_owned())]
            }
            None => vec![Self::User(text)],
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::User(text)
            | Self::Note(text)
            | Self::Assistant(text)
            | Self::Call(text)
            | Self::Result(text) => text,
        }
    }
}

impl Conversation {
    /// The latest prompt: the last run of texts by a person.
    #[must_use]
    pub fn prompt(&self) -> String {
        let Some(last) = self.last_prompt() else {
            return String::new();
        };
        let mut texts: Vec<&str> = self.items[..=last]
            .iter()
            .rev()
            .take_while(|item| matches!(item, Item::User(_) | Item::Note(_)))
            .filter(|item| matches!(item, Item::User(_)))
            .map(Item::text)
            .collect();
        texts.reverse();
        texts.join("\n")
    }

    /// How many tool results there are since the latest prompt.
    #[must_use]
    pub fn results(&self) -> usize {
        let start = self.last_prompt().map_or(0, |index| index + 1);
        self.items[start..]
            .iter()
            .filter(|item| matches!(item, Item::Result(_)))
            .count()
    }

    /// The latest tool result.
    #[must_use]
    pub fn last_result(&self) -> &str {
        self.items
            .iter()
            .rev()
            .find(|item| matches!(item, Item::Result(_)))
            .map_or("", Item::text)
    }

    /// The working directory that the request names, where it names one.
    #[must_use]
    pub fn cwd(&self) -> Option<&str> {
        let texts = std::iter::once(self.system.as_str()).chain(self.items.iter().map(Item::text));
        texts
            .flat_map(|text| CWD_MARKS.iter().filter_map(move |mark| after(text, mark)))
            .next()
    }

    /// A rough count of the tokens that were sent.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        let bytes: usize = self.items.iter().map(|item| item.text().len()).sum();
        ((bytes + self.system.len()) / 4) as u64
    }

    fn last_prompt(&self) -> Option<usize> {
        self.items
            .iter()
            .rposition(|item| matches!(item, Item::User(_)))
    }
}

/// The absolute path that stands after `mark`.
fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(mark)?;
    let line = rest.lines().next()?;
    let path = line
        .split('<')
        .next()?
        .trim()
        .trim_matches(['`', '"', '\'']);
    path.starts_with('/').then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(items: Vec<Item>) -> Conversation {
        Conversation {
            api: Api::Chat,
            model: "m".into(),
            system: String::new(),
            items,
            tools: Vec::new(),
            stream: false,
            answer_schema: None,
        }
    }

    fn note(text: &str) -> Item {
        match Item::user(text).as_slice() {
            [note @ Item::Note(_)] => note.clone(),
            other => panic!("not one note: {other:?}"),
        }
    }

    #[test]
    fn what_a_cli_appends_is_cut_from_the_prompt() {
        let talk = conversation(Item::user(
            "go\n<turn-context>\n<working-directory>/w</working-directory>\n</turn-context>",
        ));
        assert_eq!((talk.prompt().as_str(), talk.cwd()), ("go", Some("/w")));
    }

    #[test]
    fn what_a_cli_adds_is_not_the_prompt() {
        let talk = conversation(vec![
            note("<environment_context>\n  <cwd>/repo</cwd>\n</environment_context>"),
            Item::User("write a file".into()),
            Item::Call("write".into()),
            Item::Result("ok".into()),
            note("<system-reminder>be brief</system-reminder>"),
        ]);
        assert_eq!(talk.prompt(), "write a file");
        assert_eq!(talk.results(), 1);
        assert_eq!(talk.cwd(), Some("/repo"));
    }

    #[test]
    fn a_new_prompt_starts_the_count_of_results_again() {
        let talk = conversation(vec![
            Item::User("first".into()),
            Item::Call("write".into()),
            Item::Result("ok".into()),
            Item::Assistant("done".into()),
            Item::User("second".into()),
        ]);
        assert_eq!((talk.prompt().as_str(), talk.results()), ("second", 0));
    }
}
