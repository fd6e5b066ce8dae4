//! `ctl purge`.

use orchestra_proto::v1;
use orchestra_types::TaskId;
use serde::Serialize;

use crate::{
    app::App,
    changing,
    error::{Result, or_untold},
    exit::Exit,
    ui::{
        style::{Line, Style},
        time::counted,
    },
};

/// Remove what is due now: finished tasks and outputs by the retention, and files that nothing refers to
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The head does it by itself: tasks as soon as they are due, outputs in the shared context of projects once an hour,
files once a day. The keys below `retention:` in orchestra.yaml say what is due; see docs/configuration.md.")]
pub struct Args {
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
}

/// `ctl purge --json`.
#[derive(Debug, Serialize)]
struct Purged {
    dry_run: bool,
    tasks: u64,
    task_ids: Vec<TaskId>,
    events_of: u64,
    files: u64,
    bytes: u64,
    outputs: u64,
    output_bytes: u64,
}

/// Purges, or says what would go.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let client = app.connect().await?;
    let request = v1::PurgeRequest {
        dry_run: args.dry_run,
    };
    let call = async { client.admin().purge(request).await };
    let answer = changing::once(call, "say it again: what is removed already stays so").await?;
    let purged = Purged {
        dry_run: args.dry_run,
        tasks: answer.tasks,
        task_ids: answer.task_ids.into_iter().map(TaskId).collect(),
        events_of: answer.events_of,
        files: answer.files,
        bytes: answer.bytes,
        outputs: answer.outputs,
        output_bytes: answer.output_bytes,
    };
    let shown = app.show(&purged, |purged| {
        let text = in_words(purged);
        app.ui.line(&Line::of(Style::Plain, text))
    });
    match purged.dry_run {
        true => shown,
        false => or_untold(shown, || in_words(&purged)),
    }
}

fn in_words(purged: &Purged) -> String {
    format!(
        "{}: {}, events of {}, {} ({}), {} in the shared context ({})",
        if purged.dry_run {
            "would go"
        } else {
            "removed"
        },
        counted(purged.tasks, "finished task"),
        counted(purged.events_of, "forgotten task"),
        counted(purged.files, "unused file"),
        counted(purged.bytes, "byte"),
        counted(purged.outputs, "old output"),
        counted(purged.output_bytes, "byte"),
    )
}
