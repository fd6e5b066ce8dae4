//! Tells a person that the clock of the start is not believed.

use orchestra_core::Doubt;

const DAY_S: u64 = 24 * 3600;

/// Says once why nothing goes for its age, as tasks and events have found it.
pub fn warn(tasks: Option<Doubt>, events: Option<Doubt>) {
    let (doubt, newest) = match (tasks, events) {
        (Some(doubt), _) => (doubt, "task"),
        (None, Some(doubt)) => (doubt, "event of a task"),
        (None, None) => return,
    };
    let days = doubt.ahead.as_secs() / DAY_S;
    tracing::warn!(
        until_ms = doubt.until.0,
        "the clock is {days} days ahead of the newest {newest}; is it right? Nothing is removed for its \
         age in the first 24 h from here on; where the clock is wrong, set it and start the head again"
    );
}
