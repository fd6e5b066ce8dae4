//! `ctl restore`.

use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
    path::PathBuf,
};

use orchestra_head::backup::{self, Input, Options, Restored};
use serde_json::json;

use crate::{
    app::App,
    blocking::watched,
    error::{Error, Result},
    exit::Exit,
    json::time::Time,
    ui::{
        detail::here,
        now,
        style::{Line, Style},
        time::{ago, counted},
    },
};

/// What the keys of a backup bring along. The head knows of nothing that came after it.
const REVIVED: &str = "with the keys of the backup, everybody has access again who had it then: also workers that were \
    revoked since, and copies of `client` that were shut out since; after the start say `ctl workers revoke NAME` and \
    `ctl credentials rotate` again";

/// What a backup does not know.
const ELSEWHERE: &str = "workers of other machines look for the head at the address and the port where they joined it: before the \
    start, let it listen there (`head.listen`, `head.advertise` in orchestra.yaml)";

/// Make a head from a backup, in a state directory that has none
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The backup is verified before anything is written, and nothing is in place before all of it is.
Tasks that ran at the time of the backup are taken up again by their workers, or lost and retried.
Ids of tasks that were submitted after the backup shall not be given again: --skip-ids passes over
as many. Without keys in the backup the head is a new cluster: other machines join it anew. With them,
what was revoked or rotated since the backup is let in again, until it is revoked anew; join tokens
that were open then let nobody in any more.

Examples:
  ctl restore orchestra-2026-11-28.tar
  ssh there 'cat orchestra.tar' | ctl restore -     needs room for it beside the state directory, too")]
pub struct Args {
    /// The file that `ctl backup` made. `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Move the head that is there aside, to head.before-TIME in the state directory
    #[arg(long)]
    force: bool,

    /// How many ids to pass over
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    skip_ids: u32,
}

/// Restores a backup.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let state = app.state.clone();
    let before = backup::headless(&state);
    let options = Options {
        force: args.force,
        skip_ids: args.skip_ids.into(),
    };
    app.refuse_foreign_state()?;
    let input = input(args.file)?;
    let done = watched(app, "restoring", move |progress| {
        let restored = backup::restore(&state, &input, options, progress);
        restored.map_err(|error| refusal(&error))
    });
    let done = done.await?;
    if let Some(endpoint) = before.filter(|endpoint| !is_here(endpoint)) {
        app.ui.warn(format!(
            "the worker of this directory looked for its head at {endpoint}: that one must never run again, or two heads \
             have the same tasks"
        ));
    }
    if done.head.keys {
        app.ui.warn(REVIVED);
    }
    if done.tokens_ended > 0 {
        app.ui.warn(ended(done.tokens_ended));
    }
    if done.missing > 0 {
        app.ui.warn(lost(done.missing));
    }
    let document = json!({
        "state_dir": app.state.path(),
        "tasks": done.tasks,
        "missing": done.missing,
        "next_id": done.next,
        "cluster": done.head.cluster,
        "created_at": Time::from_ms(done.head.created_at_ms),
        "keys": done.head.keys,
        "moved_aside": done.aside,
        "port_kept": done.port_kept,
        "tokens_ended": done.tokens_ended,
    });
    let restored = || format!("{} restored", counted(done.tasks, "task"));
    app.show_done(&document, restored, |_| say(app, &done))
}

/// Tokens that may have been used since the backup, in words.
fn ended(tokens: u64) -> String {
    let (tokens, let_in, it) = match tokens {
        1 => ("the join token that was".to_owned(), "lets", "it"),
        many => (format!("the {many} join tokens that were"), "let", "they"),
    };
    format!(
        "{tokens} open at the time of the backup {let_in} nobody in any more, since {it} may have been used since; \
         `ctl token create` makes a new one"
    )
}

/// What the backup did not have, in words.
fn lost(missing: u64) -> String {
    let files = counted(missing, "stored file");
    let (were, them) = match missing {
        1 => ("was", "it"),
        _ => ("were", "them"),
    };
    format!(
        "{files} that tasks refer to {were} missing or damaged when the backup was made; everything else is restored, \
         and `ctl check` names {them}"
    )
}

fn input(file: PathBuf) -> Result<Input> {
    if file.as_os_str() != "-" {
        return Ok(Input::File(file));
    }
    if io::stdin().is_terminal() {
        return Err(Error::usage("a backup does not come from a terminal")
            .hint("name a file, or let a program or a file be standard input"));
    }
    Ok(Input::Stdin)
}

fn say(app: &App, done: &Restored) -> Result<()> {
    let made = Time::from_ms(done.head.created_at_ms);
    let text = format!(
        "restored {} from the backup of {} ({}); the next one will be {}",
        counted(done.tasks, "task"),
        here(made),
        ago(made.0, now()),
        done.next
    );
    app.ui.line(&Line::of(Style::Plain, text))?;
    if let Some(aside) = &done.aside {
        app.ui
            .next(format!("what was there lies in {}", aside.display()));
    }
    if done.head.keys && !done.port_kept {
        app.ui.next(ELSEWHERE);
    }
    if !done.head.keys {
        app.ui
            .next("it is a new cluster: workers of other machines join it with `ctl token create`");
    }
    app.ui.next("start it with `ctl start`");
    Ok(())
}

/// Whether an address is of this machine alone.
fn is_here(endpoint: &str) -> bool {
    let address = endpoint.parse::<SocketAddr>();
    address.is_ok_and(|address| address.ip().is_loopback())
}

fn refusal(error: &backup::Error) -> Error {
    match error {
        backup::Error::NotEmpty { .. } | backup::Error::Newer { .. } => {
            Error::new(Exit::Refused, error.to_string())
        }
        backup::Error::OtherCluster { dir, .. } => {
            let dir = dir.display();
            Error::new(Exit::Refused, error.to_string()).hint(format!(
                "nothing was changed; restore a backup of that cluster, or name another directory with `--state DIR`; \
                 to give that cluster up here, end its worker with `ctl stop --now`, and move `{dir}/worker` and \
                 `{dir}/client` away"
            ))
        }
        backup::Error::Running(_) => Error::new(Exit::Refused, error.to_string())
            .hint("stop it first, or name another state directory with --state"),
        backup::Error::NoFile { .. } => {
            Error::failed(error.to_string()).hint("name a file that a backup was written to")
        }
        backup::Error::Damaged { .. } => {
            Error::failed(error.to_string()).hint("nothing was changed; restore another backup")
        }
        backup::Error::Foreign { .. } => Error::failed(error.to_string()).hint(
            "nothing was changed; name a file that `ctl backup` made, and unpack it first where it was compressed",
        ),
        backup::Error::Failed(error) => {
            Error::failed(format!("{error:#}")).hint(after_failure(error))
        }
    }
}

/// What to do where the machine did not let it be done.
fn after_failure(error: &anyhow::Error) -> &'static str {
    let kinds = error.chain().filter_map(|cause| {
        let io = cause.downcast_ref::<io::Error>()?;
        Some(io.kind())
    });
    for kind in kinds {
        if matches!(
            kind,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ) {
            return "nothing is in place yet; free space there, or name a state directory on another disk with --state";
        }
        if kind == io::ErrorKind::PermissionDenied {
            return "nothing is in place yet; run it as the user who may read that, or write there";
        }
    }
    "nothing is in place yet; try again"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_are_ended_are_told_of_one_and_of_many() {
        let one = ended(1);
        let start = "the join token that was open at the time of the backup lets nobody in";
        assert!(one.starts_with(start), "{one}");
        let many = ended(2);
        let start = "the 2 join tokens that were open at the time of the backup let nobody in";
        assert!(many.starts_with(start), "{many}");
    }

    #[test]
    fn what_is_lost_is_told_of_one_and_of_many() {
        let one = lost(1);
        assert!(one.starts_with("1 stored file that tasks refer to was missing or damaged"));
        assert!(one.ends_with("`ctl check` names it"), "{one}");
        let many = lost(2);
        assert!(many.starts_with("2 stored files that tasks refer to were missing or damaged"));
        assert!(many.ends_with("`ctl check` names them"), "{many}");
    }

    #[test]
    fn an_address_of_loopback_is_of_this_machine() {
        assert!(is_here("127.0.0.1:7117") && is_here("[::1]:7117"));
        assert!(!is_here("10.0.0.7:7117") && !is_here("far:7117"));
    }
}
