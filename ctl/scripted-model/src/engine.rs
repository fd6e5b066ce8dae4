//! Chooses the rule that a conversation matches and the step that is next.

use std::collections::HashMap;

use serde_json::Value;

use crate::{
    answer::Answer,
    conversation::Conversation,
    fill,
    script::{Rule, Script, Step, Trouble, TroubleKind, UsageNumbers, When},
    tools,
};

/// What is to be done with one request.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The rule's name; its number where it has none.
    pub rule: String,
    /// The answer.
    pub answer: Answer,
    /// How to misbehave.
    pub trouble: Option<TroubleKind>,
    /// Milliseconds between the pieces of a stream.
    pub delay_ms: u64,
}

/// A script and how often its parts were used.
#[derive(Debug)]
pub struct Engine {
    script: Script,
    used: HashMap<String, u64>,
}

impl Engine {
    /// Nothing used yet.
    pub fn new(script: Script) -> Self {
        Self {
            script,
            used: HashMap::new(),
        }
    }

    /// The model names to list.
    pub fn models(&self) -> &[String] {
        &self.script.models
    }

    /// The trouble that the path prefix `/s/NAME` asks for, while it lasts.
    pub fn scenario(
        &mut self,
        name: &str,
        talk: &Conversation,
    ) -> Result<Option<TroubleKind>, String> {
        let trouble = match self.script.scenarios.get(name) {
            Some(trouble) => trouble.clone(),
            None => name.parse::<Trouble>().map_err(|error| error.to_string())?,
        };
        Ok(self.spend(&format!("scenario {name}"), &trouble, talk))
    }

    /// What to do with a request.
    pub fn decide(&mut self, talk: &Conversation) -> Decision {
        let Some((key, rule)) = self.rule_for(talk) else {
            return self.no_rule(talk);
        };
        *self.used.entry(format!("rule {key}")).or_default() += 1;
        let trouble = rule
            .trouble
            .as_ref()
            .and_then(|trouble| self.spend(&key, trouble, talk));
        let usage = rule.usage.unwrap_or(self.script.usage);
        Decision {
            answer: answer(&next_step(&rule, talk), talk, usage),
            trouble,
            delay_ms: rule.delay_ms.unwrap_or(self.script.delay_ms),
            rule: key,
        }
    }

    fn rule_for(&self, talk: &Conversation) -> Option<(String, Rule)> {
        self.script
            .rules
            .iter()
            .enumerate()
            .find_map(|(index, rule)| {
                let key = if rule.name.is_empty() {
                    (index + 1).to_string()
                } else {
                    rule.name.clone()
                };
                let used = self.used.get(&format!("rule {key}")).copied().unwrap_or(0);
                let fresh = rule.times.is_none_or(|times| used < times);
                (fresh && holds(&rule.when, talk)).then(|| (key, rule.clone()))
            })
    }

    fn no_rule(&self, talk: &Conversation) -> Decision {
        let say = "The script has no rule for this conversation.".to_owned();
        let step = Step {
            say: Some(say),
            ..Step::default()
        };
        Decision {
            rule: String::new(),
            answer: answer(&step, talk, self.script.usage),
            trouble: None,
            delay_ms: self.script.delay_ms,
        }
    }

    /// A counted trouble passes over requests that offer no tools: those are for titles and the
    /// like, and how many of them there are is each CLI's own affair.
    fn spend(&mut self, key: &str, trouble: &Trouble, talk: &Conversation) -> Option<TroubleKind> {
        let Some(times) = trouble.times else {
            return Some(trouble.kind.clone());
        };
        if talk.tools.is_empty() {
            return None;
        }
        let used = self.used.entry(format!("trouble {key}")).or_default();
        *used += 1;
        (*used <= times).then(|| trouble.kind.clone())
    }
}

fn holds(when: &When, talk: &Conversation) -> bool {
    let prompt = talk.prompt();
    let all =
        |texts: &[String], whole: &str| texts.iter().all(|text| whole.contains(text.as_str()));
    let results = talk.results();
    all(when.prompt.as_slice(), &prompt)
        && !when
            .prompt_lacks
            .as_slice()
            .iter()
            .any(|text| prompt.contains(text.as_str()))
        && when
            .prompt_ends
            .as_ref()
            .is_none_or(|end| ends(&prompt, end))
        && all(when.system.as_slice(), &talk.system)
        && all(when.last_result.as_slice(), talk.last_result())
        && when.results.is_none_or(|exact| results == exact)
        && when.results_at_least.is_none_or(|least| results >= least)
        && when
            .model
            .as_ref()
            .is_none_or(|model| talk.model.contains(model.as_str()))
        && when.api.is_none_or(|api| talk.api == api)
        && when
            .offers
            .as_ref()
            .is_none_or(|name| talk.tools.iter().any(|t| t.name == *name))
}

/// Some CLIs put the prompt between quotes.
fn ends(prompt: &str, end: &str) -> bool {
    prompt
        .trim_end_matches(|c: char| c.is_whitespace() || c == '"')
        .ends_with(end.trim_end())
}

/// The step that comes after as many tool results as there are. A request that offers no tools
/// (for a title, say) gets the last step's text.
fn next_step(rule: &Rule, talk: &Conversation) -> Step {
    let last = rule.steps.last().cloned().unwrap_or_default();
    if talk.tools.is_empty() {
        return Step {
            tool: None,
            tools: Vec::new(),
            ..last
        };
    }
    let mut results = talk.results();
    for step in &rule.steps {
        let calls = step.actions().count();
        if calls == 0 || results < calls {
            return step.clone();
        }
        results -= calls;
    }
    Step {
        say: Some("Done.".to_owned()),
        ..Step::default()
    }
}

fn answer(step: &Step, talk: &Conversation, usage: UsageNumbers) -> Answer {
    let step = fill::step(step, talk);
    let mut answer = Answer {
        think: step.think,
        say: step.say,
        calls: Vec::new(),
        usage,
        model: talk.model.clone(),
    };
    for action in &step.tools {
        match tools::call(action, &talk.tools, talk.cwd()) {
            Ok(call) => answer.calls.push(call),
            Err(problem) => answer.say = Some(format!("The script cannot go on: {problem}")),
        }
    }
    if let (Some(schema), true) = (&talk.answer_schema, answer.calls.is_empty()) {
        answer.say = Some(fitting(answer.say.as_deref(), schema));
    }
    answer
}

/// The text when it is JSON already, else JSON that the schema allows.
fn fitting(text: Option<&str>, schema: &Value) -> String {
    match text {
        Some(text) if serde_json::from_str::<Value>(text).is_ok_and(|json| json.is_object()) => {
            text.to_owned()
        }
        Some(_) | None => tools::example(schema).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        conversation::{Api, Item, OfferedTool, ToolInput},
        script::parse,
    };

    fn talk(items: Vec<Item>) -> Conversation {
        let bash = OfferedTool {
            name: "bash".into(),
            input: ToolInput::Json(json!({"properties": {"command": {"type": "string"}}})),
        };
        Conversation {
            api: Api::Chat,
            model: "m".into(),
            system: String::new(),
            items,
            tools: vec![bash],
            stream: true,
            answer_schema: None,
        }
    }

    fn engine(text: &str) -> Engine {
        Engine::new(parse(text).expect("a good script"))
    }

    #[test]
    fn the_number_of_tool_results_says_which_step_is_next() {
        let mut engine = engine(
            "rules:\n- steps:\n  - tools: [{bash: {command: a}}, {bash: {command: b}}]\n  - tool: \
             {bash: {command: c}}\n  - say: end\n",
        );
        let mut items = vec![Item::User("go".into())];
        assert_eq!(engine.decide(&talk(items.clone())).answer.calls.len(), 2);
        items.extend([Item::Result("1".into()), Item::Result("2".into())]);
        let second = engine.decide(&talk(items.clone())).answer;
        assert_eq!(second.calls[0].json(), json!({"command": "c"}));
        items.push(Item::Result("3".into()));
        let last = engine.decide(&talk(items)).answer;
        assert_eq!((last.say.as_deref(), last.calls.len()), (Some("end"), 0));
    }

    #[test]
    fn the_first_rule_that_matches_answers_while_it_may() {
        let mut engine = engine(
            "rules:\n- name: once\n  when: {prompt: [red, fox]}\n  times: 1\n  steps: [{say: \
             one}]\n- name: rest\n  when: {prompt_lacks: cat}\n  steps: [{say: other}]\n",
        );
        let fox = talk(vec![Item::User("a red fox".into())]);
        assert_eq!(engine.decide(&fox).rule, "once");
        assert_eq!(engine.decide(&fox).rule, "rest");
        assert_eq!(
            engine.decide(&talk(vec![Item::User("a cat".into())])).rule,
            ""
        );
    }

    #[test]
    fn the_end_of_the_prompt_tells_a_task_from_its_context() {
        let mut engine =
            engine("rules:\n- when: {prompt_ends: Count words.}\n  steps: [{say: counted}]\n");
        let said = |engine: &mut Engine, prompt: &str| {
            engine.decide(&talk(vec![Item::User(prompt.into())])).rule
        };
        assert_eq!(said(&mut engine, "Context.\n\"Count words.\"\n"), "1");
        assert_eq!(said(&mut engine, "Count words. Then rest."), "");
    }

    #[test]
    fn trouble_lasts_as_often_as_it_was_asked_for() {
        let mut engine = engine("rules:\n- trouble: 2x529\n  steps: [{say: fine}]\n");
        let go = talk(vec![Item::User("go".into())]);
        assert!(engine.decide(&go).trouble.is_some());
        assert!(engine.decide(&go).trouble.is_some());
        assert!(engine.decide(&go).trouble.is_none());
        assert!(engine.scenario("1xcut", &go).expect("known").is_some());
        assert!(engine.scenario("1xcut", &go).expect("known").is_none());
        assert!(engine.scenario("nonsense", &go).is_err());
    }
}
