//! `ctl branches`.

mod ask;
mod claim;
mod fate;
mod prune;
mod wish;

pub use prune::interrupted_between as interrupted;

use std::{sync::Arc, time::Duration};

use orchestra_repo::{
    Checkout, Keeping, LastWrite, TaskBranch, last_write, only_here, task_branches,
};
use orchestra_types::{TaskId, TaskStatus, Timestamp};
use serde::Serialize;

use self::{
    ask::{Asked, ask},
    claim::{Looked, is_doubtful, objection, with_writer},
    fate::{Fate, Known, fate, is_applied},
    prune::prune,
    wish::{Asks, Wish},
};
use crate::{
    app::App,
    blocking::{blocking, shown},
    error::{Error, OrFailed, Result},
    exit::Exit,
    json::time::Time,
    repository::OrBroken,
    ui::{
        Ui,
        escape::{line, path},
        now, status,
        style::Style,
        table::{Cell, Table},
        time::ago,
    },
    values,
};

/// How many digits of a commit people see.
const DIGITS_SHOWN: usize = 12;

/// List the branches that tasks have left in this repository, and remove those that are kept elsewhere
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A branch goes with --prune where another branch or a remote-tracking one, and none of Orchestra's, has all of its
commits; or where the task's change was applied once, here or in another clone, and the branch is just that
result. The change may have been taken back since: the head has the result until retention forgets the task, and
until then `ctl apply TASK --branch` makes the branch again. HEAD counts as the branch that it is on.

Without its branch nobody knows that a change is there that builds on an earlier one: `ctl apply` of the earlier
task then brings back what the later one undid of it.

A branch that is checked out, rebased or bisected in any work tree stays. So does one with commits that are
nowhere else, as of somebody who went on with it. So does a result that was applied, where it alone has commits that
its task began from and no agent's git made, as of a detached HEAD, or of a branch that was deleted, amended, rebased
or squashed since: the head has what comes after them. Without a head nobody
knows what was applied, and only the other branches count. Each removal is told as it happens, with the commit.

With --older-than only those go that were made, and written here, longer ago. With --unapplied results go, too, that
are nowhere else, if their task has ended or is forgotten. Of these stay: one whose task needs review, as long as the
head knows the task (`retention.finished_for`); one that is not what an attempt left, or is beside that, equally as
long; one that another cluster may have written, which the reflog says, or somebody changed; one whose reflog git has
dropped (after 90 days by default), unless the head has it as the result of its task; and, as above, one that alone
has commits that no agent's git made, or files that were not committed when the task was added. `git branch -D`
removes what stays. The commits stay until git's own gc removes them.

After `ctl restore` with keys the head takes the tasks that were added after the backup for forgotten ones, and their
branches may be all that is left of them. Look at these before you say --unapplied.

Examples:
  ctl branches                       the branches of the repository here, and what --prune would do
  ctl branches --prune
  ctl branches --prune --older-than 30d --unapplied --dry-run
  git branch NAME COMMIT             brings one back, as long as git has the commit that was told")]
pub struct Args {
    /// Remove those that are kept elsewhere
    #[arg(long)]
    prune: bool,
    /// Only those that are older than this, as 30d
    #[arg(long, value_name = "DURATION", value_parser = values::duration, allow_hyphen_values = true)]
    older_than: Option<Duration>,
    /// Also results that are nowhere else, as old as that and as Orchestra wrote them
    #[arg(long, requires = "older_than")]
    unapplied: bool,
    /// Only say what --prune would remove, and why the others stay
    #[arg(long)]
    dry_run: bool,
}

/// `ctl branches --json`.
#[derive(Debug, Serialize)]
struct Document {
    repository: String,
    /// Whether the head could be asked for the tasks.
    head_asked: bool,
    branches: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    task: TaskId,
    /// The attempt that left it beside its result.
    beside_attempt: Option<u32>,
    commit: String,
    /// None where the repository lacks the commit.
    committed_at: Option<Time>,
    /// Whether it lacks its commit, or one before it.
    damaged: bool,
    status: Option<TaskStatus>,
    applied: Option<bool>,
    /// Another branch that has all of its commits.
    within: Option<String>,
    removable: bool,
    removed: bool,
    why: String,
    #[serde(skip)]
    told: String,
    /// Somebody else removed it.
    #[serde(skip)]
    gone: bool,
    /// It would go with `--unapplied`.
    #[serde(skip)]
    alone: bool,
}

/// Lists them, or removes some.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let prunes = args.prune && !args.dry_run;
    let (checkout, branches) = here().await?;
    let checkout = Arc::new(checkout);
    let asked = ask(app, &checkout, &branches).await;
    let head_asked = asked.is_some();
    let cluster = asked.as_ref().and_then(Asked::cluster);
    let known = known(&checkout, &branches, asked.as_ref()).await?;
    let wish = Wish {
        older_than: args.older_than,
        unapplied: args.unapplied,
        now: now(),
    };
    let fates: Vec<(Fate, Known<'_>)> = branches
        .iter()
        .zip(known)
        .map(|(branch, known)| (fate(branch, known), known))
        .collect();
    let looks = looks(app.ui, &checkout, &branches, &fates, wish).await?;
    let rows = branches.iter().zip(fates).zip(looks);
    let mut rows: Vec<Row> = rows
        .map(|((branch, (fate, known)), looked)| {
            let objection = |fate: &Fate| objection(fate, branch, known, &looked, cluster);
            let fate = wish.fate(fate, branch, &looked, objection);
            row(branch, known, fate)
        })
        .collect();
    let failed = match prunes {
        true => prune(app, &checkout, branches, &mut rows).await?,
        false => None,
    };
    let document = Document {
        repository: checkout.top().to_string_lossy().into_owned(),
        head_asked,
        branches: rows,
    };
    let shown = match (prunes, &failed) {
        // What was removed has been told, and of the others nothing was decided.
        (true, Some(error)) if error.exit() == Exit::Interrupted && !app.ui.is_json() => {
            Ok(Exit::Ok)
        }
        (true, _) => {
            let done = || format!("{} removed", removed(&document.branches));
            app.show_done(&document, done, |document| show(app, document, wish, true))
        }
        (false, _) => app.show(&document, |document| show(app, document, wish, false)),
    };
    // What was done matters more than what was not.
    shown.and_then(|exit| failed.map_or(Ok(exit), Err))
}

/// The repository here, and the branches of tasks in it.
async fn here() -> Result<(Checkout, Vec<TaskBranch>)> {
    let dir = std::env::current_dir().or_failed(|| "failed to find this directory".to_owned())?;
    let found = move || {
        let shown = path(&dir.to_string_lossy()).into_owned();
        let failed = || format!("failed to read the repository of `{shown}`");
        let Some(checkout) = Checkout::discover(&dir).or_broken(failed)? else {
            let why = format!("`{shown}` is in no work tree of a git repository");
            let error = Error::new(Exit::NotFound, why);
            return Err(error.hint("go to the repository that tasks have worked on"));
        };
        let branches = task_branches(&checkout).or_broken(failed)?;
        Ok((checkout, branches))
    };
    blocking(found).await
}

/// What is known of each of them. Where the head knows a task of that number, the reflog is asked whether the
/// branch is of it.
async fn known<'a>(
    checkout: &Arc<Checkout>,
    branches: &[TaskBranch],
    asked: Option<&'a Asked>,
) -> Result<Vec<Known<'a>>> {
    let known = branches.iter().map(|branch| Asked::of(asked, branch));
    let known: Vec<Known<'a>> = known.collect();
    let doubtful = branches.iter().zip(&known);
    let doubtful =
        doubtful.map(|(branch, known)| is_doubtful(branch, *known).then(|| branch.clone()));
    let (doubtful, from): (Vec<_>, _) = (doubtful.collect(), Arc::clone(checkout));
    let write = move |branch: Option<TaskBranch>| match branch {
        Some(branch) => written(&from, &branch),
        None => Ok(Looked::NOT.write),
    };
    let writes = blocking(move || doubtful.into_iter().map(write).collect::<Result<Vec<_>>>());
    let cluster = asked.and_then(Asked::cluster);
    let known = branches.iter().zip(known).zip(writes.await?);
    Ok(known
        .map(|((branch, known), write)| with_writer(branch, known, &write, cluster))
        .collect())
}

fn written(checkout: &Checkout, branch: &TaskBranch) -> Result<LastWrite> {
    let failed = || format!("failed to read the reflog of `{}`", branch.name);
    last_write(checkout, branch).or_failed(failed)
}

/// What the repository says of each of them, as far as that matters.
async fn looks(
    ui: Ui,
    checkout: &Arc<Checkout>,
    branches: &[TaskBranch],
    fates: &[(Fate, Known<'_>)],
    wish: Wish,
) -> Result<Vec<Looked>> {
    let pairs = branches.iter().zip(fates);
    let asked = pairs.map(|(branch, (fate, known))| {
        let from = known
            .begins_from()
            .filter(|_| matches!(fate, Fate::Goes(_)));
        let from = from.unwrap_or(&branch.commit).to_owned();
        (branch.clone(), from, wish.asks(fate, branch))
    });
    let (asked, from): (Vec<_>, _) = (asked.collect(), Arc::clone(checkout));
    shown(ui, "looking at the branches", move || {
        let keeping = match asked.iter().any(|(_, _, asks)| asks.only_here) {
            true => {
                let failed = || "failed to read the branches and tags".to_owned();
                Some(Keeping::of(&from).or_failed(failed)?)
            }
            false => None,
        };
        let look = |(branch, commit, asks): (TaskBranch, String, Asks)| match asks.anything() {
            true => look(&from, &branch, &commit, asks, keeping.as_ref()),
            false => Ok(Looked::NOT),
        };
        asked.into_iter().map(look).collect()
    })
    .await
}

/// `commit` is the one from which on backwards nothing may be here alone.
fn look(
    checkout: &Checkout,
    branch: &TaskBranch,
    commit: &str,
    asks: Asks,
    keeping: Option<&Keeping>,
) -> Result<Looked> {
    let write = match asks.write {
        true => written(checkout, branch)?,
        false => Looked::NOT.write,
    };
    let failed = || format!("failed to read the commits of `{}`", branch.name);
    let only_here = match keeping.filter(|_| asks.only_here) {
        Some(keeping) => only_here(checkout, commit, keeping).or_failed(failed)?,
        None => Looked::NOT.only_here,
    };
    Ok(Looked { write, only_here })
}

fn row(branch: &TaskBranch, known: Known<'_>, fate: Fate) -> Row {
    let (removable, alone, why) = match fate {
        Fate::Goes(why) => (true, false, why),
        Fate::Alone(why) => (false, true, why),
        Fate::Stays(why) => (false, false, why),
    };
    let task = known.task();
    Row {
        name: branch.name.clone(),
        task: branch.task,
        beside_attempt: branch.beside,
        commit: branch.commit.clone(),
        committed_at: branch
            .committed_at
            .map(|seconds| Time(Timestamp(seconds.saturating_mul(1000)))),
        damaged: !branch.is_whole(),
        status: task.map(|task| task.status),
        applied: task.map(is_applied),
        within: branch
            .within
            .as_ref()
            .map(|keeper| keeper.name().to_owned()),
        removable,
        removed: false,
        why,
        told: task.map_or_else(|| "-".to_owned(), status::told),
        gone: false,
        alone,
    }
}

fn removed(rows: &[Row]) -> String {
    in_words(rows.iter().filter(|row| row.removed).count())
}

fn in_words(branches: usize) -> String {
    match branches {
        1 => "1 branch".to_owned(),
        n => format!("{n} branches"),
    }
}

fn show(app: &App, document: &Document, wish: Wish, prunes: bool) -> Result<()> {
    if document.branches.is_empty() {
        let place = path(&document.repository).into_owned();
        app.ui.next(format!("no branches of tasks in `{place}`"));
        return Ok(());
    }
    // Those that are removed have been told.
    let rest = document.branches.iter().filter(|row| !row.removed);
    let rest: Vec<&Row> = rest.collect();
    if !rest.is_empty() {
        app.ui.table(&table(&rest))?;
    }
    let removable = document.branches.iter().filter(|row| row.removable).count();
    app.ui.next(match (prunes, removable) {
        (true, _) => format!(
            "{} removed; `git branch NAME COMMIT` brings one back, as long as git has the commit",
            removed(&document.branches)
        ),
        (false, 0) => format!("`ctl branches --prune{}` would remove none", wish.words()),
        (false, n) => format!(
            "{} would go with `ctl branches --prune{}`",
            in_words(n),
            wish.words()
        ),
    });
    let alone = document.branches.iter().filter(|row| row.alone).count();
    if wish.older_than.is_some() && alone > 0 {
        let of = in_words(alone);
        let text = format!("{of} more would go with --unapplied: results that are nowhere else");
        app.ui.next(text);
    }
    Ok(())
}

fn table(rows: &[&Row]) -> Table {
    let now = now();
    let mut table = Table::new(&["BRANCH", "COMMIT", "STATUS", ">AGE", "PRUNE…"])
        .sparing(&["COMMIT", "AGE", "STATUS"]);
    for row in rows {
        let age = row.committed_at.as_ref();
        let age = age.map_or_else(|| "-".to_owned(), |at| ago(at.0, now));
        let (what, style) = match (row.gone, row.removable) {
            (true, _) => ("gone", Style::Dim),
            (false, true) => ("goes", Style::Attention),
            (false, false) => ("stays", Style::Dim),
        };
        table.row(vec![
            Cell::new(row.name.as_str(), Style::Bold),
            Cell::new(
                row.commit.get(..DIGITS_SHOWN).unwrap_or(&row.commit),
                Style::Dim,
            ),
            row.told.clone().into(),
            Cell::new(age, Style::Dim),
            Cell::new(format!("{what}: {}", line(&row.why)), style),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::undocumented;

    #[test]
    fn every_name_of_a_branch_is_documented_where_branches_are() {
        let branch = TaskBranch {
            name: "orchestra/task_001".to_owned(),
            task: TaskId(1),
            beside: None,
            commit: "1".repeat(40),
            committed_at: None,
            severed: false,
            within: None,
            held: None,
            alias: None,
        };
        let document =
            serde_json::to_value(row(&branch, Known::Nothing, fate(&branch, Known::Nothing)))
                .unwrap();
        let page = include_str!("../../../docs/json.md");
        let mut paragraphs = page.split("\n\n");
        let of_branches = paragraphs.find(|text| text.starts_with("**Task branch**"));
        let lacks = undocumented(of_branches.unwrap(), &document);
        assert!(lacks.is_empty(), "docs/json.md lacks {lacks:?}");
    }
}
