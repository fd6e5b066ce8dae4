//! `ctl workers`.

mod cordon;
mod gc;
mod named;
mod remove;
mod revoke;

use std::time::Duration;

use orchestra_proto::client;
use orchestra_types::Timestamp;
use serde::Serialize;

use self::named::Named;
use crate::{
    app::App,
    error::Result,
    exit::Exit,
    json::fleet::{Runner, Worker},
    ui::{
        Ui,
        escape::line,
        now,
        style::{Line, Style},
        table::{Cell, Table},
        time::{ago, bytes},
        wrap::At,
    },
};

/// How long before its end a certificate is spoken of.
const WARN_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// List workers: their runners and slots, how they end processes, when they were last seen
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  ctl workers -v                 every runner, and why one is not ready
  ctl workers gc --dry-run       what would be removed on this machine, and why
  ctl workers gc builder-2       remove it there
  ctl workers drain builder-2    empty it before an update; `ctl workers uncordon builder-2` ends that
  ctl workers remove builder-3   forget a machine that is gone for ever
  ctl workers revoke builder-3   shut it out: it cannot come back without a new token"
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Show every worker's runners, machine and labels in full
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(flatten)]
    Availability(cordon::Command),
    /// Forget workers that will not come back. One that does is a new one: open, not cordoned
    Remove(Named),
    /// Shut workers out, for example a stolen machine: their certificates are refused from now on
    Revoke(Named),
    /// Remove what a worker keeps and nobody needs any more: this machine's, or a named one's
    Gc(gc::Args),
}

/// `ctl workers --json`.
#[derive(Debug, Serialize)]
struct Workers {
    /// By name, and those of one name by their ids.
    workers: Vec<Worker>,
}

/// Lists workers.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    match args.command {
        Some(Command::Availability(command)) => return cordon::run(app, command).await,
        Some(Command::Remove(named)) => return remove::run(app, named).await,
        Some(Command::Revoke(named)) => return revoke::run(app, named).await,
        Some(Command::Gc(args)) => return gc::run(app, args).await,
        None => {}
    }
    let mut workers = app.connect().await?.workers().await?;
    in_order(&mut workers);
    app.show(&Workers { workers }, |document| {
        if document.workers.is_empty() {
            app.ui.next("no workers; `ctl start` starts one here, `ctl token create` lets another machine join");
            return Ok(());
        }
        if !args.verbose {
            app.ui.table(&table(&document.workers))?;
            let ends = document.workers.iter().filter_map(|w| certificate_ends(w, now()));
            ends.for_each(|text| app.ui.warn(text));
            return Ok(());
        }
        document.workers.iter().try_for_each(|worker| in_full(&app.ui, worker))
    })
}

/// By name; those of one name by their ids.
fn in_order(workers: &mut [Worker]) {
    workers.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
}

/// What was done to them: `vm, builder: cordoned`.
fn in_words(workers: &[Worker], done: &str) -> String {
    let names: Vec<_> = workers.iter().map(|worker| line(&worker.name)).collect();
    format!("{}: {done}", names.join(", "))
}

fn table(workers: &[Worker]) -> Table {
    let now = now();
    let mut table = Table::new(&[
        "NAME",
        "STATE",
        "LAST SEEN",
        ">BUSY",
        "KILL",
        "VERSION",
        "RUNNERS…",
    ])
    .sparing(&["VERSION", "KILL", "LAST SEEN", "BUSY"]);
    for worker in workers {
        table.row(vec![
            Cell::new(line(&worker.name), Style::Bold),
            state(worker),
            Cell::new(
                worker
                    .last_seen
                    .map_or_else(|| "-".to_owned(), |seen| ago(seen.0, now)),
                Style::Dim,
            ),
            busy(worker).into(),
            line(&worker.kill_method).into_owned().into(),
            line(&worker.version).into_owned().into(),
            ready(worker).into(),
        ]);
    }
    table
}

/// How many of its slots are taken, and what waits there for one: `2 of 2, 1 waiting`.
fn busy(worker: &Worker) -> String {
    let (held, waiting) = (worker.attempts.len(), worker.waiting as usize);
    let busy = format!("{} of {}", held.saturating_sub(waiting), worker.slots);
    match waiting {
        0 => busy,
        _ => format!("{busy}, {waiting} waiting"),
    }
}

/// That a worker's certificate ends soon: by then it has had months to renew it.
fn certificate_ends(worker: &Worker, now: Timestamp) -> Option<String> {
    let until = worker.certificate_expires_at?.0;
    if worker.availability == "revoked" || until > now.plus(WARN_BEFORE) {
        return None;
    }
    let ends = if until <= now { "has ended" } else { "ends" };
    Some(format!(
        "the certificate of {} {ends} on {}: a worker that is connected renews it by itself, else its log says why not; \
         `ctl token create` lets it join again",
        line(&worker.name),
        client::day(until)
    ))
}

fn state(worker: &Worker) -> Cell {
    let (symbol, style) = match worker.state.as_str() {
        "connected" => ("●", Style::Good),
        "lost" => ("✗", Style::Bad),
        _ => ("◌", Style::Attention),
    };
    match worker.availability.as_str() {
        "open" => Cell::new(format!("{symbol} {}", line(&worker.state)), style),
        closed => {
            let text = format!("{symbol} {}, {}", line(&worker.state), line(closed));
            let style = if style == Style::Good {
                Style::Attention
            } else {
                style
            };
            Cell::new(text, style)
        }
    }
}

/// The runners that can work, with how many at once: `claude 2, codex 2`.
fn ready(worker: &Worker) -> String {
    let ready = worker.runners.iter().filter(|r| r.state == "ready");
    let names: Vec<String> = ready
        .map(|r| format!("{} {}", line(&r.name), r.slots))
        .collect();
    if names.is_empty() {
        "none ready".to_owned()
    } else {
        names.join(", ")
    }
}

fn in_full(ui: &Ui, worker: &Worker) -> Result<()> {
    let Worker {
        name,
        hostname,
        address,
        pid,
        id,
        machine,
        cores,
        memory_bytes,
        disk_bytes,
        disk_free_bytes,
        ..
    } = worker;
    let title =
        Line::of(Style::Bold, line(name)).with(Style::Plain, format!("  {}", line(&worker.state)));
    let title = match worker.availability.as_str() {
        "open" => title,
        closed => title.with(Style::Attention, format!(", {}", line(closed))),
    };
    let seen = match worker.last_seen {
        Some(seen) => format!(" · last seen {}", ago(seen.0, now())),
        None => " · not seen since the head was started".to_owned(),
    };
    ui.wrapped(&title.with(Style::Dim, seen), 4, At::Items)?;
    let more = |text: String| ui.wrapped(&Line::of(Style::Dim, text), 4, At::Items);
    let address = address
        .as_deref()
        .map(|a| format!(" · {}", line(a)))
        .unwrap_or_default();
    more(format!(
        "  {} · pid {pid}{address} · id {id}",
        line(hostname)
    ))?;
    let size = format!(
        "  machine {machine} · {cores} cores · {} memory · {} of {} disk free",
        bytes(*memory_bytes),
        bytes(*disk_free_bytes),
        bytes(*disk_bytes)
    );
    more(format!(
        "{size} · ends processes by {} · isolation {}",
        line(&worker.kill_method),
        line(worker.isolation.as_deref().unwrap_or("unknown"))
    ))?;
    if !worker.limits.is_empty() {
        more(format!("  limits of an attempt: {}", line(&worker.limits)))?;
    }
    if let Some(until) = worker.certificate_expires_at {
        more(format!("  certificate good until {}", client::day(until.0)))?;
    }
    if !worker.labels.is_empty() {
        let labels: Vec<String> = worker
            .labels
            .iter()
            .map(|(k, v)| format!("{k}={}", line(v)))
            .collect();
        more(format!("  labels {}", labels.join(" ")))?;
    }
    ui.table(&runners(worker))?;
    ui.line(&Line::default())
}

/// Whether its CLI is logged in; nothing where there is nothing to log in to.
fn login(runner: &Runner) -> &'static str {
    match (runner.agentic, runner.login) {
        (true, login) => login,
        (false, _) => "-",
    }
}

/// All runners of a worker.
pub fn runners(worker: &Worker) -> Table {
    let mut table = Table::new(&["  RUNNER", "VERSION", ">AT ONCE", "LOGIN", "STATE…"])
        .sparing(&["VERSION", "LOGIN", "AT ONCE"])
        .wrapping();
    for runner in &worker.runners {
        let (state, style) = match (runner.state, &runner.reason) {
            ("ready", _) => ("ready".to_owned(), Style::Good),
            (_, Some(reason)) => (format!("not ready: {}", line(reason)), Style::Attention),
            (other, None) => (other.to_owned(), Style::Dim),
        };
        table.row(vec![
            format!("  {}", line(&runner.name)).into(),
            line(runner.version.as_deref().unwrap_or("-"))
                .into_owned()
                .into(),
            runner.slots.to_string().into(),
            login(runner).into(),
            Cell::new(state, style),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use orchestra_proto::v1;

    use super::*;

    #[test]
    fn what_only_waits_at_a_worker_takes_no_slot() {
        let said = |waiting| {
            let info = v1::WorkerInfo {
                id: "w-1".into(),
                name: "builder".into(),
                machine: "m".into(),
                slots: 2,
                ..Default::default()
            };
            let held = |task| v1::AttemptId { task, number: 1 };
            busy(
                &Worker::read(v1::Worker {
                    info: Some(info),
                    attempts: [1, 2, 3].map(held).to_vec(),
                    waiting,
                    ..Default::default()
                })
                .unwrap(),
            )
        };
        assert_eq!(said(1), "2 of 2, 1 waiting");
        assert_eq!(said(0), "3 of 2");
    }

    #[test]
    fn workers_are_listed_by_name_and_then_by_id() {
        let worker = |(name, id): (&str, &str)| {
            let info = v1::WorkerInfo {
                id: id.into(),
                name: name.into(),
                machine: "m".into(),
                ..Default::default()
            };
            let wire = v1::Worker {
                info: Some(info),
                ..Default::default()
            };
            Worker::read(wire).unwrap()
        };
        let mut workers = [("b", "1"), ("a", "3"), ("a", "2")].map(worker);
        in_order(&mut workers);
        let listed = workers.map(|worker| (worker.name, worker.id.to_string()));
        let expected = [("a", "2"), ("a", "3"), ("b", "1")];
        assert_eq!(listed, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn a_certificate_is_spoken_of_in_its_last_month() {
        const DAY: u64 = 24 * 3600 * 1000;
        let info = v1::WorkerInfo {
            id: "w-1".into(),
            name: "builder".into(),
            machine: "m".into(),
            ..Default::default()
        };
        let said = |until: Option<u64>, now: u64| {
            let wire = v1::Worker {
                info: Some(info.clone()),
                certificate_expires_at_ms: until,
                ..Default::default()
            };
            certificate_ends(&Worker::read(wire).unwrap(), Timestamp(now))
        };
        assert_eq!(said(None, 0), None);
        assert_eq!(said(Some(31 * DAY), 0), None);
        let soon = said(Some(30 * DAY), 0).unwrap();
        assert!(
            soon.starts_with("the certificate of builder ends on 1970-01-31"),
            "{soon}"
        );
        let late = said(Some(DAY), 2 * DAY).unwrap();
        assert!(late.contains("has ended on 1970-01-02"), "{late}");
    }
}
