//! One task at work: what its agent says and does, live, attempt after attempt.

use std::time::Duration;

use orchestra_types::{AttemptId, TaskId, TaskStatus};

use super::{Changes, Events, Piece};
use crate::{
    app::App,
    client::Client,
    error::Result,
    exit::Exit,
    json::{self, task::Task, time::Time},
    ui::{
        Ui,
        again::Again,
        detail,
        escape::line,
        live::Live,
        reason::Why,
        status::{style, symbol, words},
        style::{Line, Style},
        task::summary,
        time::usage,
        transcript::Transcript,
    },
};

/// Which attempts to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// All from the first one on, until the task has ended.
    TaskEnds,
    /// One and those after it, until the task has ended.
    From {
        /// Its number; 0 for the first one while there is none.
        attempt: u32,
        /// The number of the last of its events that is not wanted.
        after: u64,
    },
}

/// Shows the task at work until it has ended, and gives it as it is then.
pub async fn follow(app: &App, client: &Client, mut task: Task, until: Until) -> Result<Task> {
    let id = task.id;
    let (shown, mut after) = match until {
        Until::TaskEnds => (0, 0),
        Until::From { attempt, after } => (attempt.saturating_sub(1), after),
    };
    let mut view = View::new(app.ui, shown);
    let mut changes = Changes::open(client, &[id], view.live.voice()).await?;
    let mut events: Option<Events> = None;
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        if events.is_none() && task.attempt > view.attempt {
            view.begin(&task)?;
            let attempt = AttemptId {
                task: id,
                number: view.attempt,
            };
            // Only of the first one is something known already.
            let after = std::mem::take(&mut after);
            events = match Events::open(client, attempt, true, after, None).await {
                Ok(open) => Some(open),
                Err(error) if error.exit() == Exit::NotFound => break,
                Err(error) => return Err(error),
            };
        }
        if events.is_none() && task.rests() {
            break;
        }
        view.status(&task);
        tokio::select! {
            news = changes.next() => {
                let mut news = news?;
                if news.forgotten.contains(&id) {
                    break;
                }
                // The stream gives tasks without attempts: only what is live is taken from it.
                task = news.tasks.pop().unwrap_or(task);
            }
            _ = second.tick() => {}
            batch = next(&mut events) => {
                let piece = unless_gone(batch)?;
                changes.head_answered();
                match piece {
                    Some(piece) => view.piece(id, piece)?,
                    None => {
                        let given = events.take().and_then(|events| events.given());
                        view.end()?;
                        task = client.or_known(task).await?;
                        match is_replaced(&task, view.attempt, given) {
                            true => view.goes_back(&task),
                            false => view.given_up(&task)?,
                        }
                    }
                }
            }
        }
    }
    drop(view);
    client.whole_or(task).await
}

/// The next events of the open stream; waits for ever when none is open.
async fn next(events: &mut Option<Events>) -> Result<Option<Piece>> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

/// Whether the head was restored from a backup that lacks the attempt: one of its number is another one.
fn is_replaced(task: &Task, number: u32, given: Option<Time>) -> bool {
    // Where it was not asked for by itself, the task says only how many there are.
    let differs = task.attempts.is_some() && task.given(number) != given;
    given.is_some() && (task.attempt < number || differs)
}

/// Events of an attempt that is forgotten are over.
fn unless_gone(batch: Result<Option<Piece>>) -> Result<Option<Piece>> {
    match batch {
        Err(error) if error.exit() == Exit::NotFound => Ok(None),
        batch => batch,
    }
}

/// What a person sees of it.
struct View {
    live: Live,
    ui: Ui,
    transcript: Transcript,
    /// The attempt that is shown; 0 before the first.
    attempt: u32,
    status: Line,
}

impl View {
    fn new(ui: Ui, attempt: u32) -> Self {
        Self {
            live: Live::new(ui),
            ui,
            transcript: Transcript::new(ui.stdout.width),
            attempt,
            status: Line::default(),
        }
    }

    fn begin(&mut self, task: &Task) -> Result<()> {
        self.attempt += 1;
        self.transcript = Transcript::new(self.ui.stdout.width);
        if self.ui.is_json() {
            return Ok(());
        }
        let mut head = Line::of(Style::Bold, task.id.to_string())
            .with(Style::Plain, format!("  {}", summary(task, 70)));
        if self.attempt > 1 {
            self.live.print(&Line::default())?;
            head = head.with(Style::Attention, format!("  attempt {}", self.attempt));
        }
        self.live.print(&head)?;
        self.live.print(&Line::default())
    }

    fn piece(&mut self, task: TaskId, piece: Piece) -> Result<()> {
        if self.ui.is_json() {
            let number = self.attempt;
            let documents = json::event::documents(AttemptId { task, number }, &piece);
            self.ui.document_lines(&documents)?;
        } else {
            let lines = self.transcript.piece(&piece);
            self.print(&lines)?;
        }
        self.draw();
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let lines = self.transcript.end();
        self.print(&lines)
    }

    /// The attempt of this number is another one, or there will be one.
    fn goes_back(&mut self, task: &Task) {
        let (id, number) = (task.id, self.attempt);
        self.attempt = (self.attempt - 1).min(task.attempt);
        self.live.above(|ui| {
            ui.warn(format!(
                "the head was restored from a backup of before {id}.{number} began: what follows is of another attempt"
            ));
        });
    }

    /// Why there is no more of an attempt, but where that is the end of its task, which says it.
    fn given_up(&mut self, task: &Task) -> Result<()> {
        let is_end = task.status.is_ended() && self.attempt >= task.attempt;
        if self.ui.is_json() || is_end {
            return Ok(());
        }
        let line = detail::given_up(task, self.attempt, self.ui.again);
        self.print(line.as_slice())
    }

    fn print(&self, lines: &[Line]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        self.live.above(|ui| ui.lines(lines))
    }

    /// Shows how the task stands, beside the spinner.
    fn status(&mut self, task: &Task) {
        let mut status = Line::of(style(task.status), words(task.status));
        if task.status == TaskStatus::Running {
            let since = task.started_at.map(detail::since).unwrap_or_default();
            status = status.with(Style::Dim, format!(" {since}"));
        }
        if task.attempt > 0 {
            let runner = line(task.runner.as_deref().unwrap_or_default()).into_owned();
            status = status.with(Style::Dim, format!(" · {runner}"));
        } else if let Some(why) = Why::of(task) {
            status = status.with(Style::Dim, format!(" · {}", why.whole(self.ui.again)));
        }
        self.status = status;
        self.draw();
    }

    fn draw(&self) {
        let used = usage(self.transcript.usage());
        let used = if used.is_empty() {
            used
        } else {
            format!(" · {used}")
        };
        let status = self.status.clone().with(Style::Dim, used);
        let mut lines: Vec<Line> = self.transcript.partial().into_iter().collect();
        lines.push(status);
        self.live.show(&lines);
    }
}

/// How a task ended, in a few lines: the status, what changed, where it lies, what to do next.
pub fn closing(task: &Task, again: Again) -> Vec<Line> {
    let status = format!("{} {} {}", symbol(task.status), task.id, words(task.status));
    let mut end = Line::of(style(task.status), status);
    let mut facts = Vec::new();
    facts.extend(
        detail::worked(task).map(|worked| match worked.contains(" in ") {
            true => worked,
            false => format!("in {worked}"),
        }),
    );
    facts.extend(task.changes.map(|c| crate::ui::changes::summary(&c)));
    facts.extend(task.usage.as_ref().map(usage).filter(|u| !u.is_empty()));
    end = end.with(
        Style::Dim,
        facts.iter().map(|f| format!(" · {f}")).collect::<String>(),
    );
    let mut lines = vec![Line::default(), end];
    if let Some(reason) = &task.reason {
        lines.push(Line::of(
            Style::Plain,
            format!("  {}: {}", reason.code, again.spell(&line(&reason.message))),
        ));
    }
    lines.extend(detail::files(task, again));
    lines.extend(put_in_place(task, again));
    let branch = detail::branch(task);
    if !branch.is_empty() {
        let branch = again.spell(&branch);
        lines.push(Line::of(Style::Dim, format!("  branch {branch}")));
    }
    lines
}

/// What became of putting the change into the checkout, where that was to be done.
fn put_in_place(task: &Task, again: Again) -> Option<Line> {
    let dir = line(task.project.as_ref()?.dir.as_str()).into_owned();
    let message = line(task.apply.message.as_deref().unwrap_or_default());
    let message = again.spell(&message);
    match task.apply.result.as_deref()? {
        "applied" if !task.has_change_to_apply() => {
            let text = "  nothing to apply: it changed no files";
            Some(Line::of(Style::Dim, text))
        }
        "applied" => {
            Some(Line::of(Style::Good, "  ✓ applied").with(Style::Dim, format!(" in {dir}")))
        }
        "conflict" => {
            Some(Line::of(Style::Bad, "  ✗ not applied").with(Style::Plain, format!(": {message}")))
        }
        _ if task.apply.requested
            && task.was_cancelled_too_late()
            && task.has_change_to_apply() =>
        {
            let why = ": a person had cancelled it before its result was there";
            Some(Line::of(Style::Attention, "  not applied").with(Style::Plain, why))
        }
        _ => None,
    }
}
