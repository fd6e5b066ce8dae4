//! `ctl usage`.

mod group;
mod sums;

use std::time::Duration;

use orchestra_proto::v1;
use orchestra_types::{Timestamp, time::millis};
use serde::Serialize;

use self::{
    group::By,
    sums::{Row, Sums, Window},
};
use crate::{
    app::App,
    client::{Client, patiently},
    commands::tasks::{LIMIT_MAX, filter::Filter, is_of, unknown},
    error::{Error, Result},
    exit::Exit,
    json::time::Time,
    ui::{
        Ui,
        escape::line,
        live::Live,
        now,
        style::{Line, Style},
        table::{Cell, Table},
        time::{amount, counted, dollars, duration},
    },
    values,
};

/// Sum up what attempts have used: time, tokens and cost, by project, submitter, runner, model, worker, day or label
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Attempts count when they have ended, also those that failed; days are those of UTC, as for budgets. One whose
worker was lost counts with what it had told until then, until its result comes. A cost is what the CLI says, else
by `prices` in orchestra.yaml. Tasks that the retention has forgotten are not in it; the counters of the metrics are for ever.

Examples:
  ctl usage                                  by project
  ctl usage --since 24h --by runner          what the last day took
  ctl usage --by day --project app
  ctl usage --by label:team --json")]
pub struct Args {
    /// project, submitter, runner, model, worker, day, or label:KEY. Default: project
    #[arg(long, value_name = "WHAT", value_parser = By::named(), hide_possible_values = true, default_value = "project",
          hide_default_value = true)]
    by: By,
    /// Only what has ended within this time, as 24h or 7d
    #[arg(long, value_name = "DURATION", value_parser = values::duration, allow_hyphen_values = true)]
    since: Option<Duration>,
    #[command(flatten)]
    filter: Filter,
}

/// What is said instead of a table without rows.
const NONE: &str = "no such attempt has ended";

/// `ctl usage --json`.
#[derive(Debug, Serialize)]
struct Usage {
    by: String,
    since: Option<Time>,
    rows: Vec<Row>,
    total: Row,
    running: u64,
}

/// Sums up what attempts have used.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let now = now();
    let since = args.since.map(|since| back(now, since));
    let mut request = v1::ListTasksRequest {
        limit: LIMIT_MAX,
        with_usage: true,
        ..args.filter.request()?
    };
    // Of attempts, and not of tasks: one may have gone on with another runner.
    let wanted = Some(std::mem::take(&mut request.runner)).filter(|runner| !runner.is_empty());
    let client = app.connect().await?;
    let window = Window {
        since: since.unwrap_or(Timestamp(0)),
        runner: wanted.clone(),
    };
    let names = client.worker_names().await?;
    let sums = Sums::new(args.by.clone(), window, names);
    let sums = sum_up(app.ui, &client, request.clone(), sums).await?;
    let none = match sums.is_empty() {
        true => none_of(&client, request, wanted, sums.any).await?,
        false => NONE.to_owned(),
    };
    let document = Usage {
        by: args.by.to_string(),
        since: since.map(Time),
        running: sums.running,
        total: sums.total(),
        rows: sums.rows(),
    };
    app.show(&document, |document| say(app, &args.by, none, document))
}

fn back(now: Timestamp, by: Duration) -> Timestamp {
    Timestamp(now.0.saturating_sub(millis(by)))
}

/// Page after page; who watches a terminal sees how far it is.
async fn sum_up(
    ui: Ui,
    client: &Client,
    mut request: v1::ListTasksRequest,
    mut sums: Sums,
) -> Result<Sums> {
    let live = Live::new(ui);
    let mut seen = 0;
    loop {
        let page = patiently(async || client.admin().list_tasks(request.clone()).await).await?;
        for task in &page.tasks {
            let submitter = task.spec.as_ref().map(|spec| spec.submitter.as_str());
            if is_of(submitter, &request.submitter) {
                sums.add(task);
            }
        }
        if page.next_after_id == 0 {
            break;
        }
        request.after_id = page.next_after_id;
        seen += page.tasks.len() as u64;
        live.show(&[so_far(seen)]);
    }
    if sums.knows_nothing() {
        return Err(Error::failed(
            "the head does not say what tasks have used: it is older than this `ctl`",
        )
        .hint("stop it with `ctl stop`, and start this version with `ctl start`"));
    }
    Ok(sums)
}

fn so_far(tasks: u64) -> Line {
    let text = format!("summing up: {} so far", counted(tasks, "task"));
    Line::of(Style::Plain, text)
}

/// Why there is nothing: what was asked for may be misspelt.
async fn none_of(
    client: &Client,
    asked: v1::ListTasksRequest,
    runner: Option<String>,
    any: bool,
) -> Result<String> {
    let asked = v1::ListTasksRequest {
        runner: runner.unwrap_or_default(),
        ..asked
    };
    unknown::refuse(client, &asked).await?;
    match asked.submitter.as_str() {
        wanted if !any && !wanted.is_empty() => unknown::submitter(client, wanted).await,
        _ => Ok(NONE.to_owned()),
    }
}

fn say(app: &App, by: &By, none: String, document: &Usage) -> Result<()> {
    if document.rows.is_empty() {
        app.ui.next(none);
    } else {
        app.ui.table(&table(by, &document.rows, &document.total))?;
    }
    let unpriced = document.total.unpriced;
    if unpriced > 0 {
        app.ui.next(format!(
            "of {} the cost is not in it: no price of the model is known; `prices` in orchestra.yaml says it",
            counted(unpriced, "attempt")
        ));
    }
    if document.running > 0 {
        app.ui.next(format!(
            "{} now: `ctl agents` shows what is used so far",
            match document.running {
                1 => "1 attempt runs".to_owned(),
                many => format!("{many} attempts run"),
            }
        ));
    }
    Ok(())
}

fn table(by: &By, rows: &[Row], total: &Row) -> Table {
    let mut table = Table::new(&[
        by.title(),
        ">TASKS",
        ">ATTEMPTS",
        ">TIME",
        ">INPUT",
        ">CACHED",
        ">OUTPUT",
        ">COST",
    ])
    .sparing(&["CACHED", "ATTEMPTS", "TIME"]);
    for row in rows {
        let key = row.key.as_deref().map_or("-".into(), line);
        table.row(cells(key.into_owned(), Style::Plain, row));
    }
    if rows.len() > 1 {
        table.row(cells("total".to_owned(), Style::Bold, total));
    }
    table
}

fn cells(name: String, style: Style, row: &Row) -> Vec<Cell> {
    let texts = [
        name,
        row.tasks.to_string(),
        row.attempts.to_string(),
        duration(Duration::from_millis(row.time_ms)),
        amount(row.input_tokens),
        amount(row.cached_tokens),
        amount(row.output_tokens),
        row.cost_microusd.map_or_else(|| "-".to_owned(), dollars),
    ];
    texts
        .into_iter()
        .map(|text| Cell::new(text, style))
        .collect()
}
