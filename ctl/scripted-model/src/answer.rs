//! What the model answers, before it takes the shape of a wire format.

use serde_json::Value;

use crate::script::UsageNumbers;

/// One answer of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Thinking before the text.
    pub think: Option<String>,
    /// Text.
    pub say: Option<String>,
    /// Tool calls.
    pub calls: Vec<Call>,
    /// Token counts.
    pub usage: UsageNumbers,
    /// The model, as the request named it.
    pub model: String,
}

/// A tool call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Names the call and its result.
    pub id: String,
    /// The tool's own name.
    pub tool: String,
    /// Its arguments.
    pub input: CallInput,
}

/// The arguments of a tool call.
#[derive(Clone, Debug, PartialEq)]
pub enum CallInput {
    /// A JSON object.
    Json(Value),
    /// Free text.
    Text(String),
}

impl Call {
    /// The arguments as a JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        match &self.input {
            CallInput::Json(value) => value.clone(),
            CallInput::Text(text) => serde_json::json!({ "input": text }),
        }
    }
}

/// A fresh id with that beginning.
#[must_use]
pub fn fresh_id(start: &str) -> String {
    format!("{start}{}", uuid::Uuid::new_v4().simple())
}

/// `text` in the pieces in which it is streamed: a few words each.
#[must_use]
pub fn pieces(text: &str) -> Vec<&str> {
    const BYTES: usize = 24;
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.len() > BYTES {
        let end = rest
            .char_indices()
            .find(|(index, letter)| *index >= BYTES && letter.is_whitespace())
            .map_or(rest.len(), |(index, letter)| index + letter.len_utf8());
        let (piece, tail) = rest.split_at(end);
        pieces.push(piece);
        rest = tail;
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn the_pieces_of_a_text_are_the_text() {
        let text = "Ünïcödé words and more words, enough for several pieces.\nAnd a line. ";
        assert!(pieces(text).len() > 1);
        assert_eq!(pieces(text).concat(), text);
        assert!(pieces("").is_empty());
    }
}
