//! Numbers with a unit that both sides of a connection must agree on.

use std::time::Duration;

/// Longest task description: 256 KiB. Longer text goes into a context file.
pub const DESCRIPTION_BYTES_MAX: usize = 256 * 1024;
/// Longest argument of a command, a command line included: one byte less than the 128 KiB at which Linux
/// refuses to start a program (`MAX_ARG_STRLEN`; the byte ends the text).
pub const ARGUMENT_BYTES_MAX: usize = 128 * 1024 - 1;
/// Longest name: runner, project, worker, label key.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest label value.
pub const LABEL_VALUE_BYTES_MAX: usize = 256;
/// Most labels on one task or worker.
pub const LABELS_MAX: usize = 64;
/// Most tasks that one task may come after.
pub const AFTER_MAX: usize = 1024;
/// Most context files of one task.
pub const CONTEXT_FILES_MAX: usize = 64;
/// Largest context file: 16 MiB.
pub const CONTEXT_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most tasks in one submission.
pub const SUBMIT_TASKS_MAX: usize = 100_000;
/// Most tasks that one call cancels, or tries again: their answers must fit into a message.
pub const CHANGE_TASKS_MAX: usize = 100;
/// Most retries of one task.
pub const RETRIES_MAX: u32 = 100;
/// Longest timeout of one attempt: 30 days.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest time that a task may be told to wait for a worker: 366 days.
pub const QUEUE_TIMEOUT_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Shortest silence for which an attempt may be stopped.
pub const STALL_TIMEOUT_MIN: Duration = Duration::from_secs(10);
/// Shortest time between two runs of a recurring task.
pub const EVERY_MIN: Duration = Duration::from_secs(1);
/// Longest time between two runs of a recurring task: 366 days.
pub const EVERY_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Most recurring tasks.
pub const SCHEDULES_MAX: usize = 1000;
/// How often at most the events of one attempt count as a sign of life of its agent.
pub const ACTIVITY_EVERY: Duration = Duration::from_secs(2);
/// Largest artifact: 8 GiB.
pub const ARTIFACT_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// Size of one chunk of an artifact on the wire: 64 KiB.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Largest text in one event: 64 KiB; what is longer is cut and says so.
pub const EVENT_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Largest raw line kept beside an event: 32 KiB; the whole line is in the raw log.
pub const EVENT_RAW_BYTES_MAX: usize = 32 * 1024;
/// Most events in one batch.
pub const EVENT_BATCH_MAX: usize = 512;
/// Largest final text carried inside an outcome: 16 KiB; the whole text is an artifact.
pub const OUTCOME_TEXT_BYTES_MAX: usize = 16 * 1024;
/// Longest text about a limit of an account: 2 KiB.
pub const LIMITED_TEXT_BYTES_MAX: usize = 2 * 1024;
/// How often a worker says what running attempts have used.
pub const METER_EVERY: Duration = Duration::from_secs(1);
/// Most bytes of what a running attempt is said to have changed so far: 128 KiB; a warning says how
/// many files are not listed.
pub const INTERIM_BYTES_MAX: usize = 128 * 1024;
/// Most attempts in one message about what they used.
pub const METERS_MAX: usize = 1024;
/// Most removals that a worker lists when it tells what nobody needs any more.
pub const REMOVALS_MAX: usize = 1000;
/// Longest path in such a list, in bytes; a longer one is cut.
pub const REMOVAL_PATH_BYTES_MAX: usize = 4096;
/// Most tasks above a subtask.
pub const PARENTS_MAX: usize = 32;
/// The shortest beginning of a project's id that is taken for it: a name that does not exist is not to
/// hit a project by chance.
pub const PROJECT_PREFIX_MIN: usize = 8;
/// Most files in one manifest.
pub const MANIFEST_ENTRIES_MAX: usize = 200_000;
/// Largest gRPC message of the control and admin services: 8 MiB.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest submission, in all of its parts: 256 MiB.
pub const SUBMIT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Most files that a set-up may put into an attempt's clone.
pub const COPIED_FILES_MAX: usize = 100;
/// Most bytes of them together: 16 MiB.
pub const COPIED_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most bytes of the ignore rules that a user has beside those in the repository: 16 KiB.
pub const IGNORE_RULES_BYTES_MAX: usize = 16 * 1024;
/// Longest command of a set-up: 16 KiB.
pub const SET_UP_COMMAND_BYTES_MAX: usize = 16 * 1024;
/// Most ports of its own that an attempt may have.
pub const PORTS_MAX: u32 = 16;
/// Longest idempotency key of a submission.
pub const KEY_BYTES_MAX: usize = 128;
/// How much of a submission ctl puts into one part: 1 MiB.
pub const SUBMIT_PART_BYTES: usize = 1024 * 1024;
/// How often a worker sends a heartbeat at least; six times in a lease if that is more often.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// How long after the last heartbeat a worker still holds its attempts, if nobody says otherwise.
pub const LEASE: Duration = Duration::from_secs(30);
/// How much longer the head waits before it runs a lost attempt again, for clocks that drift.
pub const LEASE_GRACE: Duration = Duration::from_secs(15);
/// HTTP/2 keepalive ping interval, also while idle.
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// How long a keepalive ping may stay without answer.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a join token may be used.
pub const TOKEN_TTL: Duration = Duration::from_secs(3600);
/// Longest life of a join token: one that lives longer is a password.
pub const TOKEN_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long the stop ladder waits between its rungs.
pub const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long agents may take to end when their worker stops, if nobody says otherwise: the three rungs
/// of the ladder.
pub const STOP_WITHIN: Duration = Duration::from_secs(3 * STOP_GRACE.as_secs());

/// The end of a text that was cut.
pub const CUT_MARK: &str = "…[cut]";

/// `text` cut to at most `max` bytes on a character boundary, with a mark where it was cut.
#[must_use]
pub fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let keep = text.floor_char_boundary(max.saturating_sub(CUT_MARK.len()));
    format!("{}{CUT_MARK}", &text[..keep])
}

/// The beginning of a text of which only the end is left.
pub const CUT_FRONT_MARK: &str = "[cut]…\n";
/// How far behind the cut the next line may begin.
const LINE_BYTES_MAX: usize = 1024;

/// The last `max` bytes of `text` at most, from the beginning of a line where one is near, with a mark where it
/// was cut.
#[must_use]
pub fn cut_front(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let from = text.len() - max.saturating_sub(CUT_FRONT_MARK.len()).min(text.len());
    let mut rest = &text[text.ceil_char_boundary(from)..];
    let line = rest.find('\n').filter(|end| *end < LINE_BYTES_MAX);
    if let Some(end) = line.filter(|end| end + 1 < rest.len()) {
        rest = &rest[end + 1..];
    }
    format!("{CUT_FRONT_MARK}{rest}")
}

#[cfg(test)]
mod tests {
    use super::{cut, cut_front};

    #[test]
    fn the_end_of_a_text_begins_with_a_line_and_says_that_it_is_the_end() {
        let lines: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        let end = cut_front(&lines, 100);
        assert!(end.len() <= 100 && end.ends_with("line 999\n"), "{end}");
        assert!(end.starts_with("[cut]…\nline 9"), "{end}");
        assert_eq!(cut_front(&end, 100), end);
        let one = cut_front(&"é".repeat(100), 50);
        assert!(one.len() <= 50 && one.ends_with('é'), "{one}");
        assert_eq!(cut_front("short", 50), "short");
    }

    #[test]
    fn a_cut_text_is_within_the_limit_and_whole_characters() {
        let text = "é".repeat(100);
        let short = cut(&text, 50);
        assert!(short.len() <= 50 && short.ends_with("[cut]"));
        assert_eq!(cut("short", 50), "short");
    }
}
