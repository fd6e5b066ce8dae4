//! `ctl status`.

use std::time::Duration;

use orchestra_types::{Priority, TaskStatus};

use crate::{
    app::App,
    commands::accounts::until_when,
    error::Result,
    exit::Exit,
    json::account::Account,
    json::fleet::Status,
    ui::{
        again::Again,
        closed::takes_nothing,
        escape::line,
        status::counts,
        style::{Line, Style},
        time::{counted, duration},
        wrap::At,
    },
};

/// How wide the names of facts are, with the space after them.
const NAME: usize = 9;

/// Show the cluster: the head, its workers and agents, and how many tasks are where
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Open are the tasks that have not ended: `ctl tasks --status open` lists them. One that needs review has: it
waits for a person.")]
pub struct Args {}

/// Shows the cluster.
pub async fn run(app: &App, _: Args) -> Result<Exit> {
    let client = app.connect().await?;
    let mut status = client.status().await?;
    status.workers_closed = takes_nothing(&client.workers().await?);
    app.show(&status, |status| {
        let lines = fitted(status, app.ui.again, app.ui.stdout.width);
        lines.iter().try_for_each(|line| app.ui.line(line))?;
        app.ui.warn_of_stop(status);
        Ok(())
    })
}

/// The lines as a terminal of this width has them.
fn fitted(status: &Status, again: Again, width: Option<usize>) -> Vec<Line> {
    let lines = lines(status, again).into_iter();
    let fitted = lines.map(|line| line.wrapped(width, 2 + NAME, At::Items));
    fitted.flatten().collect()
}

fn lines(status: &Status, again: Again) -> Vec<Line> {
    let up = duration(Duration::from_secs_f64(status.uptime_seconds));
    let state = match status.stopping_since {
        Some(_) => Line::of(Style::Attention, "◔ head stopping"),
        None => Line::of(Style::Good, "● head running"),
    };
    let head = state.with(
        Style::Dim,
        format!("  {} · pid {} · up {up}", line(&status.version), status.pid),
    );
    let workers = match status.workers {
        w if w.known == w.connected => format!("{} connected", w.connected),
        w => format!("{} connected of {} known", w.connected, w.known),
    };
    let agents = format!("{} busy of {}", status.agents.busy, status.agents.total);
    let mut lines = vec![
        head,
        fact("listen", &status.listen),
        fact("state", &status.state_dir),
    ];
    if let Some(why) = &status.disk_full {
        let text = Line::of(Style::Attention, name_of("disk"));
        lines.push(text.with(Style::Plain, line(why)));
    }
    if let Some(metrics) = &status.metrics {
        lines.push(fact("metrics", &format!("http://{metrics}/metrics")));
    }
    lines.push(fact("workers", &workers));
    if let Some(why) = &status.workers_closed {
        let text = format!("no worker takes anything new: {}", again.spell(&line(why)));
        lines.push(Line::of(Style::Attention, name_of("closed")).with(Style::Plain, text));
    }
    lines.extend([fact("agents", &agents), tasks(status)]);
    lines.extend(open(status));
    lines.extend(status.parked_accounts.iter().map(parked));
    lines
}

fn parked(account: &Account) -> Line {
    let until = account.parked_until.map(until_when).unwrap_or_default();
    let why = account.why.as_deref().unwrap_or("its limit is reached");
    let text = format!("{} {until}: {}", line(&account.name), line(why));
    Line::of(Style::Attention, name_of("parked")).with(Style::Plain, text)
}

fn fact(name: &str, value: &str) -> Line {
    Line::of(Style::Dim, name_of(name)).with(Style::Plain, line(value))
}

fn name_of(fact: &str) -> String {
    format!("  {fact:<NAME$}")
}

fn tasks(status: &Status) -> Line {
    let of = |s: TaskStatus| (s, status.tasks.get(s.as_str()).copied().unwrap_or(0));
    let mut line = Line::of(Style::Dim, name_of("tasks"));
    line.0
        .extend(counts(TaskStatus::ALL.map(of), status.finishing).0);
    line
}

/// What is open, by priority, where there is something.
fn open(status: &Status) -> Option<Line> {
    let of = |p: Priority| (p, status.priorities.get(p.as_str()).copied().unwrap_or(0));
    let some: Vec<String> = Priority::ALL
        .map(of)
        .iter()
        .filter(|(_, n)| *n > 0)
        .map(|(p, n)| format!("{n} {p}"))
        .collect();
    let open: u64 = status.priorities.values().sum();
    (!some.is_empty()).then(|| {
        fact(
            "open",
            &format!("{} ({})", counted(open, "task"), some.join(", ")),
        )
    })
}

#[cfg(test)]
mod tests {
    use orchestra_proto::v1;

    use super::*;

    fn status() -> Status {
        Status::read(v1::ClusterStatus {
            version: "0.1.0".into(),
            pid: 42,
            uptime_ms: 185_000,
            listen: "127.0.0.1:7117".into(),
            state_dir: "/s".into(),
            by_status: [
                ("running".into(), 2),
                ("queued".into(), 0),
                ("failed".into(), 1),
            ]
            .into(),
            by_priority: [("high".into(), 1), ("normal".into(), 1), ("low".into(), 0)].into(),
            workers_connected: 1,
            workers_known: 2,
            agents_busy: 2,
            agents_total: 4,
            ..Default::default()
        })
    }

    #[test]
    fn on_a_narrow_terminal_no_line_is_too_long() {
        let shown = fitted(&status(), Again::default(), Some(28));
        let shown: Vec<String> = shown.iter().map(|l| l.render(false)).collect();
        assert_eq!(
            shown[shown.len() - 4..],
            [
                "  tasks    ● 2 running",
                "           ✗ 1 failed",
                "  open     2 tasks (1 high,",
                "           1 normal)",
            ]
        );
    }

    #[test]
    fn a_head_that_lacks_room_says_so() {
        let full = Status {
            disk_full: Some("the head's disk is full: make 9 MB free in `/s`".to_owned()),
            ..status()
        };
        let shown: Vec<String> = lines(&full, Again::default())
            .iter()
            .map(|l| l.render(false))
            .collect();
        assert_eq!(
            shown[3],
            "  disk     the head's disk is full: make 9 MB free in `/s`"
        );
    }

    #[test]
    fn workers_that_take_nothing_are_told_with_what_ends_that() {
        let closed = Status {
            workers_closed: Some("vm is drained; `ctl workers uncordon vm` ends that".to_owned()),
            ..status()
        };
        let lines = lines(&closed, Again::in_state("/s".as_ref()));
        let shown: Vec<String> = lines.iter().map(|l| l.render(false)).collect();
        let told = "  closed   no worker takes anything new: vm is drained; `ctl --state /s workers uncordon vm` ends that";
        assert_eq!(shown[4], told);
    }

    #[test]
    fn what_takes_no_slot_any_more_does_not_run() {
        let told = |finishing| {
            let status = Status {
                finishing,
                ..status()
            };
            tasks(&status).render(false)
        };
        let both = "  tasks    ● 1 running · ◕ 1 finishing · ✗ 1 failed";
        assert_eq!(told(1), both);
        assert_eq!(told(2), "  tasks    ◕ 2 finishing · ✗ 1 failed");
    }

    #[test]
    fn the_cluster_is_told_in_a_few_lines() {
        let shown: Vec<String> = lines(&status(), Again::default())
            .iter()
            .map(|l| l.render(false))
            .collect();
        assert_eq!(
            shown,
            [
                "● head running  0.1.0 · pid 42 · up 3m 5s",
                "  listen   127.0.0.1:7117",
                "  state    /s",
                "  workers  1 connected of 2 known",
                "  agents   2 busy of 4",
                "  tasks    ● 2 running · ✗ 1 failed",
                "  open     2 tasks (1 high, 1 normal)",
            ]
        );
    }
}
