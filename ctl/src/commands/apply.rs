//! `ctl apply`.

use std::path::{Path, PathBuf};

use orchestra_repo::{Checkout, OwnBranch};
use orchestra_types::{TaskId, shell};
use serde_json::{Value, json};

use crate::{
    app::App,
    apply::{self, Applied, Beside, Done, How, Joining},
    blocking::blocking,
    client::Client,
    commands::each_once,
    error::{Error, Result, heard_or_not, or_untold},
    exit::Exit,
    json::task::Task,
    left_out,
    ui::{
        Ui,
        detail::ids,
        style::{Line, Style},
        time::counted,
    },
    warned,
};

/// Put the changes of tasks into your checkout
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Three-way where your files have changed since. Uncommitted edits that the task did not start from are
never written over: then nothing is touched, the files are named, and the exit code is 5. What earlier
applies left in a file, and nobody edited since, is merged with: tasks that ran side by side can be
applied one after the other, with no commit between. Where they conflict, the task is named. What an
earlier attempt of the task left there becomes what the later one made of it. Index, HEAD and your
branches stay as they are; the change is also the branch orchestra/TASK, or with --branch=NAME only a
new branch NAME. A bundle that is not what `ctl diff` and `ctl files` show is refused, and nothing is
touched (exit code 5). Changes of earlier tasks that this one is built on come along where they are not
there yet. What the agent left on a branch, in a work tree or in a stash of its own is a branch
orchestra/TASK-ATTEMPT-NAME.

Examples:
  ctl diff task_001 && ctl apply task_001
  ctl apply task_001 2 3             # in this order, up to the first conflict
  ctl diff task_002 | git apply -R   # takes one of them back, at the top of the repository
  ctl apply task_001 --branch && git merge orchestra/task_001
  ctl apply task_001 --branch=fix/login && git switch fix/login")]
pub struct Args {
    /// The tasks, as task_001 or 1: one after the other, up to the first that cannot be applied
    #[arg(value_name = "TASK", required = true)]
    tasks: Vec<TaskId>,
    /// Only make a branch; no file changes. It is orchestra/TASK, or a new one of this name
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, value_hint = clap::ValueHint::Other)]
    branch: Option<Option<OwnBranch>>,
    /// The checkout. Default: the current directory's where it is one of the task's project, else the one
    /// that the task came from
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    repo: Option<PathBuf>,
}

/// Applies the changes.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let named = each_once(args.tasks.clone());
    if let (Some(Some(name)), [_, _, ..]) = (&args.branch, named.as_slice()) {
        let why = format!("one branch `{name}` cannot have the changes of several tasks");
        let hint =
            "make one for each, or leave out the name: --branch makes orchestra/TASK of each";
        return Err(Error::usage(why).hint(hint));
    }
    let client = app.connect().await?;
    let mut done = Vec::new();
    let mut stopped = None;
    for (at, id) in named.iter().enumerate() {
        match one(app, &client, *id, &args).await {
            Ok(made) => done.push(made),
            // It was applied, and nobody can be told what of the others would be.
            Err(error) if error.exit() == Exit::Untold => return Err(error.about(*id)),
            Err(error) => {
                stopped = Some(error.about(*id));
                break;
            }
        }
        if at + 1 < named.len() {
            app.writing.end_part();
        }
    }
    let left = &named[done.len()..];
    if app.ui.is_json() {
        let words = done.iter().map(|(task, made)| in_words(task.id, made));
        let words = words.collect::<Vec<_>>().join("; ");
        let mut left_out = Vec::new();
        for (task, _) in &done {
            left_out.push(left_out::all(&client, task).await);
        }
        if let Some(document) = documents(&done, &left_out, left, named.len()) {
            let told = heard_or_not(app.ui.document(&document));
            // Where nothing was done, why not is what there is to say.
            if !done.is_empty() {
                or_untold(told, || words)?;
            }
        }
    } else {
        for next in steps(done.iter().map(|(_, applied)| applied)).await? {
            app.ui.next(format!("next: {next}"));
        }
        if let (Some(text), true) = (stopped_at(&named, done.len()), stopped.is_some()) {
            app.ui.warn(text);
        }
    }
    match stopped {
        None => Ok(Exit::Ok),
        Some(error) if error.exit() == Exit::Interrupted && !done.is_empty() => Err(interrupted()),
        Some(error) => Err(error),
    }
}

/// Between two of several tasks.
pub fn interrupted() -> Error {
    Error::new(
        Exit::Interrupted,
        "interrupted; the tasks that came before are applied, the others are not",
    )
}

/// Applies the change of one task, and says so to a person.
async fn one(app: &App, client: &Client, id: TaskId, args: &Args) -> Result<(Task, Applied)> {
    let task = client.task(id).await?;
    let how = match &args.branch {
        None => How::WorkTree,
        Some(None) => How::Branch,
        Some(Some(name)) => How::BranchAs(name.clone()),
    };
    let applied = apply::apply(app, client, &task, args.repo.as_deref(), how).await?;
    if let Applied::Change(done) = &applied
        && let Some(why) = &done.left_alone
    {
        app.ui.warn(format!("there is no branch of it: {why}"));
    }
    if let Applied::Change(done) = &applied
        && let Some(words) = apply::bits::words(&done.unseen)
    {
        app.ui.warn(words);
    }
    if let Applied::Change(done) = &applied
        && let Some(number) = done.replaced
    {
        app.ui.warn(format!(
            "attempt {number} of {id} was there, though nothing had applied it: this one took its place"
        ));
    }
    let beside = match &applied {
        Applied::Change(done) => &done.beside,
        Applied::Nothing(beside) => beside,
    };
    beside
        .left_alone
        .iter()
        .for_each(|why| app.ui.warn(why.clone()));
    if !app.ui.is_json() {
        if args.tasks.len() > 1 {
            heard_or_not(app.ui.line(&Line::of(Style::Bold, format!("{id}:"))))?;
        }
        let told = heard_or_not(show(&app.ui, &task, &applied));
        or_untold(told, || in_words(task.id, &applied))?;
    }
    warned::say(app, client, &task).await;
    Ok((task, applied))
}

/// Which of several were applied, and which were not.
fn stopped_at(named: &[TaskId], done: usize) -> Option<String> {
    let (before, left) = named.split_at(done);
    let (at, after) = left.split_first()?;
    let before = match before {
        [] => "none of them is applied".to_owned(),
        before => format!("applied before it: {}", ids(before)),
    };
    match (named, after) {
        ([_], _) => None,
        (_, []) => Some(format!("{at} is not applied; {before}")),
        (_, after) => Some(format!(
            "{at} is not applied; {before}; not tried: {}",
            ids(after)
        )),
    }
}

/// What was done.
fn in_words(id: TaskId, applied: &Applied) -> String {
    match applied {
        Applied::Change(done) => match (&done.branch, done.files) {
            (Some(branch), None) => format!("the change of {id} is the branch {branch}"),
            (_, _) => format!("the change of {id} is in `{}`", done.checkout.display()),
        },
        Applied::Nothing(beside) => unchanged(id, beside),
    }
}

fn show(ui: &Ui, task: &Task, applied: &Applied) -> Result<()> {
    match applied {
        Applied::Change(done) => {
            tell(ui, done)?;
            tell_with(ui, task.id, &done.with)?;
            tell_beside(ui, &done.beside)
        }
        Applied::Nothing(beside) => {
            tell_beside(ui, beside)?;
            ui.next(unchanged(task.id, beside));
            Ok(())
        }
    }
}

/// The commands that go on from there, each once. Where git's status is looked at, its diff adds nothing.
async fn steps(applied: impl Iterator<Item = &Applied>) -> Result<Vec<String>> {
    let mut steps: Vec<String> = Vec::new();
    for applied in applied {
        let Applied::Change(done) = applied else {
            continue;
        };
        let Some(next) = next(done) else {
            continue;
        };
        let git = git_for(done.checkout.clone()).await?;
        let first = match done.unmergeable {
            true => "commit or stash what is not committed, then ",
            false => "",
        };
        steps.push(format!("{first}{git} {next}"));
    }
    Ok(each_step_once(steps))
}

fn each_step_once(steps: Vec<String>) -> Vec<String> {
    let mut once: Vec<String> = Vec::new();
    for step in &steps {
        let whole = step
            .strip_suffix(" diff")
            .map(|git| format!("{git} status"));
        let is_said = once.contains(step) || whole.is_some_and(|whole| steps.contains(&whole));
        if !is_said {
            once.push(step.clone());
        }
    }
    once
}

/// `ctl apply --json`: of one task what became of it, if it was applied; of several those that were and those
/// that were not.
fn documents(
    done: &[(Task, Applied)],
    left_out: &[Vec<TaskId>],
    left: &[TaskId],
    named: usize,
) -> Option<Value> {
    let each = done.iter().zip(left_out);
    let mut each = each.map(|((task, applied), out)| document(task.id, applied.clone(), out));
    match named {
        1 => each.next(),
        _ => {
            let tasks: Vec<Value> = each.collect();
            Some(json!({ "tasks": tasks, "not_applied": left }))
        }
    }
}

/// What became of a task.
fn document(id: TaskId, applied: Applied, left_out: &[TaskId]) -> Value {
    match applied {
        Applied::Change(done) => {
            let Done {
                checkout,
                branch,
                files,
                already,
                unknown: _,
                unseen: _,
                replaced: _,
                within,
                with,
                not_noted: _,
                beside,
                left_alone: _,
                unmergeable: _,
                joining: _,
                sparse: _,
            } = *done;
            json!({ "id": id, "checkout": checkout, "branch": branch, "files": files, "already": already,
                "with": with, "left_out": left_out, "within": within, "also": beside.branches })
        }
        Applied::Nothing(beside) => {
            json!({ "id": id, "checkout": null, "branch": null, "files": 0, "already": false,
                "with": [], "left_out": left_out, "within": null, "also": beside.branches })
        }
    }
}

/// Says what was done.
fn tell(ui: &Ui, done: &Done) -> Result<()> {
    let dir = done.checkout.display();
    let said = |what: &str, name: String, place: String| {
        let line = Line::of(Style::Good, what).with(Style::Plain, name);
        ui.line(&line.with(Style::Dim, place))
    };
    if let Some(later) = &done.within {
        let place = format!("  {later} is in {dir}, and builds on it; no file changed");
        return said("✓ there already", String::new(), place);
    }
    if done.already {
        let branch = done.branch.as_ref();
        let branch = branch.map_or(String::new(), |branch| {
            format!(", also as the branch {branch}")
        });
        let place = format!("  in {dir}{branch}; no file changed");
        return said("✓ there already", String::new(), place);
    }
    match (done.files, &done.branch) {
        (Some(files), Some(branch)) => {
            let place = format!("  in {dir}; also the branch {branch}");
            said("✓ applied ", counted(files, "file"), place)
        }
        (Some(files), None) => said("✓ applied ", counted(files, "file"), format!("  in {dir}")),
        (None, branch) => {
            let branch = branch.as_deref().unwrap_or_default();
            said("✓ branch ", branch.to_owned(), format!("  in {dir}"))
        }
    }
}

/// Says what came along.
fn tell_with(ui: &Ui, id: TaskId, with: &[TaskId]) -> Result<()> {
    if with.is_empty() {
        return Ok(());
    }
    let tasks: Vec<String> = with.iter().map(ToString::to_string).collect();
    let text = format!(
        "  with the changes of {}, on which {id} is built",
        tasks.join(", ")
    );
    ui.line(&Line::of(Style::Dim, text))
}

/// Says which further branches there are.
fn tell_beside(ui: &Ui, beside: &Beside) -> Result<()> {
    beside.branches.iter().try_for_each(|branch| {
        let text = format!("  also the branch {branch}, which the agent left beside its result");
        ui.line(&Line::of(Style::Dim, text))
    })
}

/// What is said where no file changed.
fn unchanged(id: TaskId, beside: &Beside) -> String {
    let what = match beside.branches.as_slice() {
        [] => "there is nothing to apply".to_owned(),
        [branch] => format!("what its agent committed elsewhere is the branch {branch}"),
        [_, _, ..] => "what its agent committed elsewhere are the branches above".to_owned(),
    };
    format!("{id} changed no files; {what}")
}

/// What git shows of it, or merges. Its diff has no file that its index lacks.
fn next(done: &Done) -> Option<String> {
    match (done.files, &done.branch) {
        (Some(0), _) | (None, None) => None,
        (Some(_), None) if done.left_alone.is_none() => None,
        (Some(_), _) if done.unknown && done.sparse => Some(
            "status; what is outside of the sparse checkout, `git add --sparse` takes".to_owned(),
        ),
        (Some(_), _) if done.unknown => Some("status".to_owned()),
        (Some(_), _) => Some("diff".to_owned()),
        (None, Some(branch)) => match &done.joining {
            Joining::Merge => Some(format!("merge {branch}")),
            Joining::PickAfter(commit) => Some(format!("cherry-pick {commit}..{branch}")),
            Joining::Neither => None,
        },
    }
}

/// Git as it is called from the current directory for the checkout at `top`.
async fn git_for(top: PathBuf) -> Result<String> {
    blocking(move || {
        // Whatever is the matter with the current directory, it is another one.
        let here = Checkout::discover(Path::new("."));
        let is_here = here.is_ok_and(|here| here.is_some_and(|here| here.top() == top));
        Ok(match is_here {
            true => "git".to_owned(),
            false => format!("git -C {}", shell::word(&top.to_string_lossy())),
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_step_shows_all_that_was_applied() {
        let done = |files, branch: Option<&str>, unknown| Done {
            checkout: PathBuf::from("/project"),
            branch: branch.map(str::to_owned),
            left_alone: None,
            files,
            already: false,
            unknown,
            unseen: Vec::new(),
            replaced: None,
            within: None,
            with: Vec::new(),
            not_noted: Vec::new(),
            unmergeable: false,
            joining: Joining::Merge,
            sparse: false,
            beside: Beside::default(),
        };
        let branch = Some("orchestra/task_001");
        let says = |done| next(&done).unwrap_or_default();
        assert_eq!(says(done(Some(2), branch, true)), "status");
        assert_eq!(says(done(Some(2), branch, false)), "diff");
        let sparse = Done {
            sparse: true,
            ..done(Some(2), branch, true)
        };
        assert!(says(sparse).ends_with("`git add --sparse` takes"));
        assert_eq!(says(done(None, branch, false)), "merge orchestra/task_001");
        let shallow = Done {
            joining: Joining::PickAfter("c0ffee".to_owned()),
            ..done(None, branch, false)
        };
        assert_eq!(says(shallow), "cherry-pick c0ffee..orchestra/task_001");
        let with_merges = Done {
            joining: Joining::Neither,
            ..done(None, branch, false)
        };
        assert_eq!(says(with_merges), "", "git would stop at the merge");
        assert_eq!(
            says(done(Some(0), branch, false)),
            "",
            "it was there before"
        );
        assert_eq!(says(done(Some(2), None, true)), "", "there is no git");
    }

    #[test]
    fn where_several_stop_it_is_said_which_are_applied_and_which_not() {
        let named: Vec<TaskId> = (1..=4).map(TaskId).collect();
        assert_eq!(
            stopped_at(&named, 2).unwrap(),
            "task_003 is not applied; applied before it: task_001, task_002; not tried: task_004"
        );
        assert_eq!(
            stopped_at(&named[..2], 0).unwrap(),
            "task_001 is not applied; none of them is applied; not tried: task_002"
        );
        assert_eq!(stopped_at(&named[..1], 0), None, "its error says it");
        assert_eq!(stopped_at(&named, 4), None);
    }

    #[test]
    fn the_steps_after_several_are_each_said_once() {
        let steps = ["git diff", "git -C x diff", "git status", "git -C x diff"];
        let once = each_step_once(steps.map(str::to_owned).to_vec());
        assert_eq!(once, ["git -C x diff", "git status"]);
    }
}
