//! `ctl apply`.

use std::path::{Path, PathBuf};

use orchestra_repo::Checkout;
use orchestra_types::{TaskId, shell};
use serde_json::{Value, json};

use crate::{
    app::App,
    apply::{self, Applied, Beside, Done, How},
    blocking::blocking,
    error::{Result, or_untold},
    exit::Exit,
    json::task::Task,
    ui::{
        Ui,
        style::{Line, Style},
        time::counted,
    },
    warned,
};

/// Put a task's change into your checkout
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Three-way where your files have changed since. Uncommitted edits that the task did not start from are
never written over: then nothing is touched, the files are named, and the exit code is 5. What earlier
applies left in a file, and nobody edited since, is merged with: tasks that ran side by side can be
applied one after the other, with no commit between. Where they conflict, the task is named. Index, HEAD
and your branches stay as they are; the change is also the branch orchestra/TASK. A bundle that is not
what `ctl diff` and `ctl files` show is refused, and nothing is touched (exit code 5). Changes of earlier
tasks that this one is built on come along where they are not there yet. What the agent left on a branch,
in a work tree or in a stash of its own is a branch orchestra/TASK-ATTEMPT-NAME.

Examples:
  ctl diff task_001 && ctl apply task_001
  for task in 1 2 3; do ctl apply $task; done
  ctl diff task_002 | git apply -R   # takes one of them back, at the top of the repository
  ctl apply task_001 --branch && git merge orchestra/task_001")]
pub struct Args {
    /// The task, as task_001 or 1
    #[arg(value_name = "TASK")]
    task: TaskId,
    /// Only make the branch orchestra/TASK; no file changes
    #[arg(long)]
    branch: bool,
    /// The checkout. Default: the current directory's where it is one of the task's project, else the one
    /// that the task came from
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    repo: Option<PathBuf>,
}

/// Applies the change.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let client = app.connect().await?;
    let task = client.task(args.task).await?;
    let how = if args.branch {
        How::Branch
    } else {
        How::WorkTree
    };
    let applied = apply::apply(app, &client, &task, args.repo.as_deref(), how).await?;
    if let Applied::Change(Done {
        left_alone: Some(why),
        ..
    }) = &applied
    {
        app.ui.warn(format!("there is no branch of it: {why}"));
    }
    let beside = match &applied {
        Applied::Change(done) => &done.beside,
        Applied::Nothing(beside) => beside,
    };
    beside
        .left_alone
        .iter()
        .for_each(|why| app.ui.warn(why.clone()));
    let done = in_words(task.id, &applied);
    or_untold(show(app, &task, applied).await, || done)?;
    warned::say(app, &client, &task).await;
    Ok(Exit::Ok)
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

async fn show(app: &App, task: &Task, applied: Applied) -> Result<()> {
    match (applied, app.ui.is_json()) {
        (applied, true) => {
            let left_out = task.of_result().map(|attempt| attempt.left_out.as_slice());
            let document = document(task.id, applied, left_out.unwrap_or_default());
            app.ui.document(&document)?;
        }
        (Applied::Change(done), false) => {
            tell(&app.ui, &done)?;
            tell_with(&app.ui, task.id, &done.with)?;
            tell_beside(&app.ui, &done.beside)?;
            if let Some(next) = next(&done) {
                let git = git_for(done.checkout.clone()).await?;
                let first = match done.unmergeable {
                    true => "commit or stash what is not committed, then ",
                    false => "",
                };
                app.ui.next(format!("next: {first}{git} {next}"));
            }
        }
        (Applied::Nothing(beside), false) => {
            tell_beside(&app.ui, &beside)?;
            app.ui.next(unchanged(task.id, &beside));
        }
    }
    Ok(())
}

/// `ctl apply --json`.
fn document(id: TaskId, applied: Applied, left_out: &[TaskId]) -> Value {
    match applied {
        Applied::Change(Done {
            checkout,
            branch,
            files,
            already,
            unknown: _,
            within,
            with,
            beside,
            left_alone: _,
            unmergeable: _,
        }) => {
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
        (Some(_), _) if done.unknown => Some("status".to_owned()),
        (Some(_), _) => Some("diff".to_owned()),
        (None, Some(branch)) => Some(format!("merge {branch}")),
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
            within: None,
            with: Vec::new(),
            unmergeable: false,
            beside: Beside::default(),
        };
        let branch = Some("orchestra/task_001");
        let says = |done| next(&done).unwrap_or_default();
        assert_eq!(says(done(Some(2), branch, true)), "status");
        assert_eq!(says(done(Some(2), branch, false)), "diff");
        assert_eq!(says(done(None, branch, false)), "merge orchestra/task_001");
        assert_eq!(
            says(done(Some(0), branch, false)),
            "",
            "it was there before"
        );
        assert_eq!(says(done(Some(2), None, true)), "", "there is no git");
    }
}
