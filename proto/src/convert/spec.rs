//! Task specifications.

use std::{path::PathBuf, time::Duration};

use orchestra_types::{
    ContextFile, CopiedFile, OnDependencyFailure, Place, Priority, ProjectRef, RunnerName,
    ScheduleId, SetUp, ShellCommand, TaskId, TaskSpec, budget::NOTHING_RUNS, limits, runner::SHELL,
};

use super::{
    Refused, Result, artifact, budget::budget_to_wire, digest, labels, millis, name, optional_name,
    task_id, text, timestamp,
};
use crate::v1;

/// Longest path, model name or similar short text.
const SHORT_TEXT_MAX: usize = 4096;
/// Most bundles in one chain.
const BUNDLES_MAX: usize = 1024;
/// Most arguments of a command.
const ARGS_MAX: usize = 4096;
/// Most runners to fall back on.
const FALLBACK_MAX: usize = 16;
/// Why a command is given no context files.
pub const NO_READER: &str = "is for agents: a command would not see it";

/// The specification of a task that is submitted: the rules of `TryFrom`, and those that hold for
/// new tasks only.
///
/// IMPORTANT: `TryFrom` reads the head's store as well, so it may never become stricter.
///
/// # Errors
/// What is wrong with which field.
pub fn submitted_spec(wire: v1::TaskSpec) -> Result<TaskSpec> {
    let mut spec = TaskSpec::try_from(wire)?;
    // The head says whose run a task is.
    spec.schedule = None;
    let is_for_shell = spec.runner.as_ref().is_some_and(|r| r.as_str() == SHELL);
    if spec.command.is_some() && !is_for_shell {
        return Err(Refused::new("command", "is for the runner `shell` only"));
    }
    if is_for_shell {
        can_be_started(&spec)?;
    }
    if is_for_shell && !spec.context_files.is_empty() {
        return Err(Refused::new("context", NO_READER));
    }
    if spec.budget.has_zero() {
        return Err(Refused::new("budget", NOTHING_RUNS));
    }
    if !spec.fallback.is_empty() && spec.runner.is_none() {
        let why = "needs a first runner (`--agent`); without one any agent may do the task already";
        return Err(Refused::new("fallback", why));
    }
    if spec.fallback.iter().any(|r| r.as_str() == SHELL) {
        return Err(Refused::new("fallback", "names `shell`, which is no agent"));
    }
    Ok(spec)
}

/// A command that no kernel starts is refused at once, not on one worker after another.
fn can_be_started(spec: &TaskSpec) -> Result<()> {
    let words = match &spec.command {
        Some(ShellCommand::Argv(words)) => words.as_slice(),
        Some(ShellCommand::Line(line)) => std::slice::from_ref(line),
        None => std::slice::from_ref(&spec.description),
    };
    if words
        .iter()
        .any(|word| word.len() > limits::ARGUMENT_BYTES_MAX)
    {
        let why = "an argument, or a command line, has 128 KiB or more, and no such program can be started; put what is long into a file of the project";
        return Err(Refused::new("command", why));
    }
    if words.iter().map(String::len).sum::<usize>() > limits::DESCRIPTION_BYTES_MAX {
        let why = "more than 256 KiB of arguments; put what is long into a file of the project";
        return Err(Refused::new("command", why));
    }
    Ok(())
}

impl TryFrom<v1::TaskSpec> for TaskSpec {
    type Error = Refused;

    fn try_from(wire: v1::TaskSpec) -> Result<Self> {
        let priority = priority(wire.priority)?;
        let command = wire.command.map(shell_command).transpose()?;
        Ok(Self {
            description: description(wire.description)?,
            priority,
            runner: optional_name("runner", &wire.runner)?,
            model: (!wire.model.is_empty()).then_some(short("model", wire.model)?),
            after: after(&wire.after)?,
            on_dependency_failure: on_dependency_failure(wire.on_dependency_failure)?,
            start_at: wire.start_at_ms.map(timestamp),
            schedule: (wire.schedule > 0).then_some(ScheduleId(wire.schedule)),
            queue_timeout: wire.queue_timeout_ms.map(queue_timeout).transpose()?,
            stall_timeout: wire.stall_timeout_ms.map(stall_timeout).transpose()?,
            timeout: timeout(wire.timeout_ms)?,
            retries: retries(wire.retries)?,
            ports: wire.ports.map(ports).transpose()?,
            labels: labels("labels", wire.labels)?,
            requires: labels("requires", wire.requires)?,
            context_files: context_files(wire.context_files)?,
            project: wire.project.map(project).transpose()?,
            place: place(wire.place)?,
            set_up: wire.set_up.map(set_up).transpose()?,
            apply: wire.apply,
            command,
            fallback: fallback(&wire.fallback)?,
            budget: wire.budget.map(Into::into).unwrap_or_default(),
            parent: (wire.parent > 0).then_some(TaskId(wire.parent)),
            submitter: short("submitter", wire.submitter)?,
            traceparent: traceparent(wire.traceparent),
        })
    }
}

impl From<TaskSpec> for v1::TaskSpec {
    fn from(spec: TaskSpec) -> Self {
        Self {
            description: spec.description,
            priority: v1::Priority::from(spec.priority).into(),
            runner: spec.runner.map(|r| r.to_string()).unwrap_or_default(),
            model: spec.model.unwrap_or_default(),
            after: spec.after.into_iter().map(|id| id.0).collect(),
            on_dependency_failure: v1::OnDependencyFailure::from(spec.on_dependency_failure).into(),
            start_at_ms: spec.start_at.map(|at| at.0),
            schedule: spec.schedule.map_or(0, |id| id.0),
            queue_timeout_ms: spec.queue_timeout.map(millis),
            stall_timeout_ms: spec.stall_timeout.map(millis),
            timeout_ms: millis(spec.timeout),
            retries: spec.retries,
            ports: spec.ports,
            labels: spec.labels,
            requires: spec.requires,
            context_files: spec.context_files.into_iter().map(Into::into).collect(),
            project: spec.project.map(Into::into),
            place: Some(spec.place.into()),
            set_up: spec.set_up.map(Into::into),
            apply: spec.apply,
            command: spec.command.map(Into::into),
            submitter: spec.submitter,
            traceparent: spec.traceparent,
            fallback: spec.fallback.iter().map(ToString::to_string).collect(),
            budget: budget_to_wire(spec.budget),
            parent: spec.parent.map_or(0, |id| id.0),
        }
    }
}

impl From<Priority> for v1::Priority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Low => Self::Low,
            Priority::Normal => Self::Normal,
            Priority::High => Self::High,
        }
    }
}

impl From<OnDependencyFailure> for v1::OnDependencyFailure {
    fn from(choice: OnDependencyFailure) -> Self {
        match choice {
            OnDependencyFailure::Block => Self::Block,
            OnDependencyFailure::Cancel => Self::Cancel,
            OnDependencyFailure::Run => Self::Run,
        }
    }
}

/// A duration that may be absent, which the store says by 0.
#[must_use]
pub fn optional_duration(wire_ms: u64) -> Option<Duration> {
    (wire_ms > 0).then_some(Duration::from_millis(wire_ms))
}

impl From<ContextFile> for v1::ContextFile {
    fn from(file: ContextFile) -> Self {
        Self {
            name: file.name,
            content: Some(file.content.into()),
        }
    }
}

impl From<ProjectRef> for v1::ProjectRef {
    fn from(project: ProjectRef) -> Self {
        Self {
            id: project.id.to_string(),
            name: project.name,
            dir: project.dir.to_string_lossy().into_owned(),
            machine: project.machine.to_string(),
        }
    }
}

impl From<Place> for v1::Place {
    fn from(place: Place) -> Self {
        let place = match place {
            Place::Repository {
                commit,
                head,
                branch,
                bundles,
                ignore_rules,
            } => v1::place::Place::Repository(v1::place::Repository {
                commit,
                head,
                branch,
                bundles: bundles.into_iter().map(|d| d.0.to_vec()).collect(),
                ignore_rules,
            }),
            Place::InPlace { dir, machine } => v1::place::Place::InPlace(v1::place::InPlace {
                dir: dir.to_string_lossy().into_owned(),
                machine: machine.to_string(),
            }),
            Place::Empty => v1::place::Place::Empty(v1::place::Empty {}),
        };
        Self { place: Some(place) }
    }
}

impl From<ShellCommand> for v1::ShellCommand {
    fn from(command: ShellCommand) -> Self {
        let command = match command {
            ShellCommand::Line(line) => v1::shell_command::Command::Line(line),
            ShellCommand::Argv(args) => {
                v1::shell_command::Command::Argv(v1::shell_command::Argv { args })
            }
        };
        Self {
            command: Some(command),
        }
    }
}

fn description(wire: String) -> Result<String> {
    if wire.trim().is_empty() {
        return Err(Refused::new(
            "description",
            "is empty; say what the agent shall do",
        ));
    }
    if wire.len() > limits::DESCRIPTION_BYTES_MAX {
        let why = format!(
            "{} bytes, the limit is {} (256 KiB); put long text into a file and add it as context",
            wire.len(),
            limits::DESCRIPTION_BYTES_MAX
        );
        return Err(Refused::new("description", why));
    }
    if wire.contains('\0') {
        return Err(Refused::new("description", "contains a NUL character"));
    }
    Ok(wire)
}

/// Reads a priority; normal when none is named.
pub fn priority(wire: i32) -> Result<Priority> {
    let unknown = |_| Refused::new("priority", format!("unknown priority {wire}"));
    Ok(match v1::Priority::try_from(wire).map_err(unknown)? {
        v1::Priority::Unspecified | v1::Priority::Normal => Priority::Normal,
        v1::Priority::Low => Priority::Low,
        v1::Priority::High => Priority::High,
    })
}

fn fallback(wire: &[String]) -> Result<Vec<RunnerName>> {
    if wire.len() > FALLBACK_MAX {
        return Err(Refused::new("fallback", "more than 16 runners"));
    }
    wire.iter().map(|text| name("fallback", text)).collect()
}

fn after(wire: &[u64]) -> Result<Vec<TaskId>> {
    if wire.len() > limits::AFTER_MAX {
        return Err(Refused::new(
            "after",
            format!("more than {} tasks", limits::AFTER_MAX),
        ));
    }
    wire.iter().map(|id| task_id("after", *id)).collect()
}

fn timeout(wire_ms: u64) -> Result<Duration> {
    let timeout = Duration::from_millis(wire_ms);
    if timeout.is_zero() || timeout > limits::TIMEOUT_MAX {
        return Err(Refused::new(
            "timeout",
            "must be more than zero and at most 30 days",
        ));
    }
    Ok(timeout)
}

/// Reads what becomes of a task when one before it does not succeed.
pub fn on_dependency_failure(wire: i32) -> Result<OnDependencyFailure> {
    let unknown = |_| Refused::new("on_dependency_failure", format!("unknown choice {wire}"));
    Ok(
        match v1::OnDependencyFailure::try_from(wire).map_err(unknown)? {
            v1::OnDependencyFailure::Unspecified | v1::OnDependencyFailure::Block => {
                OnDependencyFailure::Block
            }
            v1::OnDependencyFailure::Cancel => OnDependencyFailure::Cancel,
            v1::OnDependencyFailure::Run => OnDependencyFailure::Run,
        },
    )
}

fn queue_timeout(wire_ms: u64) -> Result<Duration> {
    let timeout = Duration::from_millis(wire_ms);
    if timeout.is_zero() || timeout > limits::QUEUE_TIMEOUT_MAX {
        return Err(Refused::new(
            "queue_timeout",
            "must be more than zero and at most 366 days",
        ));
    }
    Ok(timeout)
}

fn stall_timeout(wire_ms: u64) -> Result<Duration> {
    let allowed = limits::STALL_TIMEOUT_MIN..=limits::TIMEOUT_MAX;
    let timeout = Duration::from_millis(wire_ms);
    if !allowed.contains(&timeout) {
        return Err(Refused::new("stall_timeout", "must be 10 s to 30 days"));
    }
    Ok(timeout)
}

fn retries(wire: u32) -> Result<u32> {
    if wire > limits::RETRIES_MAX {
        return Err(Refused::new(
            "retries",
            format!("at most {}", limits::RETRIES_MAX),
        ));
    }
    Ok(wire)
}

fn ports(wire: u32) -> Result<u32> {
    match wire {
        0..=limits::PORTS_MAX => Ok(wire),
        _ => Err(Refused::new(
            "ports",
            format!("at most {}", limits::PORTS_MAX),
        )),
    }
}

fn context_files(wire: Vec<v1::ContextFile>) -> Result<Vec<ContextFile>> {
    if wire.len() > limits::CONTEXT_FILES_MAX {
        let why = format!("more than {} files", limits::CONTEXT_FILES_MAX);
        return Err(Refused::new("context_files", why));
    }
    wire.into_iter().map(context_file).collect()
}

fn context_file(wire: v1::ContextFile) -> Result<ContextFile> {
    let content = artifact("context_files", wire.content)?;
    if content.size > limits::CONTEXT_FILE_BYTES_MAX {
        return Err(Refused::new(
            "context_files",
            "a file is larger than 16 MiB",
        ));
    }
    Ok(ContextFile {
        name: short("context_files", wire.name)?,
        content,
    })
}

fn set_up(wire: v1::SetUp) -> Result<SetUp> {
    let refused = |why: &str| Err(Refused::new("set_up", why));
    if wire.command.len() > limits::SET_UP_COMMAND_BYTES_MAX || wire.command.contains('\0') {
        return refused("the command is larger than 16 KiB, or contains a NUL character");
    }
    let timeout = Duration::from_millis(wire.timeout_ms);
    if timeout.is_zero() || timeout > limits::TIMEOUT_MAX {
        return refused("the timeout must be more than zero and at most 30 days");
    }
    let files: Vec<CopiedFile> = wire
        .files
        .into_iter()
        .take(limits::COPIED_FILES_MAX + 1)
        .map(copied_file)
        .collect::<Result<_>>()?;
    let bytes: u64 = files
        .iter()
        .fold(0, |sum, file| sum.saturating_add(file.content.size));
    if files.len() > limits::COPIED_FILES_MAX || bytes > limits::COPIED_BYTES_MAX {
        return refused("more than 100 files, or more than 16 MiB of them");
    }
    Ok(SetUp {
        command: wire.command,
        timeout,
        files,
    })
}

fn copied_file(wire: v1::set_up::File) -> Result<CopiedFile> {
    let path = short("set_up", wire.path)?;
    let is_plain =
        |part: &str| !matches!(part, "" | "." | "..") && !part.eq_ignore_ascii_case(".git");
    if !path.split('/').all(is_plain) {
        return Err(Refused::new(
            "set_up",
            "a path does not stay below the repository",
        ));
    }
    Ok(CopiedFile {
        path,
        executable: wire.executable,
        content: artifact("set_up", wire.content)?,
    })
}

impl From<SetUp> for v1::SetUp {
    fn from(set_up: SetUp) -> Self {
        let file = |file: CopiedFile| v1::set_up::File {
            path: file.path,
            executable: file.executable,
            content: Some(file.content.into()),
        };
        Self {
            command: set_up.command,
            timeout_ms: millis(set_up.timeout),
            files: set_up.files.into_iter().map(file).collect(),
        }
    }
}

fn project(wire: v1::ProjectRef) -> Result<ProjectRef> {
    Ok(ProjectRef {
        id: name("project", &wire.id)?,
        name: short("project", wire.name)?,
        dir: absolute("project", wire.dir)?,
        machine: name("project", &wire.machine)?,
    })
}

fn place(wire: Option<v1::Place>) -> Result<Place> {
    let place = wire
        .and_then(|p| p.place)
        .ok_or_else(|| Refused::new("place", "is missing"))?;
    match place {
        v1::place::Place::Repository(repository) => repository_place(repository),
        v1::place::Place::InPlace(in_place) => Ok(Place::InPlace {
            dir: absolute("place", in_place.dir)?,
            machine: name("place", &in_place.machine)?,
        }),
        v1::place::Place::Empty(v1::place::Empty {}) => Ok(Place::Empty),
    }
}

fn repository_place(wire: v1::place::Repository) -> Result<Place> {
    if wire.bundles.is_empty() || wire.bundles.len() > BUNDLES_MAX {
        return Err(Refused::new("place", "a repository has 1 to 1024 bundles"));
    }
    if !wire.head.is_empty() {
        object_id(&wire.head)?;
    }
    object_id(&wire.commit)?;
    if wire.ignore_rules.len() > limits::IGNORE_RULES_BYTES_MAX {
        return Err(Refused::new(
            "place",
            "its ignore rules are longer than 16 KiB",
        ));
    }
    Ok(Place::Repository {
        commit: wire.commit,
        head: wire.head,
        branch: short("place", wire.branch)?,
        bundles: wire
            .bundles
            .iter()
            .map(|b| digest("place", b))
            .collect::<Result<_>>()?,
        ignore_rules: wire.ignore_rules,
    })
}

/// A git object id: never something that git could take for an option or a ref.
fn object_id(text: &str) -> Result<()> {
    let hex = text
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if hex && matches!(text.len(), 40 | 64) {
        return Ok(());
    }
    Err(Refused::new(
        "place",
        "a commit has 40 or 64 lower-case hex digits",
    ))
}

fn shell_command(wire: v1::ShellCommand) -> Result<ShellCommand> {
    let refused = |why: &str| Refused::new("command", why);
    match wire.command.ok_or_else(|| refused("is missing"))? {
        v1::shell_command::Command::Line(line) => {
            if line.contains('\0') {
                return Err(refused("contains a NUL character"));
            }
            Ok(ShellCommand::Line(text(
                "command",
                line,
                limits::DESCRIPTION_BYTES_MAX,
            )?))
        }
        v1::shell_command::Command::Argv(argv) => {
            if argv.args.is_empty() || argv.args.len() > ARGS_MAX {
                return Err(refused("has 1 to 4096 arguments"));
            }
            if argv.args.iter().any(|a| a.contains('\0')) {
                return Err(refused("contains a NUL character"));
            }
            Ok(ShellCommand::Argv(argv.args))
        }
    }
}

fn absolute(field: &'static str, wire: String) -> Result<PathBuf> {
    let path = PathBuf::from(short(field, wire)?);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(Refused::new(field, "must be an absolute path"))
    }
}

fn short(field: &'static str, wire: String) -> Result<String> {
    if wire.chars().any(|c| c == '\0' || c == '\n') {
        return Err(Refused::new(
            field,
            "contains a NUL character or a line break",
        ));
    }
    text(field, wire, SHORT_TEXT_MAX)
}

/// A `traceparent` of the wrong form is dropped: tracing never refuses work.
fn traceparent(wire: String) -> String {
    let valid = wire.len() == 55 && wire.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if valid { wire } else { String::new() }
}
