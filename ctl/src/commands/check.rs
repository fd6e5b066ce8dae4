//! `ctl check`.

use orchestra_head::check::{self, Repair, Report};
use orchestra_proto::v1;
use serde::Serialize;

use crate::{
    app::App,
    blocking::watched,
    client::status_error,
    error::{Error, Result},
    exit::Exit,
    local::record,
    ui::{
        bar::Bar,
        style::{Line, Style},
        time::counted,
    },
};

/// What it does, for who watches.
const WHAT: &str = "checking";

/// Read everything that the head keeps, and say what is not as it should be
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Asks the head while it runs, and reads the state directory itself while it does not. The exit code
is 8 when something is damaged. See docs/backup.md.")]
pub struct Args {
    /// Remove rows that nothing refers to; the head must be stopped
    #[arg(long)]
    repair: bool,
}

/// `ctl check --json`.
#[derive(Debug, Serialize)]
struct Checked {
    rows: u64,
    tasks: u64,
    blobs: u64,
    segments: u64,
    documents: u64,
    bytes: u64,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Finding {
    level: String,
    what: String,
    problem: String,
    advice: String,
}

/// Checks.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let running = record::head(&app.state)?.is_some();
    let checked = if args.repair || !running && !app.names_head() {
        let repair = if args.repair {
            Repair::Leftovers
        } else {
            Repair::No
        };
        app.refuse_foreign_state()?;
        let state = app.state.clone();
        let checked = watched(app, WHAT, move |progress| {
            check::check(&state, repair, progress).map_err(|e| refusal(&e))
        });
        Checked::of(checked.await?)
    } else {
        Checked::read(ask(app).await?)
    };
    let damaged = checked.findings.iter().any(|f| f.level == "damage");
    app.show(&checked, |checked| say(app, checked))?;
    Ok(if damaged { Exit::Damaged } else { Exit::Ok })
}

/// Lets the head check itself. It gives up when this is dropped.
async fn ask(app: &App) -> Result<v1::CheckResponse> {
    let client = app.connect().await?;
    let mut bar = Bar::new(app.ui, WHAT);
    let answer = client.admin().follow_check(v1::CheckRequest {}).await;
    let mut updates = answer.map_err(|s| status_error(&s))?.into_inner();
    while let Some(update) = updates.message().await.map_err(|s| status_error(&s))? {
        match update.report {
            Some(report) => return Ok(report),
            None => bar.show(update.bytes, update.bytes_total),
        }
    }
    Err(Error::failed("the head ended before the check was done").hint("try again"))
}

fn say(app: &App, checked: &Checked) -> Result<()> {
    for finding in &checked.findings {
        let style = if finding.level == "damage" {
            Style::Bad
        } else {
            Style::Dim
        };
        let text = format!(" {}: {}", finding.what, finding.problem);
        app.ui
            .line(&Line::of(style, finding.level.as_str()).with(Style::Plain, text))?;
        app.ui.line(&Line::of(
            Style::Dim,
            format!("    {}", app.ui.again.spell(&finding.advice)),
        ))?;
    }
    let text = format!(
        "{} of {}, {}, {} of events, {} of context: {}",
        counted(checked.rows, "row"),
        counted(checked.tasks, "task"),
        counted(checked.blobs, "stored file"),
        counted(checked.segments, "segment"),
        counted(checked.documents, "file"),
        match checked.findings.len() as u64 {
            0 => "all is well".to_owned(),
            findings => counted(findings, "finding"),
        },
    );
    app.ui.line(&Line::of(Style::Plain, text))
}

impl Checked {
    fn of(report: Report) -> Self {
        let findings = report.findings.into_iter().map(|finding| Finding {
            level: finding.level.as_str().to_owned(),
            what: finding.what,
            problem: finding.problem,
            advice: finding.advice.to_owned(),
        });
        Self {
            rows: report.rows,
            tasks: report.tasks,
            blobs: report.blobs,
            segments: report.segments,
            documents: report.documents,
            bytes: report.bytes,
            findings: findings.collect(),
        }
    }

    fn read(answer: v1::CheckResponse) -> Self {
        let findings = answer.findings.into_iter().map(|finding| Finding {
            level: finding.level,
            what: finding.what,
            problem: finding.problem,
            advice: finding.advice,
        });
        Self {
            rows: answer.rows,
            tasks: answer.tasks,
            blobs: answer.blobs,
            segments: answer.segments,
            documents: answer.documents,
            bytes: answer.bytes,
            findings: findings.collect(),
        }
    }
}

fn refusal(error: &check::Error) -> Error {
    match error {
        check::Error::Nothing(_) => Error::new(Exit::NotFound, error.to_string())
            .hint("name the state directory with --state"),
        check::Error::Running(_) => Error::new(Exit::Refused, error.to_string())
            .hint("without --repair the head checks itself"),
        check::Error::Failed(error) => Error::failed(format!("{error:#}")),
    }
}
