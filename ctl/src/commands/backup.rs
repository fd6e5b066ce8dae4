//! `ctl backup`.

mod part;

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use orchestra_proto::v1;
use serde::Serialize;
use tokio::{fs::File, io::AsyncWriteExt};

use crate::{
    app::App,
    client::status_error,
    error::{Error, OrFailed, Result},
    exit::Exit,
    json::time::Time,
    ui::{
        bar::Bar,
        style::{Line, Style},
        time::counted,
    },
};

/// Write everything that the head keeps into one file, while it goes on working
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file holds the tasks as they were at one moment, and the artifacts, events and context that
belong to them; docs/backup.md says what is not in it. `ctl restore FILE` puts it back. With --keys
whoever has the file can act as the cluster: keep it as you keep a private key.

Examples:
  ctl backup orchestra-$(date +%F).tar
  ctl backup - | ssh there 'cat > orchestra.tar'     what was written is told on standard error")]
pub struct Args {
    /// The file to make; it must not be there yet. `-` is standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Put the cluster's certificates and secret keys in too, so that workers and clients of today
    /// know the restored head
    #[arg(long)]
    keys: bool,
}

/// `ctl backup --json`.
#[derive(Debug, Serialize)]
struct Made {
    file: PathBuf,
    bytes: u64,
    rows: u64,
    blobs: u64,
    missing: u64,
    damaged: u64,
    files: u64,
    cluster: String,
    created_at: Time,
    keys: bool,
}

/// Makes a backup.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    if args.file.as_os_str() == "-" {
        return to_stdout(app, args.keys).await;
    }
    if args.file.symlink_metadata().is_ok() {
        return Err(there_already(&args.file));
    }
    let part = part::Part::of(&args.file)?;
    let (bytes, summary) = to_file(app, &part, args.keys).await?;
    let made = Made {
        file: args.file,
        bytes,
        rows: summary.rows,
        blobs: summary.blobs,
        missing: summary.missing,
        damaged: summary.damaged,
        files: summary.files,
        cluster: summary.cluster,
        created_at: Time::from_ms(summary.created_at_ms),
        keys: args.keys,
    };
    warn_of_loss(app, made.missing, made.damaged);
    let done = || format!("the backup `{}` is made", made.file.display());
    app.show_done(&made, done, |made| {
        let what = format!("{}", made.file.display());
        let text = in_words(&what, made.bytes, made.rows, made.blobs + made.files);
        app.ui.line(&Line::of(Style::Plain, text))
    })
}

/// To a pipe or whatever else standard output is. What is said of it goes to standard error.
async fn to_stdout(app: &App, keys: bool) -> Result<Exit> {
    if app.ui.is_json() {
        let why = "with `-` the backup itself goes to standard output, where --json would go too";
        return Err(Error::usage(why).hint("name a file, or leave --json away"));
    }
    if app.ui.stdout.terminal {
        return Err(Error::usage("a backup is nothing for a terminal")
            .hint("name a file, or send standard output to one or to a program"));
    }
    let open = || io::stdout().as_fd().try_clone_to_owned();
    let failed = || "failed to write the backup to standard output".to_owned();
    // Also where its reader went away: it is not whole.
    let unwritten = |error| unwritten(error, failed());
    let open = || Ok(open().or_failed(failed)?.into());
    let (_, bytes, summary) = write(app, open, unwritten, keys).await?;
    warn_of_loss(app, summary.missing, summary.damaged);
    let files = summary.blobs + summary.files;
    app.ui.say(in_words("backup", bytes, summary.rows, files));
    Ok(Exit::Ok)
}

fn warn_of_loss(app: &App, missing: u64, damaged: u64) {
    for told in lost(missing, damaged) {
        app.ui.warn(format!("not all is in the backup: {told}"));
    }
}

/// What is not in the backup, in words.
fn lost(missing: u64, damaged: u64) -> Vec<String> {
    let lost = [
        (
            missing,
            "is not there; `ctl check` names it",
            "are not there; `ctl check` names them",
        ),
        (
            damaged,
            "is damaged, so that a restore leaves it out; `ctl check` names it",
            "are damaged, so that a restore leaves them out; `ctl check` names them",
        ),
    ];
    let lost = lost.into_iter().filter(|(count, ..)| *count > 0);
    let told = lost.map(|(count, one, many)| {
        let rest = if count == 1 { one } else { many };
        format!(
            "{} that tasks refer to {rest}",
            counted(count, "stored file")
        )
    });
    told.collect()
}

fn in_words(what: &str, bytes: u64, rows: u64, files: u64) -> String {
    format!(
        "{what}: {}, {}, {}",
        counted(bytes, "byte"),
        counted(rows, "row"),
        counted(files, "file")
    )
}

async fn to_file(app: &App, part: &part::Part, keys: bool) -> Result<(u64, v1::BackupSummary)> {
    let failed = || format!("failed to write `{}`", part.to().display());
    let open = || {
        let opened = part.open().or_failed(failed);
        opened.map_err(|e| e.hint("name a file in a directory that you may write to"))
    };
    let unwritten = |error| unwritten(error, failed());
    let (file, bytes, summary) = write(app, open, unwritten, keys).await?;
    file.sync_all().await.or_failed(failed)?;
    match part.put_in_place(&file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(there_already(part.to())),
        put => put.or_failed(failed).map(|()| (bytes, summary)),
    }
}

fn there_already(file: &Path) -> Error {
    let why = format!("`{}` is there already", file.display());
    Error::new(Exit::Refused, why).hint("name another file")
}

/// Writes to what `open` gives, once the head has answered.
async fn write(
    app: &App,
    open: impl FnOnce() -> Result<std::fs::File>,
    unwritten: impl Fn(io::Error) -> Error,
    keys: bool,
) -> Result<(File, u64, v1::BackupSummary)> {
    let client = app.connect().await?;
    let mut bar = Bar::new(app.ui, "backing up");
    let answer = client.admin().backup(v1::BackupRequest { keys }).await;
    let mut chunks = answer.map_err(|s| status_error(&s))?.into_inner();
    let mut out = File::from_std(open()?);
    let mut bytes = 0;
    let mut summary = None;
    while let Some(chunk) = chunks.message().await.map_err(|s| status_error(&s))? {
        out.write_all(&chunk.data).await.map_err(&unwritten)?;
        bytes += chunk.data.len() as u64;
        bar.show(bytes, chunk.about_bytes);
        summary = chunk.summary;
    }
    let summary = summary.ok_or_else(|| {
        Error::failed("the head ended before the backup was whole").hint("try again")
    })?;
    out.flush().await.map_err(unwritten)?;
    Ok((out, bytes, summary))
}

/// Half a backup is none; there may be another place for a whole one.
fn unwritten(error: io::Error, failed: String) -> Error {
    let is_full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    );
    let error = Error::failed(failed).because(error);
    match is_full {
        true => error.hint("free space there, or write it elsewhere: `ctl backup - | ssh there 'cat > orchestra.tar'`"),
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_told_of_one_and_of_many() {
        assert!(lost(0, 0).is_empty());
        assert_eq!(
            lost(1, 2),
            [
                "1 stored file that tasks refer to is not there; `ctl check` names it",
                "2 stored files that tasks refer to are damaged, so that a restore leaves them out; `ctl check` names them",
            ]
        );
        assert_eq!(
            lost(0, 1),
            [
                "1 stored file that tasks refer to is damaged, so that a restore leaves it out; `ctl check` names it"
            ]
        );
    }
}
