//! Fills the `{{placeholders}}` of a script's texts from the conversation.

use serde_json::Value;

use crate::{
    conversation::Conversation,
    script::{Action, Step},
};

/// The step with every placeholder filled.
#[must_use]
pub fn step(step: &Step, talk: &Conversation) -> Step {
    let fill = |text: &Option<String>| text.as_ref().map(|text| text_of(text, talk));
    Step {
        think: fill(&step.think),
        say: fill(&step.say),
        tool: None,
        tools: step
            .actions()
            .map(|action| action_of(action, talk))
            .collect(),
    }
}

fn action_of(action: &Action, talk: &Conversation) -> Action {
    let fill = |text: &str| text_of(text, talk);
    match action {
        Action::Write { path, content } => Action::Write {
            path: fill(path),
            content: fill(content),
        },
        Action::Read { path } => Action::Read { path: fill(path) },
        Action::Edit { path, old, new } => Action::Edit {
            path: fill(path),
            old: fill(old),
            new: fill(new),
        },
        Action::Bash { command } => Action::Bash {
            command: fill(command),
        },
        Action::Task { prompt } => Action::Task {
            prompt: fill(prompt),
        },
        Action::Call { name, args } => Action::Call {
            name: name.clone(),
            args: value_of(args, talk),
        },
    }
}

fn value_of(value: &Value, talk: &Conversation) -> Value {
    match value {
        Value::String(text) => Value::String(text_of(text, talk)),
        Value::Array(values) => values.iter().map(|value| value_of(value, talk)).collect(),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| (key.clone(), value_of(value, talk)))
                .collect(),
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn text_of(text: &str, talk: &Conversation) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once("{{") {
        let Some((name, after)) = tail.split_once("}}") else {
            break;
        };
        filled.push_str(before);
        match placeholder(name.trim(), talk) {
            Some(value) => filled.push_str(&value),
            None => filled.push_str(&format!("{{{{{name}}}}}")),
        }
        rest = after;
    }
    filled.push_str(rest);
    filled
}

/// The value of `name` or `name:LETTERS`; `None` for a name that is no placeholder.
fn placeholder(name: &str, talk: &Conversation) -> Option<String> {
    let (name, letters) = match name.split_once(':') {
        Some((name, letters)) => (name, letters.parse().ok()?),
        None => (name, usize::MAX),
    };
    let value = match name {
        "prompt" => talk.prompt(),
        "system" => talk.system.clone(),
        "last_result" => talk.last_result().to_owned(),
        "cwd" => talk.cwd().unwrap_or(".").to_owned(),
        "model" => talk.model.clone(),
        "tools" => talk
            .tools
            .iter()
            .map(|tool| tool.name.as_str())
            .collect::<Vec<_>>()
            .join(", "),
        _ => return None,
    };
    Some(value.chars().take(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::{Api, Item};

    #[test]
    fn placeholders_are_filled_and_other_braces_are_left_alone() {
        let talk = Conversation {
            api: Api::Chat,
            model: "m1".into(),
            system: String::new(),
            items: vec![Item::User("hello world".into())],
            tools: Vec::new(),
            stream: false,
            answer_schema: None,
        };
        assert_eq!(
            text_of("<{{prompt:5}}> by {{model}}", &talk),
            "<hello> by m1"
        );
        assert_eq!(text_of("{{unknown}} {{ open", &talk), "{{unknown}} {{ open");
    }
}
