//! What must be set between the start of a session and the prompt: a mode, a model.

use orchestra_types::{Failure, FailureCode};
use serde_json::{Value, json};

use crate::cli::json::{at, list, text};

/// One request, without its session.
#[derive(Debug)]
pub(super) struct Request {
    pub method: &'static str,
    pub params: Value,
    /// The model that it sets.
    pub model: Option<String>,
}

/// The model that a new session has; empty when it does not say.
pub(super) fn current_model(session: &Value) -> String {
    match text(session, "/models/currentModelId") {
        "" => model_option(session)
            .map_or("", |option| text(option, "/currentValue"))
            .to_owned(),
        model => model.to_owned(),
    }
}

/// What to set in the new session.
pub(super) fn plan(
    mode: Option<&str>,
    model: Option<&str>,
    session: &Value,
) -> Result<Vec<Request>, Failure> {
    let mut plan = Vec::new();
    if let Some(mode) = mode.filter(|mode| needs_mode(mode, session)) {
        plan.push(Request {
            method: "session/set_mode",
            params: json!({ "modeId": mode }),
            model: None,
        });
    }
    if let Some(model) = model {
        plan.push(set_model(model, session)?);
    }
    Ok(plan)
}

fn needs_mode(mode: &str, session: &Value) -> bool {
    let known = list(session, "/modes/availableModes");
    text(session, "/modes/currentModeId") != mode && known.iter().any(|m| text(m, "/id") == mode)
}

/// A name that only one of the offered models has (`Mock-0` for `custom:Mock-0`) is enough.
fn set_model(model: &str, session: &Value) -> Result<Request, Failure> {
    if at(session, "/models").is_object() {
        let offered = list(session, "/models/availableModels");
        let ids: Vec<&str> = offered.iter().map(|m| text(m, "/modelId")).collect();
        let id = pick(model, &ids)?;
        return Ok(Request {
            method: "session/set_model",
            params: json!({ "modelId": id }),
            model: Some(id.to_owned()),
        });
    }
    let Some(option) = model_option(session) else {
        let why = format!("this CLI offers no choice of model, so `{model}` cannot be set");
        return Err(Failure::new(FailureCode::BadRequest, why));
    };
    let offered = list(option, "/options");
    let values: Vec<&str> = offered.iter().map(|o| text(o, "/value")).collect();
    let value = pick(model, &values)?;
    Ok(Request {
        method: "session/set_config_option",
        params: json!({ "configId": text(option, "/id"), "value": value }),
        model: Some(value.to_owned()),
    })
}

fn model_option(session: &Value) -> Option<&Value> {
    let options = list(session, "/configOptions");
    options.iter().find(|o| text(o, "/category") == "model")
}

fn pick<'a>(wanted: &'a str, offered: &[&'a str]) -> Result<&'a str, Failure> {
    if offered.is_empty() || offered.contains(&wanted) {
        return Ok(wanted);
    }
    let ends_so =
        |id: &&&str| id.ends_with(&format!("/{wanted}")) || id.ends_with(&format!(":{wanted}"));
    let mut alike = offered.iter().filter(ends_so);
    match (alike.next(), alike.next()) {
        (Some(id), None) => Ok(id),
        _ => {
            let some: Vec<&str> = offered.iter().take(20).copied().collect();
            let why = format!(
                "there is no model `{wanted}`; offered are {}",
                some.join(", ")
            );
            Err(Failure::new(FailureCode::BadRequest, why))
        }
    }
}
