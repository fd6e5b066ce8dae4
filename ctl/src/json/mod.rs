//! The documents of `--json`: a stable contract (`docs/json.md`), and the one view of the wire
//! that text output is made from as well, so that both always say the same.

pub mod account;
pub mod attempt;
pub mod budget;
pub mod event;
pub mod fleet;
pub mod manifest;
pub mod task;
pub mod time;
pub mod token;

use serde_json::{Value, json};

use crate::{error::Error, ui::again::Again};

/// The document of an error, on standard error.
pub fn error(error: &Error, again: Again) -> Value {
    json!({
        "error": {
            "code": error.exit().as_str(),
            "exit_code": error.exit().code(),
            "task": error.task(),
            "message": again.spell(&error.chain()),
            "hint": error.next_step(again),
        }
    })
}

/// An empty text of the wire means that there is none.
pub(crate) fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// What a peer sent that does not make sense.
pub fn refused(refused: orchestra_proto::Refused) -> Error {
    Error::failed("the head sent an answer that this ctl does not understand")
        .because(refused)
        .hint("ctl and head may have different versions: compare `ctl --version` and `ctl status`")
}

/// The names of an object that no code in this text of `docs/json.md` has.
#[cfg(test)]
pub fn undocumented(text: &str, object: &Value) -> Vec<String> {
    let code = text
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let named: std::collections::BTreeSet<&str> = code.flat_map(|code| code.split(' ')).collect();
    let names = object.as_object().into_iter().flatten();
    let lacking = names.filter(|(name, _)| !named.contains(&***name));
    lacking.map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use orchestra_types::TaskId;

    #[test]
    fn an_error_document_has_code_number_task_message_and_hint() {
        let none =
            Error::new(Exit::NotFound, "there is no task_009").hint("`ctl tasks` lists them");
        let shown = error(
            &none.about(TaskId(9)).about(TaskId(1)),
            Again::in_state("/s".as_ref()),
        );
        assert_eq!(
            shown.to_string(),
            r#"{"error":{"code":"not_found","exit_code":4,"task":"task_009","message":"there is no task_009","hint":"`ctl --state /s tasks` lists them"}}"#
        );
        let away = Error::new(Exit::HeadNotRunning, "it is away").about(TaskId(9));
        assert!(error(&away, Again::default())["error"]["task"].is_null());
    }
}
