//! The loop of one agent: ask the model, do what it calls, until it answers without a call.

use std::{path::Path, pin::Pin};

use serde_json::{Value, json};

use crate::{
    args::Settings,
    chat::{Message, Question, Reply, Stop, ToolCall, ToolOutcome, ToolSpec},
    events::{Events, ToolStatus},
    failure::{Code, Failure},
    instructions::{Role, system_prompt},
    provider::Client,
    tools::{self, Done, Toolbox},
};

/// What all agents of a run share.
pub struct World<'a> {
    /// How they are set up.
    pub settings: &'a Settings,
    /// The model service.
    pub client: &'a Client,
    /// The working directory, absolute and without links.
    pub root: &'a Path,
}

/// One agent with its own conversation.
struct Agent<'a> {
    world: &'a World<'a>,
    events: Events,
    role: Role,
    system: String,
    tools: Vec<ToolSpec>,
    messages: Vec<Message>,
}

/// What follows from an answer.
enum Next {
    Continue,
    Finished(String),
}

/// Runs an agent on a prompt; its final text.
pub async fn run(
    world: &World<'_>,
    events: Events,
    role: Role,
    prompt: String,
) -> Result<String, Failure> {
    let mut agent = Agent {
        world,
        events,
        role,
        system: system_prompt(world.root, role),
        tools: tools::specs(role),
        messages: vec![Message::User(prompt)],
    };
    for number in 1..=world.settings.max_turns {
        match agent.turn(number).await? {
            Next::Finished(text) => return Ok(text),
            Next::Continue => {}
        }
    }
    let limit = world.settings.max_turns;
    let message = format!("no end after {limit} model calls; allow more with --max-turns");
    Err(Failure::new(Code::AgentFailed, message))
}

impl Agent<'_> {
    async fn turn(&mut self, number: u64) -> Result<Next, Failure> {
        if self.events.is_broken() {
            return Err(Failure::new(Code::Internal, "nobody reads the events"));
        }
        self.events.turn(number);
        let question = Question {
            system: &self.system,
            messages: &self.messages,
            tools: &self.tools,
        };
        let reply = self.world.client.ask(&question, &self.events).await?;
        self.events.used(reply.usage);
        self.on_reply(reply).await
    }

    async fn on_reply(&mut self, reply: Reply) -> Result<Next, Failure> {
        match (reply.stop, reply.calls.is_empty()) {
            (Stop::Refused, _) => {
                let said = if reply.text.is_empty() {
                    "it gave no reason"
                } else {
                    &reply.text
                };
                let message = format!("the model refused the request: {said}");
                Err(Failure::new(Code::Refused, message))
            }
            (Stop::Length, true) => {
                let message = "the model's answer was cut at its limit of tokens; allow more with \
                               --max-tokens";
                Err(Failure::new(Code::AgentFailed, message))
            }
            (Stop::Complete, true) => Ok(Next::Finished(reply.text)),
            (Stop::Complete | Stop::Length, false) => {
                let calls = reply.calls.clone();
                self.messages.push(Message::Assistant(reply));
                let outcomes = self.call_all(&calls).await;
                self.messages.push(Message::Results(outcomes));
                Ok(Next::Continue)
            }
        }
    }

    async fn call_all(&self, calls: &[ToolCall]) -> Vec<ToolOutcome> {
        let mut outcomes = Vec::new();
        for call in calls {
            outcomes.push(self.call(call).await);
        }
        outcomes
    }

    async fn call(&self, call: &ToolCall) -> ToolOutcome {
        let shown = call
            .args
            .clone()
            .unwrap_or_else(|text| json!({ "not_json": text }));
        self.events.tool_call(&call.id, &call.tool, &shown);
        let done = match &call.args {
            Ok(args) => self.dispatch(call, args).await,
            Err(text) => Err(format!("the arguments are not a JSON object: {text}")),
        };
        let (output, status) = match done {
            Ok(output) => (output, ToolStatus::Ok),
            Err(problem) => (problem, ToolStatus::Error),
        };
        self.events.tool_result(&call.id, status, &output);
        ToolOutcome {
            id: call.id.clone(),
            output,
            failed: status == ToolStatus::Error,
        }
    }

    async fn dispatch(&self, call: &ToolCall, args: &Value) -> Done {
        if call.tool == tools::TASK && self.role == Role::Main {
            let prompt = tools::text(args, "prompt")?;
            return self.child(&call.id, prompt.to_owned()).await;
        }
        let toolbox = Toolbox {
            root: self.world.root,
            events: &self.events,
            command_timeout: self.world.settings.command_timeout,
        };
        toolbox.call(&call.tool, args).await
    }

    /// A child agent: a fresh conversation of which only the final text comes back.
    fn child(&self, id: &str, prompt: String) -> Pin<Box<dyn Future<Output = Done> + '_>> {
        let events = self.events.child(id);
        Box::pin(async move {
            match run(self.world, events.clone(), Role::Child, prompt).await {
                Ok(text) => {
                    events.result(&text);
                    Ok(text)
                }
                Err(failure) => {
                    events.error(&failure);
                    Err(format!("the child agent failed: {}", failure.message))
                }
            }
        })
    }
}
